"""Writing all or nothing: under a temporary name first, then renamed. The one way.

What is written reaches the disk before its name does: after a kill or a power cut there is the old file or the new
one, never a part of it.
"""

import filecmp
import glob
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
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
    temporary = _temporary_name(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        _settle(temporary, mode)
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
        files = Path(staging) / "files"
        files.mkdir()
        yield files
        _settle_all(files)
        for file in files.iterdir():
            file.replace(folder / file.name)


def write_together(contents: Mapping[Path, Path | str]) -> list[Path]:
    """Write files that belong together: all are on the disk under temporary names before the first gets its own.

    What a call that was killed left of them is removed; nobody else may be writing them.

    Args:
        contents: for each file the text that it gets, or the file that it becomes a copy of. One that has these bytes
            already is left alone.

    Returns:
        What was written.
    """
    for path in contents:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
            left.unlink()
    different = [path for path, content in contents.items() if not _holds(path, content)]
    ready: dict[Path, Path] = {}
    try:
        for path in different:
            path.parent.mkdir(parents=True, exist_ok=True)
            ready[path] = _temporary_name(path)
            ready[path].touch()
            mode, content = ready[path].stat().st_mode, contents[path]
            if isinstance(content, str):
                ready[path].write_text(content, encoding="utf-8")
            else:
                shutil.copyfile(content, ready[path])
            _settle(ready[path], mode)
        for path, temporary in ready.items():
            os.replace(temporary, path)
    finally:
        for temporary in ready.values():
            temporary.unlink(missing_ok=True)
    return different


def _holds(path: Path, content: Path | str) -> bool:
    if not path.is_file():
        return False
    if isinstance(content, str):
        return path.read_bytes() == content.encode()
    return filecmp.cmp(path, content, shallow=False)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `path` when all is written; `path` must not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as staging:
        folder = Path(staging) / path.name
        folder.mkdir()
        yield folder
        _settle_all(folder)
        os.replace(folder, path)


def remove_leftovers(folder: Path) -> None:
    """Remove what `replacing` left in a folder where a process was killed; nobody may be writing there."""
    for left in folder.glob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)


def _temporary_name(path: Path) -> Path:
    """Where a file is written before it gets its name; `PARTIAL` and the dot tell what an interrupted run left."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def _settle_all(folder: Path) -> None:
    """Settle a folder's files; the umask gave the folder what it would give a new file."""
    for file in folder.rglob("*"):
        if file.is_file():
            _settle(file, folder.stat().st_mode & 0o666)


def _settle(file: Path, mode: int) -> None:
    """Give a finished file the rights of a new one, since safetensors writes 0600, and bring it to the disk."""
    file.chmod(mode)
    with file.open("rb+") as content:
        os.fsync(content.fileno())


__all__ = [
    "claim_folder",
    "new_folder",
    "remove_leftovers",
    "replacing",
    "staged",
    "write_json",
    "write_text",
    "write_together",
]
