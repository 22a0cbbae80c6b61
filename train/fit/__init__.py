"""Fit a head on a feature bank, with held-out scores, calibration and a checkpoint: `python -m train fit`."""
