"""Pictures that are nearly the same, by the distance of their perceptual hashes (ImageHash's pHash of 256 bits)."""

import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ..features.file_facts import HASH_SIDE
from .schema import BiasAudit, Duplicates, InTraining

BITS = HASH_SIDE**2
# On 71 pictures of the development set the standard deliveries moved at most 12 bits, except cropping, which this
# hash does not follow (118 bits in the middle); of its 3.9 million pairs of pictures none was nearer than 51.
LIMIT = 32
EXAMPLES = 20
# From so many comparisons on (half a minute) only equal hashes are looked for.
MOST_COMPARISONS = 10**10
_AT_ONCE = 16  # so that a block stays in the processor's cache


def find_duplicates(
    pictures: pd.DataFrame, training: pd.DataFrame | None = None, *, most_comparisons: int = MOST_COMPARISONS
) -> Duplicates:
    """Count near-duplicates within a data set, and between it and the pictures that a detector was trained on.

    Of pictures with equal hashes each makes a pair with the next, and the first stands for all of them in pairs with
    others: a thousand copies are 999 pairs and not half a million.

    Args:
        pictures: one row a picture: record_id, label, source, perceptual_hash.
        training: the same, or `None`.
        most_comparisons: from so many on only equal hashes count.

    Returns:
        Counts and the nearest pairs. Time grows with the square of the number of pictures, up to 100,000 of
        them; among more only equal hashes count, and `limit` is 0.
    """
    limit = _limit(len(pictures) ** 2, most_comparisons)
    first, second, apart = _pairs(pictures, limit)
    sources, labels, names = (pictures[column].to_numpy() for column in ("source", "label", "record_id"))
    # Pairs of two sources are what breaks a split by source: they are shown first.
    order = np.lexsort((apart, sources[first] == sources[second]))
    return {
        "limit": limit,
        "bits": BITS,
        "pairs": len(first),
        "pairs_of_two_sources": int((sources[first] != sources[second]).sum()),
        "pairs_of_two_classes": int((labels[first] != labels[second]).sum()),
        "examples": [(names[first[k]], names[second[k]], int(apart[k])) for k in order[:EXAMPLES]],
        "in_training": None if training is None else _in_training(pictures, training, most_comparisons),
    }


def check_sources_apart(pictures: pd.DataFrame, *, most_comparisons: int = MOST_COMPARISONS) -> None:
    """Refuse near-duplicates in two sources: a fit that leaves one out has seen the other, and figures rise.

    Args:
        pictures: one row a picture: record_id, source, perceptual_hash.
        most_comparisons: as of `find_duplicates`.

    Raises:
        ValueError: there are some; it names what to give to `merge_sources`.
    """
    first, second, _ = _pairs(pictures, _limit(len(pictures) ** 2, most_comparisons))
    source, names = pd.factorize(pictures["source"], sort=True)
    of_two = source[first] != source[second]
    if not of_two.any():
        return
    first, second = first[of_two], second[of_two]
    links = coo_array((np.ones(len(first)), (source[first], source[second])), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    whole = [names[np.flatnonzero(component == number)[0]] for number in component]
    merged = shlex.join(f"{part}={other}" for part, other in zip(names, whole, strict=True) if part != other)
    record_ids = pictures["record_id"].to_numpy()
    example = record_ids[first[0]], record_ids[second[0]]
    raise ValueError(
        f"{len(first)} near-duplicates lie in two sources, first {example}: hold the sources out together by "
        f"--merge_sources {merged}, or leave one of each two pictures out of the data."
    )


def first_of_each(hashes: Sequence[str], *, most_comparisons: int = MOST_COMPARISONS) -> NDArray[np.bool_]:
    """Which pictures (N,) stand for themselves: of near-duplicates, and of their near-duplicates, only the first.

    Args:
        hashes: perceptual hashes in hexadecimal.
        most_comparisons: from so many on only equal hashes count.
    """
    pictures = pd.DataFrame({"perceptual_hash": list(hashes)})
    first, second, _ = _pairs(pictures, _limit(len(pictures) ** 2, most_comparisons))
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(pictures), len(pictures)))
    _, component = connected_components(links, directed=False)
    is_first = np.zeros(len(pictures), bool)
    is_first[np.unique(component, return_index=True)[1]] = True
    return is_first


