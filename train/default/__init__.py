"""From a folder of labelled files to the default that ships, by one command: `python -m train default`."""
