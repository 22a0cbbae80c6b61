"""Metrics of a detector, with intervals from a bootstrap over sources.

Pictures of one source are not independent, so sources are resampled, not pictures. Scores: higher is more likely
generated. Labels: 0 = real, 1 = generated.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score, roc_curve

# A figure of (labels, scores, sources), NaN where it is not defined.
Statistic = Callable[[NDArray, NDArray, NDArray], float]


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve; NaN where a class is missing."""
    labels = np.asarray(labels)
    if labels.min(initial=1) == labels.max(initial=0):
        return float("nan")
    return float(roc_auc_score(labels, scores, sample_weight=weights))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """Largest share of generated pictures found while at most `fpr` of the real ones are flagged; NaN without both."""
    labels = np.asarray(labels)
    if labels.min(initial=1) == labels.max(initial=0):
        return float("nan")
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(true_positive[false_positive <= fpr].max())


def source_weights(labels: ArrayLike, sources: ArrayLike) -> NDArray[np.float64]:
    """Weights (N,) that give every source of a class the same total, and each class half of all."""
    labels = np.asarray(labels)
    keys = np.array([f"{label}|{source}" for label, source in zip(labels, np.asarray(sources), strict=True)])
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[inverse]
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum() * len(np.unique(labels))
    return weights


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> list[float]:
    """Percentile 95 % interval of `statistic(labels, scores, sources)`, resampling whole sources within each class.

    Args:
        statistic: function of three arrays that returns a float; NaN draws are left out.
        labels: (N,).
        scores: (N,).
        sources: (N,).
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        [low, high].
    """
    labels, scores, sources = np.asarray(labels), np.asarray(scores), np.asarray(sources)
    groups = [
        [np.flatnonzero((labels == label) & (sources == source)) for source in np.unique(sources[labels == label])]
        for label in np.unique(labels)
    ]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows, names = [], []
        for classes in groups:
            for copy, index in enumerate(rng.integers(len(classes), size=len(classes))):
                rows.append(classes[index])
                # A source that is drawn twice counts as two sources: each copy gets a name of its own.
                names.append(np.full(len(classes[index]), copy))
        drawn = np.concatenate(rows)
        values.append(statistic(labels[drawn], scores[drawn], np.concatenate(names)))
    return [float(value) for value in np.nanpercentile(values, [2.5, 97.5])]


def wilson_interval(successes: int, total: int) -> list[float]:
    """Wilson 95 % interval of a share of independent trials; [0, 1] for none."""
    if total == 0:
        return [0.0, 1.0]
    z = 1.959963984540054
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return [float(max(0.0, centre - half)), float(min(1.0, centre + half))]


__all__ = ["Statistic", "bootstrap_interval", "roc_auc", "source_weights", "tpr_at_fpr", "wilson_interval"]
