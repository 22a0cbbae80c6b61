"""The record: {image, text, label, generator, source, style, record_id}, and any table brought to it.

Image is encoded bytes (never decoded here: our own `open_image` does that, with its limits), text a string or `None`,
label 0 = real or 1 = generated, generator "" for real. `source` names where the picture came from; splits are made by
it, never by picture. Pictures stay in memory-mapped Arrow files; only the other columns are rewritten, batch by batch.
"""

import logging
from dataclasses import dataclass

import datasets
import pyarrow.compute

from modeling.verdicts import CLASSES

logger = logging.getLogger(__name__)

RECORD_COLUMNS = ["image", "text", "label", "generator", "source", "style", "record_id"]
FOLDER_LABELS = {name: label for label, name in enumerate(CLASSES)}
LABEL_NAMES = {**FOLDER_LABELS, "fake": 1}
DESCRIPTION = datasets.Features(
    {name: datasets.Value("int64" if name == "label" else "string") for name in RECORD_COLUMNS[1:]}
)
ENCODED = datasets.Image(decode=False)


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what; one that the table lacks or `None` holds nothing."""

    image: str
    label: str | int  # a number: the label of every row
    id: str
    source: str
    generator: str
    style: str | None
    real_text: str | None
    generated_text: str | None
    id_suffix: str = ""


def to_schema(table: datasets.Dataset, columns: Columns) -> datasets.Dataset:
    """Rename, default and check the columns; rows without a picture are left out."""
    classes = table.features[columns.label] if isinstance(columns.label, str) else None
    used = {columns.label, columns.id, columns.source, columns.generator, columns.style}
    used |= {columns.real_text, columns.generated_text}
    # Without any of them there are still rows to number; `map` opens no picture of a column that is not asked for.
    plain = table.select_columns([name for name in table.column_names if name in used] or [columns.image])
    descriptions = plain.map(
        _describe,
        batched=True,
        with_indices=True,
        remove_columns=plain.column_names,
        features=DESCRIPTION,
        fn_kwargs={"columns": columns, "classes": classes if isinstance(classes, datasets.ClassLabel) else None},
        # A cached result does not know that this code has changed.
        load_from_cache_file=False,
        desc="records",
    )
    if repeated := len(table) - pyarrow.compute.count_distinct(descriptions.data.column("record_id")).as_py():
        raise ValueError(f"`id_column` {columns.id!r} must be unique: {repeated} repeated.")
    records = table.select_columns([columns.image])
    if columns.image != "image":
        records = records.rename_column(columns.image, "image")
    records = records.cast_column("image", ENCODED)
    has_picture = records.data.column("image").is_valid()
    records = datasets.concatenate_datasets([records, descriptions], axis=1).select_columns(RECORD_COLUMNS)
    if pyarrow.compute.all(has_picture).as_py():
        return records
    return records.select(pyarrow.compute.indices_nonzero(has_picture).to_numpy().astype("int64"))


def warn_of_missing_pictures(rows: int) -> None:
    """Say how many rows `to_schema` has left out."""
    if rows:
        logger.warning("%d rows hold no picture and are left out.", rows)


def _describe(batch: dict, indices: list[int], columns: Columns, classes: datasets.ClassLabel | None) -> dict:
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
    return {
        "text": [pair[label] or None for pair, label in zip(texts, labels, strict=True)],
        "label": labels,
        "generator": [(name or "") if label else "" for name, label in zip(generators, labels, strict=True)],
        # Without a source every picture is its own group: nothing better is known.
        "source": [own if name is None else str(name) for name, own in zip(sources, record_ids, strict=True)],
        "style": [value or "" for value in column(columns.style, nothing)],
        "record_id": record_ids,
    }


def _parse_label(value: int | str | bool) -> int:
    """0 or 1 from a number or a name."""
    if isinstance(value, str) and value.lower() in LABEL_NAMES:
        return LABEL_NAMES[value.lower()]
    if not isinstance(value, str) and value in (0, 1):
        return int(value)
    raise ValueError(f"`label_column` must hold 0/1 or real/generated, got {value!r}.")


__all__ = ["ENCODED", "FOLDER_LABELS", "RECORD_COLUMNS", "Columns", "to_schema", "warn_of_missing_pictures"]
