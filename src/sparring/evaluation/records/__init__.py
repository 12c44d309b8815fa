"""What is on disk: the folder of a run, who made it, what its checks said. Knows no attack and no model."""
