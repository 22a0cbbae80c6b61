"""What a number of pictures and sources cannot show, whatever the scores: bounds that need no data."""

import math

from scipy.stats import norm

# Under so many clusters a bootstrap over them gives intervals that are too narrow (Cameron & Miller, "A
# Practitioner's Guide to Cluster-Robust Inference", 2015: "few" begins somewhere from 20 to 50).
FEW_SOURCES = 20
CONFIDENCE = 0.95


def chance_auc(real: int, generated: int) -> float:
    """ROC AUC that scores which say nothing reach in one of 20 sets of such size, at most 1.

    By the normal limit of the Mann-Whitney statistic, whose variance over both counts is (n + m + 1) / 12nm.
    """
    deviation = math.sqrt((real + generated + 1) / (12 * real * generated))
    return min(1.0, 0.5 + float(norm.ppf(CONFIDENCE)) * deviation)


def rate_bound(pictures: int) -> float:
    """The rate of errors that may be the true one although none of so many pictures was an error (95 % confidence)."""
    return 1 - (1 - CONFIDENCE) ** (1 / pictures)


def pictures_for(rate: float) -> int:
    """How many pictures without an error it takes to show that errors are rarer than the rate."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - rate))


__all__ = ["FEW_SOURCES", "chance_auc", "pictures_for", "rate_bound"]
