"""From raw scores to probabilities and verdicts: affine calibration and operating points.

Fitted on scores of pictures whose whole source was held out, so that the figures speak of unseen sources. What is
assumed: new pictures come from sources like these ones (exchangeable sources), and real and generated pictures are
equally likely beforehand. A different share of generated pictures moves the probability, not the verdict's rates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from modeling.verdicts import thirds, verdicts

from .rules import allowed_of, bounds
from .sources import source_weights


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
        return expit(self.scale * np.asarray(scores, dtype=np.float64) + self.bias)

    def judge(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add `probability` and `verdict` to rows that have a `score`."""
        probability = self.probability(rows["score"])
        verdict = verdicts(probability, self.real_threshold, self.generated_threshold)
        return rows.assign(probability=probability, verdict=verdict)


class NotCalibratedError(ValueError):
    """Higher scores do not mean generated: there is nothing to calibrate."""


# In the place of a calibration where there is none: it calls nothing generated, and real only a probability of 0.
UNCALIBRATED = Calibration(1.0, 0.0, 0.0, 2.0)


def calibrate(rows: pd.DataFrame, *, target_fpr: float = 0.02, target_fnr: float = 0.10) -> Calibration:
    """Fit the calibration and the thresholds on held-out scores.

    Probabilities are fitted source-weighted. The threshold of "generated" finds the most generated pictures that the
    rules of `rules.py` allow, and flags no real picture beyond what that needs. The threshold of "real" takes the most
    real pictures that `target_fnr` allows. Where the classes are so far apart that the two would cross, the threshold
    of "generated" stands for both, and nothing is uncertain.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated), score (raw), source; `kind` where known, "" is none.
        target_fpr: share of real pictures that may be called generated, in (0, 1).
        target_fnr: share of generated pictures that may be called real, in (0, 1).

    Raises:
        NotCalibratedError: higher scores do not mean generated.
        ValueError: a class is missing, or a score is not finite.
    """
    scale, bias = _fit(rows)
    probability = Calibration(scale, bias, 0.0, 1.0).probability(rows["score"])
    is_generated = rows["label"].to_numpy() == 1
    real, generated = probability[~is_generated], probability[is_generated]
    above = max(bound.above for bound in bounds(rows.assign(probability=probability), target_fpr))
    below = float(np.sort(generated)[allowed_of(len(generated), target_fnr)])
    generated_threshold = _threshold(above, gained=generated, spared=real, end=1.0)
    real_threshold = max(0.0, -_threshold(-below, gained=-real, spared=-generated, end=0.0))
    return Calibration(scale, bias, min(real_threshold, generated_threshold), generated_threshold)


def judge_held_out(rows: pd.DataFrame, fold: NDArray, **targets: Any) -> pd.DataFrame:
    """Rows with probability, verdict and `third` of the band, with calibration and thresholds of the other folds.

    The shipped thresholds are set on all held-out scores, so that the shares at them are in-sample and meet the
    targets. Those of other folds say what to expect of a new source.

    Args:
        rows: as for `calibrate`; the score is from a fit without its fold.
        fold: (N,) number of each picture's fold; sources lie in one fold each.
        **targets: what `calibrate` aims at.

    Returns:
        In the order of `rows`. `third` is that of `thirds`; it means something where the verdict is "uncertain".
    """
    probability, third = np.empty(len(rows)), np.empty(len(rows), dtype=int)
    verdict = np.empty(len(rows), dtype=object)
    for number in np.unique(fold):
        held_out = fold == number
        try:
            point = calibrate(rows[~held_out], **targets)
        except NotCalibratedError:
            point = UNCALIBRATED  # all uncertain
        judged = point.judge(rows[held_out])
        probability[held_out], verdict[held_out] = judged["probability"], judged["verdict"]
        third[held_out] = thirds(probability[held_out], point.real_threshold, point.generated_threshold)
    return rows.assign(probability=probability, verdict=verdict, third=third)


def _fit(rows: pd.DataFrame) -> tuple[float, float]:
    """Scale and bias by a logistic regression on the score, source-weighted."""
    labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy(dtype=np.float64)
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(f"Calibration needs both classes, got the labels {np.unique(labels).tolist()}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be finite, got {np.count_nonzero(~np.isfinite(scores))} that are not.")
    weights = source_weights(labels, rows["source"])
    # Centred and scaled, the solver converges for any score range; C is large enough to mean "no penalty".
    centre, spread = float(np.average(scores, weights=weights)), float(scores.std()) or 1.0
    fit = LogisticRegression(C=1e6).fit(
        ((scores - centre) / spread)[:, None], labels, sample_weight=weights * len(labels)
    )
    scale = float(fit.coef_[0, 0]) / spread
    if scale <= 0:
        raise NotCalibratedError(
            f"Scores do not rise from real to generated: slope {scale:.3g}, nothing to calibrate."
        )
    return scale, float(fit.intercept_[0]) - scale * centre


def _threshold(above: float, *, gained: NDArray, spared: NDArray, end: float) -> float:
    """Midpoint between the lowest of `gained` that lies above a value and the highest of `spared` below that one.

    So every one of `gained` above the value reaches it, and as few of `spared` as that allows.

    Args:
        above: one of `spared`; the threshold lies above it.
        gained: values that should reach it.
        spared: values that should not.
        end: of the range, in place of the lowest of `gained` where none lies above.
    """
    reached = gained[gained > above]
    high = float(reached.min()) if len(reached) else end
    low = float(spared[spared < high].max()) if len(reached) else float(spared.max())
    return max((low + high) / 2, float(np.nextafter(low, np.inf)))


__all__ = ["UNCALIBRATED", "Calibration", "NotCalibratedError", "calibrate", "judge_held_out"]
