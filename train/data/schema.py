"""The record: picture, text, label and what else is told of it, and any table brought to it.

Image is encoded bytes (never decoded here: our own `open_image` does that, with its limits), text a string or `None`,
label 0 = real or 1 = generated. All others are strings, "" where unknown: generator and its family for generated
pictures, style, kind (of content), kind_by ("seen", "style" or "predicted"), date (ISO, or the beginning of one).
`source` names where the picture came from; splits are made by it, never by picture. Pictures stay in memory-mapped
Arrow files; only the other columns are rewritten, batch by batch.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, TypeVar

import datasets
import pyarrow.compute

from modeling.verdicts import CLASSES

from .pictures_csv import Told

logger = logging.getLogger(__name__)

DESCRIBED = ("label", "generator", "source", "style", "family", "kind", "kind_by", "date")
RECORD_COLUMNS = ["image", "text", *DESCRIBED, "record_id"]
LABEL_NAMES = {name: label for label, name in enumerate(CLASSES)} | {"fake": 1}
DESCRIPTION = datasets.Features(
    {name: datasets.Value("int64" if name == "label" else "string") for name in RECORD_COLUMNS[1:]}
)
ENCODED = datasets.Image(decode=False)
_PICTURE_TYPES = ("string", "large_string", "binary", "large_binary")
Table = TypeVar("Table", datasets.Dataset, datasets.IterableDataset)


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what; one that the table lacks or `None` holds nothing."""

    image: str
    label: str | int  # a number: the label of every row
    id: str
    source: str
    generator: str
    real_text: str | None
    generated_text: str | None
    style: str | None = None
    family: str | None = None
    kind: str | None = None
    kind_by: str | None = None
    date: str | None = None
    id_suffix: str = ""


def to_schema(table: datasets.Dataset, columns: Columns, told: Mapping[str, Told] | None = None) -> datasets.Dataset:
    """Rename, default and check the columns; rows without a picture are left out.

    Args:
        table: any table.
        columns: which of its columns holds what.
        told: what a `pictures.csv` says besides, by identifier; it goes before the table's own columns.

    Returns:
        Records.

    Raises:
        ValueError: identifiers are not unique, a label is none, or it is not the one that is told; a column holds
            something else than pictures, or than one text or number a row.
    """
    _check_plain(table, columns)
    classes = table.features[columns.label] if isinstance(columns.label, str) else None
    used = set(astuple(columns)) - {columns.image}
    # Without any of them there are still rows to number; `map` opens no picture of a column that is not asked for.
    plain = table.select_columns([name for name in table.column_names if name in used] or [columns.image])
    descriptions = plain.map(
        _describe,
        batched=True,
        with_indices=True,
        remove_columns=plain.column_names,
        features=DESCRIPTION,
        fn_kwargs={
            "columns": columns,
            "classes": classes if isinstance(classes, datasets.ClassLabel) else None,
            "told": told or {},
        },
        # A cached result does not know that this code has changed.
        load_from_cache_file=False,
        desc="records",
    )
    if repeated := len(table) - pyarrow.compute.count_distinct(descriptions.data.column("record_id")).as_py():
        raise ValueError(f"`id_column` {columns.id!r} must be unique: {repeated} repeated.")
    _warn_of_other_dates(plain, columns.date, descriptions)
    records = table.select_columns([columns.image])
    if columns.image != "image":
        records = records.rename_column(columns.image, "image")
    records = as_pictures(records, "image", columns.image)
    has_picture = records.data.column("image").is_valid()
    records = datasets.concatenate_datasets([records, descriptions], axis=1).select_columns(RECORD_COLUMNS)
    if pyarrow.compute.all(has_picture).as_py():
        return records
    return records.select(pyarrow.compute.indices_nonzero(has_picture).to_numpy().astype("int64"))


def as_pictures(table: Table, column: str, name: str | None = None) -> Table:
    """The table with the column as encoded pictures.

    Args:
        table: a data set, streamed or not.
        column: its name in the table.
        name: what the user calls it.

    Raises:
        ValueError: it holds no pictures.
    """
    feature = (table.features or {}).get(column)
    if isinstance(feature, dict):
        is_picture = feature.keys() <= {"bytes", "path"}
    else:
        is_picture = isinstance(feature, datasets.Image) or getattr(feature, "dtype", None) in _PICTURE_TYPES
    if feature is not None and not is_picture:
        raise ValueError(
            f"`image_column` {name or column!r} must hold one picture a row, as bytes, a path or both, got {feature}."
        )
    return table.cast_column(column, ENCODED)


