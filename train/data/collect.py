"""Collect the set again from its manifest: fetch every file by repository, commit and path, and store it alike.

A picture is taken where its file is the one that the manifest names (git's id, where known) and the stored picture
shows the same and has the same size. Hashes and sizes may differ a little, since codecs do by version and earlier
parts of the set rounded otherwise. Everything else is left out and listed with its reason. What is fetched stays in
the output folder, so that an interrupted run, or one with a longer manifest, goes on.
"""

import functools
import hashlib
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from tqdm import tqdm

from modeling.files import claim_folder, remove_leftovers, replacing, write_text
from modeling.images import MAX_BYTES
from modeling.verdicts import CLASSES

from .download import AddressCheck, FetchError, download_pictures, is_public_address, picture_path, read_failures
from .manifest import COLUMNS, JOINED, read_manifest
from .perceptual_hash import bits_apart, perceptual_hash
from .pictures_csv import PICTURES_FILE
from .pipeline import CUT, EARLIER, STORED, stored_picture

# Few enough to be no burden, and often enough that a busy minute loses nothing.
WORKERS, ATTEMPTS = 4, 5
# Of 256 bits: another JPEG quality, a shift of two pixels or a wider colour space moved at most 20 of them in 210
# pictures of the set, and no two of these were nearer than 78.
MOST_BITS = 32
# Pixels a side: the strip that is cut was rounded in one part of the set and rounded down in another.
MOST_PIXELS = 2

OTHER_FILE = "other file"
OTHER_PICTURE = "other picture"
OTHER_SIZE = "other size"
NOT_ASKED = "not asked for"
_IN_LFS = "Git LFS"
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n.*?oid sha256:([0-9a-f]{64})\n", re.DOTALL)
_FETCHED_FOLDER, _SETTINGS_FILE, LEFT_OUT_FILE = "fetched", "collect.json", "left_out.csv"
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.Value("int64"),
        **{name: datasets.Value("string") for name in ("id", "generator", "prompt", "style")},
        **{name: datasets.Value("string") for name in ("source", "source_commit", "source_path", "licence", "date")},
        **{name: datasets.Value("int32") for name in ("width", "height")},
    }
)


@dataclass(frozen=True)
class Collected:
    """What came of it: pictures by part, and how many were left out for each reason."""

    taken: dict[str, int]
    left_out: dict[str, int]


def collect(
    manifest: Path,
    output: Path,
    *,
    raw_address: str,
    lfs_address: str,
    is_admitted: AddressCheck = is_public_address,
) -> Collected:
    """Fetch, store, compare, and write a data folder: a Parquet file a part, pictures.csv and left_out.csv.

    Args:
        manifest: manifest.csv, with evidence.csv beside it.
        output: the data folder. What is there already is not fetched again.
        raw_address: where files are asked for, as ADDRESS/OWNER/NAME/COMMIT/PATH.
        lfs_address: where files are asked for that Git LFS keeps.
        is_admitted: which network addresses may be connected to.

    Raises:
        ValueError: the manifest is not one, or `output` was begun by a version that stores pictures otherwise.
    """
    rows = read_manifest(manifest)
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    earlier = {part: asdict(encoding) for part, encoding in EARLIER.items()}
    claim_folder(output / _SETTINGS_FILE, {"cut": CUT, "stored": asdict(STORED), "earlier": earlier})
    rows = rows.assign(
        raw=[_address(raw_address, row) for row in rows.itertuples()],
        lfs=[_address(lfs_address, row) for row in rows.itertuples()],
    )
    _fetch(rows, output / _FETCHED_FOLDER, is_admitted)
    taken, left_out = _compared(rows, output / _FETCHED_FOLDER)
    for part, of_part in taken.groupby("part", sort=False):
        _write_part(output / f"{part}.parquet", of_part)
    about = [name for name in COLUMNS if name in ("id", "label", *JOINED)]
    write_text(output / PICTURES_FILE, taken[about].to_csv(index=False, lineterminator="\n"))
    listed = left_out[["id", "repository", "commit", "path", "reason", "detail"]]
    write_text(output / LEFT_OUT_FILE, listed.to_csv(index=False, lineterminator="\n"))
    return Collected(dict(Counter(taken["part"])), dict(Counter(left_out["reason"])))


def _address(base: str, row: tuple) -> str:
    """The web address of a file at a commit; "" where the manifest does not say which."""
    where = (row.repository, row.commit, row.path)  # type: ignore[attr-defined]
    return f"{base.rstrip('/')}/{'/'.join(map(quote, where))}" if all(where) else ""


