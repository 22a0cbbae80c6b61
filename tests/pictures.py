"""Small pictures made here."""

import io

import numpy as np
from PIL import Image


def picture(seed=0, label=0):
    """A PNG file of noise; generated pictures are greener."""
    pixels = np.random.default_rng(seed).integers(0, 180, size=(40, 48, 3), dtype=np.uint8)
    pixels[..., 1] += 70 * label
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(width=40, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
