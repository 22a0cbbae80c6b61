"""Calibration, and both thresholds, against what they promise on the pictures that chose them."""

import numpy as np
import pandas as pd
import pytest

from tests.train.scored_pictures import scored
from train.measure.calibration import calibrate, judge_held_out
from train.measure.evaluation import verdicts_by_class
from train.measure.rules import KIND_SHARE, bounds, measure_rules

TARGETS = {"target_fpr": 0.02, "target_fnr": 0.1}


def frame(labels, scores, sources, kinds=""):
    return pd.DataFrame({"label": labels, "score": scores, "source": sources, "kind": kinds})


def judged(rows, **targets):
    point = calibrate(rows, **targets)
    return point, point.judge(rows)


def random_pictures(seed, decimals=9):
    """Pictures of sources and kinds that differ in how much they look generated."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(60, 1500))
    labels = (rng.random(number) < rng.uniform(0.2, 0.8)).astype(int)
    source, kind = rng.integers(number // 8, size=number), rng.integers(6, size=number)
    scores = rng.normal(size=number) + rng.uniform(0.5, 5) * labels
    scores += rng.normal(size=number // 8)[source] + 0.7 * rng.normal(size=6)[kind]
    return frame(labels, scores.round(decimals), source, np.array(list("abcde") + [""])[kind])


def test_calibration_recovers_a_known_scale():
    rng = np.random.default_rng(0)
    logit = rng.normal(scale=2, size=20000)
    labels = (rng.random(20000) < 1 / (1 + np.exp(-logit))).astype(int)
    fitted = calibrate(frame(labels, logit / 3 + 7, rng.integers(50, size=20000)))
    assert fitted.scale == pytest.approx(3, rel=0.05)
    assert fitted.bias == pytest.approx(-21, rel=0.05)


@pytest.mark.parametrize("target", [0.01, 0.03, 0.1])
def test_thresholds_use_up_their_targets(target):
    labels, scores, _ = scored(rows=2000)
    _, rows = judged(frame(labels, scores, np.arange(2000)), target_fpr=target, target_fnr=target)
    real, generated = rows[labels == 0], rows[labels == 1]
    # One or two pictures are spared where that costs none of the other class.
    assert int(target * len(real)) - 2 <= (real["verdict"] == "generated").sum() <= target * len(real)
    assert int(target * len(generated)) - 2 <= (generated["verdict"] == "real").sum() <= target * len(generated)


@pytest.mark.parametrize("decimals", [0, 1, 9])  # with many ties, and with none
@pytest.mark.parametrize("seed", range(25))
def test_all_rules_hold_and_one_fails_if_one_more_generated_picture_is_found(seed, decimals):
    point, rows = judged(random_pictures(seed, decimals))

    def held(threshold):
        return [bound.reached(threshold) <= bound.allowed for bound in bounds(rows, 0.02)]

    def called_real(threshold):
        return (generated <= threshold).sum() / len(generated)

    real, generated = (rows.loc[rows["label"] == label, "probability"].to_numpy() for label in (0, 1))
    assert all(held(point.generated_threshold))
    missed = generated[generated < point.generated_threshold]
    assert not len(missed) or not all(held(missed.max()))
    found = generated[generated >= point.generated_threshold]
    if len(found):  # no real picture between the threshold and the first picture that it is for
        assert not ((real >= point.generated_threshold) & (real < found.min())).any()
    assert called_real(point.real_threshold) <= 0.1
    if point.real_threshold < point.generated_threshold:
        above = real[real > point.real_threshold]
        assert not len(above) or called_real(above.min()) > 0.1 or above.min() >= point.generated_threshold


def test_the_threshold_lies_midway_between_the_picture_that_blocks_it_and_the_next_generated_one():
    """Fifty real pictures of fifty sources: one may be flagged, so the threshold lies above the second highest."""
    scores = [*np.linspace(-3, -1, 48), 0.5, 2.0, *np.linspace(0, 3, 11)]  # generated: 0.0, 0.3, 0.6, ... 3.0
    point, rows = judged(frame([0] * 50 + [1] * 11, scores, range(61)))
    at = dict(zip(rows["score"].round(6), rows["probability"], strict=True))
    assert point.generated_threshold == pytest.approx((at[0.5] + at[0.6]) / 2)
    # One of eleven may be called real: below .3, the highest real picture is -1, and no generated one is given for it.
    assert point.real_threshold == pytest.approx((at[-1.0] + at[0.0]) / 2)


def test_a_tie_with_the_picture_that_blocks_the_threshold_is_not_found():
    scores = [*np.linspace(-3, -1, 48), 0.5, 2.0, 0.5, 0.6, 3.0]
    point, rows = judged(frame([0] * 50 + [1] * 3, scores, range(53)))
    assert rows["verdict"].tolist()[-5:] == ["uncertain", "generated", "uncertain", "generated", "generated"]
    assert point.generated_threshold == pytest.approx(rows["probability"].iloc[[48, 51]].mean())


def test_where_the_classes_are_apart_nothing_is_uncertain_and_no_real_picture_is_flagged_for_nothing():
    labels, scores, sources = scored(shift=20)
    point, rows = judged(frame(labels, scores, sources))
    assert point.real_threshold == point.generated_threshold
    assert (rows["verdict"] == np.where(labels == 1, "generated", "real")).all()


def test_classes_that_hardly_touch_give_a_steep_slope_and_no_overflow():
    scores = np.r_[-50, np.linspace(-1, -0.001, 30), np.linspace(0.001, 1, 30), 50]
    point, rows = judged(frame([0] * 31 + [1] * 31, scores, range(62)))
    assert point.scale * 50 > 1000
    assert rows["probability"].iloc[[0, -1]].tolist() == [0, 1]
    assert (rows["verdict"] == np.where(rows["label"] == 1, "generated", "real")).all()


def test_where_no_generated_picture_may_be_found_the_threshold_lies_above_every_picture():
    """Forty real pictures: none may be flagged, and the highest score is that of a real one."""
    labels = np.repeat([0, 1], 40)
    scores = np.r_[np.linspace(-1, 1, 39), 9.0, np.linspace(1, 3, 40)]
    point, rows = judged(frame(labels, scores, range(80)))
    assert rows["probability"].max() < point.generated_threshold < 1
    assert point.real_threshold < point.generated_threshold


def test_a_kind_that_is_flagged_again_and_again_raises_the_threshold():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 1000)
    kinds = np.where(np.arange(2000) < 60, "art", "people")
    scores = rng.normal(size=2000) + 3 * labels + 2 * (kinds == "art")
    rows = frame(labels, scores, range(2000), kinds)
    point, bounded = judged(rows)
    assert (bounded[:60]["verdict"] == "generated").sum() == 4  # Wilson's interval of 4 of 60 begins at 2.6 %
    loose, _ = judged(rows.assign(kind=""))
    assert loose.generated_threshold < point.generated_threshold
    assert (loose.scale, loose.bias, loose.real_threshold) == (point.scale, point.bias, point.real_threshold)
    decided = [rule for rule in measure_rules(bounded, point.generated_threshold, 0.02) if rule["decided"]]
    assert [(rule["rule"], rule["kind"], rule["reached"], rule["allowed"]) for rule in decided] == [
        ("kinds", "art", 4, 4)
    ]
    assert KIND_SHARE == 0.03


def test_calibration_refuses_what_it_cannot_use():
    labels, scores, sources = scored()
    with pytest.raises(ValueError, match="both classes"):
        calibrate(frame([0] * 3, [0.0] * 3, [0] * 3))
    with pytest.raises(ValueError, match="do not rise"):
        calibrate(frame(labels, -scores, sources))
    scores[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calibrate(frame(labels, scores, sources))


def test_thresholds_of_other_sources_are_not_those_that_suit_the_source():
    """One real source lies far above the others: its own scores raise the shipped threshold, the others' do not."""
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(20), 50)
    labels = (sources >= 10).astype(int)
    rows = frame(labels, rng.normal(size=1000) + 3 * labels + 2.5 * (sources == 0), sources.astype(str))
    _, shipped = judged(rows)
    honest = judge_held_out(rows, sources)
    assert verdicts_by_class(shipped)["real"]["generated"]["value"] <= 0.02
    others, _ = judged(rows[sources != 0])
    expected = others.judge(rows[sources == 0])
    pd.testing.assert_frame_equal(honest.loc[sources == 0, list(expected)], expected, check_dtype=False)
    assert (expected["verdict"] == "generated").mean() > 0.3


def test_thirds_of_the_held_out_band_are_those_of_the_folds_own_thresholds():
    labels, scores, sources = scored()
    fold = np.arange(400) % 2
    rows = frame(labels, scores, sources)
    honest = judge_held_out(rows, fold)
    for number in (0, 1):
        point = calibrate(rows[fold != number])
        part = honest[(fold == number) & (honest["verdict"] == "uncertain")]
        place = (part["probability"] - point.real_threshold) / (point.generated_threshold - point.real_threshold)
        assert (part["third"] == np.ceil(3 * place)).all()
        assert set(part["third"]) == {1, 2, 3}
