"""Many fits on held-out sources, compared by a plan: `python -m train ablate` and `compare`."""
