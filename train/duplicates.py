"""Pictures that are nearly the same, by the distance of their perceptual hashes (ImageHash's pHash of 256 bits)."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .file_facts import HASH_SIDE

BITS = HASH_SIDE**2
# On 71 pictures of the development set the standard deliveries moved at most 12 bits, but for cropping, which this
# hash does not follow (118 bits in the middle); of its 3.9 million pairs of pictures none was nearer than 51.
LIMIT = 32
EXAMPLES = 20
# From so many comparisons on (a few minutes) only equal hashes are looked for.
MOST_COMPARISONS = 10**10
_AT_ONCE = 256


def find_duplicates(pictures: pd.DataFrame, training: pd.DataFrame | None = None) -> dict:
    """Count near-duplicates within a data set, and between it and the pictures that a detector was trained on.

    Args:
        pictures: one row a picture: record_id, label, source, perceptual_hash.
        training: the same, or `None`.

    Returns:
        A JSON-ready dictionary. Time grows with the square of the number of pictures, up to 100,000 of them; among
        more only equal hashes count, and `limit` is 0.
    """
    first, second, apart = _near_pairs(pictures, pictures)
    once = first < second
    first, second, apart = first[once], second[once], apart[once]
    sources, labels, names = (pictures[column].to_numpy() for column in ("source", "label", "record_id"))
    # Pairs of two sources are what breaks a split by source: they are shown first.
    order = np.lexsort((apart, sources[first] == sources[second]))
    found: dict = {
        "limit": _limit(pictures, pictures),
        "bits": BITS,
        "pairs": len(first),
        "pairs_of_two_sources": int((sources[first] != sources[second]).sum()),
        "pairs_of_two_classes": int((labels[first] != labels[second]).sum()),
        "examples": [[names[first[k]], names[second[k]], int(apart[k])] for k in order[:EXAMPLES]],
        "in_training": None,
    }
    if training is not None:
        first, second, apart = _near_pairs(pictures, training)
        trained = training["record_id"].to_numpy()
        order = np.argsort(apart, kind="stable")[:EXAMPLES]
        found["in_training"] = {
            "pictures": len(np.unique(first)),
            "examples": [[names[first[k]], trained[second[k]], int(apart[k])] for k in order],
        }
    return found


def _near_pairs(pictures: pd.DataFrame, others: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray]:
    """Rows of both and bits apart (P,) of every pair within the limit."""
    if not (limit := _limit(pictures, others)):
        return _equal_pairs(pictures, others)
    left, right = _hashes(pictures), _hashes(others)
    found = [(np.empty(0, np.int64),) * 3]
    for start in range(0, len(left), _AT_ONCE):
        apart = sum(
            np.bitwise_count(left[start : start + _AT_ONCE, None, word] ^ right[None, :, word]).astype(np.int64)
            for word in range(left.shape[1])
        )
        rows, columns = np.nonzero(apart <= limit)
        found.append((rows + start, columns, apart[rows, columns]))
    first, second, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, bits


def _limit(pictures: pd.DataFrame, others: pd.DataFrame) -> int:
    return LIMIT if len(pictures) * len(others) <= MOST_COMPARISONS else 0


def _equal_pairs(pictures: pd.DataFrame, others: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray]:
    """As `_near_pairs`, for equal hashes; a picture meets the next of its kind only, so that pairs stay few."""
    left, right = (
        pd.DataFrame({"hash": frame["perceptual_hash"].to_numpy(), "row": np.arange(len(frame))})
        for frame in (pictures, others)
    )
    if others is pictures:
        second = left.groupby("hash")["row"].shift(-1)
        first = left["row"][second.notna()].to_numpy()
        return first, second.dropna().to_numpy(dtype=np.int64), np.zeros(len(first), np.int64)
    met = left.merge(right.drop_duplicates("hash"), on="hash")
    return met["row_x"].to_numpy(), met["row_y"].to_numpy(), np.zeros(len(met), np.int64)


def _hashes(pictures: pd.DataFrame) -> NDArray[np.uint64]:
    """(N, words) of 64 bits."""
    joined = bytes.fromhex("".join(pictures["perceptual_hash"]))
    return np.frombuffer(joined, dtype=np.uint64).reshape(len(pictures), BITS // 64)


__all__ = ["find_duplicates"]
