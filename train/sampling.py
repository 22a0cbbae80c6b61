"""A sampler whose every batch holds both classes, and that can even out their sources and shapes.

CVaR and the pairwise loss are statistics of a batch: one without real pictures has no pair, and one with few of them a
noisy tail. Shuffling leaves the share of a class in a batch to chance; here it is fixed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from .measure.shapes import balance_by_shape


def _draw_weighted(rows: Tensor, groups: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of these rows, each with a chance in proportion to its weight, by systematic resampling.

    Expected numbers of draws are laid end to end, a group's rows side by side, and hit by a comb of `count` teeth,
    one apart: a stretch of length L, of a row, a group or neighbouring groups, is hit floor(L) or ceil(L) times.

    Args:
        rows: (n,) what to draw from.
        groups: (n,) number of each one's group: its source, within its shape.
        weights: (n,) above 0.
        count: draws.
        generator: decides which rows get the rounded-up draws, and the order.

    Returns:
        Drawn rows (count,) in random order.
    """
    shuffled = torch.randperm(len(rows), generator=generator)
    by_group = shuffled[groups[shuffled].argsort(stable=True)]
    weights = weights[by_group]
    ends = (weights / weights.sum() * count).cumsum(0)
    teeth = torch.arange(count) + torch.rand((), generator=generator, dtype=torch.float64)
    hit = torch.searchsorted(ends, teeth, right=True).clamp_max(len(rows) - 1)  # rounding may end the last one early
    return rows[by_group[hit][torch.randperm(count, generator=generator)]]


def _groups_and_weights(
    labels: Tensor, sources: Tensor | None, source_balance: float, shapes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Number (N,) of each sample's source within its shape, and the weights (N,) of `StratifiedSampler`."""
    groups, weights = torch.zeros_like(labels, dtype=torch.long), torch.ones(len(labels), dtype=torch.float64)
    if sources is not None:
        _, groups = sources.unique(return_inverse=True)
        for label in labels.unique():
            rows = labels == label
            weights[rows] = groups[rows].bincount()[groups[rows]].double() ** -source_balance
    if shapes is not None:
        groups = shapes * (int(groups.max()) + 1) + groups
        weights = torch.from_numpy(balance_by_shape(labels, shapes, weights))
    return groups, weights


class StratifiedSampler(Sampler[int]):
    """Random order in which every stretch of consecutive samples has the same share of real ones, to within a sample.

    So every batch of any size does, also when a batch is split into micro-batches or dealt to processes. Each class is
    shuffled and spread evenly over the epoch. With another share than the data's, the class that is short is shuffled
    and repeated until the other has been seen once.

    With `source_balance` an epoch has as many samples of each class as without, drawn with a chance proportional to
    (samples of the source in the class) ** -source_balance. A source comes as often as that expects, rounded up or
    down, and so does each of its samples.

    With `shapes` an epoch has as many samples, too, and a third of a class's are square, wide and tall, rounded up or
    down (`balance_by_shape` says what happens where a class lacks a shape). With both, chances are the product of the
    two, and the shapes have their thirds all the same.

    Args:
        labels: (N,) of 0 = real and 1 = generated; both must be there.
        real_share: share of real samples in every batch, in (0, 1); `None` keeps that of the data.
        seed: with the epoch's number it decides the order.
        sources: (N,) integer number of each sample's source, any numbering; only `source_balance` needs it.
        source_balance: in [0, 1]; 0 draws every sample of a class equally often, 1 every source.
        shapes: (N,) integer number of each sample's shape, to balance them; `None` leaves them as they are.

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
        shapes: Tensor | None = None,
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
        if shapes is not None and len(shapes) != len(labels):
            raise ValueError(f"`shapes` must be those of all {len(labels)} samples, got {len(shapes)}.")
        sources = sources if source_balance > 0 else None
        self.weighted = sources is not None or shapes is not None
        self.groups, self.weights = _groups_and_weights(labels, sources, source_balance, shapes)
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
            if self.weighted:
                drawn = rows[self.weights[rows] > 0]
                order.append(_draw_weighted(drawn, self.groups[drawn], self.weights[drawn], count, generator))
            else:
                repeats = -(-count // len(rows))
                shuffled = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(repeats)]
                order.append(torch.cat(shuffled)[:count])
            offset = torch.rand((), generator=generator, dtype=torch.float64)
            positions.append((torch.arange(count, dtype=torch.float64) + offset) / count)
        return iter(torch.cat(order)[torch.cat(positions).argsort()].tolist())


__all__ = ["StratifiedSampler"]
