"""From raw scores to probabilities and verdicts: affine calibration and operating points.

Fitted on scores of pictures whose whole source was held out, so that the figures speak of unseen sources. What is
assumed: new pictures come from sources like these ones (exchangeable sources), and real and generated pictures are
equally likely beforehand. A different share of generated pictures moves the probability, not the verdict's rates.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from modeling.verdicts import verdicts

from .sources import source_weights

# A source of fewer pictures says little about its own rate of false alarms.
SOURCE_PICTURES = 30


@dataclass(frozen=True)
class Calibration:
    """P(generated) = sigmoid(scale * score + bias), and the two thresholds on it.

    Args:
        scale: above 0.
        bias: any real number.
        real_threshold: verdict "real" at or below this probability.
        generated_threshold: verdict "generated" at or above this probability.
    """

    scale: float
    bias: float
    real_threshold: float
    generated_threshold: float

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """P(generated) of raw scores, same shape, in [0, 1]."""
        return 1 / (1 + np.exp(-(self.scale * np.asarray(scores, dtype=np.float64) + self.bias)))

    def judge(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add `probability` and `verdict` to rows that have a `score`."""
        probability = self.probability(rows["score"])
        verdict = verdicts(probability, self.real_threshold, self.generated_threshold)
        return rows.assign(probability=probability, verdict=verdict)


def calibrate(
    labels: ArrayLike,
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    target_fpr: float,
    target_fnr: float,
    target_source_fpr: float | None = None,
) -> Calibration:
    """Fit the calibration and the thresholds on held-out scores.

    Each source of a class weighs the same, so that one large collection does not decide for all. A mean over sources
    can still hide one kind of photograph that is flagged again and again: `target_source_fpr` bounds each source. If J
    sources are bounded and a new one is exchangeable with them, it exceeds the bound with a chance of 1 / (J + 1) or
    less, up to the counting of its pictures (conformal prediction with sources as units: Dunn, Wasserman & Ramdas,
    arXiv 1809.07441).

    Args:
        labels: (N,) of 0 = real and 1 = generated.
        scores: (N,) raw scores.
        sources: (N,) names.
        target_fpr: share of real pictures that may be called generated, in (0, 1).
        target_fnr: share of generated pictures that may be called real, in (0, 1).
        target_source_fpr: share of each real source of SOURCE_PICTURES or more pictures that may be called generated,
            in (0, 1); `None` bounds none.

    Raises:
        ValueError: a class is missing, a score is not finite, or higher scores do not mean generated.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(f"Calibration needs both classes, got the labels {np.unique(labels).tolist()}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be finite, got {np.count_nonzero(~np.isfinite(scores))} that are not.")
    weights = source_weights(labels, sources)
    # Centred and scaled, the solver converges for any score range; C is large enough to mean "no penalty".
    centre, spread = float(np.average(scores, weights=weights)), float(scores.std()) or 1.0
    fit = LogisticRegression(C=1e6).fit(
        ((scores - centre) / spread)[:, None], labels, sample_weight=weights * len(labels)
    )
    scale = float(fit.coef_[0, 0]) / spread
    bias = float(fit.intercept_[0]) - scale * centre
    if scale <= 0:
        raise ValueError(f"Scores do not rise from real to generated (slope {scale:.3g}): nothing to calibrate.")
    point = Calibration(scale, bias, 0.0, 1.0)
    probability = point.probability(scores)
    generated = _threshold(probability[labels == 0], weights[labels == 0], target_fpr)
    if target_source_fpr is not None:
        for _, of_source in pd.Series(probability[labels == 0]).groupby(np.asarray(sources)[labels == 0]):
            values = of_source.to_numpy()
            if len(values) >= SOURCE_PICTURES:
                generated = max(generated, _threshold(values, np.ones(len(values)), target_source_fpr))
    # Mirrored: at most `target_fnr` of generated pictures at or below the threshold.
    real = 1 - _threshold(1 - probability[labels == 1], weights[labels == 1], target_fnr)
    # Where the classes are far apart the two would cross: nothing between them is then left uncertain.
    if real > generated:
        real = generated = (real + generated) / 2
    return Calibration(scale, bias, real, generated)


def _threshold(values: NDArray, weights: NDArray, rate: float) -> float:
    """Smallest midpoint t between values such that the weighted share of `values` >= t is at most `rate`."""
    order = np.argsort(-values)
    values, share = values[order], np.cumsum(weights[order]) / weights.sum()
    allowed = int(np.searchsorted(share, rate, side="right"))  # so many of the largest may be at or above t
    while 0 < allowed < len(values) and values[allowed] == values[allowed - 1]:
        allowed -= 1  # equal values fall on the same side
    if allowed == 0:
        return float(np.nextafter(values[0], 2))
    if allowed == len(values):
        return float(values[-1])
    return float((values[allowed - 1] + values[allowed]) / 2)


__all__ = ["SOURCE_PICTURES", "Calibration", "calibrate"]
