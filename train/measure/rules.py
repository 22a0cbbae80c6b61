"""The rules that the threshold of "generated" keeps on held-out real pictures: in all, by source and by kind.

A share over all pictures can hide a collection, or a kind of picture, that is flagged again and again. So three rules
hold at once; each is a number of probabilities that may reach the threshold.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .bootstrap import wilson_interval
from .schema import ThresholdRule

# Of the real sources with so many pictures, at most this share may have more than one flagged.
SOURCE_PICTURES, SOURCE_SHARE = 10, 0.05
# Of a kind with so many real pictures, the lower end of the flagged share's 95 % interval is at most this.
KIND_PICTURES, KIND_SHARE = 50, 0.03
RULES = ("pictures", "sources", "kinds")


@dataclass(frozen=True)
class Bound:
    """At most `allowed` of some probabilities may reach the threshold.

    Args:
        rule: one of RULES.
        name: of the kind; "" for the other rules.
        probabilities: (N,), falling: of pictures; for "sources" the second highest of each source.
        allowed: in [0, N).
    """

    rule: str
    name: str
    probabilities: NDArray[np.float64]
    allowed: int

    @property
    def above(self) -> float:
        """The threshold must lie above this probability, and any that does keeps the bound."""
        return float(self.probabilities[self.allowed])

    def reached(self, threshold: float) -> int:
        """How many reach a threshold."""
        return int((self.probabilities >= threshold).sum())


def bounds(rows: pd.DataFrame, target_fpr: float) -> list[Bound]:
    """What bounds the threshold; a rule that has nothing to bind gives none.

    Kinds are bounded by Wilson's interval over pictures. One by sources would be wider and bind later: a kind whose
    flagged pictures all come from one source would pass.

    Args:
        rows: one row a picture: label, probability, source; `kind` where known, "" is none.
        target_fpr: share of all real pictures that may reach the threshold, in (0, 1).
    """
    real = rows[rows["label"] == 0].sort_values("probability", ascending=False)
    found = [Bound("pictures", "", real["probability"].to_numpy(dtype=float), allowed_of(len(real), target_fpr))]
    by_source = real.groupby("source")["probability"]
    large = by_source.transform("size") >= SOURCE_PICTURES
    second = real.loc[large & (by_source.cumcount() == 1), "probability"].to_numpy(dtype=float)
    if len(second):
        found.append(Bound("sources", "", second, allowed_of(len(second), SOURCE_SHARE)))
    if "kind" in real:
        for name, values in real[real["kind"] != ""].groupby("kind")["probability"]:
            if len(values) >= KIND_PICTURES:
                found.append(Bound("kinds", str(name), values.to_numpy(dtype=float), _allowed_of_kind(len(values))))
    return found


def allowed_of(number: int, share: float) -> int:
    """How many of a number are at most this share of it: 29 of 100 at .29, whatever its last binary digit."""
    return math.floor(round(number * share, 9))


def _allowed_of_kind(pictures: int) -> int:
    """The most pictures of a kind whose interval still has its lower end at or below KIND_SHARE."""
    return bisect_right(range(pictures + 1), KIND_SHARE, key=lambda flagged: wilson_interval(flagged, pictures)[0]) - 1


def measure_rules(rows: pd.DataFrame, threshold: float, target_fpr: float) -> list[ThresholdRule]:
    """What each rule bounds, what it has at a threshold, and which of them asked for the highest.

    Args:
        rows: as for `bounds`: the pictures that the threshold was chosen on.
        threshold: of "generated".
        target_fpr: as for `bounds`.
    """
    found = bounds(rows, target_fpr)
    decisive = max(found, key=lambda bound: bound.above)
    return [_measured(rule, [bound for bound in found if bound.rule == rule], decisive, threshold) for rule in RULES]


def _measured(rule: str, found: list[Bound], decisive: Bound, threshold: float) -> ThresholdRule:
    """Of several bounds of one rule, the figures are of the tightest."""
    if not found:
        return {
            "rule": rule,
            "bounds": 0,
            "kind": None,
            "of": None,
            "allowed": None,
            "reached": None,
            "above": None,
            "decided": False,
        }
    tightest = max(found, key=lambda bound: bound.above)
    return {
        "rule": rule,
        "bounds": len(found),
        "kind": tightest.name or None,
        "of": len(tightest.probabilities),
        "allowed": tightest.allowed,
        "reached": tightest.reached(threshold),
        "above": tightest.above,
        "decided": tightest is decisive,
    }


__all__ = [
    "KIND_PICTURES",
    "KIND_SHARE",
    "RULES",
    "SOURCE_PICTURES",
    "SOURCE_SHARE",
    "Bound",
    "allowed_of",
    "bounds",
    "measure_rules",
]
