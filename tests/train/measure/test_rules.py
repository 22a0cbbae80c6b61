"""Each rule on the threshold of "generated", counted by hand."""

import numpy as np
import pandas as pd
import pytest

from train.measure.bootstrap import wilson_interval
from train.measure.rules import bounds, measure_rules


def real(probability, source="", kind=""):
    return pd.DataFrame({"label": 0, "probability": probability, "source": source, "kind": kind})


def rising(number):
    """Probabilities .001, .002, ... in a random order."""
    return np.random.default_rng(0).permutation(np.arange(1, number + 1)) / 1000


def only(rows, rule, target_fpr=0.02):
    return [bound for bound in bounds(rows, target_fpr) if bound.rule == rule]


@pytest.mark.parametrize(("number", "target", "allowed"), [(49, 0.02, 0), (50, 0.02, 1), (100, 0.29, 29), (9, 0.5, 4)])
def test_at_most_the_target_share_of_all_real_pictures_reaches_the_threshold(number, target, allowed):
    rows = real(rising(number), source=np.arange(number))
    (bound,) = bounds(pd.concat([rows, rows.assign(label=1, probability=1.0)]), target)
    assert bound.allowed == allowed
    assert bound.above == (number - allowed) / 1000
    assert bound.reached(bound.above) == allowed + 1
    assert bound.reached(np.nextafter(bound.above, 1)) == allowed


def test_a_source_of_nine_pictures_is_not_bounded_and_one_of_ten_is():
    assert only(real(rising(9), source="a"), "sources") == []
    (bound,) = only(real(rising(10), source="a"), "sources")
    assert (bound.probabilities.tolist(), bound.allowed, bound.above) == ([0.009], 0, 0.009)


@pytest.mark.parametrize(("sources", "allowed"), [(19, 0), (20, 1), (39, 1), (40, 2)])
def test_one_of_twenty_sources_may_have_more_than_one_flagged(sources, allowed):
    """Source s has the pictures s + .1, .. s + .10, in hundreds: the second highest is s + .09."""
    name = np.repeat(np.arange(sources), 10)
    rows = real((name + np.tile(np.arange(1, 11), sources) / 100) / 100, source=name)
    small = real(np.full(9, 0.9), source="small")
    (bound,) = only(pd.concat([rows, small]).sample(frac=1, random_state=0), "sources")
    assert len(bound.probabilities) == sources
    assert bound.allowed == allowed
    assert bound.above == pytest.approx((sources - 1 - allowed + 0.09) / 100)


def test_equal_probabilities_of_a_source_are_flagged_together():
    (bound,) = only(real([0.5] * 10, source="a"), "sources")
    assert (bound.above, bound.reached(0.5), bound.reached(0.51)) == (0.5, 1, 0)


def test_a_kind_of_49_pictures_is_not_bounded_and_one_of_50_is():
    assert only(real(rising(49), kind="food"), "kinds") == []
    (bound,) = only(real(rising(50), kind="food"), "kinds")
    # Wilson's interval begins at 2.06 % for 3 of 50, at 3.15 % for 4.
    assert (bound.name, bound.allowed, bound.above) == ("food", 3, 0.047)


@pytest.mark.parametrize("pictures", [50, 51, 77, 120, 333, 2000])
def test_a_kind_may_have_as_many_flagged_as_its_interval_allows(pictures):
    (bound,) = only(real(rising(pictures), kind="food"), "kinds")
    assert wilson_interval(bound.allowed, pictures)[0] <= 0.03 < wilson_interval(bound.allowed + 1, pictures)[0]


def test_pictures_without_a_kind_are_no_kind():
    assert only(real(rising(60)), "kinds") == []
    assert only(real(rising(60)).drop(columns="kind"), "kinds") == []


def test_the_rule_that_asks_for_the_highest_threshold_decided():
    """100 pictures, all but two below .1: two may be flagged in all, three of the kind, no large source twice."""
    probability = np.r_[rising(98), 0.7, 0.8]
    rows = real(probability, source=np.arange(100), kind=np.where(np.arange(100) < 50, "food", "night"))
    by_rule = {rule["rule"]: rule for rule in measure_rules(rows, 0.5, 0.02)}
    assert by_rule["pictures"] == {
        "rule": "pictures",
        "bounds": 1,
        "kind": None,
        "of": 100,
        "allowed": 2,
        "reached": 2,
        "above": 0.098,
        "decided": True,
    }
    assert by_rule["sources"] == dict.fromkeys(by_rule["sources"]) | {"rule": "sources", "bounds": 0, "decided": False}
    assert (by_rule["kinds"]["bounds"], by_rule["kinds"]["decided"]) == (2, False)
    same_source = rows.assign(source=np.where(np.arange(100) < 90, np.arange(100), 100))
    decided = [rule for rule in measure_rules(same_source, 0.75, 0.02) if rule["decided"]]
    assert [(rule["rule"], rule["of"], rule["above"], rule["reached"]) for rule in decided] == [("sources", 1, 0.7, 0)]
    night = rows.assign(probability=np.where(np.arange(100) < 95, probability, 0.9))
    decided = [rule for rule in measure_rules(night, 0.95, 0.5) if rule["decided"]]
    assert [(rule["rule"], rule["kind"], rule["of"], rule["allowed"]) for rule in decided] == [
        ("kinds", "night", 50, 3)
    ]
