"""The conformal threshold keeps its promise in simulation, and calibrate writes a copy."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from modeling import RobustClipImageProcessor
from modeling.cautions.known_data import KNOWN_DATA_FILE, KnownData
from modeling.detector import Detector
from train.calibrate import CalibrateArguments, calibrate_checkpoint, conformal_operating_point, describe

DRAWS = 1000


@pytest.mark.parametrize("photographs", [50, 200, 1000])
@pytest.mark.parametrize("target", [0.05, 0.1])
def test_the_promise_holds_on_average_over_draws(photographs, target):
    """Uniform probabilities: the rate of a threshold t is 1 - t exactly."""
    rng = np.random.default_rng(0)
    points = [conformal_operating_point(rng.random(photographs), target) for _ in range(DRAWS)]
    rates = np.array([1 - min(point.threshold, 1) for point in points])
    error = 3 * rates.std() / math.sqrt(DRAWS)
    assert rates.mean() <= target + error
    assert abs(rates.mean() - points[0].expected_fpr) <= error
    within = np.mean(rates <= points[0].fpr_bound_95)
    assert abs(within - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / DRAWS)


@pytest.mark.parametrize("photographs", [50, 200, 1000])
def test_the_promise_holds_with_ties_and_a_small_target(photographs):
    rng = np.random.default_rng(1)
    population = (rng.beta(0.3, 3, size=200_000) * 20).round() / 20  # 21 different values
    rates = []
    for _ in range(DRAWS):
        point = conformal_operating_point(rng.choice(population, photographs), 0.01)
        rates.append((population >= point.threshold).mean())
    assert np.mean(rates) <= 0.01


def test_the_rank_counts_by_hand():
    probabilities = np.arange(1, 20) / 20  # 19 photographs
    point = conformal_operating_point(probabilities, 0.05)
    assert (point.flagged, point.expected_fpr) == (0, pytest.approx(0.05))  # above the largest of 19
    assert point.threshold == math.nextafter(0.95, 2)
    assert conformal_operating_point(probabilities, 0.1).flagged == 1
    assert "at most 10.00%" in describe(conformal_operating_point(probabilities, 0.1))


def test_too_few_photographs_promise_nothing_and_flag_nothing():
    point = conformal_operating_point([1.0] * 98, 0.01)
    assert point.threshold > 1
    assert "at least 99 are needed" in describe(point)
    assert conformal_operating_point([0.5] * 99, 0.01).threshold < 1


@pytest.mark.parametrize(
    ("probabilities", "target", "message"),
    [
        ([], 0.1, "one or more"),
        ([0.5, np.nan], 0.1, "one or more"),
        ([2.0], 0.1, "one or more"),
        ([0.5], 0, "target_fpr"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(probabilities, target, message):
    with pytest.raises(ValueError, match=message):
        conformal_operating_point(probabilities, target)


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    from modeling import RobustClipForImageClassification

    folder = tmp_path / "checkpoint"
    RobustClipForImageClassification(tiny_config(text=False)).save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    KnownData(torch.zeros(8), torch.eye(8), torch.tensor([0.0, 1.0]), ("", ""), {"pictures": "2"}).save(folder)
    return folder


def test_calibrate_writes_a_copy_that_flags_what_it_promised(checkpoint, tmp_path):
    photographs = tmp_path / "photographs"
    (photographs / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(30):
        pixels = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photographs / ("more" if index % 2 else ".") / f"{index}.png")
    (photographs / "notes.txt").write_text("not a picture")
    before = (checkpoint / "config.json").read_bytes()
    arguments = CalibrateArguments(str(photographs), str(tmp_path / "copy"), str(checkpoint), target_fpr=0.1)
    point, unreadable = calibrate_checkpoint(arguments)
    assert (point.photographs, point.flagged) == (30, 3 - 1)  # rank ceil(31 * 0.9) = 28 of 30
    assert [entry.error.split(": ")[0] for entry in unreadable] == [str(photographs / "notes.txt")]
    assert (checkpoint / "config.json").read_bytes() == before
    detections = Detector.from_pretrained(tmp_path / "copy").detect_many(sorted(photographs.rglob("*.png")))
    assert sum(detection.verdict == "generated" for detection in detections) == point.flagged
    assert (tmp_path / "copy" / KNOWN_DATA_FILE).read_bytes() == (checkpoint / KNOWN_DATA_FILE).read_bytes()
    with pytest.raises(ValueError, match="exists: choose a new folder"):
        calibrate_checkpoint(arguments)
    strict = CalibrateArguments(str(photographs), str(tmp_path / "strict"), str(checkpoint), target_fpr=0.01)
    assert calibrate_checkpoint(strict)[0].threshold > 1  # 30 photographs cannot promise 1 %
    assert Detector.from_pretrained(tmp_path / "strict").detect(photographs / "0.png").verdict != "generated"


def test_calibrate_refuses_what_is_no_folder_of_photographs(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    for data, message in ((tmp_path / "nowhere", "must be a folder"), (tmp_path / "empty", "no readable photograph")):
        with pytest.raises(ValueError, match=message):
            calibrate_checkpoint(CalibrateArguments(str(data), str(tmp_path / "copy"), str(checkpoint)))
    assert not (tmp_path / "copy").exists()
