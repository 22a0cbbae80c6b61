"""Figures of a case: several fits (seeds) of one way to fit on the same held-out pictures, and paired differences.

Scores of different fits are not on one scale, so they are never averaged: a figure is computed for each seed and the
mean over seeds is reported. Its interval resamples whole sources, the same ones for every seed and, in a difference,
for both cases. It says how the figure would move with other sources; how it moves with other seeds is `seed_sd`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling.verdicts import CLASSES

from ..measure.bootstrap import DRAWS, with_intervals
from ..measure.families import measure_families
from ..measure.metrics import RANKING, ranking, roc_auc, tpr_at_fpr
from ..measure.sources import source_weights

FIGURES = {
    "auc": "AUC",
    "auc_within_groups": "AUC within groups",
    "source_weighted_auc": "source-weighted AUC",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "tpr_at_2_percent_fpr": "TPR at 2 % FPR",
    "tpr_at_5_percent_fpr": "TPR at 5 % FPR",
    "source_weighted_tpr_at_1_percent_fpr": "source-weighted TPR at 1 % FPR",
    "source_weighted_tpr_at_2_percent_fpr": "source-weighted TPR at 2 % FPR",
}
# Fewer pictures than this say little about a source.
WORST_SOURCE_PICTURES = 20

# The figures (M,) of labels, scores and weights of one seed; two columns of scores give a difference.
_OfSeed = Callable[[NDArray, NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class HeldOut:
    """Pictures that were held out, and the group of sources that each was in.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated) and source.
        groups: (N,) number of the group that was left out of the fit that scored the picture.
        draws: of the bootstrap.
    """

    rows: pd.DataFrame
    groups: NDArray
    draws: int = DRAWS

    def part(self, mask: NDArray) -> "HeldOut":
        """Only the pictures of a boolean mask (N,)."""
        return HeldOut(self.rows[mask], self.groups[mask], self.draws)

    def measure(self, scores: NDArray) -> dict[str, dict | None]:
        """Every figure of a case.

        Args:
            scores: (N, S), a column a seed.

        Returns:
            For each of FIGURES the value (mean over seeds), interval, `by_seed`, and `seed_sd` (`None` with one seed);
            `None` in its place where it is not defined.
        """
        return self._with_intervals(scores, self._figures)

    def compare(self, first: NDArray, second: NDArray) -> dict[str, dict | None]:
        """Figures of the first case minus those of the second, paired by picture, resample and seed.

        Args:
            first: (N, S) scores.
            second: (N, T) scores. If one has more seeds than the other, the first so many are paired; a case with one
                seed alone, such as a logistic regression, is paired with each.
        """
        seeds = min(first.shape[1], second.shape[1])
        if seeds == 1:
            seeds = max(first.shape[1], second.shape[1])
            first, second = (np.broadcast_to(scores, (len(scores), seeds)) for scores in (first, second))
        pairs = np.stack([first[:, :seeds], second[:, :seeds]], axis=2)  # (N, S, 2)

        def difference(labels: NDArray, pair: NDArray, weights: NDArray) -> NDArray:
            return self._figures(labels, pair[:, 0], weights) - self._figures(labels, pair[:, 1], weights)

        return self._with_intervals(pairs, difference)

    def worst_source(self, scores: NDArray) -> dict | None:
        """The source that is ranked worst: AUC of its pictures of one class against all of the other class.

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

    def families(self, scores: NDArray) -> dict | None:
        """Share found of each large family of generators at few false alarms, mean over seeds, the least found first.

        Args:
            scores: (N, S), a column a seed.

        Returns:
            `false_alarms`, `mean` over families and `by_family`, without intervals; `None` where no family is large.
        """
        by_seed = [measure_families(self.rows.assign(score=column)) for column in scores.T]
        of_seeds = [found for found in by_seed if found is not None]
        if not of_seeds:
            return None
        rows = pd.DataFrame([row for found in of_seeds for row in found["by_family"]])
        means = rows.groupby(["family", "pictures"])["found"].mean().reset_index()
        return {
            "false_alarms": of_seeds[0]["false_alarms"],
            "mean": float(means["found"].mean()),
            "by_family": sorted(means.to_dict("records"), key=lambda row: (row["found"], row["family"])),
        }

    @cached_property
    def _labels(self) -> NDArray:
        return self.rows["label"].to_numpy()

    @cached_property
    def _equal(self) -> NDArray:
        return source_weights(self._labels, self.rows["source"])

    @cached_property
    def _inside(self) -> list[NDArray]:
        return [self.groups == group for group in np.unique(self.groups)]

    def _figures(self, labels: NDArray, scores: NDArray, weights: NDArray) -> NDArray:
        """Every figure (M,) of scores (N,), in the order of FIGURES."""
        found = dict(zip(RANKING, ranking(labels, scores, weights), strict=True))
        found["auc_within_groups"] = self._auc_within_groups(labels, scores, weights)
        equal = weights * self._equal
        found["source_weighted_auc"] = roc_auc(labels, scores, equal)
        found["tpr_at_2_percent_fpr"] = tpr_at_fpr(labels, scores, weights, fpr=0.02)
        for percent in (1, 2):
            name = f"source_weighted_tpr_at_{percent}_percent_fpr"
            found[name] = tpr_at_fpr(labels, scores, equal, fpr=percent / 100)
        return np.array([found[name] for name in FIGURES])

    def _auc_within_groups(self, labels: NDArray, scores: NDArray, weights: NDArray) -> float:
        """Mean of the AUC within each group of sources; groups that lack a class are left out, NaN if all do.

        Every score in a group comes from one fit, so that offsets between fits, which a loss of differences such as
        the AUC loss leaves free, do not count.
        """
        aucs = np.array([roc_auc(labels[rows], scores[rows], weights[rows]) for rows in self._inside])
        return float(np.nan if np.isnan(aucs).all() else np.nanmean(aucs))

    def _with_intervals(self, scores: NDArray, of_seed: _OfSeed) -> dict[str, dict | None]:
        """Means over the seeds, the second axis of `scores`."""
        ones = np.ones(len(self.rows))
        by_seed = np.array([of_seed(self._labels, scores[:, seed], ones) for seed in range(scores.shape[1])])
        defined = ~np.isnan(by_seed).any(axis=0)
        names = [name for name, known in zip(FIGURES, defined, strict=True) if known]
        if not names:
            return dict.fromkeys(FIGURES)

        def mean(labels: NDArray, drawn: NDArray, weights: NDArray) -> NDArray:
            figures = [of_seed(labels, drawn[:, seed], weights)[defined] for seed in range(drawn.shape[1])]
            return np.mean(figures, axis=0)

        found = with_intervals(names, mean, self.rows, scores, draws=self.draws)
        measured: dict[str, dict | None] = dict.fromkeys(FIGURES)
        for name, values in zip(names, by_seed.T[defined], strict=True):
            figure = found[name]
            if figure is not None and figure["interval"] is not None:
                sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
                measured[name] = {**figure, "by_seed": values.tolist(), "seed_sd": sd}
        return measured


__all__ = ["FIGURES", "WORST_SOURCE_PICTURES", "HeldOut"]
