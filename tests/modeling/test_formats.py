"""Which of a file's pictures is shown: HEIC, raw files by their previews, pages, files that end early."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modeling.images import ImageError, header_here, open_here, open_image, read_header
from modeling.srgb_robust_clip import to_srgb
from tests.colour_profiles import expected, matrix_profile
from tests.pictures import encoded

pillow_heif = pytest.importorskip("pillow_heif")


def colours(width=96, height=64):
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(255 * np.stack([x, y, 0.5 - 0.5 * np.cos(6 * (x + y))], -1)).astype(np.uint8)


def heic(**options):
    buffer = io.BytesIO()
    profile = options.pop("icc_profile", None)
    picture = Image.fromarray(colours())
    if profile:
        picture.info["icc_profile"] = profile
    pillow_heif.from_pillow(picture).save(buffer, quality=95, chroma=444, **options)
    return buffer.getvalue()


def error(shown, right):
    return np.abs(np.asarray(shown, float) - right).mean()


def test_heic_is_opened():
    assert error(open_image(heic()), colours()) < 2
    assert (read_header(heic()).format, read_header(heic()).size) == ("HEIF", (96, 64))


@pytest.mark.parametrize("brand", [b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_of_any_brand_is_opened(brand):
    data = heic()
    assert open_here(data[:8] + brand + data[12:]).size == (96, 64)


def test_heic_of_a_telephone_is_shown_by_its_wide_profile():
    shown = open_here(heic(icc_profile=matrix_profile("p3")))
    assert error(shown, expected(colours(), "p3")) < 2


def test_heic_of_high_range_is_darkened_as_numbers_say():
    data = heic(color_primaries=9, transfer_characteristics=16, matrix_coefficients=9)
    decoded = pillow_heif.open_heif(data).to_pillow()
    right = np.asarray(to_srgb(decoded.convert("RGB"), {"cicp": (9, 16)}), float)
    assert error(right, colours()) > 20
    assert error(open_here(data), right) < 0.1


@pytest.mark.parametrize("numbers", [(9, 16), (9, 18), (12, 13)])
def test_colours_of_an_avif_are_read_from_its_boxes(numbers):
    data = encoded(Image.fromarray(colours()), "AVIF", quality=95)
    place = data.index(b"nclx") + 4
    declared = data[:place] + struct.pack(">HH", *numbers) + data[place + 4 :]
    right = to_srgb(open_here(data), {"cicp": numbers})
    assert header_here(declared).info["cicp"] == numbers
    np.testing.assert_array_equal(np.asarray(open_here(declared)), np.asarray(right))


@pytest.mark.parametrize(("numbers", "shown_as"), [((1, 1), (1, 13)), ((9, 14), (9, 13)), ((1, 6), (1, 13))])
def test_video_curves_of_an_avif_are_shown_as_srgb_unlike_a_pngs(numbers, shown_as):
    data = encoded(Image.fromarray(colours()), "AVIF", quality=95)
    place = data.index(b"nclx") + 4
    declared, as_srgb = (data[:place] + struct.pack(">HH", *pair) + data[place + 4 :] for pair in (numbers, shown_as))
    np.testing.assert_array_equal(np.asarray(open_here(declared)), np.asarray(open_here(as_srgb)))
    assert error(to_srgb(open_here(data), {"cicp": numbers}), np.asarray(open_here(as_srgb), float)) > 3


def test_of_an_avif_sequence_the_first_picture_is_shown():
    first, second = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    data = encoded(first, "AVIF", save_all=True, append_images=[second])
    assert data[8:12] == b"avis"
    np.testing.assert_allclose(open_here(data).getpixel((5, 5)), (255, 0, 0), atol=3)


# Files that end too early


@pytest.mark.parametrize(
    ("codec", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("JPEG", {"quality": 98, "subsampling": 0})],
)
def test_file_without_its_last_per_cent_is_shown_with_a_note(codec, options):
    whole = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 160, 3), np.uint8)), codec, **options
    )
    right = np.asarray(open_image(whole), float)
    shown = open_image(whole[: -len(whole) // 100])
    assert shown.info["incomplete"] is True
    assert "incomplete" not in open_image(whole).info
    np.testing.assert_array_equal(np.asarray(shown)[:150], right[:150]) if not options.get("progressive") else None
    assert error(shown, right) < 8


@pytest.mark.parametrize(
    ("codec", "mode"),
    [
        *[("JPEG", mode) for mode in ("L", "RGB", "CMYK")],
        *[("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")],
    ],
)
def test_rows_that_a_file_lacks_are_white_in_any_mode(codec, mode):
    noise = np.random.default_rng(0).integers(1, 255, (200, 160, 3), np.uint8)
    picture = Image.fromarray(noise[..., 0] * np.uint16(257)) if mode == "I;16" else Image.fromarray(noise)
    whole = encoded(picture if mode == "I;16" else picture.convert(mode), codec)
    right, shown = (np.asarray(open_image(data)) for data in (whole, whole[: -len(whole) // 20]))
    np.testing.assert_array_equal(shown[:160], right[:160])
    assert (shown[-1] >= 254).all()
    assert not (right[-1] >= 254).all()


def test_keyed_palette_that_ends_early_is_white_too():
    picture = Image.fromarray(np.random.default_rng(0).integers(1, 255, (200, 160, 3), np.uint8)).convert("P")
    whole = encoded(picture, "PNG", transparency=3)
    shown = np.asarray(open_image(whole[: -len(whole) // 20]))
    assert (shown[-1] == 255).all()
    np.testing.assert_array_equal(shown[:160], np.asarray(open_image(whole))[:160])


def test_jpeg_without_its_last_two_bytes_is_whole():
    data = encoded(Image.fromarray(colours()), "JPEG")
    np.testing.assert_array_equal(np.asarray(open_image(data[:-2])), np.asarray(open_image(data)))


@pytest.mark.parametrize(
    ("codec", "mode"),
    [("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA")],
)
def test_file_that_lacks_a_third_is_refused_in_any_mode(codec, mode):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 160, 3), np.uint8)).convert(mode)
    data = encoded(noise, codec)
    with pytest.raises(ImageError, match="damaged or incomplete"):
        open_image(data[: len(data) * 2 // 3])


def test_interlaced_png_that_ends_early_is_refused():
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 1)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(np.random.default_rng(0).integers(1, 255, 6000, np.uint8).tobytes())
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)[:2000]
    with pytest.raises(ImageError, match="damaged"):
        open_image(data)


def test_words_of_a_png_do_not_pass_for_what_its_reader_says():
    words = PngInfo()
    for name in ("cicp", "incomplete", "preview", "max_light", "gamma", "chromaticity", "nclx_profile", "icc_profile"):
        words.add_text(name, "")
    words.add_text("gAMA", "1")
    shown = open_image(encoded(Image.fromarray(colours()), "PNG", pnginfo=words))
    np.testing.assert_array_equal(np.asarray(shown), colours())
    assert not any(shown.info.get(name) is True for name in ("incomplete", "preview"))


# Pages and previews


def directory(order, start, fields, following=0):
    """A TIFF directory at `start`: tag to (type, value)."""
    entries = b""
    for tag, (kind, value) in sorted(fields.items()):
        entries += struct.pack(order + "HHI", tag, kind, 1)
        entries += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    return struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following)


SENSOR_PHOTOMETRIC = 32803


def raw_file(order="<", orientation=1, preview=(96, 64), sensor=True):
    """As NEF and DNG are built: a thumbnail first, then within it the preview as a JPEG and the sensor's data."""
    jpeg = encoded(Image.fromarray(colours(*preview)), "JPEG", quality=95) if preview else b""
    thumbnail = bytes(40 * 32 * 3)
    strips = 1000
    fields = {
        254: (4, 1), 256: (3, 40), 257: (3, 32), 258: (3, 8), 259: (3, 1), 262: (3, 2), 273: (4, strips),
        274: (3, orientation), 277: (3, 3), 278: (3, 32), 279: (4, len(thumbnail)), 330: (4, 400),
    }  # fmt: skip
    inner = {254: (4, 0), 256: (3, 300), 257: (3, 200), 259: (3, 34713), 262: (3, SENSOR_PHOTOMETRIC if sensor else 2)}
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))
    data += directory(order, 8, fields)
    data += bytes(400 - len(data)) + directory(order, 400, inner)
    data += bytes(strips - len(data)) + thumbnail + jpeg
    return bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_file_is_shown_by_its_largest_preview(order):
    data = raw_file(order)
    shown = open_here(data)
    assert error(shown, colours()) < 3
    assert shown.info["preview"] is True
    assert header_here(data).format == "TIFF"


