"""A checkpoint that does not prove itself is refused in one sentence, wherever it is loaded."""

import json
import logging
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor, proof
from modeling.checkpoints import CheckpointError, load_processor
from modeling.detector import Detector
from modeling.embedded import EXPECTED_SCORES
from modeling.proof import BACKEND, PROVED, write_expected
from tests.tiny import VISION
from train.features.backbone import load_backbone
from train.publish.graph import export_checkpoint
from train.publish.options import ExportArguments

PATCHES = "backbone.vision_tower.vision_model.embeddings.patch_embedding.weight"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_CLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A checkpoint as `fit` leaves it."""
    torch.manual_seed(0)
    model = RobustClipForImageClassification(RobustClipConfig(vision_config=dict(VISION)))
    processor, folder = RobustClipImageProcessor(size=32), tmp_path_factory.mktemp("fitted")
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    write_expected(model, processor, folder)
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    return shutil.copytree(fitted, tmp_path / "checkpoint")


def refused(folder):
    """Why a folder is not loaded."""
    with pytest.raises(CheckpointError) as caught:
        Detector.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_checkpoint_that_gives_its_scores_is_loaded_and_computed_once(folder, cache, monkeypatch, caplog):
    Detector.from_pretrained(folder)
    assert len(json.loads((cache / PROVED).read_text())) == 2
    monkeypatch.setattr(proof, "example_scores", None)
    monkeypatch.setattr(proof, "_content_of", None)
    Detector.from_pretrained(folder)  # no file was read for it
    assert not caplog.records


def test_the_same_files_elsewhere_are_known(folder, tmp_path, monkeypatch):
    Detector.from_pretrained(folder)
    monkeypatch.setattr(proof, "example_scores", None)
    Detector.from_pretrained(folder.rename(tmp_path / "moved"))


@pytest.mark.parametrize(
    ("name", "value"),
    [(PATCHES, float("nan")), ("head.layers.0.weight", float("inf")), ("head.layers.0.weight", -float("inf"))],
)
def test_weights_that_are_not_finite_are_refused(folder, name, value):
    change_weights(folder, lambda weights: weights[name].view(-1)[3:4].fill_(value))
    assert f"are not finite: {name} holds NaN or infinity" in refused(folder)
    with pytest.raises(CheckpointError, match="not finite"):
        load_backbone(str(folder))


def test_a_tensor_that_is_missing_or_of_another_shape_is_refused(folder):
    change_weights(folder, lambda weights: weights.update({PATCHES: weights[PATCHES][:, :, :8].contiguous()}))
    assert f"1 are missing, not known or of another shape, such as {PATCHES}" in refused(folder)
    change_weights(folder, lambda weights: weights.pop(PATCHES))
    assert f"1 are missing, not known or of another shape, such as {PATCHES}" in refused(folder)
    with pytest.raises(CheckpointError, match=PATCHES):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    "changes", [{"image_mean": [0.40821073, 0.4578275, 0.48145466]}, {"image_std": [0.229, 0.224, 0.225]}]
)
def test_a_wrong_mean_or_standard_deviation_is_refused(folder, changes):
    change_json(folder / "preprocessor_config.json", **changes)
    assert "does not give the scores that it gave when it was made: of 5 example pictures" in refused(folder)


def test_what_was_right_is_looked_at_again_when_a_file_changes(folder, tmp_path):
    Detector.from_pretrained(folder)
    change_json(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    for loads in (
        lambda: Detector.from_pretrained(folder),
        lambda: load_backbone(str(folder)),
        lambda: export_checkpoint(ExportArguments(str(folder), str(tmp_path / "exported"))),
    ):
        with pytest.raises(CheckpointError, match="does not give the scores"):
            loads()


def test_weights_of_another_fit_are_refused(folder):
    change_weights(folder, lambda weights: weights["head.layers.0.weight"].mul_(1.5))
    assert "does not give the scores" in refused(folder)


def test_a_checkpoint_without_scores_says_what_is_not_proved(folder, caplog):
    (folder / EXPECTED_SCORES).unlink()
    with caplog.at_level(logging.WARNING):
        Detector.from_pretrained(folder)
    (record,) = caplog.records
    assert f"holds no {EXPECTED_SCORES}" in record.getMessage()
    assert "another mean, standard deviation or size of the pictures, would not be noticed" in record.getMessage()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", f'{{"{BACKEND}": {{"china.jpg": "high"}}}}', f'{{"{BACKEND}": []}}']
)
def test_damaged_scores_are_refused(folder, content):
    (folder / EXPECTED_SCORES).write_text(content)
    assert "must hold scores of the example pictures" in refused(folder)


def test_scores_of_other_pictures_prove_nothing(folder):
    (folder / EXPECTED_SCORES).write_text(json.dumps({BACKEND: {"another.jpg": 1.0}}))
    assert "must hold scores of pictures in examples/, such as china.jpg; it names another.jpg" in refused(folder)


def test_files_of_one_format_that_are_decoded_otherwise_do_not_stop_it(folder, caplog):
    expected = json.loads((folder / EXPECTED_SCORES).read_text())[BACKEND]
    others = {name: score + 0.1 * name.endswith(".jpg") for name, score in expected.items()}
    (folder / EXPECTED_SCORES).write_text(json.dumps({BACKEND: others}))
    Detector.from_pretrained(folder)
    assert "other scores than expected for china.jpg, flower.jpg alone: these files are decoded" in caplog.text


def test_sixteen_bits_are_allowed_to_round(folder, tmp_path):
    model = RobustClipForImageClassification.from_pretrained(folder).to(torch.bfloat16)
    model.save_pretrained(folder)
    assert load_file(folder / "model.safetensors")[PATCHES].dtype == torch.bfloat16
    Detector.from_pretrained(folder)
    change_weights(folder, lambda weights: weights["head.layers.0.weight"].mul_(100))
    assert "does not give the scores" in refused(folder)


def test_a_cache_that_cannot_be_written_does_not_stop_it(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUST_CLIP_CACHE", str(tmp_path / "file" / "cache"))
    assert Detector.from_pretrained(folder).processor.size == load_processor(folder).size


@pytest.mark.parametrize("command", [["app.py"], ["-m", "robust_clip", "examples/china.jpg", "--model"]])
def test_page_and_commands_end_in_the_sentence(folder, command, python):
    change_json(folder / "preprocessor_config.json", image_std=[0.5, 0.5, 0.5])
    settings = {"MODEL_ID": str(folder)} if command == ["app.py"] else {}
    result = python.run(*command, *([] if settings else [folder]), **settings)
    assert result.returncode == 1
    assert re.match(rf"error: (MODEL_ID=.* cannot be used\. )?{folder} does not give", result.stderr.splitlines()[-1])
    assert "Traceback" not in result.stderr
