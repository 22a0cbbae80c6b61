"""Is a corrected head better? By corrections that never saw the source of the picture that they judge.

The user's sources and those that were set aside are divided into the same FOLDS groups. Every picture is judged by a
correction without its group, at a pull that was chosen without it, too: by corrections that lack one more group.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from tqdm import tqdm

from modeling.configuration_robust_clip import Decision
from modeling.verdicts import GENERATED, thirds, verdicts

from ..measure.bootstrap import auc_difference, mean_with_interval, weighted_mean, with_interval
from ..measure.metrics import roc_auc
from ..measure.sources import fold_of_name, source_weights
from .correcting import Head, Rows, correct, mean_squared_gradient

FOLDS = 4
# From a correction that hardly moves the head to one that follows the new pictures.
PULLS = (1.0, 0.1, 0.01)
# What the pictures that were set aside may lose: points of real ones called generated (and one picture is none), AUC,
# and points of generated ones found.
MOST_FLAGGED, MOST_AUC, MOST_FOUND = 0.01, 0.01, 0.05


@dataclass(frozen=True)
class Judged:
    """A corrected head, and what was found of it.

    Args:
        head: corrected with all pictures.
        pull: at which.
        held_out: of the user's pictures, by name of the figure: `before`, `after`, `difference` with its interval.
        set_aside: the same of those that were set aside.
        rows: one row a picture that was set aside, with label, source, probability, verdict and third of the band.
        why_not: why it is not better, sentences; none where it is.
    """

    head: Head
    pull: float
    held_out: dict[str, Any]
    set_aside: dict[str, Any]
    rows: pd.DataFrame
    why_not: list[str]


def correct_and_judge(head: Head, new: Rows, kept: Rows, decision: Decision) -> Judged:
    """Correct a head, and judge the way it was corrected.

    Args:
        head: as it was.
        new: the user's pictures.
        kept: those that were set aside.
        decision: calibration and thresholds of the checkpoint, which stay.
    """
    fits = _Fits(head, new, kept)
    everything = list(combinations(range(FOLDS), 2)) + [(number,) for number in range(FOLDS)]
    for without in tqdm(everything, desc="sources left out", unit="group"):
        for pull in PULLS:
            fits.logits(frozenset(without), pull)
    after = [np.empty(len(rows.labels)) for rows in (new, kept)]
    for number in range(FOLDS):
        logits = fits.logits(frozenset({number}), fits.choose(frozenset({number})))
        for values, given, fold in zip(after, logits, fits.folds, strict=True):
            values[fold == number] = given[fold == number]
    with torch.no_grad():
        before = [head.logits(rows.features).numpy() for rows in (new, kept)]
    own, aside = (
        _pictures(rows, was, now, decision) for rows, was, now in zip((new, kept), before, after, strict=True)
    )
    held_out, set_aside = _compare(own) | _compare_answers(own), _compare(aside)
    pull = fits.choose(frozenset())
    judged = aside.assign(probability=expit(aside["after"]), verdict=aside["verdict_after"])
    judged["third"] = thirds(judged["probability"], decision.real_threshold, decision.generated_threshold)
    corrected = correct(head, new, kept, pull, fits.gradient)
    return Judged(corrected, pull, held_out, set_aside, judged, why_not_better(held_out, set_aside))


class _Fits:
    """Corrections without some groups of sources: logits of all rows, made once each."""

    def __init__(self, head: Head, new: Rows, kept: Rows) -> None:
        self.head, self.new, self.kept = head, new, kept
        self.gradient = mean_squared_gradient(head, new.features)
        self.folds = tuple(_folds(rows) for rows in (new, kept))
        self._made: dict[tuple[frozenset[int], float], tuple[NDArray, NDArray]] = {}

    def logits(self, without: frozenset[int], pull: float) -> tuple[NDArray, NDArray]:
        """Logits of all new rows and of all that were set aside, by a correction without these groups."""
        if (without, pull) not in self._made:
            new, kept = (
                rows.select(~np.isin(fold, list(without)))
                for rows, fold in zip((self.new, self.kept), self.folds, strict=True)
            )
            corrected = correct(self.head, new, kept, pull, self.gradient)
            with torch.no_grad():
                made = [corrected.logits(rows.features).numpy() for rows in (self.new, self.kept)]
            self._made[without, pull] = made[0], made[1]
        return self._made[without, pull]

    def choose(self, outside: frozenset[int]) -> float:
        """The pull whose corrections have the least cross-entropy on groups that they lack, beside those outside.

        That of the new pictures and of those that were set aside count alike.
        """
        return min(PULLS, key=lambda pull: self._held_out_loss(outside, pull))

    def _held_out_loss(self, outside: frozenset[int], pull: float) -> float:
        total = 0.0
        for part, rows in enumerate((self.new, self.kept)):
            fold = self.folds[part]
            logits = np.full(len(fold), np.nan)
            for number in set(range(FOLDS)) - outside:
                logits[fold == number] = self.logits(outside | {number}, pull)[part][fold == number]
            judged = rows.clean & ~np.isnan(logits)
            weights = source_weights(rows.labels[judged], rows.sources[judged])
            total += float(np.average(_losses(rows.labels[judged], logits[judged]), weights=weights))
        return total


def _folds(rows: Rows) -> NDArray[np.int64]:
    """Number of the group of each row's source."""
    of_name = fold_of_name(rows.labels[rows.clean], rows.sources[rows.clean], FOLDS)
    return np.array([of_name[source] for source in rows.sources])


