"""What is found of each family of generators that no fit had seen, at one share of false alarms."""

import numpy as np
import pandas as pd

from .bootstrap import share_with_interval
from .schema import Families, FamilyFound
from .sources import FAMILY_PICTURES

FALSE_ALARMS = 0.02


def measure_families(rows: pd.DataFrame) -> Families | None:
    """Share found of each family of FAMILY_PICTURES or more, where FALSE_ALARMS of the real pictures are flagged.

    Args:
        rows: one row a picture: label, source, family, score by a fit that saw neither its family nor, of real ones,
            its source.

    Returns:
        The family that is found least first; `None` where no family is large enough.
    """
    real = np.sort(rows.loc[rows["label"] == 0, "score"].to_numpy())[::-1]
    highest_passed = real[int(FALSE_ALARMS * len(real))]  # so many lie above it, or fewer where scores are equal
    found: list[FamilyFound] = []
    for family, pictures in rows[rows["label"] == 1].groupby("family"):
        if family and len(pictures) >= FAMILY_PICTURES:
            share, interval = share_with_interval(pictures, pictures["score"] > highest_passed)
            found.append(
                {
                    "family": str(family),
                    "pictures": len(pictures),
                    "sources": int(pictures["source"].nunique()),
                    "found": share,
                    "interval": interval,
                }
            )
    if not found:
        return None
    return {
        "false_alarms": FALSE_ALARMS,
        "mean": float(np.mean([row["found"] for row in found])),
        "by_family": sorted(found, key=lambda row: (row["found"], row["family"])),
    }


__all__ = ["FALSE_ALARMS", "measure_families"]
