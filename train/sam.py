"""Sharpness-Aware Minimization (Foret et al., arXiv 2010.01412) for use inside a training step.

The base optimiser stays the caller's own: `SAM` only moves the weights to the worst nearby point for the second
gradient, and back. Two more context managers keep what must advance once a step from advancing twice: BatchNorm's
running statistics and the random numbers (dropout masks).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SAM:
    """Moves parameters by rho * g / ||g|| and back, bit for bit.

    Args:
        parameters: the trainable parameters; frozen ones stay outside, also outside the norm.
        rho: radius, 0 or more.

    Raises:
        ValueError: `rho` is negative.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rho: float) -> None:
        """Remember the parameters and the radius."""
        if not rho >= 0:
            raise ValueError(f"`sam_rho` must be 0 or more, got {rho}.")
        self.parameters = list(parameters)
        self.rho = rho

    @contextmanager
    def perturbed(self, gradients: Sequence[Tensor | None]) -> Iterator[float]:
        """Hold the parameters at the ascent point inside the block; put the originals back at its end, also on error.

        Args:
            gradients: one for each parameter, `None` where it has none.

        Yields:
            The norm of all gradients together. At norm 0, or rho 0, nothing moves.

        Raises:
            FloatingPointError: the norm is not finite.
        """
        # At least float32: the square of a half-precision gradient overflows.
        norms = [g.detach().to(torch.promote_types(g.dtype, torch.float32)).norm() for g in gradients if g is not None]
        norm = torch.stack(norms).norm().item() if norms else 0.0
        if not norm < float("inf"):
            raise FloatingPointError(f"The gradient norm is {norm}: no ascent direction.")
        moved = []
        if norm > 0 and self.rho > 0:
            scale = self.rho / norm
            moved = [(p, g) for p, g in zip(self.parameters, gradients, strict=True) if g is not None]
        # Copies, not a subtraction afterwards: (p + e) - e is not p in floating point.
        originals = [parameter.detach().clone() for parameter, _ in moved]
        try:
            with torch.no_grad():
                for parameter, gradient in moved:
                    parameter.add_(gradient.to(parameter.dtype), alpha=scale)
            yield norm
        finally:
            with torch.no_grad():
                for (parameter, _), original in zip(moved, originals, strict=True):
                    parameter.copy_(original)


@contextmanager
def frozen_batch_norm(model: nn.Module) -> Iterator[None]:
    """Normalise by batch statistics inside the block, without updating the running ones.

    Without running statistics BatchNorm in training mode uses the batch's, which is what a first pass did too.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training and layer.track_running_stats
    ]
    kept = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
            layer.track_running_stats = False
        yield
    finally:
        for layer, (mean, variance, batches) in zip(layers, kept, strict=True):
            layer.running_mean, layer.running_var, layer.num_batches_tracked = mean, variance, batches
            layer.track_running_stats = True


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Put the random state back at the end of the block, so that what follows draws the same dropout masks."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


__all__ = ["SAM", "frozen_batch_norm", "same_random_numbers"]