def _losses(labels: NDArray, logits: NDArray) -> NDArray[np.float64]:
    """Cross-entropy (N,) of calibrated logits."""
    return np.logaddexp(0, np.where(labels == 1, -logits, logits))


def _pictures(rows: Rows, before: NDArray, after: NDArray, decision: Decision) -> pd.DataFrame:
    """One row a picture as it is: label, source, logits and verdicts before and after."""
    pictures = pd.DataFrame({"label": rows.labels, "source": rows.sources, "before": before, "after": after})
    pictures = pictures[rows.clean].reset_index(drop=True)
    for name in ("before", "after"):
        given = verdicts(expit(pictures[name]), decision.real_threshold, decision.generated_threshold)
        pictures[f"verdict_{name}"] = given
    return pictures


def _compare(pictures: pd.DataFrame) -> dict[str, Any]:
    """Shares called generated of each class that is there, and AUC where both are."""
    found: dict[str, Any] = {}
    for label, name in enumerate(("false_positive_rate", "true_positive_rate")):
        of_class = pictures[pictures["label"] == label]
        if len(of_class):
            before, after = ((of_class[f"verdict_{time}"] == GENERATED).astype(float) for time in ("before", "after"))
            found[name] = _compared(of_class, before, after, mean_with_interval(of_class, after - before))
    if pictures["label"].nunique() == 2:
        scores = pictures[["after", "before"]].to_numpy()
        difference = with_interval(pictures, auc_difference, scores=scores)
        labels = pictures["label"]
        found["auc"] = {"pictures": len(pictures), "sources": pictures["source"].nunique()}
        found["auc"] |= {time: roc_auc(labels, pictures[time]) for time in ("before", "after")}
        found["auc"]["difference"] = difference
    return found


def _compare_answers(pictures: pd.DataFrame) -> dict[str, Any]:
    """Cross-entropy, and the share of right answers: a real picture not called generated, a generated one called so.

    Source-weighted, each class that is there alike.
    """
    labels = pictures["label"].to_numpy()
    weights = source_weights(labels, pictures["source"])
    found = {}
    for name in ("loss", "right"):
        before, after = (
            _losses(labels, pictures[time].to_numpy())
            if name == "loss"
            else ((pictures[f"verdict_{time}"] == GENERATED).to_numpy() == (labels == 1)).astype(float)
            for time in ("before", "after")
        )
        difference = with_interval(pictures, weighted_mean, weights, scores=after - before, one_class=True)
        found[name] = _compared(pictures, before, after, difference, weights)
    return found


def _compared(
    pictures: pd.DataFrame, before: ArrayLike, after: ArrayLike, difference: Any, weights: NDArray | None = None
) -> dict[str, Any]:
    counts = {"pictures": len(pictures), "sources": pictures["source"].nunique()}
    means = {
        name: float(np.average(np.asarray(values), weights=weights))
        for name, values in (("before", before), ("after", after))
    }
    return counts | means | {"difference": difference}


def why_not_better(held_out: dict[str, Any], set_aside: dict[str, Any]) -> list[str]:
    """Why a correction is not called better, in sentences; none where it is.

    It is better where more of the user's pictures get the right answer and their cross-entropy is less, both by
    intervals that exclude zero; where no more real pictures are called generated, of the user's own or of those set
    aside; and where those are also told apart and found as before. What is allowed stands at the top.
    """
    reasons = []
    right, loss = (held_out[name]["difference"]["interval"] for name in ("right", "loss"))
    if right is None or right[0] <= 0:
        reasons.append("It is not clear that more of your own pictures get the right answer.")
    if loss is None or loss[1] >= 0:
        reasons.append("It is not clear that the probabilities of your own pictures are less wrong.")
    for figures, whose in ((held_out, "your own real pictures"), (set_aside, "the real pictures that were set aside")):
        flagged = figures.get("false_positive_rate", {"before": 0.0, "after": 0.0, "pictures": 0})
        more = flagged["after"] - flagged["before"]
        if more > MOST_FLAGGED and (count := round(more * flagged["pictures"])) > 1:
            reasons.append(f"Of {flagged['pictures']} of {whose} {count} more are called generated.")
    auc, found = set_aside["auc"], set_aside["true_positive_rate"]
    if auc["before"] - auc["after"] > MOST_AUC:
        reasons.append(
            f"Pictures that were set aside are told apart worse: ROC AUC {auc['after']:.3f} after {auc['before']:.3f}."
        )
    if found["before"] - found["after"] > MOST_FOUND:
        reasons.append(
            f"Of the generated pictures that were set aside {found['after']:.0%} are found, not {found['before']:.0%}."
        )
    return reasons


__all__ = ["FOLDS", "PULLS", "Judged", "correct_and_judge", "why_not_better"]
