"""What a picture's file says in words: text fields, EXIF and XMP, read within fixed bounds.

A file is hostile until shown otherwise. Pillow's readers find the segments of the file (`read_header`), but its EXIF
reader copies the bytes of every entry, and thousands of entries may name the same megabytes; it also stops at a PNG's
pixels, behind which many programs write. So the few EXIF fields of interest and a PNG's text chunks are read here:
only what is asked for, each within a limit, nothing recursive. Of coordinates only their presence is noted.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from .file_structure import png_chunks
from .images import FIELD_SIZES, read_header
from .xmp import read_xmp

MAX_TEXT = 2**20  # bytes of one text, XMP packet or EXIF field
MAX_TEXTS = 64
MAX_CHUNKS = 50_000  # a PNG of 50 MB in the usual 8 KB pieces has 6,400
MAX_ENTRIES = 1_000  # of one EXIF directory; cameras write under a hundred
MAX_SEGMENTS = 2_000  # of a JPEG before its pixels; real ones have under a hundred

MAKE, MODEL, SOFTWARE, DESCRIPTION, USER_COMMENT = 0x010F, 0x0110, 0x0131, 0x010E, 0x9286
EXPOSURE_TIME, F_NUMBER, ISO, DATE_TAKEN, FOCAL_LENGTH, LENS = 0x829A, 0x829D, 0x8827, 0x9003, 0x920A, 0xA434
ARTIST, PROCESSING_SOFTWARE, XP_COMMENT = 0x013B, 0x000B, 0x9C9C
_XMP, _EXIF_DIRECTORY, _GPS_DIRECTORY, _LATITUDE, _LONGITUDE = 0x02BC, 0x8769, 0x8825, 2, 4
_WANTED = {MAKE, MODEL, SOFTWARE, DESCRIPTION, USER_COMMENT, LENS, DATE_TAKEN, _XMP}
_WANTED |= {ARTIST, PROCESSING_SOFTWARE, XP_COMMENT}
# Of these the presence is enough.
CAPTURE_SETTINGS = (EXPOSURE_TIME, F_NUMBER, ISO, DATE_TAKEN, FOCAL_LENGTH)


@dataclass
class FileMetadata:
    """The words in a file.

    Attributes:
        format: Pillow's name, such as "PNG".
        texts: a PNG's text chunks by keyword, and a JPEG's or GIF's comment as "Comment"; the first of a name stays.
        comments: all comments of a JPEG.
        exif: text of the EXIF fields of interest by tag; "" where only the presence is of interest.
        xmp: the XMP packet.
        credit: the IPTC credit line of a JPEG.
        has_location: coordinates are stored in EXIF or XMP.
    """

    format: str
    texts: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    exif: dict[int, str] = field(default_factory=dict)
    xmp: str = ""
    credit: str = ""
    has_location: bool = False

    @cached_property
    def xmp_values(self) -> dict[str, list[str]]:
        """All values of the XMP properties by local name, once everything is read."""
        return read_xmp(self.xmp)

    def xmp_value(self, name: str) -> str:
        """The first value of an XMP property by its local name; "" if there is none."""
        return next(iter(self.xmp_values.get(name, ())), "")


def read_metadata(data: bytes) -> FileMetadata:
    """Read what a picture's file says; damaged parts are left out.

    Args:
        data: the whole file, as it was delivered.

    Raises:
        ImageError: no reader of `modeling.images` recognises a picture of an allowed size.
    """
    image = read_header(data)
    metadata = FileMetadata(image.format)
    if metadata.format == "PNG":
        _read_png(data, metadata)
    elif metadata.format == "TIFF":
        _read_exif(data, metadata)
    else:
        info = image.info
        _read_exif(info.get("exif"), metadata)
        metadata.xmp = metadata.xmp or decoded(info.get("xmp"))
        if comment := decoded(info.get("comment")):
            metadata.texts["Comment"] = comment
        if metadata.format == "JPEG":
            metadata.comments = [decoded(content) for content in _jpeg_comments(data)]
        metadata.credit = _iptc_credit(info.get("photoshop"))
    # Signed records hold their copy of the EXIF fields in clear.
    if metadata.xmp_value("GPSLatitude") or b"exif:GPSLatitude" in data:
        metadata.has_location = True
    return metadata


def decoded(value: object, encoding: str = "utf-8") -> str:
    """Text of bytes or a string, at most `MAX_TEXT` of it."""
    if isinstance(value, bytes):
        value = value[:MAX_TEXT].decode(encoding, errors="replace")
    return value[:MAX_TEXT].strip("\0 ") if isinstance(value, str) else ""


def _jpeg_comments(data: bytes) -> Iterator[bytes]:
    """The comments before a JPEG's pixels; Pillow keeps only the last one."""
    position, found = 2, 0
    for _ in range(MAX_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] == 0xDA or found == MAX_TEXTS:
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        if data[position + 1] == 0xFE:
            found += 1
            yield data[position + 4 : position + 2 + length]
        position += 2 + length


