"""The banks of the default: one a Parquet file, so that a new file is embedded alone."""

import json
import logging
import math
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from modeling.deliveries import STANDARD_DELIVERIES

from ..data.options import DataArguments
from ..data.pictures_csv import find_pictures_csv
from ..data.records import load_records, parquet_files
from ..features.bank import INFO_FILE
from ..features.making import build_feature_bank
from ..fit.options import FitArguments
from .steps import Steps, duration, sha256

logger = logging.getLogger(__name__)
# The picture as it is, and a random delivery of it.
VIEWS = 2
# One picture in so many is embedded under every standard delivery too: some 300 of 4,800.
PICTURES_A_PROBE = 16
# Views a second on two CPU cores without matrix units, by the side of the square that the tower sees.
VIEWS_A_SECOND = {224: 3.2, 336: 1.35}


def make_banks(data: Path, folder: Path, recipe: FitArguments, backbone: str, steps: Steps) -> dict[str, str]:
    """A bank for each Parquet file below `data`, in a folder of its own below `folder`.

    Args:
        data: folder of the Parquet files, and of pictures.csv.
        folder: of the banks.
        recipe: which blocks' tokens the head reads.
        backbone: as `build_feature_bank` takes it.
        steps: that are done.

    Returns:
        A digest of each bank, by its name.

    Raises:
        ValueError: there is no Parquet file, two have one name, the recipe joins sources that are in none, or a bank
            is not that of a file there.
    """
    files = data_files(data)
    if gone := sorted({path.parent.name for path in folder.glob(f"*/{INFO_FILE}")} - files.keys()):
        raise ValueError(
            f"{folder / gone[0]} is the bank of {gone[0]}.parquet, which is not in {data}: bring the file back, move "
            "the bank out of that folder, or name another --cache."
        )
    _check_related(files, recipe.merge_sources)
    _announce(files, folder, recipe.image_size)
    made = {}
    for name, file in files.items():
        inputs = {
            "file": sha256(file),
            "pictures.csv": told_of(file),
            "backbone": backbone,
            "layers": recipe.image_layers,
            "tokens": recipe.image_tokens,
            "image_size": recipe.image_size,
            "views": VIEWS,
        }
        made[name] = steps.run(
            f"bank {name}",
            inputs,
            [folder / name],
            partial(_make_bank, file, folder / name, recipe, backbone),
        )
    return made


def data_files(data: Path) -> dict[str, Path]:
    """The Parquet files by the names of their banks.

    Raises:
        ValueError: there is none, or two have one name.
    """
    files: dict[str, Path] = {}
    for file in map(Path, parquet_files(str(data)) if data.is_dir() else []):
        if (other := files.setdefault(file.stem, file)) is not file:
            raise ValueError(f"{other} and {file} must have different names: each names a bank.")
    if not files:
        raise ValueError(f"`data` must be a folder of Parquet files of labelled pictures, got {str(data)!r}.")
    return files


def _check_related(files: dict[str, Path], merge_sources: list[str]) -> None:
    """Refuse a recipe that joins sources of other data, before hours of embedding."""
    column = DataArguments.source_column
    tables = (pq.read_table(file, columns=[column]) for file in files.values() if column in pq.read_schema(file).names)
    sources = {source for table in tables for source in table.column(column).to_pylist()}
    for entry in merge_sources:
        if unknown := [name for name in entry.split("=") if name not in sources]:
            raise ValueError(
                f"`merge_sources` of the recipe names {unknown[0]!r}, which is no source of these files: take "
                f"{entry!r} out of the recipe, or bring its file."
            )


def told_of(file: Path) -> str | None:
    """A digest of the pictures.csv of a Parquet file, `None` where there is none."""
    told = find_pictures_csv([file.parent])
    return sha256(told) if told else None


def _announce(files: dict[str, Path], folder: Path, image_size: int | None) -> None:
    """Say how much is to be embedded, and how long that takes, before it begins."""
    new = {name: pq.read_metadata(file).num_rows for name, file in files.items() if not _is_done(folder / name)}
    views = sum(views_of(pictures) for pictures in new.values())
    if views:
        side = image_size if image_size in VIEWS_A_SECOND else next(iter(VIEWS_A_SECOND))
        logger.info(
            "To embed: %s views of %s pictures in %d of %d files. On two CPU cores about %s at %d pixels.",
            *(f"{views:,}", f"{sum(new.values()):,}", len(new), len(files)),
            *(duration(views / VIEWS_A_SECOND[side]), side),
        )


def views_of(pictures: int) -> int:
    """How many views a file of so many pictures has."""
    return VIEWS * pictures + probed_of(pictures) * (len(STANDARD_DELIVERIES) - 1)  # the clean one is there already


def probed_of(pictures: int) -> int:
    """How many of them are embedded under every standard delivery too: an even number, half of each class."""
    return 2 * math.ceil(pictures / (2 * PICTURES_A_PROBE))


def _is_done(bank: Path) -> bool:
    return (bank / INFO_FILE).is_file() and "fingerprint" in json.loads((bank / INFO_FILE).read_text())


def _make_bank(file: Path, folder: Path, recipe: FitArguments, backbone: str) -> None:
    records = load_records(DataArguments(data=str(file)))
    try:
        build_feature_bank(
            records,
            folder,
            backbone=backbone,
            image_layers=recipe.image_layers,
            image_tokens=recipe.image_tokens,
            image_size=recipe.image_size,
            views=VIEWS,
            probed=probed_of(len(records)),
        )
    except ValueError as error:
        if not _is_done(folder):
            raise
        raise ValueError(
            f"{file} is not what {folder} was made of ({error}): give it another name to add it, or move that folder "
            "away to embed it anew."
        ) from error


__all__ = ["VIEWS", "data_files", "make_banks", "probed_of", "told_of", "views_of"]
