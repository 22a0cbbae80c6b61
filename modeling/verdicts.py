"""Classes, verdicts and the rule from a probability to a verdict: the one place.

"real", "generated" and "uncertain" are codes: evaluation.json, the endpoints and the files of languages/ name the
verdicts by them. The two classes stand in `configuration_robust_clip`, because they are published with the weights.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .configuration_robust_clip import CLASSES

REAL, GENERATED = CLASSES
UNCERTAIN = "uncertain"
# In the order of rising probability.
VERDICTS = (REAL, UNCERTAIN, GENERATED)
# The wrong verdict for a class, and the verdict that contradicts another.
OPPOSITE = {REAL: GENERATED, GENERATED: REAL}


def verdicts(probability: ArrayLike, real_threshold: float, generated_threshold: float) -> NDArray[np.str_]:
    """Verdict for each calibrated P(generated), same shape; where both thresholds are met, "generated".

    Args:
        probability: in [0, 1], of any shape. NaN is "uncertain".
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it; above 1 nothing is.
    """
    # In float64: among float32 values NumPy would round the thresholds, and what lies at one would change sides.
    probability = np.asarray(probability, dtype=np.float64)
    return np.select([probability >= generated_threshold, probability <= real_threshold], [GENERATED, REAL], UNCERTAIN)


def verdict(probability: float, real_threshold: float, generated_threshold: float) -> str:
    """Verdict for one calibrated P(generated), by the rule of `verdicts`."""
    return str(verdicts(probability, real_threshold, generated_threshold))


__all__ = ["CLASSES", "GENERATED", "OPPOSITE", "REAL", "UNCERTAIN", "VERDICTS", "verdict", "verdicts"]
