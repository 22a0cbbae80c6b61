"""A folder of pictures as a table: a folder for each class, and in these one for each source."""

import logging
import os
from collections.abc import Iterator
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
        OSError: a folder cannot be read.
    """
    rows: dict[str, list] = {"image": [], "label": [], "source": [], "id": [], "generator": []}
    others = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = LABEL_NAMES.get(path.name.lower())
        if label is None:
            others += [path.name] if any(_is_named_as_picture(file) for file in files_below(path)) else []
            continue
        for file in sorted(files_below(path)):
            parents = file.relative_to(path).parts[:-1]
            rows["image"].append(str(file))
            rows["label"].append(label)
            rows["source"].append("/".join((path.name, *parents)))
            rows["id"].append(str(file.relative_to(folder)))
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


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder; one that cannot be read must not count as empty."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        if links := [name for name in folders if os.path.islink(os.path.join(parent, name))]:
            logger.warning("%s: %d links to folders are not followed, first %s.", parent, len(links), links[0])
        yield from (Path(parent, file) for file in files)


def _is_named_as_picture(file: Path) -> bool:
    return file.suffix.lower() in Image.registered_extensions()


def _raise(error: OSError) -> None:
    raise error


__all__ = ["files_below", "list_pictures"]
