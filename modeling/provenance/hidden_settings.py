"""Settings that a generator hides in the lowest bits of the pixels ("stealth pnginfo"), and how they are found.

NovelAI does so by itself, Stable Diffusion web UI and ComfyUI with an extension. Bits are read down the columns, left
to right: of alpha, or of red, green and blue. A signature of 15 letters comes first, which chance does not write; then
the number of bits in 32 bits, then the text, plain or as gzip. Saving the picture with a loss destroys all of it.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from ..file_metadata import MAX_TEXT, decoded, inflated
from ..images import DAMAGE, read_header, undecoded

# Decoded a second time for this. Generators write one to four megapixels, and with an upscaler up to sixteen.
MAX_PIXELS = 17_000_000
FORMATS = ("PNG", "WEBP")
_HEADER = 15 + 4  # bytes
GZIP = 31  # of zlib: with the header of a gzip file


class _Way(NamedTuple):
    """How bits lie in a pixel: the mode that is needed, the bands, and the signatures of text and gzip."""

    modes: tuple[str, ...]
    bands: slice
    plain: bytes
    compressed: bytes


_WAYS = (
    _Way(("RGBA",), slice(3, 4), b"stealth_pnginfo", b"stealth_pngcomp"),
    _Way(("RGB", "RGBA"), slice(0, 3), b"stealth_rgbinfo", b"stealth_rgbcomp"),
)


def read_hidden_settings(data: bytes) -> str | None:
    """The hidden text of a picture's file, "" if it cannot be unpacked, `None` if none is hidden.

    Args:
        data: the whole file, as it was delivered.
    """
    header = read_header(data)
    if header.format not in FORMATS or header.width * header.height > MAX_PIXELS:
        return None
    image = undecoded(data)
    if image.mode not in ("RGB", "RGBA"):
        return None
    try:
        image.load()
    except DAMAGE:
        return None
    for way in _WAYS:
        if image.mode in way.modes and (start := _lowest_bits(image, way.bands, _HEADER))[:15] in way[2:]:
            size = min(int.from_bytes(start[15:]) // 8, MAX_TEXT)
            hidden = _lowest_bits(image, way.bands, _HEADER + size)[_HEADER:]
            return decoded(inflated(hidden, GZIP) if start[:15] == way.compressed else hidden)
    return None


def _lowest_bits(image: Image.Image, bands: slice, size: int) -> bytes:
    """The first `size` bytes of the bands' lowest bits, down the columns; fewer where the picture ends."""
    bits_of_column = image.height * (bands.stop - bands.start)
    columns = min(image.width, -(-8 * size // bits_of_column))
    strip = np.asarray(image.crop((0, 0, columns, image.height)))[:, :, bands]  # (H, columns, bands)
    bits = strip.transpose(1, 0, 2).reshape(-1)[: 8 * size] & 1
    return np.packbits(bits).tobytes()


__all__ = ["read_hidden_settings"]
