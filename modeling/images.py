"""One safe way to open a picture: a path, bytes, a file object or a PIL image in, an RGB image or a clear error out.

The app, the detector, training and evaluation all start here, so that one picture has one score everywhere. Limits
are checked on the header, before any pixel is decoded. The file's first bytes choose the reader, and Pillow's reader
classes are called directly instead of `Image.open`: only readers of photograph formats are ever reached (never EPS,
for which Pillow starts Ghostscript), and our own pixel limit acts instead of Pillow's process-wide one. What a JPEG,
PNG, GIF or WebP can cost is bounded by its header (`file_structure`), so they are opened here if they are not very
large; all others are opened in a process that can be ended (`opening_process`).
"""

import io
import logging
import os
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from . import opening_process
from .colour_robust_clip import EXIF_ORIENTATION, UPRIGHT, to_rgb
from .file_header import Header, unpack
from .file_readers import MAX_MISSING, READERS, JpegFile, PngFile, missing_rows, without_filling
from .file_structure import TooManyPartsError, check_gif, check_jpeg, check_png, check_webp
from .main_image import TIFF, MainImage, NoPreviewError, main_image
from .sentences import sentence

logger = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
MAX_BYTES = 50 * 2**20
MIN_SIDE = 32
# What `info` of an opened picture says of its file: it ends too early; it is a camera's raw file, seen by its preview.
NOTES = ("incomplete", "preview")
# What Pillow's readers raise on damaged data: OSError and EOFError for truncation,
# SyntaxError for broken PNG chunks, ValueError, struct.error and zlib.error for impossible fields, LookupError and
# TypeError from TIFF and EXIF directories, OverflowError and MemoryError for absurd sizes, RuntimeError from the
# AVIF decoder; the bomb classes from a GIF frame beyond its screen or a TIFF tile.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Pillow warns about damaged metadata of good pictures, which does not concern their pixels. One lasting filter, since
# Python's scoped ones are not safe between threads; Pillow's other warnings, such as deprecations, still show.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


# Bytes of one value of a TIFF or EXIF field, by its type; BigTIFF has three more types.
FIELD_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
BIG_FIELD_SIZES = FIELD_SIZES | {16: 8, 17: 8, 18: 8}


# What bounds the cost of the readers that are called in this process.
CHECKS = {JpegFile: check_jpeg, PngFile: check_png, GifImageFile: check_gif, WebPImageFile: check_webp}
# Larger pictures take long enough that the way to another process and back does not count.
MAX_PIXELS_HERE = 16_000_000
# Headers of files that the other process opened, by length and hash: one answer asks for them several times.
_headers: dict[tuple[int, int], Header] = {}
MAX_HEADERS = 16


class ImageError(ValueError):
    """A picture cannot be used. The message, in English, is for the person who gave it.

    Args:
        message: what is wrong and what to do.
        code: of the message in the topic "image" of `modeling.sentences`; "" for one that stands nowhere else.
        values: what the sentence's fields stand for.
    """

    def __init__(self, message: str, code: str = "", **values: Any) -> None:
        super().__init__(message)
        self.code, self.values = code, values

    @classmethod
    def of(cls, code: str, **values: Any) -> "ImageError":
        """The error with the sentence of a code."""
        return cls(sentence("image", code, **values), code, **values)

    def sentence(self, language: str = "en") -> str:
        """The message in one of `modeling.sentences.LANGUAGES`."""
        return sentence("image", self.code, language, **self.values) if self.code else str(self)


def open_image(source: str | os.PathLike | bytes | IO[bytes] | Image.Image) -> Image.Image:
    """Open a picture safely.

    Args:
        source: a local file, its bytes, a binary file object, or a PIL image. Of an animation or a document with
            several pages the first is taken.

    Returns:
        An RGB image, upright, transparent parts on white, 16 bits scaled to 8.

    Raises:
        ImageError: it is no picture, it is damaged, too large (over 50 megapixels or 50 MB) or too small (a side
            under 32 pixels), or a format that cannot be read.
        TypeError: `source` is of another type.
    """
    if isinstance(source, Image.Image):
        _check_size(source)
        return _decode(source)
    data = read_bytes(source)
    if _is_bounded(data):
        image = undecoded(data)
        if image.width * image.height <= MAX_PIXELS_HERE:
            return _decode(image)
    return _open_there(data)


