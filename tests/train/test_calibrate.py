"""calibrate writes a copy whose threshold is that of one's own photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.cautions.known_data import KNOWN_DATA_FILE, KnownData
from modeling.checkpoints import load_model, load_processor
from modeling.detector import Detector
from modeling.embedded import EXPECTED_SCORES
from modeling.proof import write_expected
from tests.data_sets import lock_folder
from tests.pictures import picture
from train.calibrate import calibrate_checkpoint, describe
from train.measure.conformal import conformal_operating_point
from train.options import CalibrateArguments


def test_what_is_promised_is_said():
    probabilities = np.arange(1, 20) / 20
    assert "at most 10.00%" in describe(conformal_operating_point(probabilities, 0.1))
    assert "at least 99 are needed" in describe(conformal_operating_point([1.0] * 98, 0.01))


def test_what_few_photographs_cannot_support_comes_first():
    probabilities = np.arange(100) / 100
    assert describe(conformal_operating_point(probabilities, 0.01)).startswith(
        "Few photographs: with 100 the rate of this threshold may be 2.95% and not 1.00%; 399 bring it under 2.00%."
    )
    point = conformal_operating_point(np.arange(399) / 399, 0.01)
    assert point.fpr_bound_95 < 0.02 and describe(point).startswith('"generated" from probability')


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    folder = tmp_path / "checkpoint"
    RobustClipForImageClassification(tiny_config(text=False)).save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    KnownData(torch.zeros(8), torch.eye(8), torch.tensor([0.0, 1.0]), ("", ""), {"pictures": "2"}).save(folder)
    return folder


def test_calibrate_writes_a_copy_that_flags_what_it_promised(checkpoint, tmp_path, graph_cache):
    write_expected(load_model(checkpoint), load_processor(checkpoint), checkpoint)
    photographs = tmp_path / "photographs"
    (photographs / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(30):
        pixels = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photographs / ("more" if index % 2 else ".") / f"{index}.png")
    (photographs / "notes.txt").write_text("not a picture")
    before = (checkpoint / "config.json").read_bytes()
    arguments = CalibrateArguments(str(photographs), str(tmp_path / "copy"), str(checkpoint), target_fpr=0.1)
    point, left_out = calibrate_checkpoint(arguments)
    assert (point.photographs, point.flagged) == (30, 3 - 1)  # rank ceil(31 * 0.9) = 28 of 30
    assert [reason.split(": ")[0] for reason in left_out] == [str(photographs / "notes.txt")]
    assert (checkpoint / "config.json").read_bytes() == before
    detections = Detector.from_pretrained(tmp_path / "copy").detect_many(sorted(photographs.rglob("*.png")))
    assert sum(detection.verdict == "generated" for detection in detections) == point.flagged
    assert (tmp_path / "copy" / KNOWN_DATA_FILE).read_bytes() == (checkpoint / KNOWN_DATA_FILE).read_bytes()
    assert (tmp_path / "copy" / EXPECTED_SCORES).read_bytes() == (checkpoint / EXPECTED_SCORES).read_bytes()
    with pytest.raises(ValueError, match="exists: choose a new folder"):
        calibrate_checkpoint(arguments)
    strict = CalibrateArguments(str(photographs), str(tmp_path / "strict"), str(checkpoint), target_fpr=0.01)
    assert calibrate_checkpoint(strict)[0].threshold > 1  # 30 photographs cannot promise 1 %
    assert Detector.from_pretrained(tmp_path / "strict").detect(photographs / "0.png").verdict != "generated"


def test_calibrate_sets_the_thresholds_for_pictures_without_a_text(checkpoint, tiny_config, tiny_tokenizer, tmp_path):
    without = {"calibration_scale": 2.0, "calibration_bias": 1.0, "real_threshold": 0.9, "generated_threshold": 0.95}
    with_text = {"real_threshold": 0.0, "generated_threshold": 0.0, "operating_point": {"target_fpr": 0.3}}
    config = tiny_config(**with_text, without_text=without)
    RobustClipForImageClassification(config).save_pretrained(checkpoint)
    tiny_tokenizer.save_pretrained(checkpoint)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(9):
        (photographs / f"{index}.png").write_bytes(picture(index, 0))
    arguments = CalibrateArguments(str(photographs), str(tmp_path / "copy"), str(checkpoint), target_fpr=0.2)
    point, _ = calibrate_checkpoint(arguments)
    copy = Detector.from_pretrained(tmp_path / "copy")
    expected = {**without, "real_threshold": min(0.9, point.threshold), "generated_threshold": point.threshold}
    assert copy.model.config.without_text == expected
    assert copy.model.config.generated_threshold == 0.0
    assert copy.model.config.operating_point["target_fpr"] == 0.3
    assert copy.model.config.measured(with_text=False)["target_fpr"] == 0.2
    detections = copy.detect_many(sorted(photographs.iterdir()))
    assert sum(detection.verdict == "generated" for detection in detections) == point.flagged


def test_near_duplicates_count_once(checkpoint, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    rng = np.random.default_rng(0)
    for index in range(9):
        Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(photographs / f"{index}.png")
    for copy in range(5):
        with Image.open(photographs / "3.png") as image:
            image.save(photographs / f"copy-{copy}.jpg", quality=90 - copy)
    arguments = CalibrateArguments(str(photographs), str(tmp_path / "copy"), str(checkpoint), target_fpr=0.2)
    point, left_out = calibrate_checkpoint(arguments)
    assert (point.photographs, point.flagged) == (9, 1)
    assert left_out == [f"5 near-duplicates of others, which count once; first {photographs / 'copy-0.jpg'}"]


@pytest.mark.parametrize("name", ["generated", "Fake"])
def test_calibrate_refuses_a_folder_with_generated_pictures(checkpoint, tmp_path, name):
    for folder in ("real", name):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a.png").write_bytes(picture(1, 0))
    arguments = CalibrateArguments(str(tmp_path / "data"), str(tmp_path / "copy"), str(checkpoint))
    with pytest.raises(ValueError, match=f"must hold real photographs only, got the folder '{name}'"):
        calibrate_checkpoint(arguments)
    assert not (tmp_path / "copy").exists()


def test_folders_that_calibrate_cannot_read_are_said(checkpoint, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(picture(1, 0))
    lock_folder(tmp_path / "data")
    _, left_out = calibrate_checkpoint(
        CalibrateArguments(str(tmp_path / "data"), str(tmp_path / "copy"), str(checkpoint), target_fpr=0.5)
    )
    assert len(left_out) == 1 and left_out[0].startswith("1 folders below ") and "could not be read" in left_out[0]


def test_calibrate_refuses_what_is_no_folder_of_photographs(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    for data, message in ((tmp_path / "nowhere", "must be a folder"), (tmp_path / "empty", "no readable photograph")):
        with pytest.raises(ValueError, match=message):
            calibrate_checkpoint(CalibrateArguments(str(data), str(tmp_path / "copy"), str(checkpoint)))
    assert not (tmp_path / "copy").exists()
