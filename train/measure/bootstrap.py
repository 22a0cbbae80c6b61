"""Intervals of a detector's figures, by a bootstrap over sources.

Pictures of one source are not independent, so sources are resampled, not pictures.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from .metrics import roc_auc
from .schema import Figure, Interval
from .sources import number_sources

# A figure of (labels, scores, weights), NaN where it is not defined. It may not depend on the order of the rows.
# `scores` may have a column for each detector.
Statistic = Callable[[NDArray, NDArray, NDArray], float]
# Several figures at once, (M,).
Statistics = Callable[[NDArray, NDArray, NDArray], NDArray]
DRAWS = 1000
# Above so many rows a draw would take milliseconds to seconds: scores are then rounded to BINS quantiles for the
# interval (never for the figure itself), which moves its ends far less than another seed does.
MANY_ROWS, BINS = 20_000, 4096
# Scores of several detectors are not rounded; from MANY_ROWS on they get fewer draws.
FEWER_DRAWS = 200
# Of so few sources many draws are the same: each different one is measured once.
FEW_SOURCES = 8
# Draws that lie in memory at a time: 7 MB, and 800 bytes more for each source.
_AT_ONCE = 100


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    many_rows: int = MANY_ROWS,
) -> Interval | None:
    """Percentile 95 % interval of `statistic(labels, scores, weights)`, resampling whole sources within each class.

    A source that has both classes is resampled in each of them on its own.

    Args:
        statistic: function of three arrays that returns a float; NaN draws are left out.
        labels: (N,).
        scores: (N,) or (N, K). More than `many_rows` of the former are rounded to BINS values; of the latter they get
            at most FEWER_DRAWS draws.
        sources: (N,).
        weights: (N,) of the rows, all equal by default. A source that is drawn k times has k times its weight.
        draws: number of resamples.
        seed: of the resampling.
        many_rows: more rows than these are rounded.

    Returns:
        [low, high], or `None` where a class has one source only: nothing says then how much sources differ.
    """
    intervals = bootstrap_intervals(
        statistic, labels, scores, sources, weights=weights, draws=draws, seed=seed, many_rows=many_rows
    )
    return None if intervals is None else intervals[0]


def bootstrap_intervals(
    statistic: Statistic | Statistics,
    labels: ArrayLike,
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    many_rows: int = MANY_ROWS,
) -> list[Interval] | None:
    """As `bootstrap_interval`, one interval for each figure of a statistic that returns several."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    sources = np.asarray(sources)
    source_of_row, sources_of_class = number_sources(labels, sources)
    if min(sources_of_class) < 2:
        return None
    many = len(labels) > many_rows
    draws = min(draws, FEWER_DRAWS) if many and scores.ndim > 1 else draws
    times: Iterable[NDArray[np.int64]] = _times_drawn(sources_of_class, draws, seed)
    which: slice | NDArray[np.int64] = slice(None)
    if sum(sources_of_class) <= FEW_SOURCES:
        times, which = _different_draws(tuple(sources_of_class), draws, seed)
    resamples = _binned_resamples if many and scores.ndim == 1 else _resamples
    values = np.array([statistic(*drawn) for drawn in resamples(labels, scores, weights, source_of_row, iter(times))])
    values = values[which]
    ends = np.nanpercentile(values.reshape(len(values), -1), [2.5, 97.5], axis=0)
    return [[float(low), float(high)] for low, high in ends.T]


