"""Sources of pictures: which are joined, what is held out together, and weights under which no large one decides."""

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

# From so many pictures of a class on, all sources weigh the same.
FULL_SOURCE = 5
# scikit-learn looks at every fold's balance anew for each source: 50,000 of them take half a minute.
MANY_SOURCES = 2000
# What can be held out whole: `--hold_out`.
HOLD_OUT = ("source", "generator", "date")
# A family of so many pictures is held out on its own, and has figures of its own.
FAMILY_PICTURES = 20
SMALLER_FAMILIES = "smaller families"
UNDATED = "no date"
# Before the name of a source of real pictures, where a group of generated ones may have the same.
_REAL = "real/"


def join_sources(rows: pd.DataFrame, merge_sources: list[str]) -> None:
    """Rename sources of these rows in place, so that related ones are one in folds, weights and intervals."""
    names = set(rows["source"])
    for entry in merge_sources:
        part, _, whole = entry.partition("=")
        if not {part, whole} <= names:
            raise ValueError(f"`merge_sources` must be NAME=OTHER, both sources of the bank, got {entry!r}.")
        rows["source"] = rows["source"].replace(part, whole)


def split(rows: pd.DataFrame, hold_out: str, folds: int) -> NDArray[np.int64]:
    """Number of the group that each row is held out with, (N,); each class is left in every other group.

    Args:
        rows: of a bank: source, label, view; for generators also family, for dates also date.
        hold_out: one of HOLD_OUT. Whole sources; or whole families of generators, those of fewer than FAMILY_PICTURES
            pictures together; or generated pictures by the month of their date, those without one together. The
            last two divide the real pictures among the groups by source.
        folds: groups of sources, 0 = each on its own; or periods of dates. It means nothing for generators.

    Raises:
        ValueError: `folds` is no number of groups of these sources or dates, leaving a group out takes a class away,
            or the bank lacks families or dates.
    """
    pictures = rows[rows["view"] == 0]  # how many views a picture has must not move the groups
    if hold_out == "source":
        fold_of_unit = _folds_by_source(pictures, folds)
        units = rows["source"]
    else:
        named = family_groups if hold_out == "generator" else partial(_periods, periods=folds)
        groups = named(rows)
        fold_of_group = {name: number for number, name in enumerate(sorted(set(groups) - {""}))}
        real = pictures[pictures["label"] == 0]
        fold_of_unit = fold_of_group | _real_folds(real, len(fold_of_group), hold_out)
        units = groups.where(rows["label"] == 1, _REAL + rows["source"])
    fold = np.asarray(units.map(fold_of_unit), dtype=np.int64)
    _check_classes(rows, fold)
    return fold


def protocol(rows: pd.DataFrame, hold_out: str, folds: int) -> str:
    """What `split` holds out of these rows, in words."""
    pictures = rows[(rows["view"] == 0) & (rows["label"] == 1)]
    if hold_out == "source":
        return f"held out by source, {f'in {folds} folds' if folds else 'one at a time'}"
    if hold_out == "generator":
        groups = family_groups(pictures)
        smaller = groups == SMALLER_FAMILIES
        also = f"; the {smaller.sum():,} pictures of smaller families or of none together" if smaller.any() else ""
        return (
            f"held out by generator: each of {groups[~smaller].nunique()} families of {FAMILY_PICTURES} or more "
            f"pictures whole{also}; real pictures by source"
        )
    groups = _periods(pictures, folds)
    undated = int((groups == UNDATED).sum())
    periods = ", ".join(sorted(set(groups) - {UNDATED}))
    also = f"; the {undated:,} of {len(groups):,} without a date together" if undated else ""
    return f"held out by date: generated pictures of {periods}{also}; real pictures by source"


def family_groups(rows: pd.DataFrame) -> pd.Series:
    """Family (N,) that each generated row is held out with: its own, or SMALLER_FAMILIES; "" for real rows.

    Raises:
        ValueError: no generated picture names its family, or all of them make one group.
    """
    generated = rows["label"] == 1
    family = _told(rows, "family", "families of generators", "a column `family` or `generator`")
    counts = family[generated & (rows["view"] == 0)].value_counts()
    large = set(counts[counts >= FAMILY_PICTURES].index) - {""}
    groups = family.where(family.isin(large), SMALLER_FAMILIES).where(generated, "")
    if groups[generated].nunique() < 2:
        raise ValueError(
            f"`hold_out` generator needs two groups: families of {FAMILY_PICTURES} or more pictures each, or one "
            f"beside smaller ones; got {groups[generated].iloc[0]} alone."
        )
    return groups


