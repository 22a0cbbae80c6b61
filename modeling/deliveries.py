"""Deliveries: what happens to a picture on its way (re-encoding, resizing, cropping, blur, noise, a screenshot).

Used to train, to test and to probe. Every function takes and returns an 8-bit RGB picture, depends only on its
arguments and the given random generator, and never sees a label: both classes travel the same way.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from .images import MAX_PIXELS, MIN_SIDE

# The longest side that each codec can hold.
CODEC_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode as JPEG (quality 1 to 95, chroma halved below 90 as most encoders do) and decode."""
    return _recode(image, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)


def webp(image: Image.Image, quality: int) -> Image.Image:
    """Encode as lossy WebP (quality 0 to 100) and decode."""
    return _recode(image, "WEBP", quality=quality)


def resize(image: Image.Image, scale: float) -> Image.Image:
    """Resize both sides by `scale` (Lanczos), as far as `open_image` would accept the result."""
    scale = _allowed_scale(image, scale)
    width, height = (max(MIN_SIDE, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def fit_within(image: Image.Image, long_side: int) -> Image.Image:
    """Shrink until the long side is `long_side` pixels; a smaller picture stays as it is."""
    scale = long_side / max(image.size)
    return image if scale >= 1 else resize(image, scale)


def crop(image: Image.Image, fraction: float, rng: np.random.Generator) -> Image.Image:
    """Keep a window with `fraction` in (0, 1] of each side, at a random place."""
    width, height = (min(side, max(MIN_SIDE, round(side * fraction))) for side in image.size)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def blur(image: Image.Image, sigma: float) -> Image.Image:
    """Gaussian blur with a standard deviation of `sigma` pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def noise(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Add independent Gaussian noise of standard deviation `sigma`, in 8-bit units, to every channel."""
    values = np.asarray(image, dtype=np.float32)
    values = values + rng.normal(0, sigma, values.shape).astype(np.float32)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def thumbnail(image: Image.Image, long_side: int) -> Image.Image:
    """Shrink to a thumbnail and enlarge again to the first size, as a page does that shows a preview large."""
    return fit_within(image, long_side).resize(image.size, Image.Resampling.BICUBIC)


def screenshot(image: Image.Image, scale: float = 0.8) -> Image.Image:
    """Show the picture at `scale` with a browser's bilinear resampling, trim the edge by a pixel; no codec."""
    width, height = (max(MIN_SIDE + 2, round(side * scale)) for side in image.size)
    shown = image.resize((width, height), Image.Resampling.BILINEAR)
    return shown.crop((1, 1, width - 1, height - 1))


Delivery = Callable[[Image.Image, np.random.Generator], Image.Image]

STANDARD_DELIVERIES: dict[str, Delivery] = {
    "clean": lambda image, rng: image,
    "jpeg_95": lambda image, rng: jpeg(image, 95),
    "jpeg_80": lambda image, rng: jpeg(image, 80),
    "jpeg_60": lambda image, rng: jpeg(image, 60),
    "jpeg_40": lambda image, rng: jpeg(image, 40),
    "jpeg_30": lambda image, rng: jpeg(image, 30),
    "webp_80": lambda image, rng: webp(image, 80),
    "webp_50": lambda image, rng: webp(image, 50),
    "resize_150": lambda image, rng: resize(image, 1.5),
    "resize_50": lambda image, rng: resize(image, 0.5),
    "resize_25": lambda image, rng: resize(image, 0.25),
    "web": lambda image, rng: jpeg(fit_within(image, 768), 60),
    "hard": lambda image, rng: jpeg(fit_within(image, 512), 40),
    "thumbnail_128": lambda image, rng: thumbnail(image, 128),
    "thumbnail_64": lambda image, rng: thumbnail(image, 64),
    "blur_1": lambda image, rng: blur(image, 1),
    "blur_2": lambda image, rng: blur(image, 2),
    "noise_5": lambda image, rng: noise(image, 5, rng),
    "crop_80": lambda image, rng: crop(image, 0.8, rng),
    "screenshot": lambda image, rng: screenshot(image),
    "social": lambda image, rng: webp(jpeg(fit_within(image, 1080), 75), 70),
    "reposted": lambda image, rng: jpeg(screenshot(webp(jpeg(fit_within(image, 1080), 75), 70)), 70),
}


def random_delivery(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Send a picture on a random way.

    Args:
        image: RGB.
        rng: decides everything; the same state gives the same pixels.

    Returns:
        The delivered picture and a name such as "crop_0.82+resize_0.50+jpeg_61".
    """
    steps = []
    if rng.random() < 0.4:
        fraction = rng.uniform(0.6, 1)
        image = crop(image, fraction, rng)
        steps.append(f"crop_{fraction:.2f}")
    if rng.random() < 0.6:
        scale = _allowed_scale(image, rng.uniform(0.35, 1.5))
        image = resize(image, scale)
        steps.append(f"resize_{scale:.2f}")
    if rng.random() < 0.15:
        sigma = rng.uniform(0.3, 1.5)
        image = blur(image, sigma)
        steps.append(f"blur_{sigma:.1f}")
    if rng.random() < 0.1:
        sigma = rng.uniform(1, 6)
        image = noise(image, sigma, rng)
        steps.append(f"noise_{sigma:.1f}")
    codec = rng.random()
    quality = int(rng.integers(30, 96))
    if codec < 0.7:
        image = jpeg(image, quality)
        steps.append(f"jpeg_{quality}")
    elif codec < 0.95:
        image = webp(image, quality)
        steps.append(f"webp_{quality}")
    return image, "+".join(steps) or "clean"


def _allowed_scale(image: Image.Image, scale: float) -> float:
    """The nearest scale that keeps the short side at `MIN_SIDE` and an enlarged picture within `MAX_PIXELS`."""
    if scale < 1:
        return max(scale, MIN_SIDE / min(image.size))
    return min(scale, max(1.0, math.sqrt(MAX_PIXELS / (image.width * image.height))))


def _recode(image: Image.Image, codec: str, **options: int) -> Image.Image:
    """Encode and decode; what a strip has beyond the codec's longest side is cut off."""
    limit = CODEC_MAX_SIDE[codec]
    if max(image.size) > limit:
        image = image.crop((0, 0, min(image.width, limit), min(image.height, limit)))
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")


__all__ = [
    "STANDARD_DELIVERIES",
    "blur",
    "crop",
    "fit_within",
    "jpeg",
    "noise",
    "random_delivery",
    "resize",
    "screenshot",
    "thumbnail",
    "webp",
]
