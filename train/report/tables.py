"""The tables of an evaluation as CSV: the columns are those of the schema, whatever was measured."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pandas as pd

from modeling.spreadsheets import unlike_formula

from ..measure.schema import (
    BiasAudit,
    Delivery,
    Evaluation,
    GeneratorGroup,
    Interval,
    ReliabilityBin,
    SourceGroup,
    StyleGroup,
)

PICTURE_COLUMNS = ["record_id", "label", "source", "generator", "style", "score", "probability", "verdict"]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their columns; an empty cell for `None`, and no text that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([unlike_formula(value) for value in row] for row in rows)
    return text.getvalue()


def csv_tables(evaluation: Evaluation, pictures: pd.DataFrame) -> dict[str, str]:
    """The text of every CSV file by its name.

    Args:
        evaluation: a part that was not measured gives a table without rows.
        pictures: one row a picture, `PICTURE_COLUMNS`.
    """
    robustness = evaluation["robustness"]
    deliveries = [] if robustness is None else robustness["deliveries"]
    return {
        "sources.csv": _table("source", SourceGroup, evaluation["by_source"]),
        "generators.csv": _table("generator", GeneratorGroup, evaluation["by_generator"]),
        "styles.csv": _table("style", StyleGroup, evaluation["by_style"]),
        "deliveries.csv": _table("delivery", Delivery, deliveries),
        "reliability.csv": _reliability(evaluation),
        "pictures.csv": csv_text(PICTURE_COLUMNS, pictures[PICTURE_COLUMNS].itertuples(index=False)),
        "duplicates.csv": duplicates_csv(evaluation["bias_audit"]),
    }


def duplicates_csv(audit: BiasAudit) -> str:
    """The nearest pairs of pictures, within the data and with the training; the only place that names them."""
    found, known = audit["duplicates"], audit["duplicates"]["in_training"]
    pairs = [("these pictures", *pair) for pair in found["examples"] or []]
    pairs += [("the training", *pair) for pair in (known and known["examples"]) or []]
    return csv_text(("other_of", "record_id", "other_record_id", "bits_apart"), pairs)


def _reliability(evaluation: Evaluation) -> str:
    """A row a tenth: of everything, plain and source-weighted, and of generators and styles against the others."""
    groups: list[tuple[str, str, str, list[ReliabilityBin] | None]] = [
        ("all", "", "", evaluation["plain"]["reliability"]),
        ("all, source-weighted", "", "", evaluation["source_weighted"]["reliability"]),
        *(
            ("generator", row["generator"], row["class"], row["balanced_reliability"])
            for row in evaluation["by_generator"]
        ),
        *(("style", row["style"], row["class"], row["balanced_reliability"]) for row in evaluation["by_style"]),
    ]
    rows = [(kind, name, of_class, *tenth.values()) for kind, name, of_class, bins in groups for tenth in bins or []]
    return csv_text(("of", "name", "class", *ReliabilityBin.__annotations__), rows)


def _table(name: str, kind: type, rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of one TypedDict, the field `name` first."""
    fields = {name: str} | get_type_hints(kind, include_extras=True)
    columns = [column for field, of_field in fields.items() for column in _cells(field, of_field, None)]
    lines = (
        [cell for field, of_field in fields.items() for cell in _cells(field, of_field, row[field]).values()]
        for row in rows
    )
    return csv_text(columns, lines)


def _cells(name: str, kind: Any, value: Any) -> dict[str, object]:
    """A field as cells by column: several for a figure, an interval, or a value for each class."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if kind == list[ReliabilityBin]:  # has a table of its own
        return {}
    if kind == Interval:
        return dict(zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True))
    parts: dict[str, Any] = {}
    if is_typeddict(kind):
        parts = get_type_hints(kind, include_extras=True)
    elif get_origin(kind) is Annotated and get_origin(kind.__origin__) is dict:
        parts = dict.fromkeys(kind.__metadata__[0], get_args(kind.__origin__)[1])
    cells = [_cells(f"{name}_{part}", of_part, value and value[part]) for part, of_part in parts.items()]
    return {column: cell for part in cells for column, cell in part.items()} if parts else {name: value}


__all__ = ["PICTURE_COLUMNS", "csv_tables", "csv_text", "duplicates_csv"]