def _periods(rows: pd.DataFrame, periods: int) -> pd.Series:
    """Period (N,) of whole months that each generated row is held out with, or UNDATED; "" for real rows."""
    if periods < 2:
        raise ValueError(f"`hold_out` date needs `folds` of 2 or more, the number of periods, got {periods}.")
    generated = rows["label"] == 1
    date = _told(rows, "date", "dates", "a column `date`")
    month = date.str.extract(r"^(\d{4}-\d{2})", expand=False).fillna("").where(generated, "")
    counts = month[(month != "") & (rows["view"] == 0)].value_counts().sort_index()
    middle = (counts.cumsum() - counts / 2) / counts.sum()
    number = (middle * periods).astype(int).clip(upper=periods - 1)
    if number.nunique() < 2:
        raise ValueError(
            f"`hold_out` date needs generated pictures of two months or more, got those of {', '.join(counts.index)}."
        )
    names: dict[str, str] = {}
    for _, months in number.groupby(number):
        first, last = months.index[0], months.index[-1]
        names |= dict.fromkeys(months.index, first if first == last else f"{first} to {last}")
    return month.map(names).fillna(UNDATED).where(generated, "")


def _told(rows: pd.DataFrame, column: str, what: str, from_where: str) -> pd.Series:
    """A column of text, "" where a row has none."""
    told = rows[column].fillna("") if column in rows else pd.Series("", index=rows.index)
    if not (told[rows["label"] == 1] != "").any():
        raise ValueError(
            f"The bank has no {what} of its generated pictures: make it again by `features`, from data with "
            f"{from_where} or a pictures.csv beside them."
        )
    return told


def _folds_by_source(pictures: pd.DataFrame, folds: int) -> dict[str, int]:
    """Fold of every source, both classes as even as whole sources allow."""
    sources, labels = pictures["source"].to_numpy(), pictures["label"].to_numpy()
    most = len(np.unique(sources))
    if folds and not 2 <= folds <= most:
        raise ValueError(f"`folds` must be 2 to {most}, the number of sources, or 0 for each on its own, got {folds}.")
    if folds in (0, most):
        return {source: number for number, source in enumerate(np.unique(sources))}
    return fold_of_name(labels, sources, folds)


def _real_folds(real: pd.DataFrame, number: int, hold_out: str) -> dict[str, int]:
    """Group of every source of real pictures, by names that no family and no period has."""
    sources = real["source"].to_numpy()
    if (most := len(np.unique(sources))) < number:
        raise ValueError(
            f"`hold_out` {hold_out} makes {number} groups, among which whole sources of real pictures are divided: it "
            f"needs as many, got {most}."
        )
    folds = fold_of_name(real["label"].to_numpy(), sources, number)
    return {_REAL + source: fold for source, fold in folds.items()}


def fold_of_name(labels: NDArray, sources: NDArray, number: int) -> dict[str, int]:
    """Fold of every source by name; none is empty."""
    folds = folds_of_sources(labels, sources, number)
    if not all(len(inside) for _, inside in folds):  # a few sources of very different sizes
        folds = list(GroupKFold(n_splits=number).split(sources, groups=sources))
    return {source: fold for fold, (_, inside) in enumerate(folds) for source in np.unique(sources[inside])}


def _check_classes(rows: pd.DataFrame, fold: NDArray) -> None:
    """Whether every fit sees both classes."""
    labels = rows["label"].to_numpy()
    for number in np.unique(fold):
        if len(np.unique(labels[fold != number])) < 2:
            held_out = sorted(set(rows["source"].to_numpy()[fold == number]))
            raise ValueError(
                f"Without {held_out} one class has no picture left: each class needs sources in at least two folds."
            )


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


def source_weights(labels: ArrayLike, sources: ArrayLike, *, views: int = 1) -> NDArray[np.float64]:
    """Weights (N,) under which no large source decides: the one rule of everything that is called source-weighted.

    A source's pictures of a class weigh min(pictures, FULL_SOURCE) together, and the same each; each class weighs half
    of all. So sources of FULL_SOURCE pictures or more weigh alike, and smaller ones in proportion: one picture says
    less of its source than twelve do, and where hundreds of sources have one, they would decide instead.

    Args:
        labels: (N,) of 0 and 1.
        sources: (N,) names.
        views: rows a picture has.
    """
    labels = np.asarray(labels)
    source_of_row, _ = number_sources(labels, sources)
    sizes = np.bincount(source_of_row) / views
    weights = (np.minimum(sizes, FULL_SOURCE) / sizes)[source_of_row]
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
    "FAMILY_PICTURES",
    "HOLD_OUT",
    "FULL_SOURCE",
    "MANY_SOURCES",
    "family_groups",
    "fold_of_name",
    "folds_of_sources",
    "join_sources",
    "number_sources",
    "protocol",
    "source_weights",
    "split",
]
