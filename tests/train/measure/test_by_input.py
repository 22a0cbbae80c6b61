"""Pictures with a text and without one: each is judged by what belongs to it, at once and by fold."""

import numpy as np
import pandas as pd
import pytest

from modeling import RobustClipConfig
from tests.tiny import TEXT, VISION
from train.measure.by_input import (
    AS_THEY_COME,
    NO_ANSWER,
    WITH_TEXT,
    WITHOUT_TEXT,
    Calibrations,
    Inputs,
    measure_input,
)
from train.measure.calibration import calibrate, judge_held_out

NUMBER = 240
LABEL = np.arange(NUMBER) % 2
FOLD = np.arange(NUMBER) // 2 % 6 % 3
TARGETS = {"target_fpr": 0.05, "target_fnr": 0.1}
ALL = np.ones(NUMBER, dtype=bool)
TWO_THIRDS = np.arange(NUMBER) // 6 % 3 > 0


def scores(seed=0):
    return 3 * LABEL + np.random.default_rng(seed).normal(size=NUMBER)


def inputs(written=TWO_THIRDS, shift=-20.0, alone=None):
    """Without a text every score lies elsewhere by `shift`; the index is that of rows of a bank."""
    alone = scores(1) + shift if alone is None else alone
    source = [f"s{label}{i // 2 % 6}" for i, label in enumerate(LABEL)]
    score = np.where(written, scores(), alone)
    pictures = pd.DataFrame(
        {"label": LABEL, "source": source, "kind": "", "score": score}, index=3 * np.arange(NUMBER)
    )
    return Inputs(pictures, written, alone, FOLD, TARGETS)


def called_generated(rows, label):
    return (rows["verdict"] == "generated")[rows["label"] == label].mean()


def test_thresholds_of_pictures_with_a_text_would_let_all_pass_that_have_none():
    given = inputs()
    calibrations = given.calibrate()
    alone = given.pictures.assign(score=given.alone)
    assert called_generated(calibrations.with_text.judge(alone), 1) == 0
    assert called_generated(calibrations.without_text.judge(alone), 1) > 0.8
    judged = calibrations.judge(given.pictures, given.written)
    assert called_generated(judged, 1) > 0.8
    assert called_generated(judged, 0) <= 0.05
    expected = calibrations.with_text.judge(given.pictures[given.written])
    pd.testing.assert_frame_equal(judged[given.written], expected)


def test_held_out_verdicts_have_their_own_parts_too():
    held_out = inputs().judge_held_out()
    written, expected = TWO_THIRDS, inputs()
    with_text = judge_held_out(expected.pictures[written], FOLD[written], **TARGETS)
    without = judge_held_out(expected.pictures.assign(score=expected.alone), FOLD, **TARGETS)
    for name in ("probability", "verdict", "third"):
        assert held_out.as_they_come[name][written].tolist() == with_text[name].tolist()
        assert held_out.as_they_come[name][~written].tolist() == without[name][~written].tolist()
    assert held_out.as_they_come["score"].tolist() == expected.pictures["score"].tolist()
    figures = measure_input(
        expected.pictures[written], expected.calibrate().with_text, WITH_TEXT, held_out=held_out.with_text
    )
    assert figures["pictures"] == {"real": 78, "generated": 78}
    shares = figures["verdicts_of_other_folds"]["generated"]["generated"]
    assert shares["value"] == pytest.approx(called_generated(with_text, 1))


def test_where_a_class_has_no_texts_pictures_with_one_are_calibrated_on_all(caplog):
    given = inputs(written=LABEL == 1)
    assert given.calibrated_on == AS_THEY_COME
    assert given.calibrate().with_text == calibrate(given.pictures, **TARGETS)
    assert "Too few pictures of a class have a text" in caplog.text
    assert len(given.judge_held_out().with_text) == NUMBER


def test_pictures_alone_that_cannot_be_calibrated_are_all_uncertain(caplog):
    given = inputs(alone=-scores(1))
    calibrations = given.calibrate()
    assert calibrations.without_text == NO_ANSWER
    assert "Pictures without a text get no answer" in caplog.text
    judged = calibrations.judge(given.pictures, given.written)
    assert set(judged["verdict"][~given.written]) == {"uncertain"}
    assert called_generated(judged[given.written], 1) > 0.8
    held_out = given.judge_held_out()
    assert set(held_out.as_they_come["verdict"][~given.written]) == {"uncertain"}
    assert set(held_out.without_text["verdict"]) == {"uncertain"}


def test_without_a_text_tower_there_is_one_calibration():
    given = inputs(written=~ALL)
    given = Inputs(given.pictures, given.written, None, FOLD, TARGETS)
    assert given.calibrate() == Calibrations(calibrate(given.pictures, **TARGETS))
    held_out = given.judge_held_out()
    pd.testing.assert_frame_equal(held_out.as_they_come, judge_held_out(given.pictures, FOLD, **TARGETS))
    assert held_out.without_text is None


def test_a_checkpoint_gives_back_what_was_written_into_it():
    without = {"calibration_scale": 2.0, "calibration_bias": 1.0, "real_threshold": 0.1, "generated_threshold": 0.9}
    config = RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT), without_text=without)
    calibrations = Calibrations.of_config(config)
    assert calibrations.with_text.generated_threshold == 0.5
    assert calibrations.without_text.scale == 2.0
    figures = measure_input(inputs().pictures, calibrations.without_text, WITHOUT_TEXT)
    assert figures["thresholds"] == {"real": 0.1, "generated": 0.9}
    assert figures["verdicts_of_other_folds"] is None
    assert Calibrations.of_config(RobustClipConfig(vision_config=dict(VISION))).without_text is None
