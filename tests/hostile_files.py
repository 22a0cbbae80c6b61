"""Two hundred files that should not break anything: cut, flipped, huge, odd, two things at once. All made here."""

import io
import random
import struct
import zipfile
import zlib

from PIL import Image, PngImagePlugin

SIZE = (96, 72)
FORMATS = {
    "jpg": ("JPEG", {"quality": 85}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 80}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "avif": ("AVIF", {}),
    "bmp": ("BMP", {}),
}


def hostile_files():
    """Name to bytes, the same in every run."""
    rng = random.Random(0)
    whole = {name: _encode(_picture(), *how) for name, how in FORMATS.items()}
    files = {f"whole.{name}": data for name, data in whole.items()}
    for name, data in whole.items():
        for part in range(10):
            files[f"cut_{part}.{name}"] = data[: len(data) * part // 10 + part]
        for number in range(9):
            files[f"flip_{number}.{name}"] = _flip(data, rng, 2 ** (number // 2))
    return files | _bombs() | _odd_modes() | _odd_shapes() | _two_things(whole) | _metadata(rng)


def _picture(mode="RGB", size=SIZE):
    gradient = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (gradient, gradient.rotate(90).resize(size), gradient.rotate(180))).convert(mode)


def _encode(image, kind, options=None):
    buffer = io.BytesIO()
    image.save(buffer, kind, **(options or {}))
    return buffer.getvalue()


def _flip(data, rng, times):
    flipped = bytearray(data)
    for _ in range(times):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width, height, data, *chunks):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunks) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def _bombs():
    """Small files that ask for much memory."""
    zeros = zlib.compress(bytes(30_000_000), 9)
    huge_text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 50_000_000, 9))
    rows = zlib.compress(b"".join(b"\0" + bytes(96 * 3) for _ in range(72)))
    frames = [Image.new("P", (200, 200), index % 256) for index in range(300)]
    gif = io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    wide_gif = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + _encode(_picture("P"), "GIF")[10:]
    tiff = bytearray(_encode(_picture(), "TIFF"))
    return {
        "pixels_400_megapixel.png": _png(20_000, 20_000, zeros),
        "pixels_4_gigapixel.png": _png(65_000, 65_000, zeros),
        "width_2_31.png": _png(2**31 - 1, 1, zeros),
        "zero_width.png": _png(0, 72, rows),
        "text_bomb.png": _png(96, 72, rows, huge_text),
        "many_texts.png": _png(96, 72, rows, *[_chunk(b"tEXt", b"Comment\0" + b"A" * 1000)] * 2000),
        "many_frames.gif": gif.getvalue(),
        "wide_screen.gif": wide_gif,
        "big_bmp_header.bmp": _encode(_picture(), "BMP")[:18] + struct.pack("<ii", 100_000, 100_000) + bytes(1000),
        "looping_directory.tiff": bytes(tiff[:4] + struct.pack("<I", 4) + tiff[8:]),
        "long_ppm.ppm": b"P6 999999999 999999999 255\n" + bytes(100),
    }


def _odd_modes():
    files = {}
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image = Image.new("I;16", SIZE, 40_000) if mode == "I;16" else _picture().convert(mode)
        files[f"mode_{mode.replace(';', '')}.png"] = _encode(image, "PNG")
    for mode in ("1", "L", "CMYK", "LAB", "YCbCr", "F", "I", "RGBA", "P"):
        image = _picture().convert("L").convert(mode) if mode in ("F", "I", "1") else _picture().convert(mode)
        files[f"mode_{mode}.tiff"] = _encode(image, "TIFF")
    files["mode_CMYK_in_a_png_name.png"] = _encode(_picture("CMYK"), "TIFF")
    files["mode_CMYK.jpg"] = _encode(_picture("CMYK"), "JPEG")
    files["mode_L.jpg"] = _encode(_picture("L"), "JPEG")
    files["transparent.webp"] = _encode(_picture().convert("RGBA"), "WEBP", {"lossless": True})
    files["transparent.gif"] = _encode(_picture("P"), "GIF", {"transparency": 0})
    return files


def _odd_shapes():
    shapes = ((1, 1), (1, 3000), (3000, 33), (32, 32), (31, 500), (33, 4000), (5000, 5000))
    return {f"shape_{w}x{h}.png": _encode(_picture(size=(w, h)), "PNG") for w, h in shapes}


def _two_things(whole):
    """A picture that is something else too, or only pretends to be a picture."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside.txt", "hello")
    script = b"<script>alert(1)</script>"
    return {
        "jpeg_and_zip.jpg": whole["jpg"] + archive.getvalue(),
        "png_and_html.png": whole["png"] + script,
        "html_then_jpeg.jpg": script + whole["jpg"],
        "pdf_then_jpeg.jpg": b"%PDF-1.4\n" + whole["jpg"],
        "gif_and_script.gif": whole["gif"] + script,
        "jpeg_named_png.png": whole["jpg"],
        "png_named_jpg.jpg": whole["png"],
        "zip_named_jpg.jpg": archive.getvalue(),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd) run\n",
        "program.jpg": b"\x7fELF" + bytes(2000),
        "empty.jpg": b"",
        "one_byte.png": b"\x89",
        "text.jpg": b"not a picture\n" * 50,
        "heic.heic": b"\0\0\0\x18ftypheic" + bytes(200),
        "two_jpegs.jpg": whole["jpg"] + whole["jpg"],
    }


def _metadata(rng):
    """Good pixels, bad metadata."""
    files = {}
    exif = Image.Exif()
    exif[0x0112] = 6
    files["rotated.jpg"] = _encode(_picture(), "JPEG", {"exif": exif.tobytes()})
    for number in range(4):
        noise = bytes(rng.randrange(256) for _ in range(4000))
        files[f"noisy_exif_{number}.jpg"] = _encode(_picture(), "JPEG", {"exif": b"Exif\0\0II*\0" + noise})
    nested = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<a>" * 20_000 + b"</a>" * 20_000 + b"</x:xmpmeta>"
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
    entities = f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a8;</x:xmpmeta>'
    for name, xmp in (("nested", nested), ("entities", entities.encode())):
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        files[f"xmp_{name}.png"] = _encode(_picture(), "PNG", {"pnginfo": text})
    files["wrong_profile.jpg"] = _encode(_picture(), "JPEG", {"icc_profile": bytes(range(256)) * 40})
    files["long_comment.jpg"] = _encode(_picture(), "JPEG", {"comment": b"A" * 60_000})
    return files
