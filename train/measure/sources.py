"""Folds of whole sources that hold both classes as evenly as whole sources allow."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

# scikit-learn looks at every fold's balance anew for each source: 50,000 of them take half a minute.
MANY_SOURCES = 2000


def folds_of_sources(labels: NDArray, sources: NDArray, number: int) -> list[tuple[NDArray, NDArray]]:
    """Rows outside and inside (N - n,) and (n,) of every fold; each source lies in one fold.

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


__all__ = ["MANY_SOURCES", "folds_of_sources"]
