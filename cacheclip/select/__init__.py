"""How a run's settings are chosen, one policy a file."""
