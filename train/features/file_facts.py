"""What a picture's file says apart from what it shows: the facts by which a data set can give its classes away.

Stored in the feature bank beside the embeddings, so that the bias audit needs no picture again.
"""

import pyarrow as pa
from PIL import Image

from modeling.compression import jpeg_quality
from modeling.file_header import Header
from modeling.images import ImageError, open_image, read_bytes, read_header

from ..data.perceptual_hash import HASH_SIDE, perceptual_hash

FACTS = [
    pa.field("format", pa.string()),
    pa.field("width", pa.int64()),
    pa.field("height", pa.int64()),
    pa.field("file_bytes", pa.int64()),
    pa.field("jpeg_quality", pa.float64()),
    pa.field("metadata", pa.string()),
    pa.field("perceptual_hash", pa.string()),
]


def open_record(record: dict) -> tuple[Image.Image, dict]:
    """A record's picture and the facts of its file.

    Raises:
        ImageError: there is none, or it cannot be read.
    """
    image = record["image"]
    if image is None or (image["bytes"] is None and image["path"] is None):
        raise ImageError("The record holds no picture.")
    content = read_bytes(image["path"] if image["bytes"] is None else image["bytes"])
    picture = open_image(content)
    return picture, file_facts(content, picture)


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
        "jpeg_quality": jpeg_quality(header),
        "metadata": _metadata(header),
        "perceptual_hash": perceptual_hash(picture),
    }


def _metadata(header: Header) -> str:
    """Kinds of metadata in the header, joined by +."""
    kinds = {"exif": "exif", "icc_profile": "icc", "xmp": "xmp", "comment": "comment"}
    found = [short for name, short in kinds.items() if header.info.get(name)]
    # A PNG's text chunks before the pixels. Not `header.text`: that would decode every frame.
    if header.format == "PNG" and any(isinstance(value, str) for value in header.info.values()):
        found.append("text")
    return "+".join(found)


__all__ = ["FACTS", "HASH_SIDE", "file_facts", "open_record"]
