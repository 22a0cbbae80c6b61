"""Several fits of one head, joined into a single head whose score is the mean of theirs.

The parts of the fits stand side by side, so that the joined head is an ordinary one of the same depth: nothing else
has to know of it, and one pass answers for all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from modeling import RobustClipForImageClassification
from modeling.modeling_robust_clip import RobustClipHead


def widen(model: RobustClipForImageClassification, members: int) -> None:
    """Give a fresh model a head of the size that so many of its own make together; its configuration says so.

    Raises:
        ValueError: `members` is below 1, or above it with a head of two blocks or more or one that reads text.
    """
    config = model.config
    if members < 1:
        raise ValueError(f"`head_members` must be 1 or more, got {members}.")
    if members == 1:
        return
    if config.head_depth > 1:
        raise ValueError(
            f"`head_members` must be 1 for a head of {config.head_depth} blocks, got {members}: side by side, the "
            "weights between their hidden layers would be mostly zeros. Set `head_depth` to 0 or 1."
        )
    if config.text_config is not None:
        raise ValueError(
            f"`head_members` must be 1 for a head that reads text, got {members}: each fit learns a no-text embedding "
            "of its own, and the joined head has room for one. Fit on a bank without text."
        )
    if config.head_depth == 1:
        config.head_width = members * (config.head_width or config.feature_dim)
        model.reset_head()


@contextmanager
def narrowed(model: RobustClipForImageClassification, members: int) -> Iterator[None]:
    """Within the body `model.reset_head` makes a head of the size of one of so many members of the model's own."""
    width = model.config.head_width
    try:
        if members > 1 and model.config.head_depth == 1:
            model.config.head_width = width // members
        yield
    finally:
        model.config.head_width = width


@torch.no_grad()
def join_heads(heads: Sequence[RobustClipHead]) -> dict[str, Tensor]:
    """State of the head whose score is the mean of these heads' scores, in evaluation mode.

    With a block each, the M heads' hidden units and their BatchNorms stand side by side, (M W, D), and the last
    Linear's weights, (1, M W), and bias are divided by M. Without a block, weights and bias are the means.

    Args:
        heads: of one shape, with at most one block, and the same components where they have some.
    """
    states = [head.state_dict() for head in heads]
    last = f"layers.{len(heads[0].layers) - 1}."
    joined = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if name == f"{last}bias" or (name == f"{last}weight" and len(heads[0].layers) == 1):
            joined[name] = torch.stack(values).mean(dim=0)
        elif name == f"{last}weight":
            joined[name] = torch.cat(values, dim=1) / len(heads)
        elif name.startswith("components.") or first.ndim == 0:  # ndim 0: BatchNorm's count of batches
            joined[name] = first
        else:
            joined[name] = torch.cat(values)
    return joined


__all__ = ["join_heads", "narrowed", "widen"]