def without_record_ids(audit: BiasAudit) -> BiasAudit:
    """An audit whose duplicates are counted, not named: identifiers may be people's file names.

    evaluation.json is published with a checkpoint; duplicates.csv, which names them, stays with the report.
    """
    duplicates = audit["duplicates"]
    known = duplicates["in_training"]
    counted: InTraining | None = None if known is None else {**known, "examples": None}
    return {**audit, "duplicates": {**duplicates, "examples": None, "in_training": counted}}


def _limit(comparisons: int, most: int) -> int:
    return LIMIT if comparisons <= most else 0


def _pairs(pictures: pd.DataFrame, limit: int) -> tuple[NDArray, NDArray, NDArray]:
    """Rows of both and bits apart (P,) of the pairs within a set."""
    hashes = pd.Series(pictures["perceptual_hash"].to_numpy())
    following = hashes.index.to_series().groupby(hashes).shift(-1)  # the next picture with the same hash
    copied = following.notna().to_numpy()
    first, second = np.flatnonzero(copied), following[copied].to_numpy(dtype=np.int64)
    apart = np.zeros(len(first), np.int64)
    if limit:
        distinct = np.flatnonzero(~hashes.duplicated())
        near, other, bits = _near(hashes[distinct], hashes[distinct], limit, of_one_set=True)
        once = near < other
        first = np.concatenate([first, distinct[near[once]]])
        second = np.concatenate([second, distinct[other[once]]])
        apart = np.concatenate([apart, bits[once]])
    return first, second, apart


def _in_training(pictures: pd.DataFrame, training: pd.DataFrame, most_comparisons: int) -> InTraining:
    """How many pictures are nearly the same as one of the training, with examples."""
    limit = _limit(len(pictures) * len(training), most_comparisons)
    known = training.drop_duplicates("perceptual_hash")
    if limit:
        first, second, apart = _near(pictures["perceptual_hash"], known["perceptual_hash"], limit)
    else:
        place = pd.Series(np.arange(len(known)), index=known["perceptual_hash"])
        met = place.reindex(pictures["perceptual_hash"]).to_numpy()
        first = np.flatnonzero(~np.isnan(met))
        second, apart = met[first].astype(np.int64), np.zeros(len(first), np.int64)
    names, trained = pictures["record_id"].to_numpy(), known["record_id"].to_numpy()
    order = np.argsort(apart, kind="stable")[:EXAMPLES]
    return {
        "pictures": len(np.unique(first)),
        "examples": [(names[first[k]], trained[second[k]], int(apart[k])) for k in order],
    }


def _near(
    left: pd.Series, right: pd.Series, limit: int, *, of_one_set: bool = False
) -> tuple[NDArray, NDArray, NDArray]:
    """Places in both and bits apart (P,) of every pair of hashes within the limit.

    Where both are one set, a pair need not be found from either side: nothing is compared with earlier blocks.
    """
    these, those = _hashes(left), _hashes(right)
    half = np.ascontiguousarray(those.T[: those.shape[1] // 2])
    found = [(np.empty(0, np.int64),) * 3]
    blocks = range(0, len(these), _AT_ONCE)
    for start in tqdm(blocks, desc="near-duplicates", unit="block", delay=1, leave=False):
        block = these[start : start + _AT_ONCE]
        # Half of the bits tell nearly all pairs apart; the rest is counted for those that are left.
        begin = start if of_one_set else 0
        apart = np.zeros((len(block), len(those) - begin), np.uint8)
        for word, column in enumerate(half):
            apart += np.bitwise_count(block[:, word, None] ^ column[begin:])
        near = apart <= limit
        if not near.any():
            continue
        rows, columns = np.nonzero(near)
        columns += begin
        bits = np.bitwise_count(block[rows] ^ those[columns]).sum(axis=1, dtype=np.int64)
        near = bits <= limit
        found.append((rows[near] + start, columns[near], bits[near]))
    first, second, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, bits


def _hashes(hashes: pd.Series) -> NDArray[np.uint64]:
    """(N, words) of 64 bits."""
    joined = bytes.fromhex("".join(hashes))
    return np.frombuffer(joined, dtype=np.uint64).reshape(len(hashes), BITS // 64)


__all__ = ["check_sources_apart", "find_duplicates", "first_of_each", "without_record_ids"]
