"""The main image of files that hold several: the page of a TIFF, or the largest preview of a raw file.

A camera's raw file (NEF, DNG, CR2, CR3, ARW, RAF, ORF, RW2, PEF and others) begins with a picture of 160 x 120 pixels
or so, or with none that Pillow knows. The data of the sensor are not developed here: what the camera or the
program made of them lies in the file as a JPEG, mostly in full size, and is taken.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

# What begins with the same bytes as a TIFF is told by its directories.
RAW = re.compile(rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|....ftypcrx ", re.DOTALL)
TIFF = re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+")
MAX_DIRECTORIES = 100
MAX_FIELDS = 1_000
MAX_JPEGS = 4_000  # a lossless raw of 50 megapixels in tiles has 800, which look alike at their start
MAX_SEGMENTS = 200
MIN_OF_LARGEST = 0.25  # of the largest page's pixels; what has fewer is a thumbnail
_KIND, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHILDREN, _DNG = (
    *(254, 256, 257, 259, 262, 274, 330),
    50706,
)
_SENSOR = {32803, 34892}  # photometric interpretations: colour filter array, linear raw
_SENSOR_COMPRESSIONS = {32767, 32769, 32770, 34713, 65535}  # Sony's, Epson's, Samsung's, Nikon's, Pentax's
_JPEG = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class NoPreviewError(ValueError):
    """A raw file holds no picture that can be shown without developing it."""


@dataclass(frozen=True)
class MainImage:
    """What of a file is opened.

    Attributes:
        data: a file that holds the main image first: the same bytes, or a JPEG.
        orientation: of EXIF, by the container; 1 for upright.
        is_preview: the file is a raw one, of which a preview is shown.
    """

    data: bytes
    orientation: int = 1
    is_preview: bool = False


@dataclass(frozen=True)
class _Directory:
    start: int
    values: dict[int, list[int]] = field(default_factory=dict)

    def value(self, tag: int, default: int = 0) -> int:
        found = self.values.get(tag)
        return found[0] if found else default

    @property
    def pixels(self) -> int:
        return self.value(_WIDTH) * self.value(_HEIGHT)

    @property
    def is_sensor(self) -> bool:
        return self.value(_PHOTOMETRIC) in _SENSOR or self.value(_COMPRESSION) in _SENSOR_COMPRESSIONS


def main_image(data: bytes) -> MainImage:
    """Find what a viewer would show of a TIFF or a raw file.

    Args:
        data: of a file that begins as `TIFF` or `RAW`.

    Returns:
        An ordinary TIFF as it came if its first page is its main one, else with that page first.

    Raises:
        NoPreviewError: a raw file without a preview.
    """
    directories = list(_directories(data)) if TIFF.match(data) else []
    is_raw = bool(RAW.match(data)) or data[8:10] == b"CR" or any(d.is_sensor or _DNG in d.values for d in directories)
    pages = [page for page in directories if page.pixels and not page.is_sensor]
    if is_raw:
        return _preview(data, pages, directories)
    largest = max((page.pixels for page in pages), default=0)
    for page in pages:
        if not page.value(_KIND) & 5 and page.pixels >= MIN_OF_LARGEST * largest:  # 1: reduced, 4: a mask
            return MainImage(data if page is directories[0] else _with_first(data, page.start))
    return MainImage(data)


def _preview(data: bytes, pages: list[_Directory], directories: list[_Directory]) -> MainImage:
    """The largest picture in a raw file."""
    pixels, start = max(_jpegs(data), key=lambda jpeg: jpeg[0], default=(0, 0))
    # A page of a usual size in bytes: black, white or RGB without compression, which cameras write as thumbnails
    shown = [page for page in pages if page.value(_COMPRESSION, 1) == 1 and page.value(_PHOTOMETRIC) <= 2]
    page = max(shown, key=lambda page: page.pixels, default=None)
    if page is not None and page.pixels > pixels:
        return MainImage(_with_first(data, page.start), is_preview=True)
    if not pixels:
        raise NoPreviewError
    return MainImage(data[start:], _orientation(data, directories), is_preview=True)


def _orientation(data: bytes, directories: list[_Directory]) -> int:
    if not directories:
        box = data.find(b"CMT1", 0, 2**16)  # CR3: the first directory of a TIFF within
        # ORF and RW2 are TIFFs by another name
        renamed = {b"II": b"II*\0", b"MM": b"MM\0*"}.get(data[:2], b"") + data[4:]
        within = data[box + 4 :] if box >= 0 else renamed
        directories = [next(_directories(within), _Directory(0))] if TIFF.match(within) else [_Directory(0)]
    return directories[0].value(_ORIENTATION, 1)


def _with_first(data: bytes, start: int) -> bytes:
    """The same TIFF with the directory at `start` as its first one."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in (b"+\0", b"\0+"):
        return data[:8] + struct.pack(order + "Q", start) + data[16:]
    return data[:4] + struct.pack(order + "I", start) + data[8:]


