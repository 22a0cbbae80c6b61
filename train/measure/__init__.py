"""What is true of scores on labelled pictures: figures, intervals, calibration, audits."""
