"""A picture's declared colours reach the model as a viewer shows them: by profile, cICP, gAMA and cHRM."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from modeling.image_processing_robust_clip import RobustClipImageProcessor
from modeling.images import open_image
from modeling.srgb_robust_clip import to_srgb
from tests import colour_profiles
from tests.pictures import chunk, encoded


def colours(height=64, width=96):
    """Smooth and saturated, so that codecs keep it."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(255 * np.stack([x, y, 0.5 - 0.5 * np.cos(6 * (x + y))], -1)).astype(np.uint8)


def png(*chunks):
    data = encoded(Image.fromarray(colours()))
    return data[:33] + b"".join(chunks) + data[33:]


def error(shown, right):
    return np.abs(np.asarray(shown, float) - right).mean()


@pytest.mark.parametrize("space", ["p3", "adobe_rgb", "prophoto"])
@pytest.mark.parametrize(("codec", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_profile_of_a_wide_space_gives_srgb(space, codec, options):
    data = encoded(Image.fromarray(colours()), codec, icc_profile=colour_profiles.matrix_profile(space), **options)
    right = colour_profiles.expected(colours(), space)
    assert error(colours(), right) > 4
    assert error(open_image(data), right) < 0.6


@pytest.mark.parametrize(("codec", "options"), [("JPEG", {"quality": 95}), ("AVIF", {"quality": 95})])
def test_profile_of_a_lossy_file_moves_what_was_decoded(codec, options):
    data = encoded(Image.fromarray(colours()), codec, icc_profile=colour_profiles.matrix_profile("p3"), **options)
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert error(open_image(data), colour_profiles.expected(decoded, "p3")) < 0.6


def test_profile_is_applied_exactly_once():
    data = encoded(Image.fromarray(colours()), icc_profile=colour_profiles.matrix_profile("adobe_rgb"))
    once = open_image(data)
    np.testing.assert_array_equal(np.asarray(open_image(once)), np.asarray(once))
    processor = RobustClipImageProcessor()
    of_file = processor(Image.open(io.BytesIO(data)))["pixel_values"]
    np.testing.assert_array_equal(of_file, processor(once)["pixel_values"])
    assert np.abs(of_file - processor(Image.fromarray(colours()))["pixel_values"]).max() > 0.1


def test_a_callers_picture_keeps_its_pixels_and_profile():
    picture = Image.fromarray(colours())
    picture.info["icc_profile"] = colour_profiles.matrix_profile("p3")
    open_image(picture)
    np.testing.assert_array_equal(np.asarray(picture), colours())
    assert list(picture.info) == ["icc_profile"]


@pytest.mark.parametrize("exact", [True, False])
def test_srgb_profile_leaves_every_pixel(exact):
    from PIL import ImageCms

    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = made if exact else colour_profiles.matrix_profile("srgb")
    data = encoded(Image.fromarray(colours()), icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_image(data)), colours())


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparent_picture_is_put_on_white_after_its_profile(alpha):
    pixels = np.dstack([colours(), np.full(colours().shape[:2], alpha, np.uint8)])
    data = encoded(Image.fromarray(pixels), icc_profile=colour_profiles.matrix_profile("p3"))
    right = colour_profiles.expected(colours(), "p3") * alpha / 255 + 255 - alpha
    assert error(open_image(data), right) < 0.8


def test_palette_picture_is_shown_by_its_profile():
    palette = Image.fromarray(colours()).quantize(64)
    data = encoded(palette, icc_profile=colour_profiles.matrix_profile("p3"))
    right = colour_profiles.expected(np.asarray(palette.convert("RGB")), "p3")
    assert error(open_image(data), right) < 0.6


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_profile_moves_grey(depth):
    grey = colours()[..., 2]
    pixels = grey if depth == 8 else grey.astype(np.uint16) * 257
    data = encoded(Image.fromarray(pixels), icc_profile=colour_profiles.grey_profile(1.8))
    light = (grey / 255) ** 1.8
    right = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert error(open_image(data).getchannel("G"), right) < 0.6


def test_cmyk_profile_says_what_the_inks_look_like():
    inks = Image.fromarray(np.full((64, 64, 4), (0, 255, 0, 0), np.uint8), "CMYK")
    plain = open_image(encoded(inks, "TIFF")).getpixel((5, 5))
    pressed = open_image(encoded(inks, "TIFF", icc_profile=colour_profiles.cmyk_profile())).getpixel((5, 5))
    assert plain == (255, 0, 255)
    # L* = 65, a* = 60 and b* = 0 by hand; the table ends at 165 / 255 and 188
    np.testing.assert_allclose(pressed, (246, 111, 158), atol=12)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", colour_profiles.cmyk_profile()),
        ("RGB", colour_profiles.grey_profile()),
        ("L", colour_profiles.matrix_profile("p3")),
        ("CMYK", colour_profiles.matrix_profile("p3")),
        ("RGB", colour_profiles.matrix_profile("p3")[:200]),
        ("RGB", bytes(range(256)) * 40),
        ("RGB", colour_profiles.matrix_profile("p3") + bytes(5 * 2**20)),
        ("RGB", colour_profiles.profile({b"D2B0": b"mpet" + struct.pack(">IHHI", 0, 3, 3, 2**31)})),
        ("RGB", colour_profiles.profile(dict.fromkeys((b"%04d" % number for number in range(200)), b"text"))),
    ],
)
def test_profile_that_does_not_fit_or_is_broken_is_ignored(mode, profile):
    picture = Image.fromarray(colours()).convert(mode)
    np.testing.assert_array_equal(
        np.asarray(to_srgb(picture, {"icc_profile": profile})), np.asarray(picture.convert("RGB"))
    )


