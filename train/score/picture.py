"""A picture that has not been opened, and what its file's name says."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..data.records import METADATA_FILES

# What lies beside pictures in folders and archives. Everything else counts as a picture, whatever its name: uploads
# are often stored without an extension, and a file that is no picture is recorded as one that cannot be read.
BESIDE_PICTURES = (".json", ".jsonl", ".txt", ".csv", ".tsv", ".cls", ".npy", ".npz", ".xml", ".yaml", ".yml", ".md")


@dataclass(frozen=True)
class Picture:
    """A picture that has not been opened.

    Args:
        key: its name within its source, for people and joins. It need not be unique.
        source: the folder, archive or table that it is in.
        content: the file's bytes, or where to read them.
        error: why there is no content.
    """

    key: str
    source: str
    content: bytes | str | None
    error: str | None = None


def without_query(location: str) -> str:
    """A URL without what follows its path: a signature there changes, and is nobody's business."""
    return urlsplit(location)._replace(query="", fragment="").geturl() if "://" in location else location


def may_be_picture(name: bytes) -> bool:
    """Hidden files and what lies beside pictures are passed over."""
    base = os.path.basename(os.fsdecode(name))
    return not base.startswith(".") and base not in METADATA_FILES and not base.lower().endswith(BESIDE_PICTURES)


def files_fingerprint(files: list[str]) -> str:
    """SHA-256 over the names and, for local files, the sizes."""
    digest = hashlib.sha256()
    for file in files:
        size = os.path.getsize(file) if "://" not in file else ""
        digest.update(f"{without_query(file)}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def count_words(counter: Counter[str]) -> str:
    """Such as "2 .json, 1 .txt"."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items()))


__all__ = ["Picture", "count_words", "files_fingerprint", "may_be_picture", "without_query"]
