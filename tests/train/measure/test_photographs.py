"""How many in 100 were photographs, for each answer, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from modeling.verdicts import thirds
from train.measure.bootstrap import wilson_interval
from train.measure.photographs import in_100, share_of_photographs

# Of 40 real and 20 generated pictures, how many get each answer.
COUNTS = {("real", 0): (30, 1), ("uncertain", 1): (5, 1), ("uncertain", 2): (4, 4), ("generated", 0): (1, 14)}


def answered():
    rows = [
        {"label": label, "verdict": verdict, "third": third or 2}
        for (verdict, third), counts in COUNTS.items()
        for label, count in enumerate(counts)
        for _ in range(count)
    ]
    return pd.DataFrame(rows).assign(source=np.arange(60) % 7)


def test_each_answer_counts_its_pictures_and_weighs_the_classes_alike():
    real, lowest, middle, highest, generated = share_of_photographs(answered())
    assert [answer["third"] for answer in (real, lowest, middle, highest, generated)] == [None, 1, 2, 3, None]
    assert real["pictures"] == {"real": 30, "generated": 1}
    assert real["photographs"]["value"] == pytest.approx((30 / 40) / (30 / 40 + 1 / 20))
    assert lowest["photographs"]["value"] == pytest.approx((5 / 40) / (5 / 40 + 1 / 20))
    assert middle["photographs"]["value"] == pytest.approx((4 / 40) / (4 / 40 + 4 / 20))
    assert generated["photographs"]["value"] == pytest.approx((1 / 40) / (1 / 40 + 14 / 20))
    assert highest["pictures"] == {"real": 0, "generated": 0}
    assert highest["photographs"] is None


def test_a_configuration_holds_whole_numbers_and_the_thirds_in_order():
    assert in_100(share_of_photographs(answered())) == {"real": 94, "uncertain": [71, 33, None], "generated": 3}


def test_an_interval_is_never_narrower_than_wilsons():
    rows = answered()
    rows.loc[(rows["label"] == 0) & (rows["verdict"] == "generated"), "verdict"] = "real"
    generated = share_of_photographs(rows)[-1]["photographs"]
    flagged, found = wilson_interval(0, 40), wilson_interval(14, 20)
    assert generated["value"] == 0
    assert generated["interval"][0] == 0
    assert generated["interval"][1] >= flagged[1] / (flagged[1] + found[0]) > 0.1
    one_source = share_of_photographs(rows.assign(source="one"))[-1]["photographs"]
    assert one_source["interval"] == pytest.approx([0, flagged[1] / (flagged[1] + found[0])])


def test_sources_that_differ_widen_the_interval():
    rows = pd.DataFrame({"label": np.repeat([0, 1], 200), "source": np.repeat(np.arange(20), 20), "third": 1})
    alike = rows.assign(verdict=np.where(np.arange(400) % 2, "generated", "real"))
    apart = rows.assign(verdict=np.where(rows["source"] % 2, "generated", "real"))
    low, high = share_of_photographs(alike)[0]["photographs"]["interval"]
    wider_low, wider_high = share_of_photographs(apart)[0]["photographs"]["interval"]
    assert wider_low < low < 0.5 < high < wider_high


def test_thirds_of_the_band_are_of_equal_width_and_an_edge_belongs_to_the_higher():
    assert thirds([0.2, 0.25, 0.39, 0.41, 0.59, 0.61, 0.8, 0.1, 0.9], 0.2, 0.8).tolist() == [1, 1, 1, 2, 2, 3, 3, 1, 3]
    assert thirds([0.25, 0.5], 0.0, 0.75).tolist() == [2, 3]
    assert thirds([0.4, 0.5, 0.6], 0.5, 0.5).tolist() == [1, 1, 1]
