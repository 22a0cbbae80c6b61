"""A folder of pictures as a table: a folder for each class, and in these one for each source."""

import logging
import os
from pathlib import Path

from PIL import Image

from .schema import LABEL_NAMES

logger = logging.getLogger(__name__)


def list_pictures(folder: Path) -> dict[str, list]:
    """List the pictures of the folders `real` and `generated` (or `fake`); a subfolder of these is a source.

    Returns:
        Columns image, label, source, id and generator.

    Raises:
        ValueError: there is none, or another folder holds pictures.
        OSError: the folder cannot be read; one below it is passed over, and counted in the log.
    """
    rows: dict[str, list] = {"image": [], "label": [], "source": [], "id": [], "generator": []}
    others = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = LABEL_NAMES.get(path.name.lower())
        if label is None:
            others += [path.name] if any(_is_named_as_picture(file) for file in files_below(path)[0]) else []
            continue
        files, left_out = files_below(path)
        for sentence in left_out:
            logger.warning(sentence)
        for file in files:
            parents = [printable(os.fsencode(part)) for part in file.relative_to(path).parts[:-1]]
            rows["image"].append(_picture(file))
            rows["label"].append(label)
            rows["source"].append("/".join((path.name, *parents)))
            rows["id"].append(printable(os.fsencode(file.relative_to(folder))))
            rows["generator"].append(parents[0] if parents and label else "")
    accepted = "real and generated (or fake)"
    if others:
        raise ValueError(
            f"{folder} must hold the folders {accepted}; {', '.join(others)} {'is' if len(others) == 1 else 'are'} no "
            "class: rename it, move it into one of them, or take it out."
        )
    if not rows["id"]:
        raise ValueError(f"{folder} holds no Parquet file and no picture in folders named {accepted}.")
    return rows


def _picture(file: Path) -> dict[str, str | bytes | None]:
    """Where the picture is, or its bytes where a table cannot hold the file's name, which is no UTF-8."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return {"path": None, "bytes": file.read_bytes()}
    return {"path": str(file), "bytes": None}


def printable(name: bytes) -> str:
    """A file's name as text; bytes that are no UTF-8 are written as escapes."""
    return name.decode("utf-8", "backslashreplace")


def files_below(folder: Path) -> tuple[list[Path], list[str]]:
    """All files below a folder, sorted, and a sentence on each kind of what is left out.

    Raises:
        OSError: the folder itself cannot be read.
    """
    unreadable: list[OSError] = []
    files, links = [], []
    for parent, folders, inside in os.walk(folder, onerror=unreadable.append):
        links += [os.path.join(parent, name) for name in folders if os.path.islink(os.path.join(parent, name))]
        files += [Path(parent, file) for file in inside]
    if any(str(error.filename) == str(folder) for error in unreadable):
        raise unreadable[0]
    left_out = []
    if unreadable:
        left_out.append(
            f"{len(unreadable)} folders below {folder} could not be read, and what they hold is left out; first "
            f"{unreadable[0].filename} ({unreadable[0].strerror})."
        )
    if links:
        left_out.append(f"{len(links)} links to folders below {folder} are not followed; first {links[0]}.")
    return sorted(files), [printable(os.fsencode(sentence)) for sentence in left_out]


def _is_named_as_picture(file: Path) -> bool:
    return file.suffix.lower() in Image.registered_extensions()


__all__ = ["files_below", "list_pictures", "printable"]
