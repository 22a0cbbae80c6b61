"""The manifest: one line of facts a picture, from which anybody with a network can collect the set again.

It holds no picture and no prompt. `evidence` is a number: evidence.csv beside the manifest has the sentences, since
many pictures share one.
"""

import logging
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet
from tqdm import tqdm

from modeling.files import write_text
from modeling.images import ImageError, open_image
from modeling.verdicts import CLASSES

from .perceptual_hash import HASH_SIDE, perceptual_hash
from .pictures_csv import find_pictures_csv, read_pictures_csv
from .records import parquet_files

logger = logging.getLogger(__name__)

MANIFEST_FILE, EVIDENCE_FILE = "manifest.csv", "evidence.csv"
# Where the columns of a data folder have another name, it stands to the right.
COLUMNS = {
    "id": "id",
    "part": "part",
    "repository": "source",
    "commit": "source_commit",
    "path": "source_path",
    "blob": "blob",
    "label": "label",
    "generator": "generator",
    "family": "family",
    "kind": "kind",
    "kind_by": "kind_by",
    "style": "style",
    "licence": "licence",
    "date": "date",
    "width": "width",
    "height": "height",
    "perceptual_hash": "perceptual_hash",
    "evidence": "evidence",
}
JOINED = ("family", "kind", "kind_by", "blob", "evidence")
NUMBERS = ("width", "height")
_NEEDED = ("image", "label", "id")
# What a line must hold that comes from elsewhere: a part names a file, and the rest is read where hours have passed.
_MUST_BE = {
    "part": (r"[^./\\][^/\\]*", "the name of a Parquet file, without its folder and its ending"),
    "label": ("|".join(CLASSES), " or ".join(CLASSES)),
    **dict.fromkeys(NUMBERS, (r"[1-9][0-9]{0,5}", "pixels")),
    "perceptual_hash": (f"[0-9a-f]{{{HASH_SIDE**2 // 4}}}", f"{HASH_SIDE**2} bits in hexadecimal"),
}


def manifest_of(folder: Path) -> pd.DataFrame:
    """The manifest of a data folder: its Parquet files, and pictures.csv there or one folder up, where there is one.

    Args:
        folder: holds Parquet files with the columns image, label, id and, where known, generator, style, source,
            source_commit, source_path, licence and date. pictures.csv has a line a picture: id, label and `JOINED`.

    Returns:
        A line a picture with `COLUMNS`, in the order of the files and of their rows: strings ("" where unknown),
        label "real" or "generated", and the stored picture's size in pixels as int64. A picture that cannot be read
        is left out and counted in the log.

    Raises:
        ValueError: there is no Parquet file, one lacks image, label or id, or a label is not that of pictures.csv.
    """
    files = [Path(name) for name in parquet_files(str(folder))]
    if not files:
        raise ValueError(f"The data folder must hold Parquet files, and {folder} holds none.")
    rows = pd.concat([_file_rows(file) for file in files], ignore_index=True)
    if (path := find_pictures_csv([folder])) is not None:
        rows = _joined(rows, path)
    return _as_manifest(rows.rename(columns={own: name for name, own in COLUMNS.items()}))


def _file_rows(file: Path) -> pd.DataFrame:
    """What a Parquet file says of its pictures, and what they say themselves."""
    source = pyarrow.parquet.ParquetFile(file)
    if missing := [name for name in _NEEDED if name not in source.schema_arrow.names]:
        raise ValueError(f"{file} must have the columns {', '.join(_NEEDED)}; it lacks {', '.join(missing)}.")
    plain = [name for name in COLUMNS.values() if name in source.schema_arrow.names and name not in NUMBERS]
    rows: list[dict] = []
    unreadable = 0
    with tqdm(total=source.metadata.num_rows, desc=file.name, unit="picture") as progress:
        for batch in source.iter_batches(64, columns=[*plain, "image"]):
            for row in batch.to_pylist():
                progress.update()
                try:
                    picture = open_image((row.pop("image") or {}).get("bytes") or b"")
                except ImageError:
                    unreadable += 1
                    continue
                size = {"width": picture.width, "height": picture.height}
                rows.append({**row, **size, "perceptual_hash": perceptual_hash(picture)})
    if unreadable:
        logger.warning("%d pictures of %s cannot be read and are left out.", unreadable, file.name)
    table = pd.DataFrame(rows, columns=[*plain, *NUMBERS, "perceptual_hash"])
    table["label"] = [value if value in CLASSES else CLASSES[int(value)] for value in table["label"]]
    return table.assign(part=file.stem)


