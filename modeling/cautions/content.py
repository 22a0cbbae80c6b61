"""Whether there is anything in what the model sees: not in one colour, an even gradient or noise.

A smooth surface (of second degree) is taken out of each colour. Of one colour and of an even gradient hardly anything
is left; of noise something is, of which no pixel says anything about the pixels some places away. Every photograph has
objects or areas that are larger than that. A model answers to an empty square too, to some with much confidence.
"""

from functools import cache

import torch
from torch import Tensor

# The code of the caution, and of the reason of a verdict.
NO_CONTENT = "no_content"
# Pixels along a side that are looked at: a strided copy of a larger square says the same in less time.
SIDE = 112
# How far apart pixels are compared. In the square itself neighbours are alike in noise too, once it was resized.
DISTANCES = (1, 2, 4, 8, 16)
# What is left of 8-bit levels, as a standard deviation, and the largest correlation at any of the distances. None of
# the 2,940 real pictures of the development set has under 9.8 and 0.21, by bench/cautions.py; noise of 128 and more
# pixels a side, scaled to the square, has at most 0.08. That of fewer pixels becomes spots, which pass.
MIN_LEFT = 1.0
MIN_CORRELATION = 0.13
# Of a smaller square the correlation is not trusted: noise of so few pixels may look ordered.
LEAST_SIDE = 96


def measure_content(pixel_values: Tensor, image_std: list[float]) -> tuple[Tensor, Tensor]:
    """What is left of each picture, and how far its parts belong together.

    Args:
        pixel_values: float32 [B, 3, size, size], as the image processor gives them.
        image_std: the processor's.

    Returns:
        Standard deviation of what is left in the strongest colour, (B,), in levels of 255; and the largest correlation
        of pixels at one of the distances, across or down, (B,), in [0, 1].
    """
    stride = max(1, pixel_values.shape[-1] // SIDE)
    levels = 255 * pixel_values[..., ::stride, ::stride] * torch.tensor(image_std)[:, None, None]  # [B, 3, S, S]
    surfaces = _surfaces(*levels.shape[-2:])
    flat = levels.flatten(2)
    left = (flat - flat @ surfaces @ surfaces.T).view_as(levels)
    variance = left.square().mean((2, 3)).clamp_min(1e-9)  # [B, 3]
    strongest = [
        (here * there).mean((2, 3)).abs() / variance
        for distance in DISTANCES
        for here, there in (
            (left[..., distance:], left[..., :-distance]),
            (left[..., distance:, :], left[..., :-distance, :]),
        )
    ]
    # A colour of which hardly anything is left says nothing: its rounding may look like a pattern.
    correlation = torch.stack(strongest).amax(0).where(variance.sqrt() >= MIN_LEFT, 0.0)
    return variance.sqrt().amax(1), correlation.amax(1)


def has_content(pixel_values: Tensor, image_std: list[float]) -> list[bool]:
    """Whether there is anything to judge in each of B pictures. Arguments as in `measure_content`."""
    left, correlation = measure_content(pixel_values, image_std)
    ordered = correlation >= (MIN_CORRELATION if pixel_values.shape[-1] >= LEAST_SIDE else 0.0)
    return ((left >= MIN_LEFT) & ordered).tolist()


@cache
def _surfaces(height: int, width: int) -> Tensor:
    """An orthonormal basis of the surfaces of second degree, [height * width, 6]."""
    y, x = torch.meshgrid(
        *(torch.linspace(-1, 1, side, dtype=torch.float64) for side in (height, width)), indexing="ij"
    )
    terms = [torch.ones_like(x), x, y, x * x, y * y, x * y]
    return torch.linalg.qr(torch.stack([term.flatten() for term in terms], 1))[0].float()


__all__ = ["NO_CONTENT", "has_content", "measure_content"]
