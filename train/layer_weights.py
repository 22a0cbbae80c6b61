"""A learned weight for each part of the image features: how much the head makes of the embedding and of each layer.

As RINE's importance of blocks (arXiv 2402.19091), with one number for a part instead of one for each of its columns:
principal components of two layers have no column in common. A weight times a part is a weight times the columns of the
first Linear that read it, so what is learned is folded into them, and the head that comes out is an ordinary one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from modeling.modeling_robust_clip import RobustClipHead

# AdamW moves a number by about the learning rate at each step, too little for a weight to halve within a short fit.
PACE = 10


class PartWeights(nn.Module):
    """The first Linear's weights times what its parts count: N softmax(PACE * logits) for N parts, 1 for the text.

    Args:
        widths: of the parts of the image features.
    """

    def __init__(self, widths: list[int]) -> None:
        """All parts count alike, 1."""
        super().__init__()
        self.widths = widths
        self.logits = nn.Parameter(torch.zeros(len(widths)))

    def forward(self, weight: Tensor) -> Tensor:
        """Weights (W, D) of the first Linear as they act."""
        shares = len(self.widths) * (PACE * self.logits).softmax(dim=0)
        counts = torch.tensor(self.widths, device=weight.device)
        image = shares.repeat_interleave(counts, output_size=sum(self.widths))
        return weight * torch.cat([image, image.new_ones(weight.shape[1] - len(image))])


@contextmanager
def layer_weights(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the body the head learns what each part counts; afterwards that is in its first Linear. Or nothing."""
    if not wanted:
        yield
        return
    head = cast(RobustClipHead, model.head)
    first = cast(nn.Linear, head.layers[0])
    parametrize.register_parametrization(first, "weight", PartWeights(head.part_widths).to(first.weight.device))
    try:
        yield
    finally:
        parametrize.remove_parametrizations(first, "weight")


__all__ = ["PartWeights", "layer_weights"]
