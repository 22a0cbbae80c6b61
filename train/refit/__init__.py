"""A shipped head corrected by a user's own pictures, and judged: `python -m train refit`."""
