"""The corpus of the fuzz target for opening: small files of every format and of every way that its readers branch.

Run by hand, it writes the files, for other fuzzers: `python -m tests.modeling.opening_corpus FOLDER`.
"""

import io
import sys
from pathlib import Path

from PIL import Image, ImageCms, PngImagePlugin

SIZE = (56, 40)
# What readers look for, and what they fall over: they are put anywhere.
WORDS = [
    *(
        b"\xff\xd8\xff",
        b"\xff\xd9",
        b"\xff\xda",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xc4",
        b"\xff\xdb",
        b"\xff\xe1Exif\0\0",
    ),
    *(b"\xff\xed\0\x20Photoshop 3.0\x008BIM", b"ICC_PROFILE\0\1\1", b"\xff\xd0", b"\xff\0"),
    *(b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"eXIf"),
    *(b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"),
    *(b"GIF89a", b"!\xfe", b"!\xf9\4", b"!\xff\x0bNETSCAPE2.0", b",", b";"),
    *(b"BM", b"II*\0", b"MM\0*", b"II+\0", b"\x11\1", b"\x42\1", b"\x03\1\3\0\1\0\0\0"),
    *(b"ftyp", b"avif", b"heic", b"meta", b"iloc", b"ispe", b"grid", b"mdat", b"colr", b"irot"),
    *(b"P1\n", b"P3\n", b"P6\n", b"#", b"65535\n"),
]


def _picture(mode: str = "RGB") -> Image.Image:
    gradient = Image.linear_gradient("L").resize(SIZE)
    colours = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    return colours.convert("L").convert(mode) if mode in ("1", "I;16", "F") else colours.convert(mode)


def _encoded(codec: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    _picture(mode).save(buffer, codec, **options)
    return buffer.getvalue()


def _exif(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    return exif.tobytes()


def _png_texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "words", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", zip=True)
    return texts


def _frames(codec: str, mode: str = "RGB", **options: object) -> bytes:
    return _encoded(codec, mode, save_all=True, append_images=[_picture(mode).rotate(90), _picture(mode)], **options)


def _make() -> dict[str, bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    marked = {"exif": _exif(), "icc_profile": profile}
    tiff = {
        codec: _encoded("TIFF", compression=codec) for codec in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    }
    tiff |= {name: _encoded("TIFF", compression=name) for name in ("jpeg", "lzma", "zstd")}
    return {
        "baseline.jpg": _encoded("JPEG", quality=60, comment=b"words", **marked),
        "progressive.jpg": _encoded("JPEG", progressive=True, subsampling=0),
        "grey.jpg": _encoded("JPEG", "L", restart_marker_blocks=2),
        "inks.jpg": _encoded("JPEG", "CMYK"),
        "colours.png": _encoded("PNG", pnginfo=_png_texts(), **marked),
        "alpha.png": _encoded("PNG", "RGBA"),
        "palette.png": _encoded("PNG", "P", transparency=3, bits=4),
        "deep.png": _encoded("PNG", "I;16"),
        "bits.png": _encoded("PNG", "1"),
        "frames.png": _frames("PNG"),
        "lossy.webp": _encoded("WEBP", quality=50, **marked),
        "lossless.webp": _encoded("WEBP", "RGBA", lossless=True),
        "frames.webp": _frames("WEBP"),
        "still.gif": _encoded("GIF", "P", transparency=1, comment=b"words"),
        "frames.gif": _frames("GIF", "P"),
        "colours.bmp": _encoded("BMP"),
        "palette.bmp": _encoded("BMP", "P"),
        **{f"{name}.tiff": data for name, data in tiff.items()},
        "float.tiff": _encoded("TIFF", "F"),
        "inks.tiff": _encoded("TIFF", "CMYK"),
        "big.tiff": _encoded("TIFF", big_tiff=True, **marked),
        "pages.tiff": _frames("TIFF"),
        "colours.avif": _encoded("AVIF", quality=40, speed=10, **marked),
        "alpha.avif": _encoded("AVIF", "RGBA", speed=10),
        "frames.avif": _frames("AVIF", speed=10),
        "colours.ppm": _encoded("PPM"),
        "plain.ppm": b"P3\n# words\n40 40\n200\n" + b"1 200 30 " * 1600,
        "odd.ppm": b"P6 40 40 300\n" + bytes(range(200)) * 48,
    }


CORPUS = _make()

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in CORPUS.items():
        (folder / name).write_bytes(data)

__all__ = ["CORPUS", "WORDS"]
