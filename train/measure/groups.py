"""What is true of each source, generator and style: pictures of one class, set against all pictures of the other."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from modeling.verdicts import CLASSES, GENERATED, OPPOSITE, REAL, UNCERTAIN, VERDICTS

from .bootstrap import mean_with_interval, share_with_interval, wilson_interval, with_interval, with_intervals
from .metrics import RANKING, ranking, reliability, roc_auc
from .schema import GeneratorGroup, Groups, SourceGroup, StyleGroup, Worst, WorstCalibrated

# Groups below are too small to be named the worst, and for figures of a ranking other than the AUC.
WORST_GROUP_PICTURES = 10
# A calibration error lies above the truth. Were probabilities like the default head's all true, it would be 0.13 on
# average for 10 pictures against 1,657 of the other class, 0.06 for 50, 0.04 for 100 (one time in twenty above 0.06)
# and 0.03 for 200. Groups below are not ranked by it, and the report does not show it.
CALIBRATION_PICTURES = 100
# Of each verdict, the field that holds its share.
SHARE_OF = {REAL: "called_real", UNCERTAIN: "uncertain", GENERATED: "called_generated"}
_RANKED = tuple(name for name in RANKING if name != "average_precision")  # which compares sizes, see `ranking`
_COLUMNS = ["label", "source", "score", "probability", "verdict", "flagged_rightly"]


def measure_groups(rows: pd.DataFrame) -> Groups:
    """Figures of every source, generator and style.

    Rankings, balanced accuracy and calibration need two classes: they are of the group and all pictures of the other
    class, each class with half of the weight. `brier_score` is of the group's own pictures; `answered` is the share
    with a verdict other than "uncertain", `wrong_of_answered` the share of these with the wrong one.

    Args:
        rows: one row a picture: label, source, generator, style, score, probability, verdict.

    Returns:
        A row for each source and class, generator, and style and class.
    """
    rows = rows.assign(flagged_rightly=(rows["verdict"] == GENERATED) == (rows["label"] == 1))
    of_class = [rows.loc[rows["label"] == label, _COLUMNS] for label in (0, 1)]
    # In falling order of score, so that no group's ranking has to sort them again.
    of_class = [part.iloc[np.argsort(-part["score"].to_numpy(), kind="stable")] for part in of_class]
    return {
        "by_source": [_source_row(*group) for group in _groups(rows, "source", of_class)],
        "by_generator": [_generator_row(*group) for group in _groups(rows[rows["label"] == 1], "generator", of_class)],
        "by_style": [_style_row(*group) for group in _groups(rows, "style", of_class)],
    }


def worst_groups(groups: Groups) -> Worst:
    """The worst of `measure_groups`; `None` where no group has enough pictures."""
    sources = [row for row in groups["by_source"] if row["pictures"] >= WORST_GROUP_PICTURES and row["class"] == REAL]
    generators = [row for row in groups["by_generator"] if row["pictures"] >= WORST_GROUP_PICTURES]
    styles = [row for row in groups["by_style"] if row["pictures"] >= WORST_GROUP_PICTURES]
    source = max(sources, key=lambda row: row["called_generated"], default=None)
    generator = min(generators, key=lambda row: row["called_generated"], default=None)
    style = max(styles, key=_wrong, default=None)
    return {
        "real_source": source
        and {
            "source": source["source"],
            "pictures": source["pictures"],
            "called_generated": source["called_generated"],
            "interval": source["wrong_interval"],
        },
        "generator": generator
        and {
            "generator": generator["generator"],
            "pictures": generator["pictures"],
            "called_generated": generator["called_generated"],
            "called_real": generator["called_real"],
            "interval": generator["called_generated_interval"],
        },
        "style": style
        and {
            "style": style["style"],
            "class": style["class"],
            "pictures": style["pictures"],
            "wrong": _wrong(style),
            "interval": style["wrong_interval"],
        },
        "calibration": _worst_calibrated(groups),
    }


def _wrong(row: StyleGroup) -> float:
    return row["called_generated"] if row["class"] == REAL else row["called_real"]


def _worst_calibrated(groups: Groups) -> WorstCalibrated | None:
    rows: list[tuple[str, str, Any]] = [
        *(("generator", row["generator"], row) for row in groups["by_generator"]),
        *(("style", row["style"], row) for row in groups["by_style"]),
        *(("source", row["source"], row) for row in groups["by_source"]),
    ]
    error = "balanced_expected_calibration_error"
    known = [group for group in rows if group[2]["pictures"] >= CALIBRATION_PICTURES and group[2][error] is not None]
    if not known:
        return None
    kind, name, row = max(known, key=lambda group: group[2][error])
    return {
        "kind": kind,
        "name": name,
        "class": row["class"],
        "pictures": row["pictures"],
        "balanced_expected_calibration_error": row[error],
    }


def _groups(
    rows: pd.DataFrame, column: str, of_class: list[pd.DataFrame]
) -> Iterator[tuple[str, int, pd.DataFrame, pd.DataFrame]]:
    """Name, label and pictures of every group of one class, and all pictures of the other; the largest first."""
    groups = [(*cast(tuple[str, int], key), group) for key, group in rows.groupby([column, "label"])[_COLUMNS]]
    groups.sort(key=lambda group: (-group[1], -len(group[2]), group[0]))
    for name, label, group in tqdm(groups, desc=f"{column}s", unit="group", delay=1, leave=False):
        yield name, label, group, of_class[1 - label]


def _undefined(group: pd.DataFrame, others: pd.DataFrame) -> str | None:
    """Why some figures are `None`: those that need two classes, or those of a ranking but the AUC."""
    if others.empty:
        return "no pictures of the other class"
    return f"fewer than {WORST_GROUP_PICTURES} pictures" if len(group) < WORST_GROUP_PICTURES else None


def _source_row(source: str, label: int, group: pd.DataFrame, others: pd.DataFrame) -> SourceGroup:
    name, verdicts = CLASSES[label], group["verdict"].to_numpy()
    counts = {verdict: int((verdicts == verdict).sum()) for verdict in VERDICTS}
    answered, wrong = len(group) - counts[UNCERTAIN], counts[OPPOSITE[name]]
    row = {
        "source": source,
        "class": name,
        "pictures": len(group),
        **_against_others(label, group, others),
        **{SHARE_OF[verdict]: count / len(group) for verdict, count in counts.items()},
        "wrong_interval": wilson_interval(wrong, len(group)),
        "mean_probability": float(group["probability"].mean()),
        "brier_score": float(((group["probability"] - label) ** 2).mean()),
        "answered": answered / len(group),
        "answered_interval": wilson_interval(answered, len(group)),
        "wrong_of_answered": wrong / answered if answered else None,
        "wrong_of_answered_interval": wilson_interval(wrong, answered) if answered else None,
        "undefined": _undefined(group, others),
    }
    return cast(SourceGroup, row)


def _against_others(label: int, group: pd.DataFrame, others: pd.DataFrame) -> dict[str, float | None]:
    """What needs the other class, without intervals."""
    names = (*_RANKED, "balanced_accuracy", "balanced_expected_calibration_error")
    figures: dict[str, float | None] = dict.fromkeys(names)
    if others.empty:
        return figures
    figures["balanced_accuracy"] = float((group["flagged_rightly"].mean() + others["flagged_rightly"].mean()) / 2)
    labels = np.repeat([1 - label, label], [len(others), len(group)])
    scores = np.concatenate([others["score"], group["score"]])
    if len(group) < WORST_GROUP_PICTURES:
        return figures | {"auc": roc_auc(labels, scores)}
    ranked = zip(RANKING, ranking(labels, scores).tolist(), strict=True)
    figures |= {name: value for name, value in ranked if name in _RANKED}
    return figures | {"balanced_expected_calibration_error": _calibration_error(label, group, others)}


def _calibration_error(label: int, group: pd.DataFrame, others: pd.DataFrame) -> float:
    """`expected_calibration_error` of both with half of the weight each, in a fraction of its time."""
    mean_probability, generated = np.zeros(10), np.zeros(10)
    for part, is_generated in ((group, label), (others, 1 - label)):
        probability = part["probability"].to_numpy()
        tenth = np.minimum((probability * 10).astype(int), 9)
        mean_probability += np.bincount(tenth, probability, minlength=10) / len(part) / 2
        generated += is_generated * np.bincount(tenth, minlength=10) / len(part) / 2
    return float(np.abs(mean_probability - generated).sum())


def _generator_row(generator: str, label: int, group: pd.DataFrame, others: pd.DataFrame) -> GeneratorGroup:
    _, found_interval = share_with_interval(group, group["verdict"] == GENERATED)
    row = {
        "generator": generator,
        **_large_group(label, group, others),
        "called_generated_interval": found_interval,
    }
    return cast(GeneratorGroup, row)


def _style_row(style: str, label: int, group: pd.DataFrame, others: pd.DataFrame) -> StyleGroup:
    return cast(StyleGroup, {"style": style, **_large_group(label, group, others)})


def _large_group(label: int, group: pd.DataFrame, others: pd.DataFrame) -> dict[str, Any]:
    """Fields of `LargeGroup`."""
    name = CLASSES[label]
    answered = group["verdict"] != UNCERTAIN
    wrong = group["verdict"] == OPPOSITE[name]
    share_answered, answered_interval = share_with_interval(group, answered)
    share_wrong, wrong_interval = (
        share_with_interval(group[answered], wrong[answered]) if answered.any() else (None, None)
    )
    return {
        "class": name,
        "pictures": len(group),
        "sources": int(group["source"].nunique()),
        **_against_others_with_intervals(group, others),
        **{SHARE_OF[verdict]: float((group["verdict"] == verdict).mean()) for verdict in VERDICTS},
        "wrong_interval": share_with_interval(group, wrong)[1],
        "brier_score": mean_with_interval(group, (group["probability"] - label) ** 2),
        "answered": share_answered,
        "answered_interval": answered_interval,
        "wrong_of_answered": share_wrong,
        "wrong_of_answered_interval": wrong_interval,
        "undefined": _undefined(group, others),
    }


def _against_others_with_intervals(group: pd.DataFrame, others: pd.DataFrame) -> dict[str, Any]:
    """What needs the other class; intervals where the group is large, never of the calibration error alone.

    A set has hundreds of generators of a few pictures each, and a bootstrap beside all pictures of the other class
    takes as long for each of them as for a large one.
    """
    names = (*_RANKED, "balanced_accuracy", "balanced_expected_calibration_error", "balanced_reliability")
    figures: dict[str, Any] = dict.fromkeys(names)
    if others.empty:
        return figures
    label = int(group["label"].iloc[0])
    if len(group) < WORST_GROUP_PICTURES:
        values = _against_others(label, group, others)
        return figures | {name: {"value": values[name], "interval": None} for name in ("auc", "balanced_accuracy")}
    both = pd.concat([others, group])
    figures["balanced_accuracy"] = with_interval(both, _mean_of_classes, column="flagged_rightly")
    ranked = with_intervals(RANKING, ranking, both, both["score"].to_numpy())
    figures |= {name: ranked[name] for name in _RANKED}
    half = np.repeat([0.5 / len(others), 0.5 / len(group)], [len(others), len(group)])
    return figures | {
        "balanced_expected_calibration_error": _calibration_error(label, group, others),
        "balanced_reliability": reliability(both["label"], both["probability"], half),
    }


def _mean_of_classes(labels: NDArray, values: NDArray, weights: NDArray) -> float:
    """Mean of the classes' weighted means (N,): balanced accuracy, of values that say what is right."""
    of_class = [labels == label for label in (0, 1)]
    if not all(weights[rows].any() for rows in of_class):
        return float("nan")
    return float(np.mean([np.average(values[rows], weights=weights[rows]) for rows in of_class]))


__all__ = ["CALIBRATION_PICTURES", "SHARE_OF", "WORST_GROUP_PICTURES", "measure_groups", "worst_groups"]
