"""A threshold on one's own photographs with a finite-sample guarantee of the false positive rate.

Split conformal prediction: of n real photographs the k-th smallest probability with k = ceil((n + 1)(1 - target)) is
the threshold. A new photograph that is exchangeable with them (same camera, editors, ways of arriving) lies above it
with probability target or less, whatever the detector and whatever n, on average over the draws of the n photographs.
Given these n, the rate itself is Beta(n + 1 - k, k) distributed where scores have no ties, smaller where they have.

References:
    Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Vovk, "Conditional Validity of Inductive
    Conformal Predictors", 2012.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it promises.

    Args:
        threshold: "generated" at or above this probability; above 1 where n is too small to promise anything.
        target_fpr: the promised bound.
        photographs: n.
        flagged: how many of the n are at or above it.
        expected_fpr: mean false positive rate over draws of n photographs, at most `target_fpr`.
        fpr_bound_95: the rate of this very threshold is at most this with 95 % confidence.
    """

    threshold: float
    target_fpr: float
    photographs: int
    flagged: int
    expected_fpr: float
    fpr_bound_95: float


def conformal_operating_point(probabilities: ArrayLike, target_fpr: float) -> OperatingPoint:
    """Choose the threshold for the probabilities of real photographs.

    Args:
        probabilities: (n,) P(generated) of real photographs, each in [0, 1].
        target_fpr: in (0, 1). Under 1 / (n + 1) nothing can be promised but to flag nothing.

    Raises:
        ValueError: no photographs, a probability out of range, or `target_fpr` out of range.
    """
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64))
    if not 0 < target_fpr < 1:
        raise ValueError(f"`target_fpr` must be in (0, 1), got {target_fpr}.")
    if ordered.ndim != 1 or not len(ordered) or not ((ordered >= 0) & (ordered <= 1)).all():
        raise ValueError(f"`probabilities` must be one or more numbers in [0, 1], got {len(ordered)} to choose from.")
    n = len(ordered)
    # Rounded first: 1 - 0.05 is a little under 0.95, and a rank too high would flag nothing.
    rank = math.ceil(round((n + 1) * (1 - target_fpr), 9))
    if rank > n:
        return OperatingPoint(math.nextafter(1, 2), target_fpr, n, 0, 0.0, 0.0)
    # Above the k-th smallest: a verdict is "generated" at the threshold itself.
    threshold = math.nextafter(float(ordered[rank - 1]), 2)
    return OperatingPoint(
        threshold=threshold,
        target_fpr=target_fpr,
        photographs=n,
        flagged=int((ordered >= threshold).sum()),
        expected_fpr=(n + 1 - rank) / (n + 1),
        fpr_bound_95=float(beta.ppf(0.95, n + 1 - rank, rank)),
    )


def as_field(point: OperatingPoint) -> dict:
    """What the configuration's `operating_point` says of it."""
    return {
        "target_fpr": point.target_fpr,
        "measured_on": f"{point.photographs} photographs of the user's own",
        "expected_false_positive_rate": point.expected_fpr,
        "false_positive_rate_bound_95": point.fpr_bound_95,
    }


def least_photographs(target_fpr: float) -> int:
    """How many photographs it takes to promise anything."""
    return math.ceil(round(1 / target_fpr, 9)) - 1


def photographs_for(target_fpr: float, bound: float) -> int:
    """How many photographs it takes so that the rate of the threshold itself stays under `bound`, 95 times in 100."""
    above = 1  # how many of the photographs lie above the threshold
    while beta.ppf(0.95, above, round(above / target_fpr, 9) - above) > bound:
        above += 1
    return math.ceil(round(above / target_fpr, 9)) - 1


__all__ = ["OperatingPoint", "as_field", "conformal_operating_point", "least_photographs", "photographs_for"]
