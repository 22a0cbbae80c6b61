"""The parts of a file, counted before a reader meets them: no file may hold more than any camera or program writes.

Readers spend time on each part of a file, some of them the more the more parts came before, so that a small file can
cost minutes. Here a JPEG's segments and scans, the chunks of PNG and WebP, and a GIF's blocks are counted by following
nothing but their lengths, which takes milliseconds. A file within the limits is read in a time that its pixels and
bytes bound.
"""

import re
import struct
from collections.abc import Iterator

# A JPEG of 50 MB in full segments has 800; the others are a scan's tables, at most a few for each scan.
MAX_SEGMENTS = 5_000
MAX_EXIF_SEGMENTS = 64  # of 64 KB; Pillow joins them by copying all that came before
MAX_SCANS = 100  # libjpeg writes 10, the finest encoders about 20
MAX_SCANNED_PIXELS = 10**9  # scans times pixels: each scan visits every block, even one that holds nothing
MAX_RESOURCES = 2_000  # Photoshop's; it writes about 30
MAX_TABLE_BYTES = 2**16  # quantisation tables and frame headers; under 1 KB in honest files
MAX_CHUNKS = 100_000  # a PNG of 50 MB in pieces of 1 KB has half of them
MAX_INFLATED = 256  # chunks of a PNG that are inflated, to 1 MB at most each
MAX_SMALL_CHUNK = 2**16
MAX_GIF_BLOCKS = 500_000  # up to the second frame; full blocks hold 255 bytes: a GIF of 50 MB has 200,000
MAX_EXTENSIONS = 10_000
MAX_COMMENT = 2**18  # bytes of a GIF's comments; Pillow joins them by copying all that came before
MAX_FRAMES = 20_000  # chunks of a WebP; libwebp looks at each whenever it is asked for one
MAX_JUNK = 2**16  # bytes between parts that belong to none; Pillow steps over each

# The markers of a JPEG that a length follows, and its end. Readers step over all others: FF 00 is a value of a scan.
_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
_SCAN, _END, _QUANTISATION, _EXIF, _PHOTOSHOP = 0xDA, 0xD9, 0xDB, 0xE1, 0xED
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SMALL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"acTL", b"fcTL"}
_INFLATED_CHUNKS = {b"iCCP", b"zTXt", b"iTXt"}


class TooManyPartsError(ValueError):
    """A file has more parts of a kind than any camera or program writes."""


def _hold(count: int, limit: int) -> None:
    if count > limit:
        raise TooManyPartsError


def check_jpeg(data: bytes) -> None:
    """Count the segments and scans of a JPEG up to its end; what follows it is never read.

    Raises:
        TooManyPartsError: more than the limits above.
    """
    position, segments, exif, resources, tables, junk, scans = 2, 0, 0, 0, 0, 0, 0
    is_progressive, pixels, layers = False, 0, 0
    while found := _MARKER.search(data, position, len(data) if scans else position + MAX_JUNK - junk + 2):
        marker, start = data[found.end() - 1], found.end()
        if not scans:
            junk += found.start() - position
        if start + 2 > len(data) or (marker == _END and scans):
            return
        if marker == _END:  # before any scan: Pillow goes on
            position = start
            continue
        segments += 1
        _hold(segments, MAX_SEGMENTS)
        end = start + max(2, struct.unpack_from(">H", data, start)[0])
        if marker in _FRAMES and start + 8 <= len(data):
            height, width, layers = struct.unpack_from(">HHB", data, start + 3)
            is_progressive, pixels = is_progressive or marker in _PROGRESSIVE, max(pixels, width * height)
        if marker in _FRAMES or marker == _QUANTISATION:
            tables += end - start
            _hold(tables, MAX_TABLE_BYTES)
        elif marker == _EXIF and data.startswith(b"Exif\0\0", start + 2):
            exif += 1
            _hold(exif, MAX_EXIF_SEGMENTS)
        elif marker == _PHOTOSHOP:
            resources += data.count(b"8BIM", start, end)
            _hold(resources, MAX_RESOURCES)
        elif marker == _SCAN:
            scans += 1
            _hold(scans, MAX_SCANS)
            _hold(scans * pixels, MAX_SCANNED_PIXELS)
            if not is_progressive and data[start + 2 : start + 3] == bytes([layers]):
                return  # everything is in this scan; libjpeg reads no other
        position = end
    if not scans:
        _hold(junk + len(data) - position, MAX_JUNK + 2)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and length of each chunk of a PNG, by their lengths alone, to the end of the file.

    A length may say more than the file holds. How many there are is for the caller to bound.
    """
    position = 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, position + 8, length
        position += 12 + length


def check_png(data: bytes) -> None:
    """Count the chunks of a PNG.

    Raises:
        TooManyPartsError: more than the limits above.
    """
    inflated = 0
    for number, (kind, start, length) in enumerate(png_chunks(data), start=1):
        _hold(number, MAX_CHUNKS)
        if kind in _INFLATED_CHUNKS:
            inflated += 1
        elif kind in _SMALL_CHUNKS:
            _hold(min(length, len(data) - start + 8), MAX_SMALL_CHUNK)
        elif kind == b"IEND":
            break
    _hold(inflated, MAX_INFLATED)


def check_gif(data: bytes) -> None:
    """Count the blocks of a GIF up to its second frame: no reader of ours goes further.

    Raises:
        TooManyPartsError: more than the limits above.
    """
    if len(data) < 13:
        return
    position = 13 + _palette_size(data[10])
    blocks = comments = extensions = frames = junk = 0
    while frames < 2 and position + 1 < len(data) and data[position] != 0x3B:
        kind, is_comment = data[position], data[position + 1] == 0xFE
        if kind == 0x21:  # an extension
            extensions += 1
            _hold(extensions, MAX_EXTENSIONS)
            begin = position + 2
        elif kind == 0x2C:  # a picture
            frames += 1
            begin = position + 11 + _palette_size(data[position + 9] if position + 9 < len(data) else 0)
        else:
            junk += 1
            _hold(junk, MAX_JUNK)
            position += 1
            continue
        position = begin
        while position < len(data) and (size := data[position]):
            position += size + 1
            blocks += 1
            if blocks > MAX_GIF_BLOCKS:
                raise TooManyPartsError
        position += 1
        if kind == 0x21 and is_comment:
            comments += position - begin
            _hold(comments, MAX_COMMENT)


def check_webp(data: bytes) -> None:
    """Count the chunks of a WebP.

    Raises:
        TooManyPartsError: more than the limits above.
    """
    position, chunks = 12, 0
    while position + 8 <= len(data):
        chunks += 1
        _hold(chunks, MAX_FRAMES)
        length = struct.unpack_from("<I", data, position + 4)[0]
        position += 8 + length + (length & 1)


def _palette_size(flags: int) -> int:
    """Bytes of the palette that the flags of a GIF's screen or picture announce."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


__all__ = ["TooManyPartsError", "check_gif", "check_jpeg", "check_png", "check_webp", "png_chunks"]