def _fetch(rows: pd.DataFrame, folder: Path, is_admitted: AddressCheck) -> None:
    """Fetch what is not there: first every file, then those that turned out to be pointers of Git LFS."""
    fetch = functools.partial(
        download_pictures, is_admitted=is_admitted, workers=WORKERS, attempts=ATTEMPTS, max_bytes=MAX_BYTES
    )
    by_raw = dict(zip(rows["raw"], rows.to_dict("records"), strict=True))
    fetch(by_raw, folder, total=len(by_raw), keep=functools.partial(_keep_raw, by_raw))
    pointers = {
        by_raw[url]["lfs"]: {**by_raw[url], "pointer": entry["detail"]}
        for url, entry in read_failures(folder).items()
        if entry["reason"] == _IN_LFS and url in by_raw
    }
    if pointers:
        keep = functools.partial(_keep_from_lfs, pointers)
        fetch(pointers, folder, total=len(pointers), keep=keep)


def _keep_raw(by_address: dict[str, dict], url: str, content: bytes) -> bytes:
    """The stored picture of a file."""
    if _POINTER.match(content):
        raise FetchError(_IN_LFS, content.decode("utf-8", "replace"))
    row = by_address[url]
    if row["blob"] and (blob := _blob(content)) != row["blob"]:
        raise FetchError(OTHER_FILE, f"git's id is {blob}, not {row['blob']}")
    return stored_picture(content, row["part"])


def _keep_from_lfs(by_address: dict[str, dict], url: str, content: bytes) -> bytes:
    """The stored picture of a file that is not in git itself: git's id is that of its pointer, or of the file."""
    row = by_address[url]
    pointer = row["pointer"].encode()
    asked = _POINTER.match(pointer)
    if asked is None or asked[1].decode() != (sha256 := hashlib.sha256(content).hexdigest()):
        raise FetchError(OTHER_FILE, f"its SHA-256 is not that of the pointer: {sha256}")
    if row["blob"] and row["blob"] not in (_blob(pointer), _blob(content)):
        raise FetchError(
            OTHER_FILE, f"git's id is {_blob(content)}, of its pointer {_blob(pointer)}, not {row['blob']}"
        )
    return stored_picture(content, row["part"])


def _blob(content: bytes) -> str:
    """Git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _compared(rows: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that can be taken, with file, width and height of the new picture; those left out, with the reason."""
    failures = read_failures(folder)
    taken, left_out = [], []
    for row in tqdm(rows.to_dict("records"), desc="compare", unit="picture"):
        file = next((path for url in (row["raw"], row["lfs"]) if (path := picture_path(folder, url)).is_file()), None)
        if file is None:
            failure = failures.get(row["lfs"]) or failures.get(row["raw"]) or {"reason": NOT_ASKED, "detail": ""}
            left_out.append({**row, "reason": failure["reason"], "detail": failure["detail"].replace("\n", " ")})
            continue
        with Image.open(file, formats=["JPEG"]) as picture:
            width, height = picture.size
            bits = bits_apart(row["perceptual_hash"], perceptual_hash(picture))
        if bits > MOST_BITS:
            left_out.append({**row, "reason": OTHER_PICTURE, "detail": f"{bits} of 256 bits differ"})
        elif max(abs(width - row["width"]), abs(height - row["height"])) > MOST_PIXELS:
            detail = f"{width} x {height} in place of {row['width']} x {row['height']}"
            left_out.append({**row, "reason": OTHER_SIZE, "detail": detail})
        else:
            taken.append({**row, "file": file, "width": width, "height": height})
    names = list(rows.columns)
    return pd.DataFrame(taken, columns=[*names, "file"]), pd.DataFrame(left_out, columns=[*names, "reason", "detail"])


def _write_part(path: Path, rows: pd.DataFrame) -> None:
    """A Parquet file with the columns of the development set; no prompt is known to a manifest."""
    named = {own: rows[name].tolist() for name, own in COLUMNS.items() if own in FEATURES}
    images = [
        {"bytes": file.read_bytes(), "path": f"{name}.jpg"}
        for file, name in zip(rows["file"], rows["id"], strict=True)
    ]
    columns = {
        **named,
        "image": images,
        "prompt": [""] * len(rows),
        "label": rows["label"].map(CLASSES.index).tolist(),
    }
    table = pa.table({name: columns[name] for name in FEATURES}, schema=FEATURES.arrow_schema)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, row_group_size=100)


__all__ = ["LEFT_OUT_FILE", "MOST_BITS", "MOST_PIXELS", "Collected", "collect"]
