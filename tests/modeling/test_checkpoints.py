"""A checkpoint is loaded whole, or refused in one sentence."""

import pytest
from safetensors.torch import load_file, save_file

from modeling import RobustClipImageProcessor
from modeling.checkpoints import CheckpointError, load_model
from modeling.detector import Detector
from modeling.hub import HubError
from tests.backbones import save_backbone


@pytest.fixture
def folder(tiny_config, tmp_path):
    from modeling import RobustClipForImageClassification

    RobustClipForImageClassification(tiny_config(text=False)).save_pretrained(tmp_path)
    RobustClipImageProcessor(size=32).save_pretrained(tmp_path)
    return tmp_path


def test_a_backbone_without_a_head_is_no_detector(tmp_path):
    save_backbone("clip", tmp_path)
    with pytest.raises(
        CheckpointError, match="must be a detector of this project .* got 'clip'. To make one"
    ) as refused:
        Detector.from_pretrained(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("renamed", ["head.layers.0.weight", "backbone.vision_tower.visual_projection.weight"])
def test_weights_of_another_configuration_are_refused(folder, renamed):
    assert Detector.from_pretrained(folder).name == folder.name
    weights = load_file(folder / "model.safetensors")
    weights[f"{renamed}.of_before"] = weights.pop(renamed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=f"2 are missing, not known or of another shape, such as {renamed}. Save or fetch"
    ) as refused:
        Detector.from_pretrained(folder)
    assert "\n" not in str(refused.value)


def test_a_hub_id_that_cannot_be_had_is_refused_in_our_words():
    with pytest.raises(HubError, match=r"nobody/nothing needs the Hub, but HF_HUB_OFFLINE is set"):
        load_model("nobody/nothing")
