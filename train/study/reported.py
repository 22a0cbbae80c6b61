"""What a nested study says of the whole way to fit, as evaluation.json holds it: `nested`.

Calibration, thresholds and choice of each group come from inner fits. All is of the study's first seed, as they are.
"""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling.verdicts import CLASSES, GENERATED, REAL, UNCERTAIN

from ..measure.bootstrap import share_with_interval
from ..measure.evaluation import verdicts_by_class
from ..measure.metrics import expected_calibration_error
from ..measure.schema import Figure, Nested, NestedCase, NestedFigures, NestedGroup
from ..measure.sources import FAMILY_PICTURES, source_weights
from .figures import HeldOut
from .fits import Study
from .nested import Answers
from .plan import CHOSEN, Case

# Figures of a study, and what `nested` calls them.
_FIGURES = {
    "auc": "auc",
    "source_weighted_auc": "auc_source_weighted",
    "tpr_at_1_percent_fpr": "tpr_at_1_percent_fpr",
    "tpr_at_2_percent_fpr": "tpr_at_2_percent_fpr",
    "source_weighted_tpr_at_1_percent_fpr": "tpr_at_1_percent_fpr_source_weighted",
    "source_weighted_tpr_at_2_percent_fpr": "tpr_at_2_percent_fpr_source_weighted",
}


def reported(
    cases: dict[str, Case],
    study: Study,
    held_out: HeldOut,
    answers: dict[str, Answers],
    chosen: list[str],
    protocol: str,
) -> Nested:
    """The case that was chosen for each group beside the plan's first logistic regression.

    Args:
        cases: of a nested plan.
        study: its fits.
        held_out: the pictures as they are.
        answers: of the cases, and of CHOSEN.
        chosen: the case of each group.
        protocol: what was held out.
    """
    baseline = next((case.name for case in cases.values() if case.baseline), None)
    names = candidates(cases)
    choice = f", and the choice among {len(names)} ways to fit," if len(names) > 1 else ""
    only = "" if len(names) > 1 else ". There is one way to fit, so nothing was left to choose"
    first, other = answers[CHOSEN], None if baseline is None else answers[baseline]
    differences = None
    if other is not None:
        pair = (found.probability[study.clean, :1] for found in (first, other))
        differences = _named(held_out.compare(*pair))
    return {
        "protocol": f"{protocol}; calibration and thresholds of each group{choice} come from "
        f"fits that saw neither it nor what they score{only}",
        "chosen": chosen,
        "case": _case(study, held_out, first),
        "baseline": baseline,
        "baseline_case": None if other is None else _case(study, held_out, other),
        "differences": differences,
    }


def candidates(cases: dict[str, Case]) -> list[str]:
    """Names of what may be chosen: heads, and logistic regressions only where a plan has no head."""
    return [case.name for case in cases.values() if not case.baseline] or list(cases)


def _case(study: Study, held_out: HeldOut, answers: Answers) -> NestedCase:
    probability = answers.probability[study.clean, 0]
    called = [answers.flagged[study.clean, 0], answers.passed[study.clean, 0]]
    rows = held_out.rows.assign(verdict=np.select(called, [GENERATED, REAL], UNCERTAIN))
    labels = rows["label"].to_numpy()
    weights = source_weights(labels, rows["source"])
    return {
        "figures": _named(held_out.measure(probability[:, None])),
        "verdicts": verdicts_by_class(rows),
        "expected_calibration_error": expected_calibration_error(labels, probability, weights),
        "by_kind": _groups(rows, "kind", labels >= 0),
        "by_family": _groups(rows, "family", labels == 1),
        "uncalibrated_groups": answers.uncalibrated,
    }


def _groups(rows: pd.DataFrame, column: str, among: NDArray) -> list[NestedGroup]:
    """Verdicts of kinds or families of FAMILY_PICTURES pictures or more, by class; none where they are not told."""
    if column not in rows:
        return []
    found: list[NestedGroup] = []
    grouped = rows[among].groupby(["label", column])
    for (label, name), part in cast(Iterable[tuple[tuple[int, str], pd.DataFrame]], grouped):
        if name and len(part) >= FAMILY_PICTURES:
            share, interval = share_with_interval(part, part["verdict"] == GENERATED)
            group: dict[str, Any] = {
                "class": CLASSES[label],
                "name": name,
                "pictures": len(part),
                "sources": int(part["source"].nunique()),
                "called_real": float((part["verdict"] == REAL).mean()),
                "called_generated": share,
                "interval": interval,
            }
            found.append(cast(NestedGroup, group))
    return sorted(found, key=lambda group: (CLASSES.index(group["class"]), -group["pictures"], group["name"]))


def _named(figures: dict[str, dict | None]) -> NestedFigures:
    """Without what only a study tells of a figure."""
    kept: dict[str, Figure | None] = {}
    for of_study, name in _FIGURES.items():
        figure = figures[of_study]
        kept[name] = None if figure is None else {"value": figure["value"], "interval": figure["interval"]}
    return cast(NestedFigures, kept)


__all__ = ["candidates", "reported"]
