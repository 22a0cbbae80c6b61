"""`load_records`: labelled pictures as records, whatever layout they come in.

docs/data-sets.md shows every layout with a command, and says where the schemas of ELSA_D3 and OpenFake were read.
"""

import glob
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow
import pyarrow.compute
from datasets.exceptions import DatasetsError

from .download import AddressCheck, is_public_address
from .elsa_d3 import elsa_d3_records
from .options import DataArguments
from .picture_folder import files_below, list_pictures
from .pictures_csv import find_pictures_csv, read_pictures_csv
from .schema import ENCODED, Columns, to_schema, warn_of_missing_pictures

logger = logging.getLogger(__name__)

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def load_records(arguments: DataArguments, *, is_admitted: AddressCheck = is_public_address) -> datasets.Dataset:
    """Read a data set into the record schema.

    Args:
        arguments: the location, the schema and the column names.
        is_admitted: which network addresses pictures may be fetched from, for a schema that holds URLs.

    Returns:
        A data set with `RECORD_COLUMNS`; `image` holds {"bytes", "path"}, not decoded.

    Raises:
        ValueError: nothing there, a column missing, labels other than real/generated, or identifiers not unique.
    """
    columns = _columns(arguments)
    try:
        table = _read(arguments)
    except (DatasetsError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"`data` {arguments.data!r} could not be read: {error}") from error
    for name in ("text_column", "generated_text_column"):
        if (column := getattr(arguments, name)) is not None and column not in table.column_names:
            raise ValueError(f"`{name}` {column!r} is not among the columns {table.column_names}.")
    _warn_of_different_texts(columns)
    if arguments.schema == "elsa_d3":
        return elsa_d3_records(table, columns, arguments, is_admitted)
    for role in ("image", "label"):
        if (column := getattr(columns, role)) not in table.column_names:
            raise ValueError(
                f"`{role}_column` {column!r} is not in the data, which has the columns {table.column_names}."
            )
    path = None if arguments.schema != "columns" else find_pictures_csv(_folders(arguments.data))
    told = {} if path is None else read_pictures_csv(path)
    records = to_schema(table, columns, told)
    _warn_of_no_source(table, columns.source)
    if untold := sum(record_id not in told for record_id in records["record_id"]) if told else 0:
        logger.warning("%d of %d pictures have no line in %s.", untold, len(records), path)
    warn_of_missing_pictures(len(table) - len(records))
    return records


def _columns(arguments: DataArguments) -> Columns:
    """What the schema, or for `columns` the user, says about the columns."""
    roles = ("image", "label", "id", "source", "generator", "style", "family", "kind", "kind_by", "date")
    if arguments.schema == "columns":
        named = {role: getattr(arguments, f"{role}_column") for role in roles}
        columns = Columns(**named, real_text=arguments.text_column, generated_text=arguments.text_column)
    else:
        for name in (f"{role}_column" for role in roles):
            # A dataclass keeps its defaults as class attributes.
            if (value := getattr(arguments, name)) != getattr(DataArguments, name):
                raise ValueError(
                    f"`{name}` is fixed by `schema` {arguments.schema}, got {value!r}. Leave it out, or name all "
                    "columns with `schema` columns."
                )
        if arguments.schema == "openfake":
            # `model` names the generator and, for a real picture, the collection it is from: what splits are made by.
            columns = Columns("image", "label", "id", "model", "model", "prompt", "prompt")
        else:
            # A record's real and generated pictures share their prompt: it is their source, so no split divides them.
            columns = Columns("image", "label", "id", "id", "model", "original_prompt", "original_prompt")
        if text := arguments.text_column:
            columns = replace(columns, real_text=text, generated_text=text)
    if arguments.generated_text_column is not None:
        columns = replace(columns, generated_text=arguments.generated_text_column)
    return columns


def _warn_of_different_texts(columns: Columns) -> None:
    if columns.real_text != columns.generated_text:
        logger.warning(
            "Real pictures take their text from %r and generated ones from %r. Where the text depends on the class "
            "it can give the label away, and a good score then says nothing about the pictures: compare with the "
            "score of the text alone, or use one column for both.",
            columns.real_text,
            columns.generated_text,
        )


def _warn_of_no_source(table: datasets.Dataset, column: str) -> None:
    """Say that splits will not keep pictures together that belong together."""
    given = sum(value not in (None, "") for value in table[column]) if column in table.column_names else 0
    if given < len(table):
        logger.warning(
            "%s pictures have no source (`source_column` %r), and each counts as its own: those of one camera, site "
            "or generator are then on both sides of every split, and held-out figures are too good. Name the column "
            "that says where a picture came from.",
            "All" if given == 0 else f"{len(table) - given} of {len(table)}",
            column,
        )


def _read(arguments: DataArguments) -> datasets.Dataset:
    """The table that `data` stands for, with its own columns."""
    location, path = arguments.data, Path(arguments.data)
    if "://" in location:
        return datasets.load_dataset("parquet", data_files=location, split="train")
    if (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(path / arguments.split))
    if (path / "state.json").is_file():
        return datasets.load_from_disk(location)
    if path.is_dir() and _said_files(path, lambda file: file.name in METADATA_FILES):
        # `**`: without it, names such as train_1.jpg or a folder test/ would be taken for splits.
        return datasets.load_dataset("imagefolder", data_dir=location, data_files="**", split="train")
    if files := parquet_files(location):
        return datasets.load_dataset("parquet", data_files=files, split="train")
    if path.is_dir():
        return _picture_folder(path, arguments)
    if is_hub_name(location):
        return datasets.load_dataset(location, arguments.config_name, split=arguments.split)
    raise ValueError(
        "`data` must name Parquet files, a folder of pictures or OWNER/NAME of a data set on the Hub, got "
        f"{location!r}."
    )


def is_hub_name(location: str) -> bool:
    """Whether it has the form OWNER/NAME."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", location) is not None and not location.endswith(".parquet")


def parquet_files(location: str) -> list[str]:
    """Parquet files that a file name, a glob or a folder stands for, sorted."""
    path = Path(location)
    if path.is_dir():
        return [str(file) for file in _said_files(path, lambda file: file.suffix == ".parquet")]
    return sorted(file for file in glob.glob(location) if file.endswith(".parquet"))


def _said_files(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    """The wanted files below a folder, sorted; where there are some, the log says what was left out."""
    files, left_out = files_below(folder)
    if found := [file for file in files if is_wanted(file)]:
        for sentence in left_out:
            logger.warning(sentence)
    return found


def _folders(location: str) -> list[Path]:
    """Local folders that hold the data."""
    path = Path(location)
    return [path] if path.is_dir() else [Path(file).parent for file in parquet_files(location)]


def _picture_folder(folder: Path, arguments: DataArguments) -> datasets.Dataset:
    """The pictures of a folder with a folder for each class, in columns of the names that are asked for."""
    names = [arguments.image_column, arguments.label_column, arguments.source_column, arguments.id_column]
    table = datasets.Dataset.from_dict(
        dict(zip([*names, arguments.generator_column], list_pictures(folder).values(), strict=True))
    )
    return table.cast_column(arguments.image_column, ENCODED)


__all__ = ["METADATA_FILES", "is_hub_name", "load_records", "parquet_files"]
