"""Checks before any attack: is the set-up right? They look at the model, the first images and every defended system."""
