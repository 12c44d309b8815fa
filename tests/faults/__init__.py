"""What a run folder and its machine can suffer, and what a user is told then."""
