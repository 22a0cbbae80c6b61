"""The slowest files that could be made: by name, how to make them at a size, up to the 50 MB that a file may have.

Each aims at one place where readers spend more time than a file of its size should cost. The names say format and
place; `bench/opening.py` measures them, `tests/modeling/test_worst_files.py` holds what becomes of them.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tests.pictures import chunk

LARGE = 49 * 2**20


def jpeg(width: int = 96, height: int = 72, **options: object) -> bytes:
    """A smooth JPEG."""
    return _encoded(width, height, "JPEG", **options)


def _encoded(width: int, height: int, kind: str, mode: str = "RGB", **options: object) -> bytes:
    gradient = Image.linear_gradient("L").resize((width, height))
    buffer = io.BytesIO()
    Image.merge("RGB", (gradient, gradient, gradient)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """A marker and what it carries."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    """A small JPEG with these bytes behind its first segment."""
    whole = jpeg()
    return whole[:20] + b"".join(segments) + whole[20:]


def many_scans(side: int, scans: int, restart: bool = False) -> bytes:
    """A progressive JPEG whose last scan, of few bytes and all blocks, comes again and again."""
    whole = jpeg(side, side, progressive=True)
    start = whole.rindex(b"\xff\xda")
    tables = max(whole.rfind(b"\xff\xc4", 0, start), 0)
    return whole[:-2] + whole[tables:-2] * scans + whole[-2:]


def empty_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG with scans that hold nothing: twelve bytes each."""
    whole = jpeg(side, side, progressive=True)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0x10)
    return whole[:-2] + scan * scans + whole[-2:]


def png_with(before: bytes = b"", after: bytes = b"", width: int = 96, height: int = 72, pixels: bytes = b"") -> bytes:
    """A small PNG with these bytes before and behind its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = pixels or chunk(b"IDAT", zlib.compress((b"\0" + bytes(width * 3)) * height, 9))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


def _times(part: bytes, size: int) -> bytes:
    return part * (size // len(part))


def _inflating_chunks(kind: bytes, before: bytes, size: int) -> bytes:
    return _times(chunk(kind, before + zlib.compress(bytes(2**20 - 100), 9)), size)


def _small_idats(pieces: int) -> bytes:
    packed = zlib.compress((b"\0" + bytes(96 * 3)) * 72, 9)
    return chunk(b"IDAT", packed[:5]) + chunk(b"IDAT", b"") * pieces + chunk(b"IDAT", packed[5:])


def gif_with(extension: bytes, blocks: bytes) -> bytes:
    """A small GIF with an extension before its picture."""
    whole = _encoded(96, 72, "GIF", mode="P")
    start = 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 128 else 0)
    return whole[:start] + extension + blocks + b"\0" + whole[start:]


def _gif_of_single_bytes(size: int) -> bytes:
    """The picture's data in blocks of one byte, then blocks that no pixel needs."""
    whole = _encoded(96, 72, "GIF", mode="P")
    start = whole.index(b",", 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 128 else 0)) + 11
    return whole[:start] + _times(b"\1\0", size) + b"\0;"


def _bmp(width: int, height: int, compression: int, data: bytes, bits: int = 8) -> bytes:
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024) + header + palette + data