def read_header(source: str | os.PathLike | bytes | IO[bytes]) -> Header:
    """Format, size and metadata of a picture; no pixel is decoded.

    Args:
        source: as for `open_image`, but no PIL image.

    Raises:
        ImageError: as `open_image` for what the header tells.
        TypeError: `source` is of another type.
    """
    data = read_bytes(source)
    if _is_bounded(data):
        return header_here(data)
    key = len(data), hash(data)
    return _headers.get(key) or _ask("header", data)[0]


def open_here(data: bytes) -> Image.Image:
    """`open_image` of a file's bytes in this process, whatever it costs."""
    return _decode(undecoded(data))


def header_here(data: bytes) -> Header:
    """`read_header` of a file's bytes in this process, whatever it costs."""
    return Header.of(undecoded(data), DAMAGE)


def undecoded(data: bytes) -> ImageFile.ImageFile:
    """Pillow's own image of a file's bytes, not decoded yet, for files of known origin.

    Raises:
        ImageError: as `read_header`.
    """
    image = _parse_header(data)
    _check_size(image)
    return image


def _open_there(data: bytes) -> Image.Image:
    _, answer, pixels = _ask("open", data)
    picture = Image.frombytes("RGB", tuple(answer["size"]), pixels)
    picture.info.update(unpack(answer["info"]))
    return picture


def _ask(task: str, data: bytes) -> tuple[Header, dict[str, Any], bytearray]:
    """Have the other process read a file; its header is kept for a while."""
    try:
        answer, pixels = opening_process.ask(task, data)
    except opening_process.WorkerEndedError as error:
        logger.warning("A file of %d bytes was given up: %s", len(data), error)
        raise ImageError.of("too_slow" if error.too_slow else "damaged") from error
    if "error" in answer:
        raise ImageError(answer["message"], answer["error"], **answer["values"])
    header = Header.unpacked(answer["header"])
    if len(_headers) >= MAX_HEADERS:
        _headers.clear()
    _headers[len(data), hash(data)] = header
    return header, answer, pixels


