"""Figures of an ablation: several fits (seeds) of one recipe on the same held-out pictures, and paired differences.

Scores of different fits are not on one scale, so they are never averaged: a figure is computed for each seed and the
mean over seeds is reported. Its interval resamples whole sources, the same ones for every seed and, in a difference,
for both recipes. It says how the figure would move with other sources; how it moves with other seeds is `seed_sd`.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling.verdicts import CLASSES

from ..measure.bootstrap import DRAWS, Statistic, bootstrap_interval
from ..measure.metrics import roc_auc, tpr_at_fpr
from ..measure.sources import source_weights

FIGURES = {
    "auc": "AUC",
    "auc_within_folds": "AUC within folds",
    "auc_sources_weighted_equally": "AUC, sources weighted equally",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
}
# Fewer pictures than this say little about a source.
WORST_SOURCE_PICTURES = 20


@dataclass
class HeldOut:
    """Pictures that were held out, and the group of sources that each was in.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated) and source.
        folds: (N,) number of the group that was left out of the fit that scored the picture.
    """

    rows: pd.DataFrame
    folds: NDArray

    def part(self, mask: NDArray) -> "HeldOut":
        """Only the pictures of a boolean mask (N,)."""
        return HeldOut(self.rows[mask], self.folds[mask])

    def measure(self, scores: NDArray) -> dict:
        """Every figure of a recipe, with its interval, and its worst source.

        Args:
            scores: (N, S), a column a seed.

        Returns:
            `figures`: for each of FIGURES the value (mean over seeds), interval, `by_seed`, `seed_sd` (`None` with
            one seed), or `None` where it is not defined; `worst_source` as in `worst_source`.
        """
        figures: dict[str, dict | None] = {}
        for name, (figure, weights) in self._figures().items():
            by_seed = [figure(self._labels, column, weights) for column in scores.T]
            interval = self._interval(mean_over_seeds(figure), scores, weights)
            figures[name] = None
            if interval is not None:
                seed_sd = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
                figures[name] = interval | {"by_seed": by_seed, "seed_sd": seed_sd}
        return {"figures": figures, "worst_source": self.worst_source(scores)}

    def compare(self, first: NDArray, second: NDArray) -> dict:
        """Figures of the first recipe minus those of the second, paired by picture, resample and seed.

        Args:
            first: (N, S) scores.
            second: (N, S) scores, or (N, 1) of a detector without seeds.

        Returns:
            For each of FIGURES the value (mean over seeds), interval and `by_seed`, or `None`.
        """
        pairs = np.stack([first, np.broadcast_to(second, first.shape)], axis=2)  # (N, S, 2)
        differences: dict[str, dict | None] = {}
        for name, (figure, weights) in self._figures().items():
            difference = partial(_difference, figure)
            by_seed = [difference(self._labels, pairs[:, seed], weights) for seed in range(pairs.shape[1])]
            interval = self._interval(mean_over_seeds(difference), pairs, weights)
            differences[name] = None if interval is None else interval | {"by_seed": by_seed}
        return differences

    def worst_source(self, scores: NDArray) -> dict | None:
        """The source that is told apart worst: AUC of its pictures of one class against all of the other class.

        Only sources with at least WORST_SOURCE_PICTURES pictures of the class count; `None` if there is none. It has
        no interval: the lowest of a resample of sources is not an estimate of the lowest of all.
        """
        found: list[dict] = []
        counts = self.rows.groupby(["source", "label"], as_index=False).size()
        for source, label, count in counts.itertuples(index=False):
            if count < WORST_SOURCE_PICTURES or (self._labels != label).sum() == 0:
                continue
            mask = (self._labels != label) | (self.rows["source"] == source).to_numpy()
            by_seed = [roc_auc(self._labels[mask], column[mask]) for column in scores.T]
            found.append(
                {
                    "source": source,
                    "class": CLASSES[label],
                    "pictures": int(count),
                    "value": float(np.mean(by_seed)),
                    "by_seed": by_seed,
                }
            )
        return min(found, key=lambda row: row["value"], default=None)

    @property
    def _labels(self) -> NDArray:
        return self.rows["label"].to_numpy()

    def _figures(self) -> dict[str, tuple[Statistic, NDArray]]:
        """Function and row weights of each of FIGURES."""
        ones, equal = np.ones(len(self.rows)), source_weights(self._labels, self.rows["source"])
        return {
            "auc": (roc_auc, ones),
            "auc_within_folds": (partial(_auc_within_folds, self.folds), ones),
            "auc_sources_weighted_equally": (roc_auc, equal),
            "tpr_at_1_percent_fpr": (partial(tpr_at_fpr, fpr=0.01), ones),
        }

    def _interval(self, statistic: Statistic, scores: NDArray, weights: NDArray) -> dict | None:
        value = statistic(self._labels, scores, weights)
        if np.isnan(value):
            return None
        interval = bootstrap_interval(
            statistic, self._labels, scores, self.rows["source"], weights=weights, draws=DRAWS
        )
        return None if interval is None else {"value": float(value), "interval": interval}


def mean_over_seeds(figure: Statistic) -> Statistic:
    """The mean of a figure over the seeds, the second axis of its scores."""

    def mean(labels: NDArray, scores: NDArray, weights: NDArray) -> float:
        return float(np.mean([figure(labels, scores[:, seed], weights) for seed in range(scores.shape[1])]))

    return mean


def _difference(figure: Statistic, labels: NDArray, scores: NDArray, weights: NDArray) -> float:
    """A figure of the first column of (N, 2) scores minus that of the second."""
    return figure(labels, scores[:, 0], weights) - figure(labels, scores[:, 1], weights)


def _auc_within_folds(folds: NDArray, labels: NDArray, scores: NDArray, weights: NDArray) -> float:
    """Mean of the AUC within each group of sources; groups that lack a class are left out, NaN if all do.

    Every score in a group comes from one fit, so that offsets between fits, which a loss of differences such as the
    AUC loss leaves free, do not count.
    """
    aucs = [roc_auc(labels[folds == k], scores[folds == k], weights[folds == k]) for k in np.unique(folds)]
    defined = [value for value in aucs if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


__all__ = ["FIGURES", "WORST_SOURCE_PICTURES", "HeldOut", "mean_over_seeds"]
