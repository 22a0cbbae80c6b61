"""What loading a tower of a backbone with two says: nothing of the other tower, everything that is wrong."""

import logging
import re

import pytest
from safetensors.torch import load_file, save_file

from modeling import RobustClipForImageClassification
from tests.backbones import save_backbone


@pytest.fixture
def reports(caplog):
    """Load a backbone and return what transformers reported."""
    transformers = logging.getLogger("transformers")

    def load(folder):
        transformers.addHandler(caplog.handler)
        try:
            RobustClipForImageClassification.from_backbone(folder)
        finally:
            transformers.removeHandler(caplog.handler)
        return "\n".join(record.getMessage() for record in caplog.records)

    return load


@pytest.mark.parametrize("family", ["clip", "metaclip_2", "siglip"])
def test_the_other_tower_is_not_reported(family, tmp_path, reports):
    save_backbone(family, tmp_path)
    assert "UNEXPECTED" not in reports(tmp_path)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_backbone_that_lacks_a_tensor_is_refused(family, tmp_path, reports):
    save_backbone(family, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["vision_model.misspelt.weight"] = weights.pop("vision_model.post_layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the tower's, such as (\w+\.)?post_layernorm.weight: get it"):
        reports(tmp_path)


def test_what_no_tower_knows_is_reported(tmp_path, reports):
    save_backbone("clip", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["vision_model.misspelt.weight"] = weights["vision_model.post_layernorm.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = reports(tmp_path)
    assert re.search(r"misspelt.weight +\| UNEXPECTED", found)
    assert "text_model" not in found