def _times_drawn(sources_of_class: Sequence[int], draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each source is drawn (S,), draw by draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([np.bincount(rng.integers(n, size=n), minlength=n) for n in sources_of_class])


@lru_cache(maxsize=64)
def _different_draws(
    sources_of_class: tuple[int, ...], draws: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The draws (K, S) that differ, and which of them each draw is, (draws,). Not to be written to."""
    return np.unique(np.array([*_times_drawn(sources_of_class, draws, seed)]), axis=0, return_inverse=True)


def _resamples(
    labels: NDArray, scores: NDArray, weights: NDArray, source_of_row: NDArray, times: Iterator[NDArray]
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Labels, scores and the weights of each draw."""
    if scores.ndim == 1:  # sorted once, so that no draw has to: a ROC figure takes two fifths less time
        order = np.argsort(-scores, kind="stable")
        labels, scores, source_of_row, weights = labels[order], scores[order], source_of_row[order], weights[order]
    for drawn in times:
        yield labels, scores, weights * drawn[source_of_row]


def _binned_resamples(
    labels: NDArray, scores: NDArray, weights: NDArray, source_of_row: NDArray, times: Iterator[NDArray]
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """As `_resamples`, of the classes' weights in quantile bins of the score: a draw is a sum over sources.

    Scores that take few values lie in bins of their own, so that nothing is rounded.
    """
    bin_of_row, middles = _bins(scores)
    classes = np.unique(labels)
    cell = bin_of_row + len(middles) * np.searchsorted(classes, labels)  # the bins of one class, then of the next
    shape = (len(classes) * len(middles), source_of_row.max() + 1)
    weight_of_cell = csr_array((weights, (cell, source_of_row)), shape=shape)  # adds up what falls together
    order = np.argsort(-np.tile(middles, len(classes)), kind="stable")
    labels, scores = np.repeat(classes, len(middles))[order], np.tile(middles, len(classes))[order]
    while block := [drawn for drawn, _ in zip(times, range(_AT_ONCE), strict=False)]:
        for drawn_weights in (weight_of_cell @ np.array(block, dtype=np.float64).T).T:
            yield labels, scores, drawn_weights[order]


def _bins(scores: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number (N,) of each score's bin, and the mean score (B,) of every bin that is not empty; NaN has its own."""
    known = ~np.isnan(scores)
    edges = np.unique(scores[known])
    if len(edges) > BINS:
        edges = np.unique(np.quantile(scores[known], np.linspace(0, 1, BINS + 1)[:-1]))
    number = np.where(known, np.searchsorted(edges, scores, side="right"), len(edges) + 1)
    _, bin_of_row = np.unique(number, return_inverse=True)
    return bin_of_row, np.bincount(bin_of_row, scores) / np.bincount(bin_of_row)


def with_interval(
    rows: pd.DataFrame,
    statistic: Statistic,
    weights: NDArray | None = None,
    *,
    column: str = "score",
    scores: NDArray | None = None,
    one_class: bool = False,
) -> Figure | None:
    """A figure and its bootstrap interval.

    Args:
        rows: one row a picture: label, source and `column`.
        statistic: the figure.
        weights: (N,) of the rows, all equal by default.
        column: what the statistic gets as scores.
        scores: (N,) or (N, K), in place of a column.
        one_class: whether the figure is defined for one class, too.

    Returns:
        `None` where a class is missing or the figure is not defined.
    """
    if rows.empty or (rows["label"].nunique() < 2 and not one_class):
        return None
    scores = rows[column].to_numpy(dtype=float) if scores is None else scores
    return with_intervals(("figure",), statistic, rows, scores, weights)["figure"]


def with_intervals(
    names: Sequence[str],
    statistic: Statistic | Statistics,
    rows: pd.DataFrame,
    scores: NDArray,
    weights: NDArray | None = None,
    *,
    draws: int = DRAWS,
) -> dict[str, Figure | None]:
    """The figures of a statistic that returns several, by name: each as of `with_interval`, at the cost of one.

    Args:
        names: of the figures, in the statistic's order.
        statistic: the figures.
        rows: one row a picture or more: label, source.
        scores: (N,) or (N, K) of the rows.
        weights: (N,) of the rows, all equal by default.
        draws: number of resamples.
    """
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    weights = np.ones(len(rows)) if weights is None else weights
    values = np.atleast_1d(statistic(labels, scores, weights))
    if np.isnan(values).all():
        return dict.fromkeys(names)
    found = bootstrap_intervals(statistic, labels, scores, sources, weights=weights, draws=draws)
    intervals: Sequence[Interval | None] = [None] * len(names) if found is None else found
    return {
        name: None if np.isnan(value) else {"value": float(value), "interval": interval}
        for name, value, interval in zip(names, values, intervals, strict=True)
    }


def mean_with_interval(rows: pd.DataFrame, values: ArrayLike, *, draws: int = DRAWS) -> Figure | None:
    """Mean of `values` (N,) over rows of label and source, and its bootstrap interval; `None` for no rows."""
    if rows.empty:
        return None
    values = np.asarray(values, dtype=np.float64)
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    interval = bootstrap_interval(weighted_mean, labels, values, sources, draws=draws)
    return {"value": float(values.mean()), "interval": interval}


def share_with_interval(rows: pd.DataFrame, hit: ArrayLike) -> tuple[float, Interval]:
    """Share of hits (N,) among rows, and its 95 % interval: the wider of Wilson's and the bootstrap over sources.

    Of two or three sources alone a bootstrap is far too sure.
    """
    hit = np.asarray(hit, dtype=bool)
    low, high = wilson_interval(int(hit.sum()), len(hit))
    over_sources = cast(Figure, mean_with_interval(rows, hit))["interval"] or [low, high]
    return float(hit.mean()), [min(low, over_sources[0]), max(high, over_sources[1])]


def weighted_mean(_labels: NDArray, values: NDArray, weights: NDArray) -> float:
    """Weighted mean of the values that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if weights[known].any() else float("nan")


def auc_difference(labels: NDArray, scores: NDArray, weights: NDArray) -> float:
    """AUC of the first of two columns of scores minus that of the second."""
    return roc_auc(labels, scores[:, 0], weights) - roc_auc(labels, scores[:, 1], weights)


def wilson_interval(successes: int, total: int) -> Interval:
    """Wilson 95 % interval of a share of independent trials; [0, 1] for none."""
    if total == 0:
        return [0.0, 1.0]
    z = 1.959963984540054
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return [float(max(0.0, centre - half)), float(min(1.0, centre + half))]


__all__ = [
    "DRAWS",
    "Statistic",
    "Statistics",
    "auc_difference",
    "bootstrap_interval",
    "bootstrap_intervals",
    "mean_with_interval",
    "share_with_interval",
    "weighted_mean",
    "wilson_interval",
    "with_interval",
    "with_intervals",
]
