"""Metrics of a detector, with intervals from a bootstrap over sources.

Pictures of one source are not independent, so sources are resampled, not pictures. Scores: higher is more likely
generated. Labels: 0 = real, 1 = generated.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# A figure of (labels, scores, weights), NaN where it is not defined. `scores` may have a column for each detector.
CLASSES = ("real", "generated")
Statistic = Callable[[NDArray, NDArray, NDArray], float]
DRAWS = 1000


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve, ties counted half; NaN where a class is missing or weighs nothing."""
    false_positive, true_positive = _roc(labels, scores, weights)
    return float(np.trapezoid(true_positive, false_positive))


def auc_difference(labels: NDArray, scores: NDArray, weights: NDArray) -> float:
    """AUC of the first of two columns of scores minus that of the second."""
    return roc_auc(labels, scores[:, 0], weights) - roc_auc(labels, scores[:, 1], weights)


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, fpr: float) -> float:
    """Largest share of generated pictures found while at most `fpr` of the real ones are flagged; NaN without both."""
    false_positive, true_positive = _roc(labels, scores, weights)
    found = true_positive[false_positive <= fpr]
    return float(found.max()) if found.size else float("nan")


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean precision over the generated pictures in falling order of score; NaN without both classes."""
    flagged, found = _cumulated(labels, scores, weights)
    if not (flagged[-1] and found[-1]):
        return float("nan")
    weighed = flagged + found
    precision = np.divide(found, weighed, out=np.ones_like(found), where=weighed > 0)
    return float(np.sum(np.diff(found) * precision[1:]) / found[-1])


def equal_error_rate(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Where the share of real pictures flagged equals that of generated ones missed; NaN without both classes.

    Found by choosing the threshold on these very labels: an oracle's figure, for comparison with other work only.
    """
    false_positive, true_positive = _roc(labels, scores, weights)
    return float(np.interp(0, false_positive + true_positive - 1, false_positive))


def brier_score(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean squared difference between P(generated) and what is; 0.25 for a constant 0.5."""
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.average((np.asarray(probabilities) - np.asarray(labels)) ** 2, weights=weights))


def reliability(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> list[dict]:
    """What a reliability diagram shows: for each tenth of [0, 1] that is not empty, said and true share.

    Returns:
        Dictionaries of `pictures`, `weight` (share of all), `mean_probability` and `share_generated`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    tenths = np.minimum((probabilities * 10).astype(int), 9)
    table = []
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
    """Mean distance between said and true share over the tenths of `reliability`, by weight."""
    table = reliability(labels, probabilities, weights)
    return float(sum(row["weight"] * abs(row["mean_probability"] - row["share_generated"]) for row in table))


def _roc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """False and true positive rates (K,) of every threshold from above the highest score down."""
    flagged, found = _cumulated(labels, scores, weights)
    with np.errstate(invalid="ignore"):  # a class without weight gives 0 / 0
        return flagged / flagged[-1], found / found[-1]


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


def source_weights(labels: ArrayLike, sources: ArrayLike) -> NDArray[np.float64]:
    """Weights (N,) that give every source of a class the same total, and each class half of all."""
    labels = np.asarray(labels)
    source_of_row, _ = _sources_by_class(labels, sources)
    weights = 1.0 / np.bincount(source_of_row)[source_of_row]
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum() * len(np.unique(labels))
    return weights


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> list[float] | None:
    """Percentile 95 % interval of `statistic(labels, scores, weights)`, resampling whole sources within each class.

    A source that has both classes is resampled in each of them on its own.

    Args:
        statistic: function of three arrays that returns a float; NaN draws are left out.
        labels: (N,).
        scores: (N,) or (N, K).
        sources: (N,).
        weights: (N,) of the rows, all equal by default. A source that is drawn k times has k times its weight.
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        [low, high], or `None` where a class has one source only: nothing says then how much sources differ.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    sources = np.asarray(sources)
    if scores.ndim == 1:  # sorted once, so that no draw has to: a ROC figure takes two fifths less time
        order = np.argsort(-scores, kind="stable")
        labels, scores, sources, weights = labels[order], scores[order], sources[order], weights[order]
    source_of_row, sources_of_class = _sources_by_class(labels, sources)
    if min(sources_of_class) < 2:
        return None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        times = np.concatenate([np.bincount(rng.integers(n, size=n), minlength=n) for n in sources_of_class])
        values.append(statistic(labels, scores, weights * times[source_of_row]))
    return [float(value) for value in np.nanpercentile(values, [2.5, 97.5])]


def with_interval(
    rows: pd.DataFrame,
    statistic: Statistic,
    weights: NDArray | None = None,
    *,
    column: str = "score",
    scores: NDArray | None = None,
    one_class: bool = False,
) -> dict | None:
    """A figure and its bootstrap interval.

    Args:
        rows: one row a picture: label, source and `column`.
        statistic: the figure.
        weights: (N,) of the rows, all equal by default.
        column: what the statistic gets as scores.
        scores: (N,) or (N, K), in place of a column.
        one_class: whether the figure is defined for one class, too.

    Returns:
        {"value", "interval"}, or `None` where a class is missing or the figure is not defined.
    """
    if rows.empty or (rows["label"].nunique() < 2 and not one_class):
        return None
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    scores = rows[column].to_numpy(dtype=float) if scores is None else scores
    weights = np.ones(len(rows)) if weights is None else weights
    value = statistic(labels, scores, weights)
    if np.isnan(value):
        return None
    interval = bootstrap_interval(statistic, labels, scores, sources, weights=weights, draws=DRAWS)
    return {"value": value, "interval": interval}


def mean_with_interval(rows: pd.DataFrame, values: ArrayLike) -> dict | None:
    """Mean of `values` (N,) over rows of label and source, and its bootstrap interval; `None` for no rows."""
    if rows.empty:
        return None
    values = np.asarray(values, dtype=np.float64)
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    interval = bootstrap_interval(weighted_mean, labels, values, sources, draws=DRAWS)
    return {"value": float(values.mean()), "interval": interval}


def weighted_mean(_labels: NDArray, values: NDArray, weights: NDArray) -> float:
    """Weighted mean of the values that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if weights[known].any() else float("nan")


def _sources_by_class(labels: NDArray, sources: ArrayLike) -> tuple[NDArray, list[int]]:
    """Number of each row's (class, source), classes one after the other, and how many sources each class has."""
    classes = [labels == label for label in np.unique(labels)]
    source_of_row = np.empty(len(labels), dtype=np.int64)
    counts: list[int] = []
    for rows in classes:
        names, inverse = np.unique(np.asarray(sources)[rows], return_inverse=True)
        source_of_row[rows] = inverse + sum(counts)
        counts.append(len(names))
    return source_of_row, counts


def wilson_interval(successes: int, total: int) -> list[float]:
    """Wilson 95 % interval of a share of independent trials; [0, 1] for none."""
    if total == 0:
        return [0.0, 1.0]
    z = 1.959963984540054
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return [float(max(0.0, centre - half)), float(min(1.0, centre + half))]


__all__ = [
    "CLASSES",
    "DRAWS",
    "Statistic",
    "auc_difference",
    "average_precision",
    "bootstrap_interval",
    "brier_score",
    "equal_error_rate",
    "expected_calibration_error",
    "mean_with_interval",
    "reliability",
    "roc_auc",
    "source_weights",
    "tpr_at_fpr",
    "weighted_mean",
    "wilson_interval",
    "with_interval",
]
