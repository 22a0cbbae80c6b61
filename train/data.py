"""One record schema for training and evaluation, and the adapters that bring data sets to it.

A record is {image, text, label, generator, source, style, record_id}: image as encoded bytes (never decoded here: our
own `open_image` does that, with its limits), text or `None`, label 0 = real or 1 = generated, generator "" for real.
`source` names where the picture came from; splits are made by it, never by picture.
"""

import glob
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np

RECORD_COLUMNS = ["image", "text", "label", "generator", "source", "style", "record_id"]
LABEL_NAMES = {"real": 0, "generated": 1}


@dataclass
class DataArguments:
    """Where the pictures are and which column says what."""

    data: str = field(
        metadata={"help": "Parquet file, glob or folder of Parquet files, or a folder real/ + generated/ of pictures."}
    )
    image_column: str = field(default="image", metadata={"help": "Column of encoded pictures (datasets.Image)."})
    label_column: str = field(
        default="label", metadata={"help": "Column of 0/1 or real/generated; 0 and real = a photograph."}
    )
    id_column: str = field(default="id", metadata={"help": "Column of unique identifiers."})
    source_column: str = field(default="source", metadata={"help": "Column that splits are made by."})
    generator_column: str = field(default="generator", metadata={"help": "Column that names the generator."})
    style_column: str = field(default="style", metadata={"help": "Column such as photoreal or illustration."})
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of captions, the same for both classes. None by default: where only generated pictures "
            "have a prompt, the text gives the label away."
        },
    )


def load_records(arguments: DataArguments) -> datasets.Dataset:
    """Read a data set into the record schema.

    Args:
        arguments: the location and the column names.

    Returns:
        A data set with `RECORD_COLUMNS`; `image` holds {"bytes", "path"}, not decoded.

    Raises:
        ValueError: nothing there, a column missing, labels other than real/generated, or identifiers not unique.
    """
    files = _parquet_files(arguments.data)
    if files:
        table = datasets.load_dataset("parquet", data_files=files, split="train")
    elif Path(arguments.data).is_dir():
        table = _picture_folder(Path(arguments.data), arguments)
    else:
        raise ValueError(f"`data` must name Parquet files or a folder of pictures, got {arguments.data!r}.")
    for role in ("image", "label"):
        if (column := getattr(arguments, f"{role}_column")) not in table.column_names:
            raise ValueError(
                f"`{role}_column` {column!r} is not in the data, which has the columns {table.column_names}."
            )
    if arguments.text_column is not None and arguments.text_column not in table.column_names:
        raise ValueError(f"`text_column` {arguments.text_column!r} is not among the columns {table.column_names}.")
    return _to_schema(table, arguments)


def _parquet_files(location: str) -> list[str]:
    """Parquet files that a file name, a glob or a folder stands for, sorted."""
    path = Path(location)
    if path.is_dir():
        return sorted(str(file) for file in path.glob("**/*.parquet"))
    return sorted(file for file in glob.glob(location) if file.endswith(".parquet"))


def _picture_folder(folder: Path, arguments: DataArguments) -> datasets.Dataset:
    """List the pictures of `folder`/real and `folder`/generated; a subfolder of these is a source."""
    rows: dict[str, list] = {"image": [], "label": [], "source": [], "id": [], "generator": []}
    for name, label in LABEL_NAMES.items():
        for file in sorted(path for path in (folder / name).glob("**/*") if path.is_file()):
            parents = file.relative_to(folder / name).parts[:-1]
            rows["image"].append(str(file))
            rows["label"].append(label)
            rows["source"].append("/".join((name, *parents)))
            rows["id"].append(str(file.relative_to(folder)))
            rows["generator"].append(parents[0] if parents and label else "")
    if not rows["id"]:
        raise ValueError(f"{folder} holds no Parquet file and no picture in {folder}/real or {folder}/generated.")
    names = [arguments.image_column, arguments.label_column, arguments.source_column, arguments.id_column]
    table = datasets.Dataset.from_dict(dict(zip([*names, arguments.generator_column], rows.values(), strict=True)))
    return table.cast_column(arguments.image_column, datasets.Image(decode=False))


def _to_schema(table: datasets.Dataset, arguments: DataArguments) -> datasets.Dataset:
    """Rename, default and check the columns."""
    labels = np.array([_parse_label(value) for value in _label_values(table, arguments.label_column)], dtype=np.int64)
    size = len(table)

    def column(name: str | None, default: list) -> list:
        return list(table[name]) if name is not None and name in table.column_names else default

    record_ids = [str(value) for value in column(arguments.id_column, list(range(size)))]
    if len(set(record_ids)) != size:
        raise ValueError(
            f"`id_column` {arguments.id_column!r} must be unique: {size - len(set(record_ids))} repeated."
        )
    records = table.select_columns([arguments.image_column])
    if arguments.image_column != "image":
        records = records.rename_column(arguments.image_column, "image")
    records = records.cast_column("image", datasets.Image(decode=False))
    additions = {
        "text": [text or None for text in column(arguments.text_column, [None] * size)],
        "label": labels.tolist(),
        "generator": [value or "" for value in column(arguments.generator_column, [""] * size)],
        # Without a source every picture is its own group: nothing better is known.
        "source": [str(value) for value in column(arguments.source_column, record_ids)],
        "style": [value or "" for value in column(arguments.style_column, [""] * size)],
        "record_id": record_ids,
    }
    features = {name: datasets.Value("int64" if name == "label" else "string") for name in additions}
    extra = datasets.Dataset.from_dict(additions, features=datasets.Features(features))
    return datasets.concatenate_datasets([records, extra], axis=1).select_columns(RECORD_COLUMNS)


def _label_values(table: datasets.Dataset, column: str) -> list:
    """Label column with ClassLabel numbers replaced by their names: a folder order must not decide the meaning."""
    feature = table.features[column]
    values = list(table[column])
    return [feature.int2str(value) for value in values] if isinstance(feature, datasets.ClassLabel) else values


def _parse_label(value: int | str | bool) -> int:
    """0 or 1 from a number or a name."""
    if isinstance(value, str) and value.lower() in LABEL_NAMES:
        return LABEL_NAMES[value.lower()]
    if not isinstance(value, str) and value in (0, 1):
        return int(value)
    raise ValueError(f"`label_column` must hold 0/1 or real/generated, got {value!r}.")


__all__ = ["RECORD_COLUMNS", "DataArguments", "load_records"]
