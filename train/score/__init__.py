"""Judge any number of pictures on any number of processes: `python -m train score`."""
