"""One record schema for training and evaluation, and the adapters that bring data sets to it.

A record is {image, text, label, generator, source, style, record_id}: image as encoded bytes (never decoded here: our
own `open_image` does that, with its limits), text or `None`, label 0 = real or 1 = generated, generator "" for real.
`source` names where the picture came from; splits are made by it, never by picture.

Pictures stay in memory-mapped Arrow files; only the other columns are rewritten, batch by batch. docs/data-sets.md
shows every adapter with a command, and says where the schemas of ELSA_D3 and OpenFake were read.
"""

import glob
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import pyarrow
import pyarrow.compute
from datasets.exceptions import DatasetsError

from modeling.verdicts import CLASSES

from .download import FAILURES_FILE, FETCHED, AddressCheck, download_pictures, is_public_address, picture_path
from .options import DataArguments

logger = logging.getLogger(__name__)

RECORD_COLUMNS = ["image", "text", "label", "generator", "source", "style", "record_id"]
FOLDER_LABELS = {name: label for label, name in enumerate(CLASSES)}
LABEL_NAMES = {**FOLDER_LABELS, "fake": 1}
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
DESCRIPTION = datasets.Features(
    {name: datasets.Value("int64" if name == "label" else "string") for name in RECORD_COLUMNS[1:]}
)
ENCODED = datasets.Image(decode=False)
ELSA_D3_GENERATED = range(4)


@dataclass(frozen=True)
class _Columns:
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
        return _elsa_d3_records(table, columns, arguments, is_admitted)
    for role in ("image", "label"):
        if (column := getattr(columns, role)) not in table.column_names:
            raise ValueError(
                f"`{role}_column` {column!r} is not in the data, which has the columns {table.column_names}."
            )
    records = _to_schema(table, columns)
    _warn_of_missing_pictures(len(table) - len(records))
    return records


def _warn_of_missing_pictures(rows: int) -> None:
    if rows:
        logger.warning("%d rows hold no picture and are left out.", rows)


def _columns(arguments: DataArguments) -> _Columns:
    """What the schema, or for `columns` the user, says about the columns."""
    roles = ("image", "label", "id", "source", "generator", "style")
    if arguments.schema == "columns":
        named = {role: getattr(arguments, f"{role}_column") for role in roles}
        columns = _Columns(**named, real_text=arguments.text_column, generated_text=arguments.text_column)
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
            columns = _Columns("image", "label", "id", "model", "model", None, "prompt", "prompt")
        else:
            # A record's real and generated pictures share their prompt: it is their source, so no split divides them.
            columns = _Columns("image", "label", "id", "id", "model", None, "original_prompt", "original_prompt")
        if text := arguments.text_column:
            columns = replace(columns, real_text=text, generated_text=text)
    if arguments.generated_text_column is not None:
        columns = replace(columns, generated_text=arguments.generated_text_column)
    return columns


def _warn_of_different_texts(columns: _Columns) -> None:
    if columns.real_text != columns.generated_text:
        logger.warning(
            "Real pictures take their text from %r and generated ones from %r. Where the text depends on the class "
            "it can give the label away, and a good score then says nothing about the pictures: compare with the "
            "score of the text alone, or use one column for both.",
            columns.real_text,
            columns.generated_text,
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
    if path.is_dir() and any(next(path.rglob(name), None) for name in METADATA_FILES):
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
        return sorted(str(file) for file in path.glob("**/*.parquet"))
    return sorted(file for file in glob.glob(location) if file.endswith(".parquet"))


def _picture_folder(folder: Path, arguments: DataArguments) -> datasets.Dataset:
    """List the pictures of `folder`/real and `folder`/generated; a subfolder of these is a source."""
    rows: dict[str, list] = {"image": [], "label": [], "source": [], "id": [], "generator": []}
    for name, label in FOLDER_LABELS.items():
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
    return table.cast_column(arguments.image_column, ENCODED)


def _elsa_d3_records(
    table: datasets.Dataset, columns: _Columns, arguments: DataArguments, is_admitted: AddressCheck
) -> datasets.Dataset:
    """Five records of each ELSA_D3 row: four generated pictures, and the real one if its URL still gives it."""
    needed = ["id", "url", *(f"{name}_gen{i}" for i in ELSA_D3_GENERATED for name in ("image", "model"))]
    if missing := [name for name in needed if name not in table.column_names]:
        raise ValueError(
            f"`schema` elsa_d3 needs the columns {needed}; {missing} are not in the data, which has the columns "
            f"{table.column_names}."
        )
    if arguments.download_folder is None:
        raise ValueError(
            "ELSA_D3 holds its real pictures only by URL, and `download_folder` is not set: name the folder to fetch "
            "them into."
        )
    folder = Path(arguments.download_folder)
    counts = download_pictures(
        (url for batch in table.select_columns("url").iter(1000) for url in batch["url"]),
        folder,
        total=len(table),
        is_admitted=is_admitted,
    )
    if lost := len(table) - counts[FETCHED]:
        logger.warning(
            "%d of %d real pictures could not be fetched (%s); %s lists them, delete it to try them again.",
            lost,
            len(table),
            ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()) if reason != FETCHED),
            folder / FAILURES_FILE,
        )
    parts = []
    for i in ELSA_D3_GENERATED:
        part = replace(columns, image=f"image_gen{i}", label=1, generator=f"model_gen{i}", id_suffix=f"/gen{i}")
        parts.append(_to_schema(table, part))
    _warn_of_missing_pictures(len(parts) * len(table) - sum(map(len, parts)))
    real = table.remove_columns([f"image_gen{i}" for i in ELSA_D3_GENERATED])
    real = real.map(
        _picture_files,
        batched=True,
        fn_kwargs={"folder": str(folder)},
        features=datasets.Features({**real.features, "image": ENCODED}),
        load_from_cache_file=False,
        desc="real pictures",
    )
    return datasets.concatenate_datasets([*parts, _to_schema(real, replace(columns, label=0, id_suffix="/real"))])


def _picture_files(batch: dict, folder: str) -> dict:
    """The fetched picture of each URL, `None` where there is none."""
    paths = [picture_path(folder, url or "") for url in batch["url"]]
    return {"image": [{"bytes": None, "path": str(path)} if path.is_file() else None for path in paths]}


def _to_schema(table: datasets.Dataset, columns: _Columns) -> datasets.Dataset:
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


def _describe(batch: dict, indices: list[int], columns: _Columns, classes: datasets.ClassLabel | None) -> dict:
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


__all__ = [
    "ENCODED",
    "METADATA_FILES",
    "RECORD_COLUMNS",
    "is_hub_name",
    "load_records",
    "parquet_files",
]
