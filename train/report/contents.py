"""The rows of an evaluation by family, kind of content and shape, and of newer photographs; the same in cards."""

from ..measure.schema import ContentGroup, Evaluation
from .markdown import UNDEFINED, share, share_and_interval, table

_HEADER = ("class", "pictures", "sources", "ROC AUC", "called generated", "called real", "uncertain")


def contents_section(evaluation: Evaluation) -> str:
    """What is known of it under a heading; "" where nothing is."""
    parts = content_tables(evaluation)
    return "\n\n".join(["## By family, kind and shape", *parts]) if parts else ""


def content_tables(evaluation: Evaluation) -> list[str]:
    """A table each, with what must be said of it, of all that the data tells; AUC is against the other class."""
    parts = [table((what, *_HEADER), _rows(rows)) for what, rows in _tables(evaluation) if rows]
    if any(row["kinds_predicted"] for row in evaluation["by_kind"]):
        predicted = sum(row["kinds_predicted"] for row in evaluation["by_kind"])
        pictures = sum(row["pictures"] for row in evaluation["by_kind"])
        parts.append(
            "~ (a of b): of the row's b pictures the kind of a was predicted, not seen by anybody; of "
            f"{predicted:,} of {pictures:,} in all. Good enough for a table, not for a claim."
        )
    return parts


def _tables(evaluation: Evaluation) -> list[tuple[str, list[ContentGroup]]]:
    newer = evaluation["newer_telephones"]
    return [
        ("family of generators", [row | {"kinds_predicted": 0} for row in evaluation["by_family"]]),
        ("kind of content", evaluation["by_kind"]),
        ("shape", [row | {"kinds_predicted": 0} for row in evaluation["by_shape"]]),
        ("newer real pictures", [] if newer is None else [newer | {"kinds_predicted": 0}]),
    ]


def _rows(rows: list[ContentGroup]) -> list[tuple[object, ...]]:
    return [
        (
            (row["name"] or "not known") + predicted_sign(row),
            row["class"],
            row["pictures"],
            row["sources"],
            UNDEFINED if row["auc"] is None else f"{row['auc']:.3f}",
            share_and_interval(row["called_generated"], row["called_generated_interval"]),
            share_and_interval(row["called_real"], row["called_real_interval"]),
            share(row["uncertain"]),
        )
        for row in rows
    ]


def predicted_sign(row: ContentGroup) -> str:
    """What stands behind the name of a kind that was predicted for some of the row's pictures."""
    return f" ~ ({row['kinds_predicted']} of {row['pictures']})" if row["kinds_predicted"] else ""


__all__ = ["content_tables", "contents_section", "predicted_sign"]
