"""The one pipeline that every picture of the development set goes through, so that files do not tell the classes.

Upright by its EXIF orientation, colours converted to sRGB, metadata dropped, a strip cut from every edge (marks of
generators and borders of scans), shrunk but never enlarged, and saved as a JPEG.
"""

import io
from dataclasses import dataclass

from PIL import Image

from modeling.images import open_image

CUT = 0.04  # of width and height, from each edge


@dataclass(frozen=True)
class Encoding:
    """The largest sides in pixels, and the JPEG's quality."""

    short_side: int
    long_side: int
    quality: int


STORED = Encoding(336, 672, 86)
# The pictures of the earlier set had been stored so when the limits became those above, and were stored again.
EARLIER = {"first": Encoding(400, 800, 88)}
SUBSAMPLING = "4:2:0"


def stored_picture(content: bytes, part: str = "") -> bytes:
    """A picture's file as the set stores it.

    Args:
        content: the file as its source published it.
        part: the part of the set that it belongs to.

    Raises:
        ImageError: it is no picture, or one that `open_image` refuses.
    """
    picture = _cut(open_image(content))
    if earlier := EARLIER.get(part):
        picture = open_image(_jpeg(picture, earlier))
    return _jpeg(picture, STORED)


def _cut(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    left, top = round(CUT * width), round(CUT * height)
    return picture.crop((left, top, width - left, height - top))


def _jpeg(picture: Image.Image, encoding: Encoding) -> bytes:
    width, height = picture.size
    scale = min(1.0, encoding.short_side / min(width, height), encoding.long_side / max(width, height))
    if scale < 1:
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.info.clear()  # Pillow would write comment, EXIF and profile again
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=encoding.quality, subsampling=SUBSAMPLING)
    return buffer.getvalue()


__all__ = ["CUT", "EARLIER", "STORED", "SUBSAMPLING", "Encoding", "stored_picture"]