# Of Chromium 156, from files of this project's own making; the long test compares whole pictures with the browser.
SHOWN_BY_A_BROWSER = {
    "PQ": ((9, 16), {32: 5, 64: 30, 96: 70, 128: 132, 148: 187, 160: 213}),
    "HLG": ((9, 18), {32: 14, 64: 43, 96: 71, 128: 99, 160: 135, 192: 189, 224: 228}),
    "BT.709": ((1, 1), {32: 20, 64: 54, 128: 121, 192: 189}),
    "linear": ((1, 8), {8: 50, 32: 99, 128: 188, 224: 241}),
    "gamma 2.8": ((5, 5), {32: 10, 64: 40, 128: 106, 192: 179}),
}


@pytest.mark.parametrize(("cicp", "levels"), SHOWN_BY_A_BROWSER.values(), ids=SHOWN_BY_A_BROWSER)
def test_grey_of_a_transfer_is_what_a_browser_shows(cicp, levels):
    for level, shown in levels.items():
        grey = to_srgb(Image.new("RGB", (4, 4), (level,) * 3), {"cicp": cicp}).getpixel((1, 1))
        np.testing.assert_allclose(grey, shown, atol=3)


def test_brightest_light_decides_how_far_high_range_is_darkened():
    shown = [
        to_srgb(Image.new("RGB", (4, 4), (148,) * 3), {"cicp": (9, 16), "max_light": peak}).getpixel((1, 1))[0]
        for peak in (400, 1000, 4000)
    ]
    np.testing.assert_allclose(shown, (229, 187, 187), atol=2)


@pytest.mark.parametrize("cicp", [(2, 2), (99, 13), (1, 99), (None, None), (12, 13)])
def test_space_that_is_not_known_is_ignored(cicp):
    shown = np.asarray(to_srgb(Image.fromarray(colours()), {"cicp": cicp}))
    right = colour_profiles.expected(colours(), "p3") if cicp == (12, 13) else colours()
    assert error(shown, right) < 0.3


P3_CHROMATICITIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def test_gamma_and_chromaticities_of_a_png_are_applied():
    linear = open_image(png(chunk(b"gAMA", struct.pack(">I", 100_000))))
    light = colours() / 255
    right = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert error(linear, right) < 0.6
    shown = open_image(png(chunk(b"gAMA", struct.pack(">I", 45_455)), chunk(b"cHRM", P3_CHROMATICITIES)))
    assert error(shown, colour_profiles.expected(colours(), "p3")) < 3
    assert error(shown, colours()) > 4


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(b"gAMA", struct.pack(">I", 45_455)),),
        (chunk(b"gAMA", struct.pack(">I", 0)),),
        (chunk(b"gAMA", struct.pack(">I", 1)),),
        (chunk(b"cHRM", P3_CHROMATICITIES),),
        (chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")),
        (chunk(b"gAMA", struct.pack(">I", 50_000)), chunk(b"cHRM", bytes(32))),
    ],
)
def test_chunk_that_says_nothing_usable_moves_nothing(chunks):
    np.testing.assert_array_equal(np.asarray(open_image(png(*chunks))), colours())
