"""Deliveries: what they do, that a generator decides them, and that no result is too small to judge."""

import inspect
import re

import numpy as np
import pytest
from PIL import Image

from modeling import deliveries
from modeling.deliveries import STANDARD_DELIVERIES, random_delivery
from modeling.images import MAX_PIXELS, MIN_SIDE, open_image


def photo(width=160, height=120):
    """Smooth shades with some grain, as a photograph has."""
    y, x = np.mgrid[0:height, 0:width]
    shades = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=2)
    grain = np.random.default_rng(0).normal(0, 8, shades.shape)
    return Image.fromarray(np.clip(shades + grain, 0, 255).astype(np.uint8))


def distance(first, second):
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


@pytest.mark.parametrize("name", STANDARD_DELIVERIES)
def test_standard_delivery_gives_a_usable_rgb_picture_and_leaves_the_input_alone(name):
    image = photo()
    before = image.tobytes()
    result = STANDARD_DELIVERIES[name](image, np.random.default_rng(0))
    assert open_image(result).mode == "RGB" and image.tobytes() == before


@pytest.mark.parametrize("name", STANDARD_DELIVERIES)
def test_only_the_clean_delivery_leaves_every_pixel(name):
    image = photo(900, 700)
    delivered = STANDARD_DELIVERIES[name](image, np.random.default_rng(0))
    assert (delivered.tobytes() == image.tobytes()) == (name == "clean")


def test_standard_deliveries_keep_their_places():
    """A delivery's place seeds what is random in it (`Embedder`): a new one is appended, or stored figures move."""
    agreed = "clean jpeg_95 jpeg_80 jpeg_60 jpeg_40 jpeg_30 webp_80 webp_50 resize_150 resize_50 resize_25 web hard"
    agreed += " thumbnail_128 thumbnail_64 blur_1 blur_2 noise_5 crop_80 screenshot social reposted"
    assert [*STANDARD_DELIVERIES][: len(agreed.split())] == agreed.split()


@pytest.mark.parametrize("size", [(32, 32), (33, 200), (32, 900), (2000, 40)])
def test_no_delivery_goes_below_the_smallest_side(size):
    image = photo(*size)
    for name, delivery in STANDARD_DELIVERIES.items():
        assert min(delivery(image, np.random.default_rng(0)).size) >= MIN_SIDE, name
    for seed in range(40):
        delivered, name = random_delivery(image, np.random.default_rng(seed))
        assert min(delivered.size) >= MIN_SIDE, name


def test_lower_quality_loses_more():
    image = photo()
    for codec in (deliveries.jpeg, deliveries.webp):
        losses = [distance(codec(image, quality), image) for quality in (95, 60, 30)]
        assert 0 < losses[0] < losses[1] < losses[2]


def test_fit_within_shrinks_to_the_long_side_and_never_enlarges():
    image = photo(160, 120)
    assert deliveries.fit_within(image, 80).size == (80, 60)
    assert deliveries.fit_within(image, 160) is image
    assert deliveries.fit_within(image, 500) is image


def test_resize_multiplies_both_sides():
    assert deliveries.resize(photo(160, 120), 0.5).size == (80, 60)
    assert deliveries.resize(photo(160, 120), 1.5).size == (240, 180)


def test_resize_does_not_enlarge_beyond_the_pixel_limit(monkeypatch):
    monkeypatch.setattr(deliveries, "MAX_PIXELS", 160 * 120 * 1.21)
    assert MAX_PIXELS > 160 * 120 * 2.25
    assert deliveries.resize(photo(160, 120), 1.5).size == (176, 132)
    monkeypatch.setattr(deliveries, "MAX_PIXELS", 100)
    assert deliveries.resize(photo(160, 120), 1.5).size == (160, 120)


def test_crop_keeps_its_fraction_and_comes_from_inside_the_picture():
    image = photo(160, 120)
    pixels = np.asarray(image)
    for seed in range(20):
        cut = np.asarray(deliveries.crop(image, 0.5, np.random.default_rng(seed)))
        assert cut.shape == (60, 80, 3)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, cut.shape)[:, :, 0]
        corner = (windows[:, :, 0, 0] == cut[0, 0]).all(axis=-1)
        assert any((windows[place] == cut).all() for place in zip(*np.nonzero(corner), strict=True))
    assert deliveries.crop(image, 1.0, np.random.default_rng(0)).tobytes() == image.tobytes()


