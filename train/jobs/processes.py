"""What several processes share: one loss over the union of their batches, one ascent direction.

Started by torchrun or accelerate; with one process every function here returns its input.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor


def start_processes() -> PartialState:
    """This process and its kin: which of how many, on what device, with a process group where there are several.

    The first caller's settings hold for the process, so that everything that may be the first calls this.
    """
    # Without `cpu` accelerate starts no process group where there is no accelerator. The first process to finish waits
    # for the last, and all wait while the first downloads.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=1))


def cores_of_a_process() -> int:
    """Torchrun and accelerate say how many processes share this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def world_size() -> int:
    """Number of processes that train together; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def first_decides(value: bool) -> bool:
    """The first process's answer, for all: a file may be seen by one process and not yet by another."""
    answer = [value]
    if world_size() > 1:
        dist.broadcast_object_list(answer, src=0)
    return answer[0]


class _Gather(torch.autograd.Function):
    """All processes' rows; the gradient of this process's rows times the number of processes.

    Every process computes the same loss of the same gathered scores, so that the gradient by the local rows needs no
    exchange. DistributedDataParallel then averages over processes, which the factor undoes.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        sizes = [torch.zeros((), dtype=torch.long, device=tensor.device) for _ in range(world_size())]
        dist.all_gather(sizes, torch.tensor(len(tensor), device=tensor.device))
        lengths = [int(size) for size in sizes]
        # Collectives want equal shapes; the last batches of an epoch may differ.
        padded = torch.zeros(max(lengths), *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        rank = dist.get_rank()
        ctx.start, ctx.length = sum(lengths[:rank]), len(tensor)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output[ctx.start : ctx.start + ctx.length] * world_size()


def gather_batch(tensor: Tensor) -> Tensor:
    """Rows (B, ...) of every process in the order of their ranks: (sum of B, ...).

    Differentiable under one condition: every process goes on to compute the same function of the result, and
    gradients of parameters are averaged over processes.
    """
    return _Gather.apply(tensor) if world_size() > 1 else tensor


def average_gradients(gradients: Sequence[Tensor | None]) -> None:
    """Replace each gradient, in place, by its mean over the processes, in one exchange."""
    present = [gradient for gradient in gradients if gradient is not None]
    if world_size() == 1 or not present:
        return
    flat = torch.cat([gradient.flatten() for gradient in present])
    dist.all_reduce(flat)
    for gradient, mean in zip(present, (flat / world_size()).split([g.numel() for g in present]), strict=True):
        gradient.copy_(mean.view_as(gradient))


__all__ = ["average_gradients", "cores_of_a_process", "first_decides", "gather_batch", "start_processes", "world_size"]
