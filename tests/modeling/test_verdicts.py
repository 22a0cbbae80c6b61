"""The rule from a probability to a verdict, and who uses it."""

import numpy as np
import pandas as pd
import pytest
import torch

from modeling import RobustClipConfig
from modeling.verdicts import CLASSES, GENERATED, OPPOSITE, REAL, UNCERTAIN, VERDICTS, verdict, verdicts
from train.measure.calibration import Calibration


def test_thresholds_belong_to_the_verdict_that_they_begin():
    found = verdicts([0.0, 0.2, 0.2001, 0.7999, 0.8, 1.0], 0.2, 0.8)
    assert found.tolist() == [REAL, REAL, UNCERTAIN, UNCERTAIN, GENERATED, GENERATED]


def test_with_one_threshold_for_both_nothing_is_uncertain_and_the_threshold_is_generated():
    assert verdicts([0.4999, 0.5, 0.5001], 0.5, 0.5).tolist() == [REAL, GENERATED, GENERATED]


def test_a_threshold_above_one_calls_nothing_generated():
    assert verdicts([0.1, 1.0], 0.3, 1.01).tolist() == [REAL, UNCERTAIN]


def test_what_is_no_number_is_uncertain():
    assert verdict(float("nan"), 0.2, 0.8) == UNCERTAIN


@pytest.mark.parametrize("threshold", [0.1, 0.7, 0.8563, 1 / 3])
def test_one_and_many_agree_at_the_threshold_itself_also_in_float32(threshold):
    near = np.nextafter(np.float32(threshold), np.float32([0, 1]))
    values = np.array([threshold, *near], dtype=np.float32)
    one_by_one = [verdict(value, threshold, threshold) for value in values.tolist()]
    assert verdicts(values, threshold, threshold).tolist() == one_by_one
    assert verdicts(values.astype(np.float64), threshold, threshold).tolist() == one_by_one


def test_any_shape_keeps_its_shape():
    assert verdicts(np.full((2, 3), 0.9), 0.2, 0.8).shape == (2, 3)
    assert isinstance(verdict(0.9, 0.2, 0.8), str)


def test_the_words_are_those_of_the_published_labels():
    config = RobustClipConfig()
    assert tuple(config.id2label.values()) == CLASSES == (REAL, GENERATED)
    assert config.label2id == {REAL: 0, GENERATED: 1}
    assert set(VERDICTS) == {*CLASSES, UNCERTAIN}
    assert {name: OPPOSITE[OPPOSITE[name]] for name in CLASSES} == dict(zip(CLASSES, CLASSES, strict=True))


def test_a_detector_and_a_table_of_scores_give_the_same_verdicts(tiny_detector):
    torch.manual_seed(0)
    pixel_values = torch.randn(64, 3, 32, 32)
    config = tiny_detector.model.config
    low, high = np.quantile([answer.probability for answer in tiny_detector.detect_prepared(pixel_values)], [0.3, 0.7])
    config.real_threshold, config.generated_threshold = float(low) + 1e-6, float(high) + 1e-6
    answers = tiny_detector.detect_prepared(pixel_values)
    calibration = Calibration(1.0, 0.0, config.real_threshold, config.generated_threshold)
    judged = calibration.judge(pd.DataFrame({"score": [answer.score for answer in answers]}))
    assert [answer.verdict for answer in answers] == list(judged["verdict"])
    assert set(judged["verdict"]) == set(VERDICTS)
