"""Gaussian noise on what the head's first layer sees, in training: an attempt against sources that were never seen.

The noise is relative: each part of a sample's features (embedding, each token, text) gets noise in proportion to its
own root mean square, so that no part is drowned by another's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from modeling.modeling_robust_clip import RobustClipHead


def add_noise(features: Tensor, widths: Sequence[int], scale: float) -> Tensor:
    """Add to each part x of each row noise of standard deviation scale * sqrt(mean(x^2)).

    Args:
        features: (B, D).
        widths: of the parts, D in all.
        scale: 0 or more.

    Returns:
        (B, D). The level of the noise is held fixed in the gradient.
    """
    parts = features.detach().split(list(widths), dim=-1)
    levels = [part.square().mean(dim=-1, keepdim=True).sqrt().expand_as(part) for part in parts]
    return features + scale * torch.cat(levels, dim=-1) * torch.randn_like(features)


@contextmanager
def feature_noise(model: nn.Module, scale: float) -> Iterator[None]:
    """Within the body the first layer of a detector's head sees noisy features; with a scale of 0 nothing changes."""
    if scale == 0:
        yield
        return
    head = cast(RobustClipHead, model.head)
    widths = head.part_widths

    def hook(layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (features,) = inputs
        text = features.shape[-1] - sum(widths)
        return add_noise(features, [*widths, text] if text else widths, scale)

    handle = head.layers[0].register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


__all__ = ["add_noise", "feature_noise"]
