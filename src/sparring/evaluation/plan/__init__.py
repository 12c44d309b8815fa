"""What will be run and what it costs, decided before any compute."""
