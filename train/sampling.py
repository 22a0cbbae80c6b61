"""A sampler whose every batch holds both classes, and that can even out their sources.

CVaR and the pairwise loss are statistics of a batch: one without real pictures has no pair, and one with few of them a
noisy tail. Shuffling leaves the share of a class in a batch to chance; here it is fixed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


def _draw_balanced(rows: Tensor, sources: Tensor, count: int, balance: float, generator: torch.Generator) -> Tensor:
    """Draw `count` of these rows, with weights (rows of its source) ** -balance, by systematic resampling.

    Expected numbers of draws are laid end to end, a source's rows side by side, and hit by a comb of `count` teeth,
    one apart: a stretch of length L, a row's or its whole source's, is hit floor(L) or ceil(L) times.

    Args:
        rows: (n,) what to draw from.
        sources: (n,) number of each one's source.
        count: draws.
        balance: in [0, 1].
        generator: decides which rows get the rounded-up draws, and the order.

    Returns:
        Drawn rows (count,) in random order.
    """
    shuffled = torch.randperm(len(rows), generator=generator)
    by_source = shuffled[sources[shuffled].argsort(stable=True)]
    _, sizes = sources.unique(return_counts=True)
    weights = (sizes.double() ** -balance).repeat_interleave(sizes)  # (n,) in the order of `by_source`
    ends = (weights / weights.sum() * count).cumsum(0)
    teeth = torch.arange(count) + torch.rand((), generator=generator, dtype=torch.float64)
    hit = torch.searchsorted(ends, teeth, right=True).clamp_max(len(rows) - 1)  # rounding may end the last one early
    return rows[by_source[hit][torch.randperm(count, generator=generator)]]


class StratifiedSampler(Sampler[int]):
    """Random order in which every stretch of consecutive samples has the same share of real ones, to within a sample.

    So every batch of any size does, also when a batch is split into micro-batches or dealt to processes. Each class is
    shuffled and spread evenly over the epoch. With another share than the data's, the class that is short is shuffled
    and repeated until the other has been seen once.

    With `source_balance` an epoch has as many samples of each class as without, drawn with a chance proportional to
    (samples of the source in the class) ** -source_balance. A source comes as often as that expects, rounded up or
    down, and so does each of its samples.

    Args:
        labels: (N,) of 0 = real and 1 = generated; both must be there.
        real_share: share of real samples in every batch, in (0, 1); `None` keeps that of the data.
        seed: with the epoch's number it decides the order.
        sources: (N,) integer number of each sample's source, any numbering; only `source_balance` needs it.
        source_balance: in [0, 1]; 0 draws every sample of a class equally often, 1 every source.

    Raises:
        ValueError: a class is missing, a setting is out of range, or `sources` are missing where needed.
    """

    def __init__(
        self,
        labels: Tensor,
        real_share: float | None = None,
        seed: int = 0,
        sources: Tensor | None = None,
        source_balance: float = 0.0,
    ) -> None:
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
        if not 0 <= source_balance <= 1:
            raise ValueError(f"`source_balance` must be in [0, 1], got {source_balance}.")
        if source_balance > 0 and (sources is None or len(sources) != len(labels)):
            found = "none" if sources is None else len(sources)
            raise ValueError(f"`source_balance` needs `sources` of all {len(labels)} samples, got {found}.")
        self.sources = sources
        self.source_balance = source_balance
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
            if self.sources is not None and self.source_balance > 0:
                order.append(_draw_balanced(rows, self.sources[rows], count, self.source_balance, generator))
            else:
                repeats = -(-count // len(rows))
                shuffled = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(repeats)]
                order.append(torch.cat(shuffled)[:count])
            offset = torch.rand((), generator=generator, dtype=torch.float64)
            positions.append((torch.arange(count, dtype=torch.float64) + offset) / count)
        return iter(torch.cat(order)[torch.cat(positions).argsort()].tolist())


__all__ = ["StratifiedSampler"]
