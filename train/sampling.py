"""A sampler whose every batch holds both classes.

CVaR and the pairwise loss are statistics of a batch: one without real pictures has no pair, and one with few of them a
noisy tail. Shuffling leaves the share of a class in a batch to chance; here it is fixed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class StratifiedSampler(Sampler[int]):
    """Random order in which every stretch of consecutive samples has the same share of real ones, to within a sample.

    So every batch of any size does, also when a batch is split into micro-batches or dealt to processes. Each class is
    shuffled and spread evenly over the epoch. With another share than the data's, the class that is short is shuffled
    and repeated until the other has been seen once.

    Args:
        labels: (N,) of 0 = real and 1 = generated; both must be there.
        real_share: share of real samples in every batch, in (0, 1); `None` keeps that of the data.
        seed: with the epoch's number it decides the order.

    Raises:
        ValueError: a class is missing, or `real_share` is out of range.
    """

    def __init__(self, labels: Tensor, real_share: float | None = None, seed: int = 0) -> None:
        self.rows = [torch.nonzero(labels == label).flatten() for label in (0, 1)]
        real, generated = (len(rows) for rows in self.rows)
        if not real or not generated:
            raise ValueError(f"A stratified sampler needs both classes, got {real} real and {generated} generated.")
        share = real / (real + generated) if real_share is None else real_share
        if not 0 < share < 1:
            raise ValueError(f"`real_share` must be in (0, 1), got {share}.")
        # The class that the share asks least of, relative to what there is, is seen exactly once.
        total = max(real / share, generated / (1 - share))
        self.counts = [max(real, round(share * total)), max(generated, round((1 - share) * total))]
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, as Trainer does before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples in an epoch."""
        return sum(self.counts)

    def __iter__(self) -> Iterator[int]:
        # A seed that is one sum would give epoch 1 of seed 0 the order of epoch 0 of seed 1.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order, positions = [], []
        for rows, count in zip(self.rows, self.counts, strict=True):
            repeats = -(-count // len(rows))
            shuffled = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(repeats)]
            order.append(torch.cat(shuffled)[:count])
            offset = torch.rand((), generator=generator, dtype=torch.float64)
            positions.append((torch.arange(count, dtype=torch.float64) + offset) / count)
        return iter(torch.cat(order)[torch.cat(positions).argsort()].tolist())


__all__ = ["StratifiedSampler"]
