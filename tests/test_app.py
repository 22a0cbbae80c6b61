"""The words of the page."""

import pytest

from app import describe
from modeling.detector import Detection
from train.operating_point import conformal_operating_point


def answer(operating_point, **fields):
    values = {"verdict": "uncertain", "probability": 0.8562, "real_threshold": 0.3, "generated_threshold": 0.8563}
    return describe(Detection(**(values | fields)), operating_point)


def test_an_uncertain_answer_stays_below_the_threshold_that_is_shown():
    words = answer(None, probability=0.852, generated_threshold=0.8563)
    assert "would be **85.2 %** (called real up to 30.0 %, called generated from 85.6 %)" in words
    assert "was not measured" in words


def test_both_errors_of_the_checkpoint_are_said():
    rates = {"false_positive_rate": 0.03, "true_positive_rate": 0.47, "false_negative_rate": 0.18}
    words = answer({name: {"value": value, "interval": [0, 1]} for name, value in rates.items()})
    assert "it called 3 of 100 real pictures generated" in words
    assert "it called 47 generated and 18 real, and was uncertain about the rest" in words


@pytest.mark.parametrize("photographs", [30, 200])
def test_a_threshold_of_ones_own_says_what_it_promises(photographs):
    from train.operating_point import as_field

    point = conformal_operating_point([index / photographs for index in range(photographs)], 0.01)
    words = answer(as_field(point), generated_threshold=point.threshold)
    assert f"Its threshold was set on {photographs} photographs of the user's own, so that at most 1 in 100" in words
    assert ("never called generated" in words) == (photographs == 30)


def test_the_part_of_a_caption_is_said():
    assert "Without the caption it would be 12.3 %." in answer(None, probability_without_caption=0.123)
