"""Small pictures made here."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed=0, label=0):
    """A PNG file of noise; generated pictures are greener."""
    pixels = np.random.default_rng(seed).integers(0, 180, size=(40, 48, 3), dtype=np.uint8)
    pixels[..., 1] += 70 * label
    return encoded(Image.fromarray(pixels))


def noise(width=40, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture, codec="PNG", **options):
    """A picture's file, as Pillow writes it with these options."""
    buffer = io.BytesIO()
    picture.save(buffer, codec, **options)
    return buffer.getvalue()


def chunk(name, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
