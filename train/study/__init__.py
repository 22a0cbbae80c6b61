"""Many fits on held-out sources, compared: `python -m train ablate` and `compare`."""