def _joined(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows with the columns of pictures.csv, by `id`."""
    told = read_pictures_csv(path)
    lines = _read_csv(path).set_index("id").reindex(rows["id"])
    known = rows["id"].isin(told)
    if missing := int((~known).sum()):
        logger.warning("%d pictures have no line in %s.", missing, path)
    labels = rows["id"][known].map(lambda name: CLASSES[told[name].label])
    other = rows[known][labels != rows["label"][known]]
    if len(other):
        raise ValueError(f"{path} has another label than the Parquet files for {len(other)}: {other['id'].iloc[0]}.")
    return rows.assign(**{name: lines[name].to_numpy() for name in JOINED if name in lines})


def _as_manifest(rows: pd.DataFrame) -> pd.DataFrame:
    texts = {name: rows[name].fillna("").astype(str) if name in rows else "" for name in COLUMNS}
    table = pd.DataFrame(texts, index=rows.index, columns=list(COLUMNS), dtype=str)
    return table.astype(dict.fromkeys(NUMBERS, "int64"))


def write_manifest(folder: Path, rows: pd.DataFrame) -> None:
    """Write manifest.csv and evidence.csv; the same rows give the same bytes."""
    sentences = [text for text in dict.fromkeys(rows["evidence"]) if text]
    numbers = {"": "", **{text: str(number) for number, text in enumerate(sentences, start=1)}}
    evidence = pd.DataFrame({"evidence": range(1, len(sentences) + 1), "sentence": sentences})
    write_text(folder / EVIDENCE_FILE, evidence.to_csv(index=False, lineterminator="\n"))
    coded = rows.assign(evidence=rows["evidence"].map(numbers))
    write_text(folder / MANIFEST_FILE, coded.to_csv(index=False, lineterminator="\n"))


def read_manifest(path: Path) -> pd.DataFrame:
    """The lines of a manifest as `manifest_of` gives them; evidence.csv must lie beside it.

    Raises:
        ValueError: a file or a column is missing, two lines have one id or name one file, or a line holds what it
            cannot.
    """
    beside = path.with_name(EVIDENCE_FILE)
    for file in (path, beside):
        if not file.is_file():
            raise ValueError(f"A manifest is two files, {MANIFEST_FILE} and {EVIDENCE_FILE}: {file} is not there.")
    rows, sentences = _read_csv(path), _read_csv(beside)
    if missing := [name for name in COLUMNS if name not in rows]:
        raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(missing)}.")
    for names in (["id"], ["repository", "commit", "path"]):
        if (repeated := rows.duplicated(names)).any():
            raise ValueError(f"{path} must name each picture once; {rows.loc[repeated, 'id'].iloc[0]} is repeated.")
    for name, (pattern, expected) in _MUST_BE.items():
        if not (fits := rows[name].map(re.compile(pattern).fullmatch).astype(bool)).all():
            wrong = rows[~fits].iloc[0]
            raise ValueError(f"{path}: `{name}` of {wrong['id']} must be {expected}, got {wrong[name]!r}.")
    known = {"": "", **dict(zip(sentences["evidence"], sentences["sentence"], strict=True))}
    if unknown := sorted(set(rows["evidence"]) - set(known)):
        raise ValueError(f"{beside} must have the sentences of {path}; it lacks number {unknown[0]}.")
    return rows.assign(evidence=rows["evidence"].map(known)).astype(dict.fromkeys(NUMBERS, "int64"))


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


__all__ = [
    "COLUMNS",
    "EVIDENCE_FILE",
    "JOINED",
    "MANIFEST_FILE",
    "manifest_of",
    "read_manifest",
    "write_manifest",
]
