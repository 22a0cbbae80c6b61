"""Pillow's readers of photograph formats, with what they leave out: colours of newer kinds, and files that end early.

A JPEG or PNG whose last part is missing is shown as browsers show it, up to a tenth of its rows, which are white;
`info["incomplete"]` says so. Pillow has a switch for that, which would change every picture of the process.
"""

import io
import re
import struct
from itertools import takewhile
from typing import Any

import numpy as np
from pi_heif import HeifImageFile
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .box_colours import box_colours
from .file_structure import png_chunks
from .main_image import RAW

VIDEO_CURVES = {1, 6, 14, 15}
MAX_MISSING = 0.1  # of the rows
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
# Of `Image.info`, where Pillow also puts a PNG's texts by their keywords.
_OWN_NAMES = {
    *(b"transparency", b"icc_profile", b"gamma", b"chromaticity", b"srgb", b"cicp", b"max_light", b"nclx_profile"),
    *(b"interlace", b"default_image", b"bbox", b"blend", b"disposal", b"duration", b"loop", b"dpi", b"aspect"),
    *(b"exif", b"xmp", b"incomplete", b"preview"),
}
# A reader fills in what is missing: a JPEG's in the middle of the range, a PNG's with zeros.
FILLED = {"JPEG": (127, 128), "PNG": (0, 0)}
WHITE: dict[str, float | tuple[float, ...]] = {
    "1": 255,
    "L": 255,
    "RGB": (255, 255, 255),
    "CMYK": (0, 0, 0, 0),
    "I;16": 65535,
}


class JpegFile(JpegImageFile):
    """Pillow 12 reads the EXIF already when it opens a JPEG, for a resolution that nobody here needs."""

    def _read_dpi_from_exif(self) -> None:
        """Leave the EXIF alone: see `images._fields_overlap`."""

    def load_read(self, read_bytes: int) -> bytes:
        """The next bytes; after the last ones the end of the picture, once, where the file lacks it."""
        assert self.fp is not None
        data = self.fp.read(read_bytes)
        if data or "incomplete" in self.info:
            return data
        self.info["incomplete"] = True
        return b"\xff\xd9"


class PngFile(PngImageFile):
    """A PNG with its cICP chunk (and the brightest light of cLLI), whose texts are only texts."""

    def _open(self) -> None:
        assert self.fp is not None
        self.fp = io.BytesIO(_without_disguises(self.fp.read()))
        start = self.fp.read(2**16)  # they stand before the pixels, and after few others
        self.fp.seek(0)
        super()._open()
        chunks = _first_chunks(start)
        if len(chunks.get(b"cICP", b"")) == 4:
            self.info["cicp"] = tuple(chunks[b"cICP"][:2])
        if len(chunks.get(b"cLLI", b"")) == 8:
            self.info["max_light"] = struct.unpack(">I", chunks[b"cLLI"][:4])[0] / 10_000

    def load(self) -> Any:
        """Decode; what was read of rows in their order stays where the file ends too early."""
        try:
            return super().load()
        except OSError as error:
            if "truncated" not in str(error).lower() or self._im is None or self.info.get("interlace"):
                raise
        self.info["incomplete"] = True
        self.tile = []
        return super().load()


class AvifFile(AvifImageFile):
    """An AVIF with its nclx colours."""

    def _open(self) -> None:
        super()._open()
        _add_box_colours(self)


class HeifFile(HeifImageFile):
    """A HEIC or HEIF with its nclx colours and the brightest light."""

    def _open(self) -> None:
        super()._open()
        _add_box_colours(self)


def _add_box_colours(image: ImageFile.ImageFile) -> None:
    """As in a browser, a profile counts before nclx."""
    if isinstance(image.fp, io.BytesIO) and "icc_profile" not in image.info:
        for name, value in box_colours(image.fp.getvalue()).items():
            if name == "cicp" and value[1] in VIDEO_CURVES:  # browsers show these as sRGB, unlike in a PNG
                value = value[0], 13
            image.info[name] = value


def _without_disguises(data: bytes) -> bytes:
    """A PNG without the texts that Pillow would take for what it reads itself: a transparency, a profile."""
    kept, copied = [], 0
    for name, start, length in png_chunks(data):
        if name in _TEXTS and data[start : start + 80].partition(b"\0")[0] in _OWN_NAMES:
            kept.append(data[copied : start - 8])
            copied = start + length + 4
    return b"".join([*kept, data[copied:]]) if copied else data


def _first_chunks(data: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks before its pixels, by name."""
    before = takewhile(lambda chunk: chunk[0] != b"IDAT", png_chunks(data))
    return {name: data[start : start + length] for name, start, length in before}


def missing_rows(image: Image.Image) -> int:
    """How many rows at the bottom a decoded file that ends too early lacks: those that its reader filled in."""
    if image.format not in FILLED:
        return 0
    low, high = FILLED[image.format]
    pixels = np.asarray(image)
    rows = pixels.reshape(pixels.shape[0], -1)
    seen = np.flatnonzero(((rows < low) | (rows > high)).any(axis=1))
    return len(rows) - (int(seen[-1]) + 1 if len(seen) else 0)


def without_filling(image: Image.Image, rows: int) -> Image.Image:
    """The picture with its lowest rows white, as a browser's page shows what it does not paint."""
    if image.mode in ("RGBA", "LA"):  # filled in with zeros: transparent, and white already
        return image
    info = image.info
    picture = image.copy() if image.mode in WHITE else image.convert("RGBA" if "transparency" in info else "RGB")
    picture.info = dict(info)
    white = WHITE.get(picture.mode, (255,) * 4)
    picture.paste(white, (0, image.height - rows, image.width, image.height))
    return picture


# The first bytes decide which reader a file meets; its name plays no part. An MPO starts with its main picture as a
# plain JPEG. "mif1" and "msf1" may be HEIC or AVIF: the list after it tells. A raw container is no TIFF, but what
# `main_image` makes of one may be.
READERS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), JpegFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), TiffImageFile),
    (RAW, TiffImageFile),
    (re.compile(rb"....ftyp.{0,56}?(hei[cxms]|hev[cxms])", re.DOTALL), HeifFile),
    (re.compile(rb"....ftyp(avif|avis|mif1|msf1)", re.DOTALL), AvifFile),
    (re.compile(rb"P[1-6]\s"), PpmImageFile),
)

__all__ = ["MAX_MISSING", "READERS", "JpegFile", "PngFile", "missing_rows", "without_filling"]
