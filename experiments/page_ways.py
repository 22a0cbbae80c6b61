"""Rendered pages as they come: as files, shared, scanned, photographed; always the same ones."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFilter
from rendered_pages import KINDS, Rng, photograph

from modeling.deliveries import STANDARD_DELIVERIES, jpeg, noise, random_delivery, resize

HARD = ("jpeg_30", "webp_50", "resize_25", "hard", "thumbnail_64", "blur_2", "crop_80", "screenshot", "reposted")


def photographed(page: Image.Image, rng: Rng) -> Image.Image:
    """A page on a table or in front of something, at an angle, lit from one side, with noise."""
    page = page.copy()
    page.thumbnail((900, 900))
    width, height = (int(side * rng.uniform(1.02, 1.4)) for side in page.size)
    if rng.random() < 0.5:
        ground = photograph(rng).resize((width, height)).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 6))))
    else:
        base = np.array([rng.uniform(30, 200), rng.uniform(30, 160), rng.uniform(30, 140)])
        grain = np.sin(np.arange(height) * rng.uniform(0.05, 0.3))[:, None, None] * 10
        ground = Image.fromarray(np.clip(base + grain + rng.normal(0, 4, (height, width, 1)), 0, 255).astype(np.uint8))
    inner = [(0, 0), (0, page.height), (page.width, page.height), (page.width, 0)]
    shift = np.array([(width - page.width) / 2, (height - page.height) / 2])
    reach = 0.07 * min(page.size)
    outer = [tuple(np.array(corner) + shift + rng.uniform(-reach, reach, 2)) for corner in inner]
    turn = perspective(outer, inner)
    angle = float(rng.uniform(-8, 8))
    options = {"resample": Image.Resampling.BICUBIC}
    mask = Image.new("L", page.size, 255).transform((width, height), Image.Transform.PERSPECTIVE, turn, **options)
    top = page.transform((width, height), Image.Transform.PERSPECTIVE, turn, **options)
    ground.paste(top.rotate(angle, **options), mask=mask.rotate(angle, **options))
    return camera(ground, rng)


def perspective(seen: list, wanted: list) -> tuple[float, ...]:
    """The eight numbers that `Image.transform` wants: where each corner seen comes from."""
    rows = []
    for (x, y), (u, v) in zip(seen, wanted, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return tuple(np.linalg.solve(np.array(rows), np.array(wanted, dtype=float).ravel()))


def camera(picture: Image.Image, rng: Rng) -> Image.Image:
    """Uneven light, a tint, a little blur, noise and JPEG."""
    down, across = np.mgrid[-1 : 1 : picture.height * 1j, -1 : 1 : picture.width * 1j]
    direction = rng.uniform(0, 2 * math.pi)
    light = rng.uniform(0.6, 0.95) + 0.25 * rng.random() * (math.cos(direction) * across + math.sin(direction) * down)
    tint = np.array([1, rng.uniform(0.88, 1), rng.uniform(0.7, 1)])
    lit = np.clip(np.asarray(picture) * light[..., None] * tint, 0, 255).astype(np.uint8)
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
    return jpeg(noise(blurred, float(rng.uniform(2, 9)), rng), int(rng.integers(60, 93)))


def scanned(page: Image.Image, rng: Rng) -> Image.Image:
    """Slightly turned, greyish or yellowish, at times in black and white only."""
    page = page.rotate(float(rng.uniform(-2, 2)), Image.Resampling.BICUBIC, fillcolor=page.getpixel((0, 0)))
    if rng.random() < 0.3:
        return page.convert("L").point(lambda value: 255 * (value > 128)).convert("RGB")
    return camera(page, rng)


def close(page: Image.Image, rng: Rng) -> Image.Image:
    """A part of a page that fills the camera's picture."""
    width, height = (int(side * rng.uniform(0.45, 0.85)) for side in page.size)
    left, top = int(rng.integers(0, page.width - width + 1)), int(rng.integers(0, page.height - height + 1))
    return camera(page.rotate(float(rng.uniform(-5, 5))).crop((left, top, left + width, top + height)), rng)


WAYS: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "as a file": lambda page, rng: page,
    "shared": lambda page, rng: random_delivery(page, rng)[0],
    "scanned": scanned,
    "photographed": photographed,
    "close": close,
    "small": lambda page, rng: jpeg(resize(page, 336 / min(page.size)), 86),
}


def rendered(each: int) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, way, RGB picture): `each` of every kind, the ways in turn."""
    for index in range(each):
        for row, (kind, make) in enumerate(KINDS.items()):
            rng = np.random.default_rng([0, row, index])
            way = list(WAYS)[(index + row) % len(WAYS)]
            yield kind, way, WAYS[way](make(rng), rng).convert("RGB")


def delivered(each: int) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, delivery, RGB picture): others, as files and photographed, that went one of the hardest standard ways."""
    for index in range(each):
        for row, (kind, make) in enumerate(KINDS.items()):
            rng = np.random.default_rng([1, row, index])
            page = make(rng)
            if (index + row) % 2 == 0:
                page = photographed(page, rng)
            name = HARD[(row + 10 * index) % len(HARD)]
            yield kind, name, STANDARD_DELIVERIES[name](page, np.random.default_rng(0))


__all__ = ["HARD", "WAYS", "delivered", "photographed", "rendered"]
