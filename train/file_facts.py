"""What a picture's file says apart from what it shows: the facts by which a data set can give its classes away.

Stored in the feature bank beside the embeddings, so that the bias audit needs no picture again.
"""

import io
from functools import cache

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from modeling.images import read_header

# bits of the perceptual hash: a square of low frequencies of the picture's brightness
HASH_SIDE = 16
FACTS = [
    pa.field("format", pa.string()),
    pa.field("width", pa.int64()),
    pa.field("height", pa.int64()),
    pa.field("file_bytes", pa.int64()),
    pa.field("jpeg_quality", pa.float64()),
    pa.field("metadata", pa.string()),
    pa.field("perceptual_hash", pa.string()),
]


def file_facts(content: bytes, picture: Image.Image) -> dict:
    """Facts of one file.

    Args:
        content: the file's bytes.
        picture: the same, opened.

    Returns:
        format ("JPEG", "PNG", ...), width and height in pixels as stored, file_bytes, jpeg_quality (1 to 100, `None`
        for other formats), metadata (which kinds the file holds, such as "exif+icc", or ""), and perceptual_hash (256
        bits in hexadecimal, nearly equal for two deliveries of one picture).

    Raises:
        ImageError: it is no picture.
    """
    header = read_header(content)
    return {
        "format": header.format,
        "width": header.width,
        "height": header.height,
        "file_bytes": len(content),
        "jpeg_quality": _jpeg_quality(header),
        "metadata": _metadata(header),
        "perceptual_hash": str(imagehash.phash(picture, hash_size=HASH_SIDE)),
    }


def _jpeg_quality(header: ImageFile.ImageFile) -> float | None:
    """Quality of libjpeg that comes closest to the file's luminance table; other encoders have scales of their own."""
    tables = getattr(header, "quantization", None)
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


def _metadata(header: ImageFile.ImageFile) -> str:
    """Kinds of metadata in the header, joined by +."""
    kinds = {"exif": "exif", "icc_profile": "icc", "xmp": "xmp", "comment": "comment"}
    found = [short for name, short in kinds.items() if header.info.get(name)]
    # A PNG's text chunks before the pixels. Not `header.text`: that would decode every frame.
    if header.format == "PNG" and any(isinstance(value, str) for value in header.info.values()):
        found.append("text")
    return "+".join(found)


__all__ = ["FACTS", "HASH_SIDE", "file_facts"]
