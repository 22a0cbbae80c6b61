"""The files that `python -m train score` writes: parts with one row a picture, and `scores.json`.

A part holds the rows of consecutive pictures of one shard and appears whole or not at all. Its name says where it
belongs and whether the shard ends with it, so that the folder alone tells what remains to be done, to any number of
processes.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from modeling.files import remove_leftovers, replacing, write_json
from modeling.verdicts import VERDICTS

INFO_FILE = "scores.json"
PARTS_FOLDER = "parts"
PART_NAME = re.compile(r"part-(\d+)-(\d+)(-last)?\.parquet")
COUNTS = b"counts"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("shard", pa.int64()),
        ("row", pa.int64()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("probability", pa.float64()),
        ("score", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("sha256", pa.string()),
        ("marks", pa.list_(pa.string())),
        ("error", pa.string()),
        ("model", pa.string()),
        ("model_version", pa.string()),
    ]
)


class Part(NamedTuple):
    """Which part of which shard."""

    shard: int
    number: int
    is_last: bool

    @property
    def file_name(self) -> str:
        """Sorted by name, parts are in the order of their pictures."""
        return f"part-{self.shard:06d}-{self.number:06d}{'-last' if self.is_last else ''}.parquet"


def write_part(folder: Path, part: Part, rows: list[dict]) -> None:
    """Write a part's rows, with what is counted of them beside the schema."""
    counts = {
        "pictures": len(rows),
        "unreadable": sum(row["error"] is not None for row in rows),
        "verdicts": Counter(row["verdict"] for row in rows if row["verdict"] is not None),
        "sha256": hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest(),
    }
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({COUNTS: json.dumps(counts)}))
    with replacing(folder / PARTS_FOLDER / part.file_name) as temporary:
        pq.write_table(table, temporary, compression="zstd")


class DoneParts:
    """What is there already, as the folder's names say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / PARTS_FOLDER
        self.numbers: dict[int, dict[int, bool]] = defaultdict(dict)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if found := PART_NAME.fullmatch(path.name):
                shard, number, last = found.groups()
                self.numbers[int(shard)][int(number)] = last is not None

    def next_part(self, shard: int) -> int | None:
        """The first part that a shard lacks; `None` where it is complete."""
        there = self.numbers.get(shard, {})
        number = 0
        while number in there:
            if there[number]:
                return None
            number += 1
        return number

    def of_shard(self, shard: int) -> list[Path]:
        """Paths of the parts of a complete shard, in order."""
        return [self.folder / Part(shard, *part).file_name for part in sorted(self.numbers[shard].items())]


def check_columns(folder: Path) -> None:
    """Refuse to go on beside parts of another version, which lack columns or have others.

    Raises:
        ValueError: a part has other columns than would be written, or cannot be read.
    """
    # Not what a killed process left of a part.
    path = next((p for p in (folder / PARTS_FOLDER).glob("part-*") if PART_NAME.fullmatch(p.name)), None)
    if path is None:
        return
    try:
        columns = pq.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it and run the same command again.") from error
    if other := sorted(set(columns) ^ set(SCHEMA.names)):
        raise ValueError(
            f"{folder} was begun by another version of this project: its rows differ in {', '.join(other)}. Choose "
            "another folder, or delete it to score all pictures again."
        )


def finish(folder: Path, settings: dict, shards: int) -> dict | None:
    """Write `scores.json` if every shard is complete.

    Whichever process is the last to be done comes here with all parts in place; it does not matter if two do.

    Args:
        folder: the output.
        settings: what the run was begun with.
        shards: how many there are.

    Returns:
        What was written; `None` while shards are missing.

    Raises:
        ValueError: a part cannot be read.
    """
    done = DoneParts(folder)
    if any(done.next_part(shard) is not None for shard in range(shards)):
        return None
    totals: Counter[str] = Counter()
    verdicts: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
    digest = hashlib.sha256()
    for shard in range(shards):
        for path in done.of_shard(shard):
            counts = _read_counts(path)
            totals += Counter({name: counts[name] for name in ("pictures", "unreadable")})
            totals["parts"] += 1
            verdicts.update(counts["verdicts"])
            digest.update(f"{path.name} {counts['sha256']}\n".encode())
    info = settings | {
        "pictures": totals["pictures"],
        "unreadable": totals["unreadable"],
        "verdicts": dict(verdicts),
        "parts": totals["parts"],
        "versions": {name: version(name) for name in ("torch", "transformers", "Pillow")},
        "fingerprint": digest.hexdigest(),
    }
    write_json(folder / INFO_FILE, info)
    remove_leftovers(folder / PARTS_FOLDER)
    return info


def _read_counts(path: Path) -> dict:
    try:
        return json.loads(pq.read_metadata(path).metadata[COUNTS])
    except (pa.ArrowInvalid, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it and run the same command again.") from error


__all__ = ["INFO_FILE", "PARTS_FOLDER", "DoneParts", "Part", "check_columns", "finish", "write_part"]