def read_bytes(source: str | os.PathLike | bytes | IO[bytes]) -> bytes:
    """All bytes of a local file, of bytes or of a binary file object, never more than 50 MB.

    Raises:
        ImageError: there is no such file, it is empty or too large.
        TypeError: `source` is of another type.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        if re.match(r"[a-z][a-z0-9+.-]*://|data:", str(source), re.IGNORECASE):
            raise ImageError.of("web_address")
        path = Path(source)
        try:
            if path.is_dir():
                raise ImageError.of("folder")
            if not path.is_file():  # nothing there, or a device or pipe that could keep us waiting for ever
                raise ImageError.of("missing")
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ImageError.of("closed") from error
    elif hasattr(source, "read"):
        if source.seekable():
            source.seek(0)
        data = source.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise TypeError(f"`source` must be opened in binary mode, its read() returned {type(data).__name__}.")
    else:
        raise TypeError(f"`source` must be a path, bytes, a binary file or a PIL image, got {type(source).__name__}.")
    if not data:
        raise ImageError.of("empty")
    if len(data) > MAX_BYTES:
        raise ImageError.of("too_large", megabytes=MAX_BYTES // 2**20)
    return data


def _reader_of(data: bytes) -> type[ImageFile.ImageFile] | None:
    return next((reader for signature, reader in READERS if signature.match(data)), None)


def _is_bounded(data: bytes) -> bool:
    """Whether the header bounds what it costs to open a file, or nothing opens it at all."""
    reader = _reader_of(data)
    return reader is None or reader in CHECKS


def _parse_header(data: bytes) -> ImageFile.ImageFile:
    """Let the reader that the first bytes name parse the header."""
    reader = _reader_of(data)
    main = MainImage(data)
    if reader is TiffImageFile:
        main = _main_image(data)
        reader = _reader_of(main.data)
    if reader is None:
        raise ImageError.of(_why_unreadable(data))
    if reader is TiffImageFile and _fields_overlap(main.data):
        raise ImageError.of("damaged")
    try:
        if reader in CHECKS:
            CHECKS[reader](main.data)
        image = reader(io.BytesIO(main.data), "")
    except TooManyPartsError as error:
        raise ImageError.of("too_many_parts") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError.of("too_many_pixels", megapixels=MAX_PIXELS // 10**6) from error
    except DAMAGE as error:
        raise ImageError.of("damaged") from error
    if main.is_preview:
        _mark_preview(image, main, is_tiff=bool(TIFF.match(data)))
    return image


def _main_image(data: bytes) -> MainImage:
    try:
        return main_image(data)
    except NoPreviewError as error:
        raise ImageError.of("no_preview") from error


def _mark_preview(image: ImageFile.ImageFile, main: MainImage, is_tiff: bool) -> None:
    """The file is a raw one: its own format, and its own orientation where the preview says nothing."""
    image.info["preview"] = True
    if is_tiff:
        image.format = "TIFF"
    if "exif" not in image.info and main.orientation in UPRIGHT:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = main.orientation
        image.info["exif"] = exif.tobytes()


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError.of("too_many_pixels", megapixels=MAX_PIXELS // 10**6)
    if min(width, height) < MIN_SIDE:
        raise ImageError.of("too_small", width=width, height=height, side=MIN_SIDE)


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except DAMAGE as error:
        raise ImageError.of("damaged") from error
    notes = [name for name in NOTES if image.info.get(name) is True]
    if "incomplete" in notes and (missing := missing_rows(image)):
        if missing > MAX_MISSING * image.height:
            raise ImageError.of("damaged")
        image = without_filling(image, missing)
    _drop_overlapping_exif(image.info)
    picture = to_rgb(image)
    for name in notes:
        picture.info[name] = True
    return picture


def _drop_overlapping_exif(info: dict) -> None:
    """Take away EXIF that would cost much; then nothing in it is applied."""
    block = info.get("exif")
    if isinstance(block, bytes) and _is_costly(block.removeprefix(b"Exif\0\0")):
        del info["exif"]
    text = info.get("Raw profile type exif")  # in a PNG, as hexadecimal digits after three lines
    if isinstance(text, str):
        try:
            block = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            return
        if _is_costly(block.removeprefix(b"Exif\0\0")):
            del info["Raw profile type exif"]


def _is_costly(exif: bytes) -> bool:
    """Whether EXIF asks for much memory, or is a BigTIFF, which none is: that may hold millions of fields."""
    return exif[2:4] in (b"+\0", b"\0+") or _fields_overlap(exif)


def _fields_overlap(data: bytes) -> bool:
    """Whether the fields of a TIFF's or EXIF's first directory are larger together than all of its bytes.

    Pillow copies each field on its own, so that many fields over the same bytes make a small file ask for gigabytes.
    Fields of an honest file do not lie over each other.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    try:
        if is_big:
            (start,) = struct.unpack_from(order + "Q", data, 8)
            (count,), entries = struct.unpack_from(order + "Q", data, start), start + 8
        else:
            (start,) = struct.unpack_from(order + "I", data, 4)
            (count,), entries = struct.unpack_from(order + "H", data, start), start + 2
    except (struct.error, OverflowError):
        return False  # no directory: the reader says what is wrong
    size, entry = (20, order + "HHQQ") if is_big else (12, order + "HHII")
    total = 0
    for position in range(entries, min(entries + size * count, len(data) - size + 1), size):
        _, kind, length, offset = struct.unpack_from(entry, data, position)
        total += max(0, min(length * BIG_FIELD_SIZES.get(kind, 0), len(data) - offset))
        if total > 2 * len(data):
            return True
    return False


def _why_unreadable(data: bytes) -> str:
    """The code for data in which no reader recognised a picture."""
    start = data[:512].lstrip()
    if b"<svg" in data[:4096].lower():
        return "svg"
    return "web_page" if start[:5].lower() in (b"<html", b"<!doc") else "unknown"


__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "ImageError",
    "header_here",
    "open_here",
    "open_image",
    "read_bytes",
    "read_header",
    "undecoded",
]
