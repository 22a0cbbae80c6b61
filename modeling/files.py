"""Writing files all or nothing: under a temporary name first, then renamed."""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write a file under, which becomes `path` when all is written, and is removed otherwise.

    It starts with a dot, so that whoever reads the folder's files passes over it, and is like no other process's: two
    that write the same file by mistake leave it whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; NaN, which JSON does not have, raises ValueError."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def claim_folder(path: Path, settings: dict) -> None:
    """Write the settings of a long computation into its folder, or check that it was begun with the same ones.

    Args:
        path: the JSON file with the settings; it may hold more, which is not compared.
        settings: what decides the result.

    Raises:
        ValueError: with what differs.
    """
    if path.is_file():
        earlier = json.loads(path.read_text())
        different = [key for key, value in settings.items() if earlier.get(key) != value]
        if different:
            raise ValueError(
                f"{path.parent} was begun with other settings: "
                + ", ".join(f"{key} was {earlier.get(key)!r}, is {settings[key]!r}" for key in different)
                + ". Choose another output folder, or delete that one."
            )
    else:
        write_json(path, settings)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files come to `folder` together when all are written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as staging:
        yield Path(staging)
        for file in Path(staging).iterdir():
            file.replace(folder / file.name)


__all__ = ["PARTIAL", "claim_folder", "replacing", "staged", "write_json", "write_text"]