def _check_plain(table: datasets.Dataset, columns: Columns) -> None:
    """Refuse lists and the like, before the work on many rows."""
    for role, column in vars(columns).items():
        feature = None if role == "image" or not isinstance(column, str) else table.features.get(column)
        if feature is not None and not isinstance(feature, datasets.Value | datasets.ClassLabel):
            option = "text_column" if role.endswith("_text") else f"{role}_column"
            raise ValueError(f"`{option}` {column!r} must hold one text or number a row, got {feature}.")


def warn_of_missing_pictures(rows: int) -> None:
    """Say how many rows `to_schema` has left out."""
    if rows:
        logger.warning("%d rows hold no picture and are left out.", rows)


def _warn_of_other_dates(table: datasets.Dataset, column: str | None, descriptions: datasets.Dataset) -> None:
    """Say how many dates were not understood."""
    if column not in table.column_names:
        return
    dates = zip(table[column], descriptions["date"], strict=True)
    if others := sum(not date and value not in (None, "") for value, date in dates):
        logger.warning(
            "%d of %d rows have a `date_column` %r that is no ISO date, such as 2024-12: left empty.",
            others,
            len(table),
            column,
        )


def _describe(
    batch: dict,
    indices: list[int],
    columns: Columns,
    classes: datasets.ClassLabel | None,
    told: Mapping[str, Told],
) -> dict:
    """Everything about the records of a batch but the pictures."""

    def column(name: str | None, default: list) -> list:
        return default if name is None else batch.get(name, default)

    nothing: list[None] = [None] * len(indices)
    if isinstance(columns.label, int):
        labels = [columns.label] * len(indices)
    else:
        # ClassLabel numbers are replaced by their names: a folder order must not decide the meaning.
        labels = [_parse_label(classes.int2str(value) if classes else value) for value in batch[columns.label]]
    record_ids = [f"{value}{columns.id_suffix}" for value in column(columns.id, indices)]
    texts = zip(column(columns.real_text, nothing), column(columns.generated_text, nothing), strict=True)
    generators = column(columns.generator, nothing)
    sources = column(columns.source, nothing)
    lines = [told.get(record_id) for record_id in record_ids]
    _check_labels(record_ids, labels, lines)
    return {
        "text": [pair[label] or None for pair, label in zip(texts, labels, strict=True)],
        "label": labels,
        "generator": [(name or "") if label else "" for name, label in zip(generators, labels, strict=True)],
        # Without a source every picture is its own group: nothing better is known.
        "source": [own if name in (None, "") else str(name) for name, own in zip(sources, record_ids, strict=True)],
        "style": [value or "" for value in column(columns.style, nothing)],
        "family": [
            (line and line.family) or family or generator or "" if label else ""
            for line, family, generator, label in zip(
                lines, column(columns.family, nothing), generators, labels, strict=True
            )
        ],
        **_kinds(lines, column(columns.kind, nothing), column(columns.kind_by, nothing)),
        "date": [_iso_date(value) for value in column(columns.date, nothing)],
        "record_id": record_ids,
    }


def _check_labels(record_ids: list[str], labels: list[int], lines: list[Told | None]) -> None:
    """The table and `pictures.csv` must agree."""
    for record_id, label, line in zip(record_ids, labels, lines, strict=True):
        if line is not None and line.label != label:
            raise ValueError(
                f"{record_id} is {CLASSES[label]} in the data and {CLASSES[line.label]} in pictures.csv: mend one."
            )


def _kinds(lines: list[Told | None], kinds: list, kinds_by: list) -> dict[str, list[str]]:
    """Kinds, and how they are known, from one place: `pictures.csv`, or the table."""
    pairs = [
        (line.kind, line.kind_by) if line is not None and line.kind else (kind or "", kind_by or "")
        for line, kind, kind_by in zip(lines, kinds, kinds_by, strict=True)
    ]
    return {"kind": [kind for kind, _ in pairs], "kind_by": [kind_by for _, kind_by in pairs]}


def _iso_date(value: Any) -> str:
    """The date of a value in ISO's form, or "": any other would be put in a wrong order."""
    return text if re.fullmatch(r"\d{4}(-\d\d){0,2}([T ].*)?", text := str(value)) else ""


def _parse_label(value: int | str | bool) -> int:
    """0 or 1 from a number or a name."""
    if isinstance(value, str) and value.lower() in LABEL_NAMES:
        return LABEL_NAMES[value.lower()]
    if not isinstance(value, str) and value in (0, 1):
        return int(value)
    raise ValueError(f"`label_column` must hold 0/1 or real/generated, got {value!r}.")


__all__ = [
    "DESCRIBED",
    "ENCODED",
    "LABEL_NAMES",
    "RECORD_COLUMNS",
    "Columns",
    "as_pictures",
    "to_schema",
    "warn_of_missing_pictures",
]
