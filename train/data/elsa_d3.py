"""ELSA_D3: rows of four generated pictures and the URL of the real one, as five records each."""

import logging
from dataclasses import replace
from pathlib import Path

import datasets

from .download import FAILURES_FILE, FETCHED, AddressCheck, download_pictures, picture_path
from .options import DataArguments
from .schema import ENCODED, Columns, to_schema, warn_of_missing_pictures

logger = logging.getLogger(__name__)

ELSA_D3_GENERATED = range(4)


def elsa_d3_records(
    table: datasets.Dataset, columns: Columns, arguments: DataArguments, is_admitted: AddressCheck
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
        parts.append(to_schema(table, part))
    warn_of_missing_pictures(len(parts) * len(table) - sum(map(len, parts)))
    real = table.remove_columns([f"image_gen{i}" for i in ELSA_D3_GENERATED])
    real = real.map(
        _picture_files,
        batched=True,
        fn_kwargs={"folder": str(folder)},
        features=datasets.Features({**real.features, "image": ENCODED}),
        load_from_cache_file=False,
        desc="real pictures",
    )
    return datasets.concatenate_datasets([*parts, to_schema(real, replace(columns, label=0, id_suffix="/real"))])


def _picture_files(batch: dict, folder: str) -> dict:
    """The fetched picture of each URL, `None` where there is none."""
    paths = [picture_path(folder, url or "") for url in batch["url"]]
    return {"image": [{"bytes": None, "path": str(path)} if path.is_file() else None for path in paths]}


__all__ = ["elsa_d3_records"]
