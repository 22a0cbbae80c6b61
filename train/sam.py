"""Sharpness-Aware Minimization as two moves around a backward pass, for use inside a trainer's own step.

Sources: Foret et al., arXiv 2010.01412; its adaptive form, Kwon et al., arXiv 2102.11600. It is not an optimiser: the
base optimiser, its schedule and its state stay where they are, and SAM keeps nothing between steps. One step of
training reads

    with same_random_numbers(device):
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    with SAM(parameters, rho).perturbed(gradients), frozen_batch_norm(model):
        loss().backward()
    optimizer.step()

Several processes must be given one gradient (`jobs.processes.average_gradients`): each then moves and restores its
own copy alike, so that weights stay equal. Parameters must be whole on each device: sharded ones (FSDP, ZeRO-3) are
not supported.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _global_norm(gradients: Sequence[Tensor]) -> float:
    """Euclidean norm over all gradients together, in float32 or better."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)) for g in gradients]
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms])).item() if norms else 0.0


# Keeps a weight of 0 movable in the adaptive form (eta in Kwon et al.).
ADAPTIVE_FLOOR = 0.01


class SAM:
    """Moves parameters to w + rho * g / ||g||, where the second gradient is taken, and back to exactly w.

    The adaptive form measures the radius relative to each weight: with t = |w| + 0.01 it moves by
    rho * t^2 g / ||t g||, so that rescaling a layer, which changes nothing that a network with normalisation computes,
    does not change the sharpness that is seen.

    Args:
        parameters: The trainable parameters, in the order of the gradients.
        rho: Radius of the ascent, 0 or more; the paper's 0.05. With 0 nothing moves. The adaptive form wants about
            ten times as much.
        adaptive: Whether the radius is relative to each weight.

    Raises:
        ValueError: `rho` is negative or not finite.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float = 0.05, adaptive: bool = False) -> None:
        """Hold the parameters; nothing moves yet."""
        if not 0 <= rho < math.inf:
            raise ValueError(f"`sam_rho` must be 0 or more and finite, got {rho}.")
        self.parameters = list(parameters)
        self.rho = rho
        self.adaptive = adaptive
        self._originals: list[tuple[nn.Parameter, Tensor]] = []

    @torch.no_grad()
    def ascend(self, gradients: Iterable[Tensor | None]) -> float:
        """Add rho * g / ||g||, or its adaptive form, with one norm over all parameters.

        Args:
            gradients: One for each parameter, of its shape; `None` leaves that parameter where it is. All zero: none
                moves.

        Returns:
            The norm ||g||, or ||t g||.

        Raises:
            ValueError: gradients and parameters differ in number or shape.
            RuntimeError: the parameters are perturbed already.
            FloatingPointError: `rho` is above 0 and the norm is not finite; nothing has moved.
        """
        if self._originals:
            raise RuntimeError("The parameters are perturbed already: call `restore` first.")
        gradients = list(gradients)
        if len(gradients) != len(self.parameters):
            raise ValueError(f"`gradients` must be {len(self.parameters)}, one a parameter, got {len(gradients)}.")
        pairs = [(p, g) for p, g in zip(self.parameters, gradients, strict=True) if g is not None]
        for parameter, gradient in pairs:
            if parameter.shape != gradient.shape:  # `add_` would broadcast
                raise ValueError(f"A gradient is {tuple(gradient.shape)}, its parameter {tuple(parameter.shape)}.")
        if self.adaptive:
            scales = [parameter.abs() + ADAPTIVE_FLOOR for parameter, _ in pairs]
            pairs = [(p, scale * g) for (p, g), scale in zip(pairs, scales, strict=True)]
        norm = _global_norm([gradient for _, gradient in pairs])
        if self.rho == 0 or norm == 0:  # even w + 0 * g would turn -0.0 into 0.0, and an infinite g into NaN
            return norm
        if not math.isfinite(norm):
            raise FloatingPointError(f"The norm of the gradients is {norm}: SAM has no direction to ascend.")
        self._originals = [(parameter, parameter.clone()) for parameter, _ in pairs]
        for index, (parameter, gradient) in enumerate(pairs):
            # Divided first: rho / norm may overflow where g / norm cannot.
            direction = scales[index] * (gradient / norm) if self.adaptive else gradient / norm
            parameter.add_(direction.to(parameter.dtype), alpha=self.rho)
        return norm

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the originals back, bit for bit (subtraction would round); does nothing where nothing moved."""
        for parameter, original in self._originals:
            parameter.copy_(original)
        self._originals = []

    @contextmanager
    def perturbed(self, gradients: Iterable[Tensor | None]) -> Iterator[float]:
        """Ascend, yield the norm, and restore, also when the body raises. Takes and raises what `ascend` does."""
        try:
            yield self.ascend(gradients)
        finally:
            self.restore()


@contextmanager
def frozen_batch_norm(model: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics and batch count as they are; layers in training still use the batch's.

    Without `track_running_stats` a layer in training mode hands no running statistics to the kernel; one in evaluation
    mode still uses them. `momentum`, which others set to 0 for this, is not touched.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    flags = [layer.track_running_stats for layer in layers]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.track_running_stats = flag


@contextmanager
def same_random_numbers(device: torch.device | str) -> Iterator[None]:
    """Rewind PyTorch's random numbers after the body, so that the next pass draws the same ones (dropout masks).

    After that pass the generators stand where one pass would have left them.

    Args:
        device: Where the model runs. The CPU's generator is always rewound, and a CUDA or XPU device's with it; that
            of MPS is not, and neither are Python's and NumPy's.
    """
    device = torch.device(device)
    if device.type in ("cpu", "mps"):
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            yield


__all__ = ["SAM", "frozen_batch_norm", "same_random_numbers"]
