"""The tables of an evaluation as CSV: the same columns whatever was measured, an interval in two of them."""

import io

import pandas as pd

from modeling.verdicts import CLASSES, GENERATED, UNCERTAIN

PICTURE_COLUMNS = ["record_id", "label", "source", "generator", "style", "score", "probability", "verdict"]
_VERDICTS = (*CLASSES, UNCERTAIN)


def _ends(name: str) -> tuple[str, str]:
    return f"{name}_low", f"{name}_high"


def _figure(name: str) -> tuple[str, ...]:
    """Columns of {"value", "interval"}, also where it is null for want of a class."""
    return f"{name}_value", *_ends(f"{name}_interval")


# Columns that came later stand last, so that tables of older evaluations differ by empty cells only.
_RANKED = ("balanced_average_precision", "tpr_at_1_percent_fpr", "tpr_at_5_percent_fpr", "oracle_equal_error_rate")
_OF_SOURCE = (*_RANKED, "balanced_accuracy_of_flagging", "brier_score")
_ANSWERED = ("answered", *_ends("answered_interval"), "wrong_of_answered", *_ends("wrong_of_answered_interval"))
_OF_GROUP = tuple(column for name in _OF_SOURCE for column in _figure(name))
_MORE = ("balanced_expected_calibration_error", *_ANSWERED, "undefined")
_SOURCES = (
    *("source", "class", "pictures", "auc", *_VERDICTS, *_ends("wrong_interval"), "mean_probability"),
    *(*_OF_SOURCE, *_MORE),
)
_GENERATORS = (
    *("generator", "pictures", "sources", *_figure("auc"), "found", *_ends("found_interval")),
    *("called_real", *_ends("called_real_interval"), *_OF_GROUP, *_MORE),
)
_STYLES = (
    *("style", "class", "pictures", "sources", *_figure("auc"), *_VERDICTS, *_ends("wrong_interval")),
    *(*_OF_GROUP, *_MORE),
)
_RELIABILITY = ("of", "name", "class", "pictures", "weight", "mean_probability", "share_generated")
_DELIVERIES = (
    "delivery",
    *_figure("auc"),
    *_figure("auc_minus_clean"),
    *_figure("real_called_generated"),
    *_figure("generated_found"),
    *_figure("verdict_changed"),
    *_figure("real_turned_generated"),
    "mean_probability_change_real",
    "mean_probability_change_generated",
    "mean_absolute_probability_change",
)


def csv_tables(evaluation: dict, pictures: pd.DataFrame) -> dict[str, str]:
    """The text of every CSV file by its name.

    Args:
        evaluation: as in evaluation.json. What it lacks gives a table without rows.
        pictures: one row a picture, `PICTURE_COLUMNS`.
    """
    deliveries = (evaluation.get("robustness") or {}).get("deliveries", [])
    tables = {
        "sources.csv": (evaluation.get("by_source", []), _SOURCES),
        "generators.csv": (evaluation.get("by_generator", []), _GENERATORS),
        "styles.csv": (evaluation.get("by_style", []), _STYLES),
        "deliveries.csv": (deliveries, _DELIVERIES),
        "reliability.csv": (_reliability(evaluation), _RELIABILITY),
    }
    frames = {
        name: pd.DataFrame([_flat(row) for row in rows]).reindex(columns=list(columns))
        for name, (rows, columns) in tables.items()
    }
    texts = {name: _csv(frame) for name, frame in {**frames, "pictures.csv": pictures[PICTURE_COLUMNS]}.items()}
    return texts | {"duplicates.csv": duplicates_csv(evaluation)}


def duplicates_csv(evaluation: dict) -> str:
    """The nearest pairs of pictures, within the data and with the training; the only place that names them."""
    found = (evaluation.get("bias_audit") or {}).get("duplicates") or {}
    pairs = [
        (where, *pair)
        for where, part in (("these pictures", found), ("the training", found.get("in_training") or {}))
        for pair in part.get("examples", [])
    ]
    return _csv(pd.DataFrame(pairs, columns=["other_of", "record_id", "other_record_id", "bits_apart"]))


def _reliability(evaluation: dict) -> list[dict]:
    """A row a tenth: of everything with sources weighted equally, of each generator and style against the others."""
    rows = [{"of": "all"} | tenth for tenth in evaluation.get("weighted_reliability", [])]
    for kind in ("generator", "style"):
        for group in evaluation.get(f"by_{kind}", []):
            named = {"of": kind, "name": group[kind], "class": group.get("class", GENERATED)}
            rows += [named | tenth for tenth in group.get("balanced_reliability") or []]
    return rows


def _flat(row: dict, prefix: str = "") -> dict[str, object]:
    cells: dict[str, object] = {}
    for name, value in row.items():
        if name == "balanced_reliability":  # has a table of its own
            continue
        if isinstance(value, dict):
            cells |= _flat(value, f"{prefix}{name}_")
        elif isinstance(value, list | tuple):
            cells |= {f"{prefix}{name}_low": value[0], f"{prefix}{name}_high": value[1]}
        else:
            cells[f"{prefix}{name}"] = value
    return cells


def _csv(frame: pd.DataFrame) -> str:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


__all__ = ["PICTURE_COLUMNS", "csv_tables", "duplicates_csv"]
