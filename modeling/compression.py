"""How strongly a file was compressed, as its header tells."""

import io
from functools import cache

import numpy as np
from PIL import Image

from .file_header import Header


def jpeg_quality(header: Header) -> float | None:
    """Quality of libjpeg that comes closest to the file's luminance table; other encoders have scales of their own.

    Args:
        header: from `modeling.images.read_header`.

    Returns:
        1 to 100, `None` for a file without such tables.
    """
    tables = header.quantization
    if not tables:
        return None
    scale = 100 * float(np.mean(np.asarray(tables[min(tables)]) / _standard_table()))
    return round(min(100.0, max(1.0, 100 - scale / 2 if scale <= 100 else 5000 / scale)))


@cache
def _standard_table() -> np.ndarray:
    """(64,) luminance table of the JPEG standard (Annex K.1), which libjpeg uses as it is at quality 50."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=50)
    with Image.open(buffer) as image:
        return np.asarray(image.quantization[0])  # type: ignore[attr-defined]


__all__ = ["jpeg_quality"]
