"""What is decided for a group by fits that never saw it: calibration, thresholds, and which case answers for it.

Fits that leave out two groups score each of the two without having seen the other: for an outer group, the inner
scores of all other groups. From these alone come its calibration, its thresholds and the case that is chosen for it.
No source, record or near-duplicate is on both sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..measure.bootstrap import DRAWS, mean_with_interval
from ..measure.calibration import UNCALIBRATED, NotCalibratedError, calibrate
from ..measure.metrics import expected_calibration_error, roc_auc
from ..measure.rules import SOURCE_PICTURES
from ..measure.sources import source_weights
from .fits import Fit, Study
from .plan import Case

# The pictures as they are, beside the deliveries of a plan.
CLEAN = "clean"


@dataclass(frozen=True)
class Answers:
    """What a case says of every held-out view.

    Args:
        probability: (V, S), a column a seed.
        flagged: (V, S) verdict "generated".
        passed: (V, S) verdict "real".
        uncalibrated: groups whose inner scores could not be calibrated: nothing there is flagged or passed.
    """

    probability: NDArray
    flagged: NDArray
    passed: NDArray
    uncalibrated: list[int] = field(default_factory=list)


class Nested:
    """Thresholds and choice from inner fits, and the rates that follow.

    Args:
        study: the fits.
        views: rows of the held-out pictures as they are (CLEAN) and under each delivery.
        seeds: of the study; inner fits have the first.
        targets: what `calibrate` aims at.
        draws: of the bootstrap.
    """

    def __init__(
        self,
        study: Study,
        views: dict[str, NDArray],
        seeds: list[int],
        targets: dict[str, Any],
        draws: int = DRAWS,
    ) -> None:
        self.study, self.views, self.seeds, self.targets, self.draws = study, views, seeds, targets, draws

    def inner_fits(self, case: Case) -> Iterator[Fit]:
        """Every pair of groups left out."""
        yield from (Fit(case, self.seeds[0], pair) for pair in combinations(self.study.groups, 2))

    def inner_scores(self, case: Case, group: int) -> NDArray:
        """Scores (V,) of every view outside a group, by fits that saw neither the group nor the view's own."""
        scores = np.full(len(self.study.view), np.nan)
        for other in set(self.study.groups) - {group}:
            pair = (min(group, other), max(group, other))
            scored = self.study.scored_rows(pair)
            own = self.study.group[scored] == other
            scores[scored[own]] = self.study.stored(Fit(case, self.seeds[0], pair))["scores"].numpy()[own]
        return scores

    def inner_auc(self, case: Case) -> list[float]:
        """For each outer group the mean source-weighted AUC of its inner scores over the views: what chooses."""
        return [self._inner_auc(self.inner_scores(case, group), group) for group in self.study.groups]

    def judge(self, case: Case, scores: NDArray) -> Answers:
        """Probabilities and verdicts for scores (V, S) of outer fits, by what the inner scores of each group give."""
        study, clean = self.study, self.study.clean
        probability = np.full(scores.shape, np.nan)
        flagged, passed = np.zeros((2, *scores.shape), dtype=bool)
        uncalibrated: list[int] = []
        for group in study.groups:
            outside = clean[study.group[clean] != group]
            inner = study.banks[""].rows.iloc[outside].assign(score=self.inner_scores(case, group)[outside])
            try:
                calibration = calibrate(inner, **self.targets)
            except NotCalibratedError:
                calibration = UNCALIBRATED
                uncalibrated.append(group)
            rows = study.scored_rows((group,))
            probability[rows] = calibration.probability(scores[rows])
            flagged[rows] = probability[rows] >= calibration.generated_threshold
            passed[rows] = ~flagged[rows] & (probability[rows] <= calibration.real_threshold)
        return Answers(probability, flagged, passed, uncalibrated)

    def assemble(self, judged: dict[str, Answers], chosen: list[str]) -> Answers:
        """The answers of the case that was chosen for each group, for the seeds that all of them have.

        A case of one seed answers for each of the others' seeds.
        """
        counts = {judged[name].flagged.shape[1] for name in chosen}
        seeds = min(counts - {1}, default=1)
        shape = (len(self.study.view), seeds)
        probability = np.full(shape, np.nan)
        flagged, passed = np.zeros((2, *shape), dtype=bool)
        for group, name in zip(self.study.groups, chosen, strict=True):
            rows = self.study.scored_rows((group,))
            probability[rows] = judged[name].probability[rows, :seeds]
            flagged[rows] = judged[name].flagged[rows, :seeds]
            passed[rows] = judged[name].passed[rows, :seeds]
        uncalibrated = [group for group, name in enumerate(chosen) if group in judged[name].uncalibrated]
        return Answers(probability, flagged, passed, uncalibrated)

    def rates(self, answers: Answers, kinds: dict[str, list[str]]) -> dict:
        """What follows at the thresholds: FPR and TPR by view, FPR by source and kind, and calibration error."""
        clean = self.study.clean
        labels, sources = self.study.labels[clean], self.study.sources[clean]
        weights = source_weights(labels, sources)
        errors = [expected_calibration_error(labels, column, weights) for column in answers.probability[clean].T]
        of_real = pd.Series(answers.flagged[clean].mean(axis=1), sources)[labels == 0]
        by_source = of_real.groupby(level=0).agg(["size", "mean"]).sort_values("mean", ascending=False)
        kind_of = {source: kind for kind, names in kinds.items() for source in names}
        by_kind = of_real.groupby(of_real.index.map(lambda source: kind_of.get(source, "others"))).mean()
        return {
            "views": {name: self._shares(answers, rows) for name, rows in self.views.items()},
            "ece": float(np.mean(errors)),
            "fpr_by_source": by_source["mean"][by_source["size"] >= SOURCE_PICTURES].to_dict(),
            "sources_flagged_twice": self._flagged_twice(answers),
            "fpr_by_kind": by_kind.to_dict() if kinds else {},
        }

    def _flagged_twice(self, answers: Answers) -> dict:
        """Real sources of SOURCE_PICTURES or more, and the share with more than one flagged, a mean over seeds."""
        clean = self.study.clean
        real = clean[self.study.labels[clean] == 0]
        flagged = pd.DataFrame(answers.flagged[real]).groupby(self.study.sources[real])
        large = (flagged.size() >= SOURCE_PICTURES).to_numpy()
        shares = (flagged.sum()[large] > 1).to_numpy().mean(axis=0) if large.any() else None
        return {"sources": int(large.sum()), "share": None if shares is None else float(shares.mean())}

    def _inner_auc(self, scores: NDArray, group: int) -> float:
        found = []
        for rows in self.views.values():
            outside = rows[self.study.group[rows] != group]
            labels = self.study.labels[outside]
            found.append(roc_auc(labels, scores[outside], source_weights(labels, self.study.sources[outside])))
        return float(np.mean(found))

    def _shares(self, answers: Answers, rows: NDArray) -> dict:
        """Share called generated of each class, with intervals."""
        found = {}
        for label, name in enumerate(("fpr", "tpr")):
            of_class = rows[self.study.labels[rows] == label]
            pictures = self.study.banks[""].rows.iloc[of_class]
            found[name] = mean_with_interval(pictures, answers.flagged[of_class].mean(axis=1), draws=self.draws)
        return found


__all__ = ["CLEAN", "Answers", "Nested"]