def tiff(entries: list[tuple[int, int, int, int]], data: bytes = b"", next_directory: int = 0) -> bytes:
    """A TIFF of one directory, which stands before `data`."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", next_directory) + data


def _tiff_picture(width: int, height: int, *more: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), *more]
    return sorted({entry[0]: entry for entry in entries}.values())


def _tiff_of_many_strips(size: int) -> bytes:
    """Millions of strips of one row."""
    count = size // 4
    entries = _tiff_picture(50_000, 1_000, (273, 4, count, 8 + 2 + 12 * 8 + 4), (278, 4, 1, 1), (279, 4, 1, 1))
    return tiff(entries, struct.pack("<I", 8) * count)


def _tiff_of_many_directories(size: int) -> bytes:
    """A chain of directories, each with the fields of a picture."""
    entries = _tiff_picture(64, 64, (273, 4, 1, 8), (278, 4, 1, 64), (279, 4, 1, 4096))
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    step = len(directory) + 4
    count = size // step
    chain = (directory + struct.pack("<I", 8 + step * (n + 1) if n + 1 < count else 0) for n in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(chain)


def _tiff_with_a_jpeg_of_many_scans(size: int) -> bytes:
    data = many_scans(2048, size // 2**13)
    entries = [
        (256, 4, 1, 2048),
        (257, 4, 1, 2048),
        (258, 3, 1, 8),
        (259, 3, 1, 7),
        (262, 3, 1, 6),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1, 3),
        (278, 4, 1, 2048),
        (279, 4, 1, len(data)),
    ]
    return tiff(entries, data)


def _ppm(size: int, kind: bytes, maximum: bytes = b"255") -> bytes:
    shape = b"\n4000 4000\n" if kind in (b"P3", b"P6") else b"\n7000 7000\n"
    head = kind + shape + (b"" if kind in (b"P1", b"P4") else maximum + b"\n")
    return head + {b"P1": b"1", b"P2": b"1 ", b"P3": b"1 "}.get(kind, b"\1") * (size // 2)


def _webp_of_many_frames(size: int) -> bytes:
    still = _encoded(16, 16, "WEBP", lossless=True)[12:]
    frame = bytes(6) + b"\x0f\0\0\x0f\0\0" + b"\1\0\0\0" + still
    animation = b"ANMF" + struct.pack("<I", len(frame)) + frame + b"\0" * (len(frame) & 1)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"\x63\0\0\x63\0\0" + b"ANIM\6\0\0\0" + bytes(6)
    body += _times(animation, size)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_of_many_chunks(size: int) -> bytes:
    still = _encoded(96, 72, "WEBP", lossless=True)[12:]
    body = (
        b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\x5f\0\0\x47\0\0" + still + _times(b"abcd\0\0\0\0", size)
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _noise(width: int, height: int, kind: str, **options: object) -> bytes:
    """As large and as hard to unpack as a permitted picture can be."""
    pixels = random.Random(0).randbytes(3 * 512 * 512)
    tile = Image.frombytes("RGB", (512, 512), pixels)
    picture = Image.new("RGB", (width, height))
    for x in range(0, width, 512):
        for y in range(0, height, 512):
            picture.paste(tile, (x, y))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


WORST: dict[str, Callable[[int], bytes]] = {
    "scans_of_a_progressive.jpg": lambda size: many_scans(2048, 2_000),
    "scans_of_a_large_progressive.jpg": lambda size: many_scans(7000, 90),
    "empty_scans.jpg": lambda size: empty_scans(2048, 400_000),
    "exif_segments.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xE1, b"Exif\0\0" + bytes(65_500)), size)),
    "small_exif_segments.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xE1, b"Exif\0\0MM\0*"), size)),
    "empty_segments.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xEA, b""), size)),
    "comments.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xFE, b"a"), size)),
    "photoshop_blocks.jpg": lambda size: jpeg_with(
        _times(jpeg_segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5_000), size)
    ),
    "profile_pieces.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1"), size)),
    "junk_between_markers.jpg": lambda size: jpeg_with(bytes([1]) * size),
    "stuffed_junk.jpg": lambda size: jpeg_with(_times(b"\xff\0", size)),
    "fill_bytes.jpg": lambda size: jpeg_with(b"\xff" * size),
    "tables.jpg": lambda size: jpeg_with(_times(jpeg_segment(0xDB, (b"\0" + b"\1" * 64) * 1_000), size)),
    "frames_of_255_layers.jpg": lambda size: jpeg_with(
        _times(jpeg_segment(0xC0, b"\x08\0\x48\0\x60\3" + b"\1\x11\0" * 3 + bytes(60_000)), size)
    ),
    "stuffed_entropy.jpg": lambda size: jpeg()[:-2] + _times(b"\xff\0", size) + b"\xff\xd9",
    "restarts.jpg": lambda size: jpeg()[:-2] + _times(b"\xff\xd0", size) + b"\xff\xd9",
    "largest.jpg": lambda size: _noise(7000, 7000, "JPEG", quality=60, subsampling=0),
    "largest_progressive.jpg": lambda size: _noise(7000, 7000, "JPEG", quality=60, subsampling=0, progressive=True),
    "empty_chunks.png": lambda size: png_with(_times(chunk(b"abCd", b""), size)),
    "empty_chunks_behind.png": lambda size: png_with(after=_times(chunk(b"abCd", b""), size)),
    "profiles_that_inflate.png": lambda size: png_with(_inflating_chunks(b"iCCP", b"a\0\0", size)),
    "texts_without_name_that_inflate.png": lambda size: png_with(_inflating_chunks(b"zTXt", b"\0\0", size)),
    "broken_texts_that_inflate.png": lambda size: png_with(_inflating_chunks(b"iTXt", b"\xff\0\1\0\0\xff\0", size)),
    "texts_that_inflate_behind.png": lambda size: png_with(after=_inflating_chunks(b"zTXt", b"\0\0", size)),
    "long_colour_chunk.png": lambda size: png_with(chunk(b"cHRM", bytes(size & ~3))),
    "empty_pieces.png": lambda size: png_with(pixels=_small_idats(size // 12)),
    "largest.png": lambda size: _noise(4096, 3700, "PNG", compress_level=1),
    "blocks_of_a_comment.gif": lambda size: gif_with(b"!\xfe", _times(b"\xff" + b"a" * 255, size)),
    "short_blocks_of_a_comment.gif": lambda size: gif_with(b"!\xfe", _times(b"\1a", size)),
    "comments.gif": lambda size: gif_with(_times(b"!\xfe\1a\0", size), b""),
    "extensions.gif": lambda size: gif_with(_times(b"!\x01\0", size), b""),
    "single_byte_blocks.gif": _gif_of_single_bytes,
    "comments_behind_a_frame.gif": lambda size: _encoded(96, 72, "GIF", mode="P")[:-1] + _times(b"!\xfe\1a\0", size),
    "frames.webp": _webp_of_many_frames,
    "chunks.webp": _webp_of_many_chunks,
    "largest.webp": lambda size: _noise(7000, 7000, "WEBP", quality=60, method=0),
    "skips.bmp": lambda size: _bmp(1_000_000, 50, 1, b"\0\2\0\xff" * 1_000),
    "lines.bmp": lambda size: _bmp(1_000_000, 50, 1, b"\1\1\0\0" * 1_000_000),
    "nothing_packed.bmp": lambda size: _bmp(7000, 7000, 1, _times(b"\0\2\0\0", size)),
    "plain_bits.pbm": lambda size: _ppm(size, b"P1"),
    "plain_grey.pgm": lambda size: _ppm(size, b"P2"),
    "plain_colour.ppm": lambda size: _ppm(size, b"P3"),
    "odd_white.ppm": lambda size: _ppm(size, b"P6", b"254"),
    "strips.tiff": _tiff_of_many_strips,
    "directories.tiff": _tiff_of_many_directories,
    "jpeg_of_many_scans.tiff": _tiff_with_a_jpeg_of_many_scans,
    "largest.tiff": lambda size: _encoded(7000, 7000, "TIFF", compression="tiff_lzw"),
    "largest.avif": lambda size: _noise(7000, 7000, "AVIF", quality=20, speed=10),
}

__all__ = ["LARGE", "WORST", "chunk", "gif_with", "jpeg", "jpeg_segment", "jpeg_with", "many_scans", "png_with"]
