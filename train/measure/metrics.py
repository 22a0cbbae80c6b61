"""Metrics of a detector. Scores: higher is more likely generated. Labels: 0 = real, 1 = generated."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .schema import ReliabilityBin

# What `ranking` gives, in its order.
RANKING = (
    "auc",
    "average_precision",
    "balanced_average_precision",
    "tpr_at_1_percent_fpr",
    "tpr_at_5_percent_fpr",
    "equal_error_rate",
)


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve, ties counted half; NaN where a class is missing or weighs nothing."""
    return _area(*_roc(labels, scores, weights))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, fpr: float) -> float:
    """Largest share of generated pictures found while at most `fpr` of the real ones are flagged; NaN without both."""
    return _found_at(*_roc(labels, scores, weights), fpr)


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean precision over the generated pictures in falling order of score; NaN without both classes."""
    return _mean_precision(*_cumulated(labels, scores, weights))


def ranking(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """All figures of `RANKING` (6,) from one ROC curve, which is what takes the time; NaN without both classes.

    The true positive rates and the equal error rate choose their threshold in-sample: for comparison with other work.

    The balanced average precision gives each class half of the weight: it compares groups of any size with all
    pictures of the other class, where the plain one would compare their sizes.
    """
    flagged, found = _cumulated(labels, scores, weights)
    curve = _rates(flagged, found)
    return np.array(
        [
            _area(*curve),
            _mean_precision(flagged, found),
            _mean_precision(*curve),
            _found_at(*curve, 0.01),
            _found_at(*curve, 0.05),
            _equal_error(*curve),
        ]
    )


def brier_score(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean squared difference between P(generated) and what is; 0.25 for a constant 0.5."""
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.average((np.asarray(probabilities) - np.asarray(labels)) ** 2, weights=weights))


def reliability(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> list[ReliabilityBin]:
    """What a reliability diagram shows: the mean probability and the true share of each tenth of [0, 1] not empty."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    tenths = np.minimum((probabilities * 10).astype(int), 9)
    table: list[ReliabilityBin] = []
    for tenth in np.unique(tenths[weights > 0]):
        rows = (tenths == tenth) & (weights > 0)
        table.append(
            {
                "pictures": int(rows.sum()),
                "weight": float(weights[rows].sum() / weights.sum()),
                "mean_probability": float(np.average(probabilities[rows], weights=weights[rows])),
                "share_generated": float(np.average(labels[rows], weights=weights[rows])),
            }
        )
    return table


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean distance between mean probability and true share over the tenths of `reliability`, by weight."""
    table = reliability(labels, probabilities, weights)
    return float(sum(row["weight"] * abs(row["mean_probability"] - row["share_generated"]) for row in table))


def _roc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """False and true positive rates (K,) of every threshold from above the highest score down."""
    return _rates(*_cumulated(labels, scores, weights))


def _rates(flagged: NDArray, found: NDArray) -> tuple[NDArray, NDArray]:
    """Shares of each class instead of weights (K,); NaN for a class without weight."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        return flagged / flagged[-1], found / found[-1]


def _area(false_positive: NDArray, true_positive: NDArray) -> float:
    return float(np.trapezoid(true_positive, false_positive))


def _found_at(false_positive: NDArray, true_positive: NDArray, fpr: float) -> float:
    found = true_positive[false_positive <= fpr]
    return float(found.max()) if found.size else float("nan")


def _mean_precision(flagged: NDArray, found: NDArray) -> float:
    """Average precision from cumulated weights or shares (K,)."""
    if not (flagged[-1] > 0 and found[-1] > 0):
        return float("nan")
    weighed = flagged + found
    precision = np.divide(found, weighed, out=np.ones_like(found), where=weighed > 0)
    return float(np.sum(np.diff(found) * precision[1:]) / found[-1])


def _equal_error(false_positive: NDArray, true_positive: NDArray) -> float:
    return float(np.interp(0, false_positive + true_positive - 1, false_positive))


def _cumulated(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """Weight of real and of generated pictures (K,) at or above every threshold, from above the highest score down.

    Written out because a report takes tens of thousands of resamples: 18 times as fast as scikit-learn's
    `roc_auc_score` on 2,803 pictures, and equal to it (tested).
    """
    scores = np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    positive = np.asarray(labels)[order] == 1
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    flagged, found = (np.append(0.0, np.cumsum(weight * is_class)[last_of_ties]) for is_class in (~positive, positive))
    return flagged, found


__all__ = [
    "RANKING",
    "average_precision",
    "brier_score",
    "expected_calibration_error",
    "ranking",
    "reliability",
    "roc_auc",
    "tpr_at_fpr",
]
