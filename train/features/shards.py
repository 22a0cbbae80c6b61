"""The shards of a bank that is being made: what is done, what is left to whom, and the bank that they become.

A shard is a file of consecutive records, `shard-START-STOP.arrow`, written all or nothing every few seconds. How the
records are cut into shards decides nothing: a bank goes on from any of them, and is the same when it is finished.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from modeling.files import remove_leftovers, replacing, write_json

from .bank import INFO_FILE, META_COLUMNS, META_SCHEMA, read_table, write_tables
from .describing import describe, fingerprint, write_rows
from .embedder import Embedder, Part

logger = logging.getLogger(__name__)

# What dies with a process is this much, and the parts that are in work: together under a minute on two slow cores.
SHARD_SECONDS = 10.0
# So that memory stays bounded on a device that embeds hundreds of views a second.
SHARD_VIEWS = 4096


class Shard(NamedTuple):
    """A file with the records from `start` to before `stop`."""

    start: int
    stop: int
    path: Path


def list_shards(folder: Path) -> list[Shard]:
    """The shards of a folder, in the order of their records."""
    shards = []
    for path in folder.glob("shard-*-*.arrow"):
        _, start, stop = path.stem.split("-")
        shards.append(Shard(int(start), int(stop), path))
    return sorted(shards)


def missing_records(folder: Path, records: int) -> list[range]:
    """The records that no shard holds."""
    shards = list_shards(folder)
    starts, stops = [0, *(shard.stop for shard in shards)], [*(shard.start for shard in shards), records]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]


def share_of(parts: Sequence[Part], process: int, processes: int) -> list[Part]:
    """The consecutive parts of one of several processes; each has about as many views."""
    before = np.cumsum([0, *(part.views for part in parts)])
    owner = (before[:-1] + before[1:]) * processes // max(1, 2 * before[-1])
    return [part for part, index in zip(parts, owner, strict=True) if index == process]


def write_shards(parts: Iterable[Part], folder: Path, embedder: Embedder, progress: tqdm) -> None:
    """Write parts as they come; a shard ends after some seconds, or where the next record is in another one."""
    pending: list[Part] = []
    began = time.monotonic()

    def write() -> None:
        nonlocal began
        if pending:
            start, stop = pending[0].records.start, pending[-1].records.stop
            table = embedder.table(pending)
            write_tables(folder / f"shard-{start:09d}-{stop:09d}.arrow", table.schema, [table])
            pending.clear()
        began = time.monotonic()

    for part in parts:
        if pending and pending[-1].records.stop != part.records.start:
            write()
        pending.append(part)
        progress.update(part.views)
        if time.monotonic() - began >= SHARD_SECONDS or sum(part.views for part in pending) >= SHARD_VIEWS:
            write()
    write()


def join_shards(folder: Path, records: datasets.Dataset, info: dict) -> None:
    """Make a bank of the shards: matrices of embeddings, rows, and `bank.json`, which says that it is finished.

    Raises:
        ValueError: no picture could be read, or shards are missing.
    """
    if missing := sum(map(len, missing_records(folder, len(records)))):
        raise ValueError(f"{missing} records are in no shard of {folder}: run the command again to embed them.")
    paths = [shard.path for shard in list_shards(folder)]
    unreadable = [record for path in paths for record in json.loads(read_table(path).schema.metadata[b"unreadable"])]
    rows = pa.concat_tables([read_table(path).select(META_COLUMNS) for path in paths]).cast(META_SCHEMA)
    if len(rows) == 0:
        raise ValueError(f"None of the {len(unreadable)} pictures can be read; the first: {unreadable[0]['error']}")
    embeds_sha256 = _write_matrices(folder, paths, len(rows))
    rows_sha256 = write_rows(folder, describe(rows, records))
    if unreadable:
        logger.warning("%d pictures could not be read; they are listed in %s.", len(unreadable), folder / INFO_FILE)
    hashes = {"embeds_sha256": embeds_sha256, "rows_sha256": rows_sha256}
    made = {"unreadable": unreadable, **hashes, "fingerprint": fingerprint(embeds_sha256, rows_sha256)}
    versions = {name: version(name) for name in ("torch", "transformers", "Pillow")}
    write_json(folder / INFO_FILE, info | made | {"versions": versions})
    remove_shards(folder)


def remove_shards(folder: Path) -> None:
    """Remove what a finished bank does not need."""
    for left in folder.glob("shard-*"):
        left.unlink()
    remove_leftovers(folder)


def _write_matrices(folder: Path, paths: Sequence[Path], rows: int) -> str:
    """Join the embeddings, one shard in memory at a time; SHA-256 over all values."""
    digest = hashlib.sha256()
    first = read_table(paths[0])
    for name in ("image_embeds", "text_embeds"):
        if name not in first.column_names:
            continue
        width = first.schema.field(name).type.list_size
        # Written from start to end: where the disk is full, a memory-mapped file would end the process without a word.
        with replacing(folder / f"{name}.npy") as partial, partial.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
            np.lib.format.write_array_header_1_0(file, header)
            for path in paths:
                values = read_table(path).column(name).combine_chunks().flatten().to_numpy().astype("<f4", copy=False)
                file.write(values.tobytes())
                digest.update(values.tobytes())
    return digest.hexdigest()


__all__ = ["join_shards", "list_shards", "missing_records", "remove_shards", "share_of", "write_shards"]