def _read_png(data: bytes, metadata: FileMetadata) -> None:
    """Text chunks, XMP and EXIF, before and behind the pixels."""
    for kind, content in _png_chunks(data):
        if kind == b"eXIf":
            _read_exif(content, metadata)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and len(metadata.texts) < MAX_TEXTS:
            keyword, _, rest = content.partition(b"\0")
            text = _png_text(kind, rest)
            if keyword == b"XML:com.adobe.xmp":
                metadata.xmp = metadata.xmp or text
            else:
                metadata.texts.setdefault(keyword[:79].decode("latin-1"), text)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks that can hold words; checksums are not checked."""
    for kind, start, length in islice(png_chunks(data), MAX_CHUNKS):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            yield kind, data[start : start + min(length, MAX_TEXT)]


def _png_text(kind: bytes, rest: bytes) -> str:
    """The text of a chunk behind its keyword; a compressed one is inflated up to `MAX_TEXT`."""
    if kind == b"tEXt":
        return decoded(rest, "latin-1")
    if kind == b"zTXt":
        return decoded(inflated(rest[1:]), "latin-1")
    parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
    if len(parts) < 3:
        return ""
    return decoded(inflated(parts[2]) if rest[:1] == b"\1" else parts[2])


def inflated(data: bytes, wbits: int = zlib.MAX_WBITS) -> bytes:
    """The first `MAX_TEXT` bytes of what was compressed, in the form that `wbits` of `zlib` names; none if damaged."""
    try:
        return zlib.decompressobj(wbits).decompress(data, MAX_TEXT)
    except zlib.error:
        return b""


def _read_exif(data: object, metadata: FileMetadata) -> None:
    """Fill `metadata` from an EXIF block: a small TIFF file, with or without the mark of a JPEG segment before it."""
    if not isinstance(data, bytes):
        return
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    entries = _directory(data, order, struct.unpack_from(order + "I", data, 4)[0])
    for tag in (_EXIF_DIRECTORY, _GPS_DIRECTORY):
        if tag in entries and len(entries[tag]) == 4:
            inner = _directory(data, order, struct.unpack(order + "I", entries[tag])[0])
            if tag == _GPS_DIRECTORY:
                metadata.has_location = metadata.has_location or bool(inner.keys() & {_LATITUDE, _LONGITUDE})
            else:
                entries = {**inner, **entries}
    for tag, value in entries.items():
        if tag == USER_COMMENT:
            metadata.exif.setdefault(tag, _user_comment(value, order))
        elif tag == XP_COMMENT:
            metadata.exif.setdefault(tag, decoded(value, "utf-16-le"))
        elif tag == _XMP:
            metadata.xmp = metadata.xmp or decoded(value)
        elif tag in _WANTED:
            metadata.exif.setdefault(tag, decoded(value))
        elif tag in CAPTURE_SETTINGS:
            metadata.exif.setdefault(tag, "")


def _directory(data: bytes, order: str, offset: int) -> dict[int, bytes]:
    """Raw values of one directory by tag; only the wanted fields are copied, of the others the offset bytes stand."""
    entries: dict[int, bytes] = {}
    if offset + 2 > len(data):
        return entries
    count = min(struct.unpack_from(order + "H", data, offset)[0], MAX_ENTRIES)
    for position in range(offset + 2, offset + 2 + 12 * count, 12):
        if position + 12 > len(data):
            break
        tag, kind, length = struct.unpack_from(order + "HHI", data, position)
        size = length * FIELD_SIZES.get(kind, 0)
        start = position + 8
        if tag in _WANTED and size > 4:
            start = struct.unpack_from(order + "I", data, start)[0]
        if tag not in entries:
            entries[tag] = data[start : start + min(size, MAX_TEXT if tag in _WANTED else 4)]
    return entries


def _user_comment(value: bytes, order: str) -> str:
    """The text of a UserComment; eight bytes before it may name its character set."""
    mark, text = value[:8], value[8:]
    if mark == b"UNICODE\0":
        # The order of the bytes is often not the file's; the zero of a Latin letter tells.
        big = text[:1] == b"\0" or (text[1:2] != b"\0" and order == ">")
        return decoded(text, "utf-16-be" if big else "utf-16-le")
    return decoded(text if mark in (b"ASCII\0\0\0", b"\0" * 8) else value)


def _iptc_credit(blocks: object) -> str:
    """The credit line (2:110) of the older IPTC block, which Pillow keeps by Photoshop's number."""
    block = blocks.get(0x0404) if isinstance(blocks, dict) else None
    if not isinstance(block, bytes):
        return ""
    found = re.search(rb"\x1c\x02\x6e\0([\x01-\xff])", block, re.DOTALL)
    return decoded(block[found.end() : found.end() + found[1][0]]) if found else ""


__all__ = [
    "ARTIST",
    "CAPTURE_SETTINGS",
    "DATE_TAKEN",
    "DESCRIPTION",
    "LENS",
    "MAKE",
    "MAX_TEXT",
    "MODEL",
    "PROCESSING_SOFTWARE",
    "SOFTWARE",
    "USER_COMMENT",
    "XP_COMMENT",
    "FileMetadata",
    "decoded",
    "inflated",
    "read_metadata",
]
