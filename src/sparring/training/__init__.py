"""Training: one loop, small recipes. Trained things carry a card with data hash, config, seed and curve."""
