"""Numbers from rows: pure functions of what is on disk. Knows no attack and no model."""
