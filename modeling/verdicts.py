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


def thirds(probability: ArrayLike, real_threshold: float, generated_threshold: float) -> NDArray[np.int64]:
    """Third of the band between the thresholds, 1 to 3, that each probability lies in: three parts of equal width.

    What lies on an edge belongs to the higher part; below the band it is 1, above it 3. Without a band it is 1.
    """
    edges = np.linspace(real_threshold, generated_threshold, 4)[1:3]
    if edges[0] == generated_threshold:
        return np.ones(np.shape(probability), dtype=np.int64)
    return 1 + np.searchsorted(edges, np.asarray(probability, dtype=np.float64), side="right")


__all__ = ["CLASSES", "GENERATED", "OPPOSITE", "REAL", "UNCERTAIN", "VERDICTS", "thirds", "verdict", "verdicts"]
