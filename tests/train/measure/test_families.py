"""Families that were left out whole: what is found of each at one share of false alarms."""

import numpy as np
import pandas as pd

from train.measure.families import measure_families


def pictures(found_of):
    """100 real pictures with scores 0 to 99, and of each family pictures above 97.5 as often as asked."""
    real = pd.DataFrame({"label": 0, "source": "r", "family": "", "score": np.arange(100.0)})
    parts = [
        pd.DataFrame(
            {
                "label": 1,
                "source": [f"s{k % 3}" for k in range(count)],
                "family": family,
                "score": [97.5] * found + [97.0] * (count - found),
            }
        )
        for family, (found, count) in found_of.items()
    ]
    return pd.concat([real, *parts], ignore_index=True)


def test_each_large_family_is_measured_where_two_in_a_hundred_real_pictures_are_flagged():
    found = measure_families(pictures({"a": (15, 20), "b": (5, 25), "few": (19, 19), "": (40, 40)}))
    assert [(row["family"], row["pictures"], row["sources"], row["found"]) for row in found["by_family"]] == [
        ("b", 25, 3, 0.2),
        ("a", 20, 3, 0.75),
    ]
    assert found["mean"] == 0.475
    low, high = found["by_family"][0]["interval"]
    assert low < 0.2 < high


def test_without_a_large_family_there_is_nothing_to_say():
    assert measure_families(pictures({"few": (19, 19)})) is None
