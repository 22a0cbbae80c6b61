"""Names inside zip archives as whoever packed them wrote them, where the archive does not say how they are encoded.

An archive says of a name that it is UTF-8, or says nothing: then it should be code page 437, and is whatever the
packer's system used. UTF-8 without the flag is recognised for certain. Of East Asia's encodings those are tried whose
characters come in pairs that ordinary text of another encoding hardly has: all must be common ones, and most must
stand beside each other, since a single accent of a European name also makes such a pair. Korean is not told from
Chinese by this, and stays as it is.
"""

import re
import zipfile
import zlib
from collections.abc import Sequence

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field: the name again, in UTF-8
# Python's own names for what zip archives of East Asia are packed in, with the pairs of bytes of common characters:
# GB 2312's level 1 and its punctuation; kana and level 1 of JIS, and its punctuation; Big5's level 1.
_ENCODINGS = (
    ("gb18030", rb"[\xb0-\xd7\xa1-\xa3][\xa1-\xfe]"),
    ("cp932", rb"(?:[\x82\x83\x88-\x97][\x40-\x7e\x80-\xfc]|\x81[\x40-\x7e\x80-\xac])"),
    ("big5", rb"[\xa1-\xc6][\x40-\x7e\xa1-\xfe]"),
)


def readable_names(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of one archive's entries; where nothing is recognised, as `zipfile` reads them.

    Args:
        entries: in any order. What is not in UTF-8 was packed on one system, so that all such names are judged
            together.
    """
    names: list[str | bytes] = [_certain(entry) for entry in entries]
    encoding = _guess([name for name in names if isinstance(name, bytes)])
    return [name if isinstance(name, str) else name.decode(encoding) for name in names]


def _certain(entry: zipfile.ZipInfo) -> str | bytes:
    """The name, or its bytes where only a guess can tell what they mean."""
    if entry.flag_bits & _UTF8_FLAG or entry.filename.isascii():
        return entry.filename
    raw = entry.filename.encode("cp437", "replace")
    if (name := _unicode_path(entry.extra, zlib.crc32(entry.orig_filename.encode("cp437", "replace")))) is not None:
        return name
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _unicode_path(extra: bytes, crc32: int) -> str | None:
    """What Info-ZIP's extra field says, if it was written for this very name."""
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and field[:1] == b"\x01" and field[1:5] == crc32.to_bytes(4, "little"):
            return field[5:].decode("utf-8", "replace")
    return None


def _guess(names: list[bytes]) -> str:
    """The encoding in which all names are common text; code page 437 where there is none."""
    for encoding, pair in _ENCODINGS:
        is_common = re.compile(rb"(?:[\x00-\x7f]|%s)*" % pair)
        runs = [run for name in names for run in re.findall(rb"(?:%s)+" % pair, name)]
        beside = sum(len(run) for run in runs if len(run) > 2)
        if (
            runs
            and 2 * beside >= sum(map(len, runs))
            and all(map(is_common.fullmatch, names))
            and _decodes(names, encoding)
        ):
            return encoding
    return "cp437"


def _decodes(names: list[bytes], encoding: str) -> bool:
    try:
        return all(name.decode(encoding) for name in names)
    except UnicodeDecodeError:
        return False


__all__ = ["readable_names"]
