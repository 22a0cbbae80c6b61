"""The files of a batch: uploaded pictures, and those inside uploaded zip archives, listed first and read one by one.

Nothing of an archive is ever written to a disk, so the names inside it are only labels. Its sizes are believed only
where that costs nothing: `zipfile` never returns more bytes than the header promises, and `read_bytes` stops at the
limit of one picture.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from modeling.images import DAMAGE, MAX_BYTES, ImageError, read_bytes
from modeling.sentences import sentence

from .zip_names import readable_names

MAX_PICTURES = 1000
MAX_TOTAL_BYTES = 2**30
# A directory entry takes 46 bytes and its name: four megabytes hold more than any archive within the limits needs.
MAX_DIRECTORY_BYTES = 4 * 2**20
# Pictures are packed already and hardly shrink; only empty drawings go beyond this, and bombs (deflate reaches 1032).
MAX_RATIO = 200
LABEL_LENGTH = 120
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # an archive; an empty one
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others give out gigabytes at one call
_ENCRYPTED = 0x1
_CLUTTER = (".ds_store", "thumbs.db", "desktop.ini")


class BatchError(ValueError):
    """These files cannot be judged together. The message is for the person who gave them."""


@dataclass(frozen=True)
class Entry:
    """One file of a batch.

    Args:
        name: a label for people, never a path.
        read: gives the file's bytes; raises ImageError with the reason where it cannot.
        size: bytes, as far as known before reading.
    """

    name: str
    read: Callable[[], bytes]
    size: int = 0


@contextmanager
def expand(paths: Sequence[str], names: Sequence[str] | None = None, language: str = "en") -> Iterator[list[Entry]]:
    """List the files of an upload; archives stay open, and their entries readable, inside the `with` block.

    Args:
        paths: uploaded files, pictures or zip archives.
        names: what to call them; the last part of each path by default.
        language: of the reasons.

    Yields:
        One entry for each picture-to-be. What is no picture, or an archive that cannot be used, is an entry too: its
        `read` says why.

    Raises:
        BatchError: too many files or too many bytes in total.
    """
    say = partial(sentence, "batch", language=language)
    entries: list[Entry] = []
    with ExitStack() as stack:
        for path, name in zip(paths, names or [Path(path).name for path in paths], strict=True):
            entries += _archive(path, name, stack, say) if _is_archive(path) else [_picture(path, name, say)]
            _check_limits(entries, say)
        yield entries


def _check_limits(entries: list[Entry], say: Callable[..., str]) -> None:
    if len(entries) > MAX_PICTURES:
        raise BatchError(say("too_many", limit=MAX_PICTURES))
    if sum(entry.size for entry in entries) > MAX_TOTAL_BYTES:
        raise BatchError(say("too_much", limit=MAX_TOTAL_BYTES // 2**20))


def _is_archive(path: str) -> bool:
    """By the first bytes."""
    try:
        with Path(path).open("rb") as file:
            return file.read(4) in _ZIP
    except OSError:
        return False


def _picture(path: str, name: str, say: Callable[..., str]) -> Entry:
    try:
        size = Path(path).stat().st_size
    except OSError:
        return _refused(name, say("upload_gone"))
    return Entry(_label(name), partial(read_bytes, path), min(size, MAX_BYTES + 1))


class _BoundedFile(io.BufferedReader):
    """A file that refuses one huge read: `zipfile` reads an archive's directory at once, however large it is."""

    limit = MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self.limit:
            raise _DirectoryTooLargeError
        return super().read(size)


class _DirectoryTooLargeError(Exception):
    pass


def _archive(path: str, name: str, stack: ExitStack, say: Callable[..., str]) -> list[Entry]:
    """The entries of one archive; where it cannot be used, one entry that says why."""
    try:
        file = stack.enter_context(_BoundedFile(io.FileIO(path)))
        archive = zipfile.ZipFile(file)
    except _DirectoryTooLargeError as error:
        raise BatchError(say("too_many", limit=MAX_PICTURES)) from error
    except (zipfile.BadZipFile, *DAMAGE):
        return [_refused(name, say("archive_damaged"))]
    stack.enter_context(archive)
    file.limit = MAX_BYTES + 1  # from here on only pictures are read
    infos = [info for info in archive.infolist() if not info.is_dir() and not _is_clutter(info.filename)]
    entries = [
        Entry(_label(f"{name}/{inside}"), partial(_unpack, archive, info, say), info.file_size)
        for info, inside in zip(infos, readable_names(infos), strict=True)
    ]
    return entries or [_refused(name, say("archive_empty"))]


def _is_clutter(name: str) -> bool:
    """What operating systems add to an archive unasked."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name.lower() in _CLUTTER


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, say: Callable[..., str]) -> bytes:
    if info.flag_bits & _ENCRYPTED:
        raise ImageError(say("archive_locked"))
    if info.compress_type not in _PACKINGS:
        raise ImageError(say("archive_packing"))
    if info.file_size > MAX_BYTES:
        raise ImageError(say("picture_too_large", limit=MAX_BYTES // 2**20))
    if info.file_size > MAX_RATIO * info.compress_size + 2**20:
        raise ImageError(say("archive_ratio"))
    try:
        with archive.open(info) as file:
            data = read_bytes(file)
    except ImageError:
        raise
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise ImageError(say("archive_entry_damaged")) from error
    if data.startswith(_ZIP):
        raise ImageError(say("archive_nested"))
    return data


def _refused(name: str, reason: str) -> Entry:
    def read() -> bytes:
        raise ImageError(reason)

    return Entry(_label(name), read)


def _label(name: str) -> str:
    """A name without control and direction characters, which could disguise it, and not endless."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in name)
    return shown if len(shown) <= LABEL_LENGTH else "…" + shown[1 - LABEL_LENGTH :]


__all__ = ["MAX_PICTURES", "MAX_TOTAL_BYTES", "BatchError", "Entry", "expand"]