def test_preview_is_turned_as_the_raw_file_says():
    assert open_here(raw_file(orientation=6)).size == (64, 96)


def test_raw_file_with_nothing_but_a_thumbnail_shows_that():
    shown = open_here(raw_file(preview=None))
    assert shown.size == (40, 32) and shown.info["preview"] is True


@pytest.mark.parametrize("start", [b"FUJIFILMCCD-RAW ", b"\0\0\0\x18ftypcrx ", b"IIRO\x08\0\0\0", b"IIU\0\x08\0\0\0"])
def test_raw_file_of_another_container_is_shown_by_its_preview(start):
    small = encoded(Image.new("RGB", (48, 40)), "JPEG")
    large = encoded(Image.fromarray(colours()), "JPEG", quality=95)
    shown = open_here(start + bytes(100) + small + bytes(50) + large + bytes(200))
    assert error(shown, colours()) < 3
    with pytest.raises(ImageError, match="no preview"):
        open_here(start + bytes(500))


def test_of_a_tiff_with_a_thumbnail_first_the_main_page_is_shown():
    main, small = Image.fromarray(colours()), Image.new("RGB", (33, 33))
    assert error(open_here(encoded(small, "TIFF", save_all=True, append_images=[main])), colours()) == 0
    pages = encoded(main, "TIFF", save_all=True, append_images=[Image.new("RGB", (100, 100))])
    assert error(open_here(pages), colours()) == 0


def test_directories_that_lead_in_circles_end():
    circle = b"II*\0" + struct.pack("<I", 8) + directory("<", 8, {256: (3, 64), 257: (3, 64), 330: (4, 8)}, 8)
    for data in (circle, circle * 3000, b"FUJIFILMCCD-RAW" + b"\xff\xd8\xff\xe0" * 100_000):
        with pytest.raises(ImageError):
            open_here(data)
