"""Compare ways to build and fit a head, by a protocol in which nothing is chosen on the pictures that it is told on.

Sources are divided into groups. For every attempt, seed and group one fit leaves the group out and scores it: the
outer fits, which the figures come from. Fits that leave out two groups score each of the two without having seen the
other: for an outer group, the inner scores of all other groups. From these alone come its calibration, its thresholds
and, in the row "chosen inside", the attempt that is used for it. No source, record or near-duplicate is on both sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from modeling.verdicts import CLASSES

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..features.embedder import STANDARD_VIEW
from ..features.made_by import made_by
from ..measure.bootstrap import auc_difference, mean_with_interval, with_interval, with_intervals
from ..measure.calibration import SOURCE_PICTURES, Calibration, calibrate
from ..measure.duplicates import find_duplicates
from ..measure.metrics import expected_calibration_error, ranking, roc_auc
from ..measure.sources import join_sources, source_weights
from .comparison_plan import CHOSEN, Plan, read_plan
from .comparison_report import write_report
from .figures import mean_over_seeds
from .fits import Case, Study
from .options import CompareArguments

# The deliveries whose figures stand in the table, beside the pictures as they are.
DELIVERIES = ("web", "hard")


def compare(arguments: CompareArguments, training: RobustTrainingArguments) -> dict:
    """Make every fit, and write table.md, results.json and results.csv to `arguments.output`.

    Several processes that are given the same output share the fits.

    Returns:
        The results, as written to results.json.

    Raises:
        ValueError: a plan that cannot be read, a bank without the deliveries, near-duplicates in two sources, or
            settings out of range.
    """
    if len(set(arguments.seeds)) < len(arguments.seeds) or not arguments.seeds:
        raise ValueError(f"`seeds` must be at least one number, each once, got {arguments.seeds}.")
    if arguments.folds < 3:
        raise ValueError(f"`folds` must be 3 or more, got {arguments.folds}: two are left out together.")
    plan = read_plan(Path(arguments.plan))
    bank = _load_bank(arguments.bank, arguments.merge_sources)
    _check_bank(bank, plan)
    nested = Nested(bank, Path(arguments.output) / "fits", training, arguments)
    for folder in {case.inputs for case in plan.cases.values()} - {"bank"}:
        nested.add_bank(folder, _load_bank(folder, arguments.merge_sources))
    nested.run(plan.cases)
    judged = {name: nested.judge(case) for name, case in plan.cases.items()}
    inner = {name: nested.inner_auc(case) for name, case in plan.cases.items()}
    chosen = [max(inner, key=lambda name: inner[name][fold]) for fold in nested.folds]
    judged[CHOSEN] = nested.assemble(judged, chosen)
    rows = {}
    for name, answers in tqdm(judged.items(), desc="figures", unit="attempt"):
        rows[name] = nested.measure(answers, plan.kinds)
        if name in plan.cases:
            rows[name]["seconds_per_fit"] = nested.seconds(plan.cases[name])
        if other := plan.baseline_of.get(name):
            rows[name]["compared_with"] = other
            rows[name] |= nested.differences(answers, judged[other])
    results = {
        "settings": {
            "folds": arguments.folds,
            "seeds": arguments.seeds,
            "merge_sources": arguments.merge_sources,
            "targets": arguments.told_targets,
            "pictures": {name: int((nested.labels == label).sum()) for label, name in enumerate(CLASSES)},
            "delivered_pictures": len(nested.views[DELIVERIES[0]].rows),
            "kinds": {name: len(sources) for name, sources in plan.kinds.items()},
        },
        "attempts": {
            name: {
                "why": plan.why[name],
                "backbone": nested.study.banks[case.inputs].info["backbone"],
                "settings": _told(case),
            }
            for name, case in plan.cases.items()
        },
        "inner_auc": inner,
        "chosen_inside": chosen,
        "rows": rows,
        "made_by": made_by(bank),
    }
    write_report(results, Path(arguments.output))
    return results


def _load_bank(folder: str, merge_sources: list[str]) -> FeatureBank:
    """A bank without the standard deliveries that no figure is of."""
    bank = FeatureBank.load(folder)
    join_sources(bank.rows, merge_sources)
    kept = (bank.rows["view"] != STANDARD_VIEW) | bank.rows["delivery"].isin(DELIVERIES)
    return bank.select(kept.to_numpy())


def _check_bank(bank: FeatureBank, plan: Plan) -> None:
    clean = bank.rows[bank.rows["view"] == 0]
    of_bank = set(zip(clean["source"], clean["label"], strict=True))
    for delivery in DELIVERIES:
        delivered = bank.rows[bank.rows["delivery"] == delivery]
        if bare := of_bank - set(zip(delivered["source"], delivered["label"], strict=True)):
            raise ValueError(
                f"{len(bare)} of the bank's sources have no picture under {delivery}: make the bank with "
                f"--deliveries {' '.join(DELIVERIES)}, or with --probe_per_source."
            )
    duplicates = find_duplicates(clean)
    if pairs := duplicates["pairs_of_two_sources"]:
        raise ValueError(
            f"{pairs} near-duplicates lie in two sources, first {(duplicates['examples'] or [])[0][:2]}: hold the "
            "sources out together with `merge_sources`."
        )
    for kind, sources in plan.kinds.items():
        if unknown := sorted(set(sources) - set(clean[clean["label"] == 0]["source"])):
            raise ValueError(f"`kinds` of the plan: {kind} must hold real sources of the bank, got {unknown}.")


def _told(case: Case) -> dict:
    told = ("changes", "head", "views", "baseline")
    return {name: value for name in told if (value := getattr(case, name))}


@dataclass(frozen=True)
class Shown:
    """Held-out pictures under a delivery.

    Args:
        rows: (n,) of the bank.
        pictures: (n,) their places among the N pictures as they are.
    """

    rows: NDArray
    pictures: NDArray


@dataclass(frozen=True)
class Answers:
    """What an attempt says of every held-out view: probability and verdict "generated", (V, S), a column a seed."""

    probability: NDArray
    flagged: NDArray


class Nested:
    """The fits of a comparison and what follows from them.

    Args:
        bank: clean pictures, random deliveries to fit on, and DELIVERIES of every picture or of some of each source.
        folder: where fits are kept.
        training: the recipe.
        arguments: folds, seeds and targets.
    """

    def __init__(
        self, bank: FeatureBank, folder: Path, training: RobustTrainingArguments, arguments: CompareArguments
    ) -> None:
        self.study = Study(bank, folder, training, arguments.folds)
        self.seeds, self.folds = arguments.seeds, range(arguments.folds)
        self.targets = arguments.targets
        clean = bank.rows.iloc[self.study.clean]
        place = pd.Series(np.arange(len(clean)), clean["record_id"])
        self.views = {"clean": Shown(self.study.clean, place.to_numpy())}
        for name in DELIVERIES:
            rows = np.flatnonzero((bank.rows["view"] == STANDARD_VIEW) & (bank.rows["delivery"] == name))
            self.views[name] = Shown(rows, place.loc[bank.rows["record_id"].iloc[rows]].to_numpy())
        self.labels, self.sources = clean["label"].to_numpy(), clean["source"].to_numpy()
        self.fold = self.study.fold[self.study.clean]

    def add_bank(self, name: str, bank: FeatureBank) -> None:
        """Add the same pictures as another backbone sees them.

        Raises:
            ValueError: its views are not those of the first bank.
        """
        first, told = self.study.banks["bank"].rows, ["record_id", "view", "delivery", "label", "source"]
        if not first[told].equals(bank.rows[told]):
            raise ValueError(
                f"{name} must hold the same views of the same pictures as the first bank ({len(first)} rows), got "
                f"{len(bank)} others: make it from the same data with the same --views, --deliveries and --seed."
            )
        self.study.banks[name] = bank

    def run(self, cases: dict[str, Case]) -> None:
        """Make all fits, outer and inner."""
        self.study.make(self._fits(cases))

    def _fits(self, cases: dict[str, Case]) -> Iterator[tuple[Case, int, tuple[int, ...]]]:
        for case in cases.values():
            for pair in combinations(self.folds, 2):
                yield case, self.seeds[0], pair
            for seed in self._seeds(case):
                for fold in self.folds:
                    yield case, seed, (fold,)

    def judge(self, case: Case) -> Answers:
        """Probabilities and verdicts of the outer fits, by what the inner scores of each outer group give."""
        views = len(self.study.view)
        probability = np.full((views, len(self.seeds)), np.nan)
        flagged = np.zeros((views, len(self.seeds)), dtype=bool)
        for fold in self.folds:
            calibration = self._calibration(case, fold)
            rows = self.study.scored_rows((fold,))
            for column, seed in enumerate(self.seeds):
                scores = self.study.scores_of(case, seed if seed in self._seeds(case) else self.seeds[0], (fold,))
                probability[rows, column] = calibration.probability(scores)
                flagged[rows, column] = probability[rows, column] >= calibration.generated_threshold
        return Answers(probability, flagged)

    def inner_auc(self, case: Case) -> list[float]:
        """For each outer group the mean AUC of its inner scores, clean and delivered: what is chosen by."""
        return [self._inner_auc(self._inner_scores(case, fold), fold) for fold in self.folds]

    def assemble(self, judged: dict[str, Answers], chosen: list[str]) -> Answers:
        """The answers of the attempt that was chosen for each group."""
        first = judged[chosen[0]]
        probability, flagged = first.probability.copy(), first.flagged.copy()
        for fold, name in zip(self.folds, chosen, strict=True):
            rows = self.study.scored_rows((fold,))
            probability[rows], flagged[rows] = judged[name].probability[rows], judged[name].flagged[rows]
        return Answers(probability, flagged)

    def measure(self, answers: Answers, kinds: dict[str, list[str]]) -> dict:
        """All figures of an attempt: means over the seeds, with intervals by a bootstrap over sources."""
        figures: dict[str, Any] = {}
        for delivery, shown in self.views.items():
            figures[delivery] = self._ranking(answers, shown) | self._shares(answers, shown)
        clean = self.views["clean"].rows
        real = self.labels == 0
        figures["auc_loss"] = {name: self._auc_loss(answers, self.views[name]) for name in DELIVERIES}
        weights = source_weights(self.labels, self.sources)
        figures["ece"] = float(
            np.mean([expected_calibration_error(self.labels, p, weights) for p in answers.probability[clean].T])
        )
        by_source = pd.Series(answers.flagged[clean][real].mean(axis=1)).groupby(self.sources[real])
        counts, rates = by_source.size(), by_source.mean()
        large = rates[counts >= SOURCE_PICTURES].sort_values(ascending=False)
        figures["false_alarms_by_source"] = {str(name): float(rate) for name, rate in large.items()}
        figures["false_alarms_by_kind"] = {
            kind: float(answers.flagged[clean][real & np.isin(self.sources, sources)].mean())
            for kind, sources in self._kinds(kinds).items()
        }
        return figures

    def differences(self, first: Answers, second: Answers) -> dict:
        """AUC of the first minus that of the second on the pictures as they are, paired by picture and seed."""
        rows = self.views["clean"].rows
        pairs = np.stack([first.probability[rows], second.probability[rows]], axis=2)  # (N, S, 2)
        weights = source_weights(self.labels, self.sources)
        return {
            name: with_interval(self.study.rows.rows, mean_over_seeds(auc_difference), of_each, scores=pairs)
            for name, of_each in (("auc_difference", None), ("auc_difference_sources_weighted_equally", weights))
        }

    def seconds(self, case: Case) -> float:
        """Mean time of an outer fit and its scores."""
        return float(np.mean([self.study.seconds_of(case, self.seeds[0], (fold,)) for fold in self.folds]))

    def _kinds(self, kinds: dict[str, list[str]]) -> dict[str, list[str]]:
        """The plan's kinds, and one of all other real sources."""
        named = {source for sources in kinds.values() for source in sources}
        others = sorted(set(self.sources[self.labels == 0]) - named)
        return kinds | ({"others": others} if kinds and others else {})

    def _seeds(self, case: Case) -> list[int]:
        """A logistic regression has no seed."""
        return self.seeds[:1] if case.baseline else self.seeds

    def _inner_scores(self, case: Case, fold: int) -> NDArray:
        """Scores (V,) of every view outside a group, by fits that saw neither the group nor the view's own."""
        scores = np.full(len(self.study.view), np.nan)
        for other in self.folds:
            if other != fold:
                pair = (min(fold, other), max(fold, other))
                scored = self.study.scored_rows(pair)
                own = self.study.fold[scored] == other
                scores[scored[own]] = self.study.scores_of(case, self.seeds[0], pair)[own]
        return scores

    def _inner_auc(self, scores: NDArray, fold: int) -> float:
        found = []
        for shown in self.views.values():
            outside = self.fold[shown.pictures] != fold
            pictures, rows = shown.pictures[outside], shown.rows[outside]
            weights = source_weights(self.labels[pictures], self.sources[pictures])
            found.append(roc_auc(self.labels[pictures], scores[rows], weights))
        return float(np.mean(found))

    def _calibration(self, case: Case, fold: int) -> Calibration:
        outside = self.fold != fold
        scores = self._inner_scores(case, fold)[self.views["clean"].rows[outside]]
        return calibrate(self.labels[outside], scores, self.sources[outside], **self.targets)

    def _ranking(self, answers: Answers, shown: Shown) -> dict:
        """AUC and the share found at 1 % and 5 % false alarms, at thresholds chosen on these very pictures."""
        names = ("auc", "auc_sources_weighted_equally", "tpr_at_1_percent_fpr", "tpr_at_5_percent_fpr")

        def figures(labels: NDArray, scores: NDArray, weights: NDArray) -> NDArray:
            equal = weights * equal_weights
            return np.mean([_four_figures(labels, column, weights, equal) for column in scores.T], axis=0)

        equal_weights = source_weights(self.labels[shown.pictures], self.sources[shown.pictures])
        rows = self.study.rows.rows.iloc[shown.pictures]
        return with_intervals(names, figures, rows, answers.probability[shown.rows])

    def _auc_loss(self, answers: Answers, shown: Shown) -> float:
        """AUC of the pictures as they are minus that of the same pictures after a delivery."""
        labels, clean = self.labels[shown.pictures], self.views["clean"].rows[shown.pictures]
        before, after = (
            np.mean([roc_auc(labels, column) for column in answers.probability[rows].T])
            for rows in (clean, shown.rows)
        )
        return float(before - after)

    def _shares(self, answers: Answers, shown: Shown) -> dict:
        """Share called generated of each class, at the thresholds that the inner scores gave."""
        rows, shares = self.study.rows.rows.iloc[shown.pictures], answers.flagged[shown.rows].mean(axis=1)
        labels = self.labels[shown.pictures]
        return {
            name: mean_with_interval(rows[labels == label], shares[labels == label])
            for label, name in enumerate(("false_alarms", "found"))
        }


def _four_figures(labels: NDArray, scores: NDArray, weights: NDArray, equal: NDArray) -> list[float]:
    auc, _, _, at_1_percent, at_5_percent, _ = ranking(labels, scores, weights)
    return [auc, roc_auc(labels, scores, equal), at_1_percent, at_5_percent]


__all__ = ["compare"]