def _directories(data: bytes) -> Iterator[_Directory]:
    """A TIFF's directories, each followed by those within it; what is damaged ends the list."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    offset, count, size, entry = ("Q", "Q", 20, "HHQ") if is_big else ("I", "H", 12, "HHI")
    try:
        (first,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
        waiting = [first]
        seen: set[int] = set()
        while waiting and len(seen) < MAX_DIRECTORIES:
            start = waiting.pop()
            if start in seen or not start:
                continue
            seen.add(start)
            (length,) = struct.unpack_from(order + count, data, start)
            fields = start + struct.calcsize(order + count)
            directory = _Directory(start)
            for position in range(fields, fields + size * min(length, MAX_FIELDS), size):
                tag, kind, amount = struct.unpack_from(order + entry, data, position)
                if tag in (_KIND, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHILDREN, _DNG):
                    place = position + struct.calcsize(order + entry)
                    directory.values[tag] = _values(data, order, kind, amount, place, offset)
            yield directory
            following = struct.unpack_from(order + offset, data, fields + size * length)
            waiting += [*following, *reversed(directory.values.get(_CHILDREN, []))]
    except (struct.error, OverflowError):
        return


def _values(data: bytes, order: str, kind: int, amount: int, place: int, offset: str) -> list[int]:
    letter = _FORMATS.get(kind)
    if letter is None:
        return []
    amount = min(amount, MAX_DIRECTORIES)
    if struct.calcsize(order + letter) * amount > struct.calcsize(order + offset):
        (place,) = struct.unpack_from(order + offset, data, place)
    return list(struct.unpack_from(f"{order}{amount}{letter}", data, place))


def _jpegs(data: bytes) -> Iterator[tuple[int, int]]:
    """Pixels and start of each JPEG in a file that Pillow can decode."""
    for number, found in enumerate(_JPEG.finditer(data)):
        if number == MAX_JPEGS:
            return
        position = found.start() + 2
        for _ in range(MAX_SEGMENTS):
            start, marker, length = data[position : position + 1], *_segment(data, position)
            if start != b"\xff" or length < 2 or marker == 0xDA:
                break
            if marker in (0xC0, 0xC1, 0xC2):
                if length >= 8 and position + 9 <= len(data) and data[position + 4] == 8:
                    height, width = struct.unpack_from(">HH", data, position + 5)
                    yield height * width, found.start()
                break
            if 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # lossless: the sensor's data
                break
            position += 2 + length


def _segment(data: bytes, position: int) -> tuple[int, int]:
    """Marker and length; a length of 0 at the end of the file."""
    return struct.unpack_from(">BH", data, position + 1) if position + 4 <= len(data) else (0, 0)


__all__ = ["RAW", "TIFF", "MainImage", "NoPreviewError", "main_image"]
