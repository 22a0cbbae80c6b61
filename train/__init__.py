"""From data to a published checkpoint: `python -m train <command>`."""