def test_noise_has_the_given_deviation_and_no_bias():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    added = np.asarray(deliveries.noise(grey, 5, np.random.default_rng(0)), dtype=float) - 128
    assert added.std() == pytest.approx(5, rel=0.02) and abs(added.mean()) < 0.05


def test_noise_at_black_and_white_does_not_wrap_around():
    for value in (0, 255):
        flat = Image.new("RGB", (64, 64), (value, value, value))
        assert distance(deliveries.noise(flat, 5, np.random.default_rng(0)), flat) < 5


def test_blur_spreads_a_point_by_its_sigma():
    point = np.zeros((65, 65, 3), dtype=np.uint8)
    point[31:34, 31:34] = 255
    spread = np.asarray(deliveries.blur(Image.fromarray(point), 3), dtype=float)[..., 0]
    axis = np.arange(65) - 32
    variance = (spread.sum(axis=0) * axis**2).sum() / spread.sum()
    assert variance - 2 / 3 == pytest.approx(9, rel=0.15)  # a 3 x 3 block has a variance of 2 / 3


def test_thumbnail_keeps_the_size_and_loses_the_detail():
    image = photo(320, 240)
    small = deliveries.thumbnail(image, 64)
    assert small.size == image.size
    assert np.asarray(small, dtype=float).var() < np.asarray(image, dtype=float).var()
    assert deliveries.thumbnail(image, 400).tobytes() == image.tobytes()


def test_screenshot_is_free_of_a_codec_and_trims_the_edge():
    flat = Image.new("RGB", (200, 100), (10, 200, 30))
    shot = deliveries.screenshot(flat)
    assert shot.size == (158, 78)
    assert shot.getcolors() == [(158 * 78, (10, 200, 30))]


@pytest.mark.parametrize(("codec", "size"), [("webp", (16_500, 40)), ("jpeg", (66_000, 32))])
def test_strip_longer_than_the_codec_can_hold_is_cut_off(codec, size):
    delivered = getattr(deliveries, codec)(Image.new("RGB", size), 60)
    assert delivered.height == size[1] and 16_000 < delivered.width < size[0]


def test_same_generator_state_gives_the_same_pixels_and_another_does_not():
    image = photo()
    for name, delivery in STANDARD_DELIVERIES.items():
        first, second = (delivery(image, np.random.default_rng(3)).tobytes() for _ in range(2))
        assert first == second, name
    runs = [random_delivery(image, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert runs[0][0].tobytes() == runs[1][0].tobytes() and runs[0][1] == runs[1][1]
    assert runs[0][1] != runs[2][1]


def test_random_names_say_what_was_done():
    image = photo(400, 300)
    names = []
    for seed in range(300):
        delivered, name = random_delivery(image, np.random.default_rng(seed))
        names.append(name)
        step = r"(crop|resize)_\d\.\d\d|(blur|noise)_\d\.\d|(jpeg|webp)_\d\d"
        assert name == "clean" or all(re.fullmatch(step, part) for part in name.split("+"))
        scale = float(np.prod([float(v) for v in re.findall(r"(?:crop|resize)_(\d\.\d\d)", name)] or [1.0]))
        assert delivered.width == pytest.approx(400 * scale, rel=0.03)
    assert np.mean([("jpeg" in name or "webp" in name) for name in names]) > 0.9
    qualities = [int(quality) for name in names for quality in re.findall(r"(?:jpeg|webp)_(\d\d)", name)]
    assert 30 <= min(qualities) < 40 and 85 < max(qualities) <= 95


def test_clamped_resize_is_named_by_the_scale_that_was_used():
    image = photo(32, 32)
    scales = []
    for seed in range(60):
        _, name = random_delivery(image, np.random.default_rng(seed))
        scales += re.findall(r"resize_(\d\.\d\d)", name)
    assert scales and min(float(scale) for scale in scales) == 1.0


def test_no_delivery_can_see_a_label():
    assert list(inspect.signature(random_delivery).parameters) == ["image", "rng"]
    for delivery in STANDARD_DELIVERIES.values():
        assert list(inspect.signature(delivery).parameters) == ["image", "rng"]
