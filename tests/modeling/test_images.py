"""`open_image`: every kind of file gives the right picture or a sentence that a lay person understands."""

import io
import os
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from modeling import images
from modeling.images import MAX_BYTES, MIN_SIDE, ImageError, open_image
from tests.pictures import chunk, encoded

ORIENTATION = 0x0112


def pattern(width=64, height=48, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png_claiming(width, height):
    """A 1-bit PNG whose header claims a size that its data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg_with_damaged_exif():
    """Orientation 6 is readable; the entry after it points outside the file."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x0f\x01\x02\0\xff\xff\0\0\xff\0\0\0"
    return encoded(Image.fromarray(pattern()), "JPEG", exif=exif)


@pytest.mark.parametrize("codec", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_keeps_its_exact_pixels(codec):
    picture = open_image(encoded(Image.fromarray(pattern()), codec))
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), pattern())


@pytest.mark.parametrize("codec", ["JPEG", "WEBP", "AVIF"])
def test_lossy_rgb_equals_what_pillow_decodes(codec):
    data = encoded(Image.fromarray(pattern()), codec)
    with Image.open(io.BytesIO(data)) as decoded:
        np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(decoded.convert("RGB")))


def test_every_kind_of_source_gives_the_same_picture(tmp_path):
    data = encoded(Image.fromarray(pattern()), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    read_to_the_end = io.BytesIO(data)
    read_to_the_end.read()
    for source in (path, str(path), data, bytearray(data), io.BytesIO(data), read_to_the_end, Image.open(path)):
        np.testing.assert_array_equal(np.asarray(open_image(source)), pattern())


@pytest.mark.parametrize("name", ["picture.txt", "picture", "picture.jpg", "ピクチャ é.png"])
def test_name_of_the_file_plays_no_part(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(Image.fromarray(pattern()), "PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(path)), pattern())


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_exif_orientation_is_applied_exactly_once(codec):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # a viewer turns it clockwise by a quarter
    halves = np.zeros((48, 64, 3), dtype=np.uint8)
    halves[:, :32] = 255  # left half white: after the turn, the top half
    picture = open_image(encoded(Image.fromarray(halves), codec, exif=exif.tobytes()))
    again = open_image(picture)
    for result in (picture, again):
        assert result.size == (48, 64)
        assert np.asarray(result)[:24].mean() > 250 and np.asarray(result)[40:].mean() < 5


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_shown_on_white(mode):
    hidden_black = Image.new(mode, (64, 48))
    assert np.asarray(open_image(encoded(hidden_black, "PNG"))).min() == 255


def test_half_transparent_black_on_white_is_grey():
    assert open_image(encoded(Image.new("RGBA", (64, 48), (0, 0, 0, 128)), "PNG")).getpixel((5, 5)) == (127, 127, 127)


@pytest.mark.parametrize(("mode", "key"), [("P", 0), ("P", b"\0"), ("L", 0), ("RGB", (0, 0, 0))])
def test_transparent_colour_is_shown_white(mode, key):
    picture = open_image(encoded(Image.new(mode, (64, 48)), "PNG", transparency=key))
    assert np.asarray(picture).min() == 255


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("name", [b"transparency", b"interlace", b"bbox", b"icc_profile", b"exif", b"srgb"])
@pytest.mark.parametrize("place", [33, -12])  # behind the header; before the end
def test_a_text_stands_in_for_nothing_that_a_png_says_itself(kind, name, place):
    content = {b"tEXt": b"\0x", b"zTXt": b"\0\0" + zlib.compress(b"x"), b"iTXt": b"\0\0\0\0\0x"}[kind]
    data = encoded(Image.new("RGB", (64, 48)), "PNG", transparency=(0, 0, 0))
    picture = open_image(data[:place] + chunk(kind, name + content) + data[place:])
    assert np.asarray(picture).min() == 255


@pytest.mark.parametrize("codec", ["PNG", "WEBP"])
def test_exif_in_the_form_of_a_bigtiff_is_left_alone(codec):
    field = struct.pack("<HHQQ", ORIENTATION, 3, 1, 6)
    exif = b"Exif\0\0II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + field + bytes(8)
    assert open_image(encoded(Image.fromarray(pattern()), codec, exif=exif)).size == (64, 48)


def test_16_bit_grey_is_scaled_and_not_clipped():
    grey = pattern(channels=1)
    picture = open_image(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"))
    np.testing.assert_array_equal(np.asarray(picture), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_float_tiff_of_any_range_runs_from_black_to_white(white):
    ramp = np.linspace(0, white, 64, dtype=np.float32)[None].repeat(48, 0)
    result = np.asarray(open_image(encoded(Image.fromarray(ramp), "TIFF")))[0, :, 0]
    np.testing.assert_allclose(result, np.linspace(0, 255, 64), atol=0.51)


def test_float_tiff_with_nan_and_infinity_gives_black_and_white():
    values = np.full((48, 64), 0.5, dtype=np.float32)
    values[0, :4] = [np.nan, np.inf, -np.inf, -3]
    result = np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")))[0, :5, 0]
    assert result.tolist() == [0, 255, 0, 0, 128]


def test_cmyk_jpeg_keeps_its_colour():
    red = open_image(encoded(Image.new("RGB", (64, 48), (250, 10, 10)).convert("CMYK"), "JPEG", quality=95))
    np.testing.assert_allclose(red.getpixel((9, 9)), (250, 10, 10), atol=6)


@pytest.mark.parametrize("codec", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(codec):
    first, second = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (64, 48), "blue")
    data = encoded(first, codec, save_all=True, append_images=[second])
    np.testing.assert_allclose(open_image(data).getpixel((9, 9)), (255, 0, 0), atol=3)


def test_broken_colour_profile_is_ignored():
    data = encoded(Image.fromarray(pattern()), "PNG", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(np.asarray(open_image(data)), pattern())


# pytest replaces the filter that `modeling.images` installs at import; the next test shows it at work.
@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning:PIL")
def test_damaged_exif_does_not_cost_the_picture():
    assert open_image(jpeg_with_damaged_exif()).size == (48, 64)


def test_damaged_metadata_raises_no_warning_in_a_program_that_makes_warnings_errors(python, tmp_path):
    (tmp_path / "exif.jpg").write_bytes(jpeg_with_damaged_exif())
    plain = encoded(Image.fromarray(pattern()), "PNG")
    (tmp_path / "apng.png").write_bytes(plain[:33] + chunk(b"acTL", struct.pack(">II", 0, 0)) + plain[33:])
    program = "import warnings; warnings.simplefilter('error', UserWarning); from modeling.images import open_image; "
    program += "print(open_image('exif.jpg').size, open_image('apng.png').size)"
    done = python.run("-c", program, cwd=tmp_path)
    assert done.stdout.strip() == "(48, 64) (64, 48)", done.stderr
    assert "Warning" not in done.stderr


HEIC = b"\0\0\0\x18ftyp%s\0\0\0\0mif1heic" + b"\0" * 64
UNREADABLE = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a text " * 9, "not a picture"),
    "fake heic": (b"just words in a file called x.heic", "not a picture"),
    "web page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "broken heic": (HEIC % b"heic", "damaged"),
    "broken heic of another brand": (HEIC % b"mif1", "damaged"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not a picture"),
    "photoshop": (b"8BPS\0\1" + b"\0" * 90, "not a picture"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 pixels.*32"),
    "1 x 3000": (encoded(Image.new("RGB", (1, 3000)), "PNG"), "too small to judge"),
    "51 megapixels": (png_claiming(10_000, 5_100), "too many pixels"),
    "100 megapixels": (png_claiming(10_000, 10_000), "too many pixels"),
    "400 megapixels": (png_claiming(20_000, 20_000), "too many pixels"),
    "header only": (png_claiming(64, 48)[:20], "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_unusable_file_is_refused_with_its_reason_and_no_warning(data, reason):
    with warnings.catch_warnings(record=True) as caught, pytest.raises(ImageError, match=reason) as refusal:
        warnings.simplefilter("always")
        open_image(data)
    assert not caught
    assert "Error" not in str(refusal.value) and "<" not in str(refusal.value)


def test_real_bomb_of_400_megapixels_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    rows = zlib.compressobj()
    blank = b"\0" * 2501
    data = b"".join(rows.compress(blank) for _ in range(20_000)) + rows.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(path)


def test_gif_frame_far_larger_than_its_screen_is_refused():
    screen = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 20_000, 20_000, 0) + b"\x02\x02\x4c\x01\0;"
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(screen + frame)


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "PPM"])
def test_truncated_file_is_called_damaged(codec):
    data = encoded(Image.fromarray(pattern()), codec)
    with pytest.raises(ImageError, match="damaged or incomplete"):
        open_image(data[: len(data) * 2 // 3])


# Mutated metadata makes Pillow warn; that is not what this test is about.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_random_damage_never_raises_anything_but_image_error(codec):
    data = encoded(Image.fromarray(pattern()), codec)
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 300), size=3):
            damaged[place] = rng.integers(256)
        try:
            assert open_image(bytes(damaged)).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 0


def test_file_above_the_limit_is_refused(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(encoded(Image.fromarray(pattern()), "PNG"))
        file.truncate(MAX_BYTES + 1)  # a sparse file
    with pytest.raises(ImageError, match="50 MB"):
        open_image(path)


def test_smallest_side_is_accepted_and_one_pixel_less_is_not():
    assert open_image(Image.new("RGB", (MIN_SIDE, MIN_SIDE))).size == (MIN_SIDE, MIN_SIDE)
    with pytest.raises(ImageError, match="too small"):
        open_image(Image.new("RGB", (MIN_SIDE, MIN_SIDE - 1)))


def test_pil_image_beyond_the_pixel_limit_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(Image.fromarray(pattern()))


@pytest.mark.parametrize("address", ["https://example.com/a.png", "file:///a.png", "data:image/png;base64,AAAA"])
def test_web_address_is_refused_with_the_advice_to_download(address):
    with pytest.raises(ImageError, match="download"):
        open_image(address)


@pytest.mark.parametrize("name", ["missing.png", "a\0b.png", "x" * 300 + ".png", "missing/x.png", "C:\\x.png"])
def test_missing_file_is_refused_without_showing_its_path(tmp_path, name):
    with pytest.raises(ImageError) as refusal:
        open_image(f"{tmp_path}/{name}")
    assert str(tmp_path) not in str(refusal.value)


def test_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="folder"):
        open_image(tmp_path)


def test_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError):
        open_image(tmp_path / "pipe")


@pytest.mark.parametrize("source", [None, 7, ["a.png"], io.StringIO("text")])
def test_source_of_another_type_is_a_type_error(source):
    with pytest.raises(TypeError, match="`source` must be"):
        open_image(source)


def test_caller_keeps_his_image_unchanged():
    image = Image.new("RGBA", (64, 48))
    image.info["transparency"] = "kept"
    open_image(image)
    assert image.mode == "RGBA" and image.info == {"transparency": "kept"} and image.getpixel((0, 0)) == (0, 0, 0, 0)


def test_many_threads_read_the_same_pixels_and_leave_the_global_limits_alone():
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    data = [encoded(Image.fromarray(pattern()), "PNG"), png_claiming(20_000, 20_000)] * 100

    def outcome(source):
        try:
            return open_image(source).tobytes()
        except ImageError:
            return b"refused"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(outcome, data))
    assert results == [pattern().tobytes(), b"refused"] * 100
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def swollen_directory(fields=2000, shared=100_000):
    """An EXIF directory whose fields all lie over the same bytes: Pillow would copy each of them."""
    entries = b"".join(struct.pack("<HHII", 40_000 + n, 7, shared, 8 + 2 + 12 * fields + 4) for n in range(fields))
    return b"II*\0" + struct.pack("<IH", 8, fields) + entries + bytes(4) + bytes(shared)


def swollen_files():
    picture = Image.new("RGB", (64, 64), "red")
    exif = swollen_directory()
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        picture.save(buffer, kind, exif=exif)
        yield kind, buffer.getvalue(), True
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG")
    whole = jpeg.getvalue()
    small = b"Exif\0\0" + swollen_directory(2500, 30_000)
    yield "JPEG", whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[20:], True
    yield "TIFF", exif, False


@pytest.mark.parametrize(("kind", "data", "readable"), list(swollen_files()), ids=lambda value: str(value)[:4])
def test_metadata_that_lies_over_itself_costs_no_memory(kind, data, readable):
    assert len(data) < 300_000
    tracemalloc.start()
    try:
        if readable:
            assert open_image(data).size == (64, 64), kind
        else:
            with pytest.raises(ImageError, match="damaged"):
                open_image(data)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000, kind
    finally:
        tracemalloc.stop()


def test_an_error_speaks_other_languages():
    with pytest.raises(ImageError) as error:
        open_image(Image.new("RGB", (31, 500)))
    assert error.value.sentence("es").startswith("Esta imagen es demasiado pequeña para juzgarla (31 x 500 píxeles)")
    assert str(error.value) == error.value.sentence()
    assert ImageError("Anything else.").sentence("zh") == "Anything else."
