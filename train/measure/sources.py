"""Sources of pictures: which ones are joined, their folds, and weights that give them equal totals."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

# scikit-learn looks at every fold's balance anew for each source: 50,000 of them take half a minute.
MANY_SOURCES = 2000


def join_sources(rows: pd.DataFrame, merge_sources: list[str]) -> None:
    """Rename sources of these rows in place, so that related ones are one in folds, weights and intervals."""
    names = set(rows["source"])
    for entry in merge_sources:
        part, _, whole = entry.partition("=")
        if not {part, whole} <= names:
            raise ValueError(f"`merge_sources` must be NAME=OTHER, both sources of the bank, got {entry!r}.")
        rows["source"] = rows["source"].replace(part, whole)


def split_by_source(rows: pd.DataFrame, folds: int) -> np.ndarray:
    """Number of the fold that holds each row out, (N,): whole sources, and each class left in every other fold.

    Args:
        rows: of a bank: source, label, view.
        folds: groups of sources; 0 = each source on its own.

    Raises:
        ValueError: `folds` is no number of folds of these sources, or leaving one out takes a class away.
    """
    pictures = rows[rows["view"] == 0]  # how many views a picture has must not move the groups
    sources, labels = pictures["source"].to_numpy(), pictures["label"].to_numpy()
    most = len(np.unique(sources))
    if folds and not 2 <= folds <= most:
        raise ValueError(f"`folds` must be 2 to {most}, the number of sources, or 0 for each on its own, got {folds}.")
    splitter = GroupKFold(n_splits=folds or most)
    fold_of_source: dict[str, int] = {}
    for number, (train_rows, held_out) in enumerate(splitter.split(sources, groups=sources)):
        if len(np.unique(labels[train_rows])) < 2:
            raise ValueError(
                f"Without {sorted(set(sources[held_out]))} one class has no picture left: each class needs sources in "
                "at least two folds."
            )
        fold_of_source |= dict.fromkeys(sources[held_out], number)
    return rows["source"].map(fold_of_source).to_numpy(dtype=np.int64)


def folds_of_sources(labels: NDArray, sources: NDArray, number: int) -> list[tuple[NDArray, NDArray]]:
    """Rows outside and inside (N - n,) and (n,) of every fold; whole sources, and both classes as even as they allow.

    Up to MANY_SOURCES sources this is scikit-learn's `StratifiedGroupKFold`, shuffled with seed 0.

    Args:
        labels: (N,) of 0 and 1.
        sources: (N,) names.
        number: of folds, 2 or more and at most the number of sources.
    """
    source_of_row, names = pd.factorize(sources)
    if len(names) <= MANY_SOURCES:
        splitter = StratifiedGroupKFold(n_splits=number, shuffle=True, random_state=0)
        return list(splitter.split(labels, labels, sources))
    fold_of_row = np.array(_fold_of_source(labels, source_of_row, number))[source_of_row]
    return [(np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)) for fold in range(number)]


def _fold_of_source(labels: NDArray, source_of_row: NDArray, number: int) -> list[int]:
    """Fold of each source (S,): the largest first, each to the fold that has least of what the source brings.

    What a fold has and a source brings is counted as a share of its class, and equal sources come in random order.
    """
    shares = [np.bincount(source_of_row[labels == label], minlength=source_of_row.max() + 1) for label in (0, 1)]
    real, generated = (counts / max(1, counts.sum()) for counts in shares)
    shuffled = np.random.default_rng(0).permutation(len(real))
    order = shuffled[np.argsort(-(real + generated)[shuffled], kind="stable")]
    held_real, held_generated = [0.0] * number, [0.0] * number
    folds = [0] * len(real)
    for source, r, g in zip(order.tolist(), real[order].tolist(), generated[order].tolist(), strict=True):
        held = [r * a + g * b for a, b in zip(held_real, held_generated, strict=True)]
        fold = held.index(min(held))
        folds[source] = fold
        held_real[fold] += r
        held_generated[fold] += g
    return folds


def source_weights(labels: ArrayLike, sources: ArrayLike) -> NDArray[np.float64]:
    """Weights (N,) that give every source of a class the same total, and each class half of all."""
    labels = np.asarray(labels)
    source_of_row, _ = number_sources(labels, sources)
    weights = 1.0 / np.bincount(source_of_row)[source_of_row]
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum() * len(np.unique(labels))
    return weights


def number_sources(labels: NDArray, sources: ArrayLike) -> tuple[NDArray[np.int64], list[int]]:
    """Number of each row's (class, source), classes one after the other, and how many sources each class has."""
    classes = [labels == label for label in np.unique(labels)]
    source_of_row = np.empty(len(labels), dtype=np.int64)
    counts: list[int] = []
    for rows in classes:
        # By hashing: a million names are numbered in a fifth of the time that sorting them takes.
        numbers, names = pd.factorize(np.asarray(sources)[rows], sort=True)
        source_of_row[rows] = numbers + sum(counts)
        counts.append(len(names))
    return source_of_row, counts


__all__ = [
    "MANY_SOURCES",
    "folds_of_sources",
    "join_sources",
    "number_sources",
    "source_weights",
    "split_by_source",
]
