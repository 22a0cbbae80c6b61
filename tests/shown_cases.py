"""A folder of files of every way to declare colours, made here from one photograph of `examples/`."""

import struct
import zlib

import numpy as np
from PIL import Image

from modeling.embedded import ROOT
from tests import colour_profiles
from tests.pictures import chunk, encoded

SIZE = (320, 240)


def photograph():
    """Colours of a photograph, and beside it a wheel of saturated ones."""
    with Image.open(ROOT / "examples" / "china.jpg") as image:
        picture = image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    picture.info = {}
    x, y = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, 40))
    wheel = np.stack([0.5 - 0.5 * np.cos(6.28 * (x + shift)) for shift in (0, 1 / 3, 2 / 3)], -1) * (1 - y[..., None])
    picture.paste(Image.fromarray(np.rint(255 * wheel).astype(np.uint8)), (0, 200))
    return picture


def png(picture, *chunks):
    data = encoded(picture, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def avif(picture, primaries, transfer):
    data = encoded(picture, "AVIF", quality=90, subsampling="4:4:4")
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def shown_by_browsers():
    """Name to bytes: what Chromium shows, too."""
    picture = photograph()
    grey, inks = picture.convert("L"), picture.convert("CMYK")
    jpeg, webp = {"quality": 92, "subsampling": 0}, {"lossless": True}
    files = {"no declaration.jpg": encoded(picture, "JPEG", **jpeg)}
    for name in ("srgb", "p3", "adobe_rgb", "prophoto"):
        profile = {"icc_profile": colour_profiles.matrix_profile(name)}
        files[f"{name} profile.jpg"] = encoded(picture, "JPEG", **jpeg, **profile)
        files[f"{name} profile.png"] = encoded(picture, "PNG", **profile)
        files[f"{name} profile.webp"] = encoded(picture, "WEBP", **webp, **profile)
        files[f"{name} profile.avif"] = encoded(picture, "AVIF", quality=90, subsampling="4:4:4", **profile)
    p3 = {"icc_profile": colour_profiles.matrix_profile("p3")}
    translucent = picture.copy()
    translucent.putalpha(grey)
    files["p3 profile, translucent.png"] = encoded(translucent, "PNG", **p3)
    files["p3 profile, translucent.webp"] = encoded(translucent, "WEBP", **webp, **p3)
    files["p3 profile, palette.png"] = encoded(picture.quantize(200), "PNG", **p3)
    files["grey, grey profile.png"] = encoded(grey, "PNG", icc_profile=colour_profiles.grey_profile())
    files["grey, grey profile.jpg"] = encoded(grey, "JPEG", quality=92, icc_profile=colour_profiles.grey_profile())
    files["grey, p3 profile.jpg"] = encoded(grey, "JPEG", quality=92, **p3)
    files["grey, p3 profile.png"] = encoded(grey, "PNG", **p3)
    files["cmyk.jpg"] = encoded(inks, "JPEG", **jpeg)
    files["cmyk, cmyk profile.jpg"] = encoded(inks, "JPEG", **jpeg, icc_profile=colour_profiles.cmyk_profile())
    files["cmyk, p3 profile.jpg"] = encoded(inks, "JPEG", **jpeg, **p3)
    files["broken profile.jpg"] = encoded(picture, "JPEG", **jpeg, icc_profile=p3["icc_profile"][:200])
    numbers = {"PQ": (9, 16), "HLG": (9, 18), "P3 and PQ": (12, 16), "P3": (12, 13), "BT.709": (1, 1), "2020": (9, 14)}
    for name, (primaries, transfer) in numbers.items():
        files[f"cicp {name}.png"] = png(picture, chunk(b"cICP", bytes((primaries, transfer, 0, 1))))
        files[f"nclx {name}.avif"] = avif(picture, primaries, transfer)
    light = chunk(b"cLLI", struct.pack(">II", 4_000_000, 1_000_000))
    files["cicp PQ, 400 nits.png"] = png(picture, chunk(b"cICP", bytes((9, 16, 0, 1))), light)
    files["cicp BT.709 over p3 profile.png"] = (
        (whole := encoded(picture, "PNG", **p3))[:33] + chunk(b"cICP", bytes((1, 1, 0, 1))) + whole[33:]
    )
    chromaticities = {
        "sRGB": chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        "P3": chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    }
    for gamma in (45_455, 55_556, 100_000):
        declared = chunk(b"gAMA", struct.pack(">I", gamma))
        files[f"gAMA {gamma / 1e5:.2f}.png"] = png(picture, declared)
        for name, space in chromaticities.items():
            files[f"gAMA {gamma / 1e5:.2f}, cHRM {name}.png"] = png(picture, declared, space)
    files["cHRM P3.png"] = png(picture, chromaticities["P3"])
    files["sRGB over gAMA 1.00.png"] = png(picture, chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000)))
    files["16 bits, p3 profile.png"] = _deep_png(picture, p3["icc_profile"])
    files["first of a sequence.avif"] = avif_sequence(picture, "limited")
    return files


def ending_early():
    """Name to the bytes of a file that lacks its end, and of the whole file."""
    picture = photograph()
    wholes = {
        "jpg": encoded(picture, "JPEG", quality=92, subsampling=0),
        "progressive.jpg": encoded(picture, "JPEG", quality=92, subsampling=0, progressive=True),
        "png": encoded(picture, "PNG"),
    }
    files = {}
    for name, whole in wholes.items():
        for part, cut in (("2 bytes", 2), ("per cent", len(whole) // 100), ("fortieth", len(whole) // 40)):
            files[f"without its last {part}.{name}"] = whole[:-cut], whole
    return files


def avif_sequence(picture, levels):
    """Two pictures for five seconds each. Browsers' decoder takes the levels of a sequence for "limited" always."""
    second = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    options = {"save_all": True, "append_images": [second], "duration": 5000, "subsampling": "4:4:4"}
    return encoded(picture, "AVIF", quality=90, range=levels, **options)


def _deep_png(picture, profile):
    pixels = np.asarray(picture).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"iCCP", b"P3\0\0" + zlib.compress(profile))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
