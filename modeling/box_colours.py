"""The colours that an AVIF or HEIC declares by numbers (nclx), and its brightest light: of the main picture only.

Pillow and pillow-heif decode to RGB and say nothing of AVIF's nclx. The file's boxes are followed by their lengths.
"""

import struct
from collections.abc import Iterator
from typing import Any

MAX_BOXES = 10_000  # of one kind of place; a grid of 50 megapixels has a few hundred properties


def box_colours(data: bytes) -> dict[str, Any]:
    """What the main picture declares.

    Returns:
        "cicp" (primaries and transfer by ITU-T H.273) and "max_light" (nits), as far as they are there; empty for a
        file that is broken.
    """
    try:
        properties = list(_main_properties(data))
    except (struct.error, IndexError):
        return {}
    colours: dict[str, Any] = {}
    for kind, body in properties:
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            colours["cicp"] = struct.unpack_from(">HH", body, 4)
        elif kind == b"clli" and len(body) >= 2 and any(body[:2]):
            colours["max_light"] = struct.unpack_from(">H", body)[0]
    return colours


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the contents of the boxes in a stretch of bytes."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            (size,), header = struct.unpack_from(">Q", data, start + 8), 16
        size = size or end - start
        if size < header or start + size > end:
            return
        yield kind, start + header, start + size
        start += size


def _main_properties(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and contents of the properties of the file's primary item."""
    meta = next(((start, end) for kind, start, end in _boxes(data, 0, len(data)) if kind == b"meta"), None)
    if meta is None:
        return
    inside = {kind: (start, end) for kind, start, end in _boxes(data, meta[0] + 4, meta[1])}
    if b"pitm" not in inside or b"iprp" not in inside:
        return
    start = inside[b"pitm"][0]
    (main,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)
    properties: list[tuple[bytes, int, int]] = []
    wanted: list[int] = []
    for kind, start, end in _boxes(data, *inside[b"iprp"]):
        if kind == b"ipco":
            properties = list(_boxes(data, start, end))
        elif kind == b"ipma":
            wanted += _associations(data, start, end, main)
    for number in wanted:
        if 0 < number <= len(properties):
            kind, start, end = properties[number - 1]
            yield kind, data[start:end]


def _associations(data: bytes, start: int, end: int, item: int) -> list[int]:
    """Numbers of the properties of an item, from 1, by an "ipma" box."""
    version, is_long = data[start], data[start + 3] & 1
    (count,) = struct.unpack_from(">I", data, start + 4)
    position = start + 8
    for _ in range(min(count, MAX_BOXES)):
        if position >= end:
            break
        (name,) = struct.unpack_from(">I" if version else ">H", data, position)
        position += 4 if version else 2
        length, position = data[position], position + 1
        if name == item:
            numbers = struct.unpack_from(f">{length}{'H' if is_long else 'B'}", data, position)
            return [number & (0x7FFF if is_long else 0x7F) for number in numbers]
        position += length * (2 if is_long else 1)
    return []


__all__ = ["box_colours"]
