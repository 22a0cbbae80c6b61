"""Of pictures that get an answer, how many in 100 are real, if half of all pictures are."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling.verdicts import GENERATED, REAL, UNCERTAIN

from .bootstrap import bootstrap_interval, wilson_interval
from .schema import Answer, Interval

# Verdict, and third of the band where that is uncertain, in the order of rising probability.
ANSWERS: tuple[tuple[str, int | None], ...] = (
    (REAL, None),
    (UNCERTAIN, 1),
    (UNCERTAIN, 2),
    (UNCERTAIN, 3),
    (GENERATED, None),
)


def share_of_photographs(rows: pd.DataFrame) -> list[Answer]:
    """For each of ANSWERS, the share of real pictures among those that get it, each class with half of the weight.

    With r the share of real pictures that get the answer and g that of generated ones, it is r / (r + g).

    Args:
        rows: one row a picture: label, source, verdict, third (`judge_held_out`). Both classes.

    Returns:
        Intervals are 95 %, the wider of a bootstrap over sources and Wilson's of r and of g, set against each other.
        No figure where no picture gets the answer.
    """
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    found: list[Answer] = []
    for verdict, third in ANSWERS:
        hit = (rows["verdict"] == verdict).to_numpy()
        if third is not None:
            hit = hit & (rows["third"] == third).to_numpy()
        counts = [int(hit[labels == label].sum()) for label in (0, 1)]
        answer: Answer = {
            "verdict": verdict,
            "third": third,
            "pictures": {REAL: counts[0], GENERATED: counts[1]},
            "photographs": None,
        }
        if any(counts):
            totals = [int((labels == label).sum()) for label in (0, 1)]
            over_sources = bootstrap_interval(_balanced_share, labels, hit.astype(float), sources)
            answer["photographs"] = {
                "value": _balanced_share(labels, hit.astype(float), np.ones(len(labels))),
                "interval": _wider(over_sources, counts, totals),
            }
        found.append(answer)
    return found


def in_100(answers: Sequence[Answer]) -> dict[str, int | None | list[int | None]]:
    """What a checkpoint's configuration says of it: whole numbers, for "uncertain" one a third, low to high."""
    numbers = [
        None if answer["photographs"] is None else round(100 * answer["photographs"]["value"]) for answer in answers
    ]
    real, *uncertain, generated = numbers
    return {REAL: real, UNCERTAIN: cast(list[int | None], uncertain), GENERATED: generated}


def _balanced_share(labels: NDArray, hit: NDArray, weights: NDArray) -> float:
    """As r / (r + g) above; NaN where neither class has a hit."""
    shares = []
    for label in (0, 1):
        of_class = labels == label
        total = weights[of_class].sum()
        shares.append((weights * hit)[of_class].sum() / total if total else 0.0)
    real, generated = shares
    return float(real / (real + generated)) if real + generated else float("nan")


def _wider(over_sources: Interval | None, counts: list[int], totals: list[int]) -> Interval:
    """The wider of the bootstrap's interval and Wilson's: few pictures are all alike in every resample."""
    real, generated = (wilson_interval(count, total) for count, total in zip(counts, totals, strict=True))
    low, high = (real[end] / (real[end] + generated[1 - end]) for end in (0, 1))
    return [low, high] if over_sources is None else [min(low, over_sources[0]), max(high, over_sources[1])]


__all__ = ["ANSWERS", "in_100", "share_of_photographs"]
