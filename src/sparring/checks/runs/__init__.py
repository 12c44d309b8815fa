"""Checks after a run: can its rows be believed? They look at judged rows alone, never at a model."""
