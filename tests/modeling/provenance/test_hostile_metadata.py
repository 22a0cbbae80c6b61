"""Hostile and damaged metadata: nothing but `ImageError` is raised, and memory stays small."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from modeling.provenance.reading import read_provenance
from tests.modeling.provenance.marked_files import (
    CAMERA,
    COMFY,
    DESCRIPTION,
    EXIF_DIRECTORY,
    GPS,
    SETTINGS,
    USER_COMMENT,
    WEBUI,
    WITH_EXIF,
    behind_the_pixels,
    chunk,
    encoded,
    found,
    provenance_of,
    xmp_option,
    xmp_packet,
)


def cost(data):
    """Bytes that reading takes, the picture's own header apart."""
    tracemalloc.start()
    read_provenance(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def exif_bomb():
    """Nine hundred entries that all name the same half megabyte."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 500_000, 12_000) for tag in range(1, 901))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 900) + entries + bytes(4) + bytes(520_000)


def own_directory_for_ever():
    """A directory whose inner directories are itself."""
    entries = struct.pack("<HHII", EXIF_DIRECTORY, 4, 1, 8) + struct.pack("<HHII", GPS, 4, 1, 8)
    return b"II*\0\x08\0\0\0\x02\0" + entries + bytes(4)


def with_long_xmp(packet):
    return behind_the_pixels(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet.encode()))


BOMB = zlib.compress(bytes(100 * 2**20), 9)
HOSTILE = {
    "zTXt bombs": behind_the_pixels(*[chunk(b"zTXt", b"Comment%d\0\0" % n + BOMB) for n in range(70)]),
    "iTXt bomb": behind_the_pixels(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB)),
    "broken zTXt": behind_the_pixels(
        chunk(b"zTXt", b"parameters\0\0nothing"), chunk(b"iTXt", b"a\0"), chunk(b"tEXt", b"")
    ),
    "many chunks": behind_the_pixels(chunk(b"tEXt", b"") * 90_000),
    "many entries": behind_the_pixels(chunk(b"eXIf", exif_bomb())),
    "circular directory": behind_the_pixels(chunk(b"eXIf", own_directory_for_ever())),
    "deep XML": with_long_xmp("<x:Credit><a:b>" * 65_000),
    "entities": with_long_xmp("<!ENTITY lol '&lol;&lol;'> x:Credit=\"&lol;" + "&amp;lt;" * 100_000 + '"'),
    "unclosed values": with_long_xmp(":Credit=\"'" + "<x:Credit " * 90_000),
    "unclosed elements": with_long_xmp("<x:Credit><rdf:" * 60_000),
    "many spaces": with_long_xmp(" DigitalSourceType" + " " * 900_000),
    "many equals": with_long_xmp(" CreatorTool =" * 70_000),
    "deep JSON": behind_the_pixels(
        *[chunk(b"tEXt", name + b"\0" + b"[" * 10**6) for name in (b"prompt", b"workflow")]
    ),
    "many settings": behind_the_pixels(chunk(b"tEXt", b"parameters\0" + b"Steps: 1, " * 100_000)),
    "many keys": behind_the_pixels(chunk(b"tEXt", b'prompt\0"class_type"' + b'"ckpt_name" : ' * 70_000)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_metadata_costs_little_time_and_memory(data):
    # Reading that grew with the square of the size would take minutes here.
    peak = cost(data)
    # A text is read as bytes and as up to four bytes a character; 64 texts of one MB may be kept.
    assert peak < len(data) + 160 * 2**20


def rich(codec):
    """Something in every field."""
    exif = Image.Exif()
    exif.update({**CAMERA, DESCRIPTION: "Job ID: 0f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f"})
    exif.get_ifd(EXIF_DIRECTORY).update(SETTINGS | {USER_COMMENT: b"ASCII\0\0\0" + WEBUI.encode()})
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 29.5)})
    packet = xmp_packet('x:DigitalSourceType="digitalCapture" xmp:CreatorTool="Draw Things" photoshop:Credit="x"')
    options = xmp_option(codec, packet) if codec != "TIFF" else {}
    if codec == "TIFF":  # Pillow takes the one or the other
        exif[700] = packet
    if codec == "PNG":
        options["pnginfo"].add_text("prompt", COMFY)
        options["pnginfo"].add_text("Comment", WEBUI, zip=True)
    return encoded(codec, exif=exif.tobytes(), **options)


# Mutated metadata makes Pillow warn; that is not what these tests are about.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("codec", WITH_EXIF)
def test_truncated_file_raises_nothing(codec):
    data = rich(codec)
    assert len(found(data)) >= 3
    lengths = np.unique(np.linspace(12, len(data) - 1, 300).astype(int))
    read = sum(provenance_of(data[:length]) is not None for length in lengths)
    assert read > 0 or codec == "WEBP"  # whose reader wants the whole file


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("codec", WITH_EXIF)
def test_flipped_bytes_raise_nothing(codec):
    data = rich(codec)
    rng = np.random.default_rng(11)
    read = 0
    for _ in range(400):
        damaged = bytearray(data)
        for place in rng.integers(12, len(data), size=int(rng.choice([1, 3, 30]))):
            damaged[place] = int(rng.choice([0, 255, rng.integers(256)]))
        read += provenance_of(bytes(damaged)) is not None
    assert read > 0


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_flipped_bytes_in_exif_alone_raise_nothing():
    data = rich("JPEG")
    exif = Image.open(io.BytesIO(data)).info["exif"]
    rng = np.random.default_rng(5)
    for _ in range(500):
        damaged = bytearray(exif)
        for place in rng.integers(6, len(exif), size=4):
            damaged[place] = int(rng.choice([0, 255, rng.integers(256)]))
        assert provenance_of(behind_the_pixels(chunk(b"eXIf", bytes(damaged[6:]))))
