"""Backbones swap by name: a tiny random one of every family becomes a detector and comes back."""

import json

import pytest
import torch
from PIL import Image
from transformers import (
    LlavaConfig,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from modeling import RobustClipForImageClassification, RobustClipModel
from modeling.checkpoints import load_processor
from modeling.detector import Detector
from modeling.examination import examine
from tests.backbones import FAMILIES, PLAIN, SQUARE, save_backbone
from tests.pictures import noise


def embedding(model, pixel_values):
    """What the family itself calls a picture's embedding."""
    if hasattr(model, "get_image_features"):
        return model.get_image_features(pixel_values=pixel_values).pooler_output
    return model(pixel_values=pixel_values).last_hidden_state[:, 0]  # the class token after the last norm


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedding_is_the_familys_own(tmp_path, family):
    theirs, _ = save_backbone(family, tmp_path)
    model = RobustClipForImageClassification.from_backbone(tmp_path, head_depth=1).eval()
    pixel_values = load_processor(tmp_path)(images=[noise(), noise(60)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output, expected = model(pixel_values=pixel_values), embedding(theirs, pixel_values)
    torch.testing.assert_close(output.image_embeds, expected)
    assert model.config.image_dim == expected.shape[1]
    assert (output.text_embeds is not None) == (family == "clip")
    assert not any(parameter.requires_grad for parameter in model.backbone.vision_tower.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_processor_has_the_familys_size_mean_and_deviation(tmp_path, family):
    _, theirs = save_backbone(family, tmp_path)
    grey = Image.new("RGB", (40, 40), (90, 120, 200))  # one colour: alike however it is resized
    pixels = [
        processor(images=grey, return_tensors="pt")["pixel_values"] for processor in (load_processor(tmp_path), theirs)
    ]
    torch.testing.assert_close(*pixels)
    # As for CLIP, a picture is cropped to a square, never stretched.
    wide = load_processor(tmp_path)(images=noise(80, 32), return_tensors="pt")["pixel_values"]
    assert torch.equal(
        wide, load_processor(tmp_path)(images=noise(80, 32).crop((24, 0, 56, 32)), return_tensors="pt")["pixel_values"]
    )


def test_the_older_files_of_clip_are_understood(tmp_path):
    older = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 336, "do_center_crop": True}
    older |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(older))
    processor = load_processor(tmp_path)
    assert (processor.size, processor.image_mean, processor.image_std) == (336, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])


def test_a_processor_without_a_mean_is_refused(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": SQUARE, "image_std": [0.5] * 3}))
    with pytest.raises(ValueError, match=r"it lacks \['image_mean'\]"):
        load_processor(tmp_path)


def test_a_tower_alone_is_a_backbone_too(tmp_path):
    torch.manual_seed(0)
    tower = SiglipVisionModel(SiglipVisionConfig(**PLAIN)).eval()
    tower.save_pretrained(tmp_path)
    pixel_values = torch.randn(2, 3, 32, 32)
    model = RobustClipModel.from_backbone(tmp_path).eval()
    torch.testing.assert_close(model(pixel_values).image_embeds, tower(pixel_values).pooler_output)


def test_what_does_not_fit_is_refused_with_what_does(tmp_path, tiny_config):
    for config in (tiny_config(), LlavaConfig(vision_config={"model_type": "clip_vision_model", **PLAIN})):
        config.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"dinov3_vit, got '{config.model_type}'"):
            RobustClipForImageClassification.from_backbone(tmp_path)
    Siglip2VisionModel(Siglip2VisionConfig(**PLAIN, num_patches=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="take one of fixed size"):
        RobustClipForImageClassification.from_backbone(tmp_path)
    SiglipVisionModel(SiglipVisionConfig(**PLAIN, vision_use_head=False)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must have a pooling head"):
        RobustClipForImageClassification.from_backbone(tmp_path)


def test_a_configuration_with_another_tower_is_refused(tiny_config):
    config = tiny_config(text=False)
    config.vision_config.model_type = "vit"
    with pytest.raises(ValueError, match="'vision_config' must be a backbone of model_type clip, .*, got 'vit'"):
        RobustClipForImageClassification(config)


@pytest.mark.parametrize(("family", "explained"), [("metaclip_2", True), ("siglip", False), ("dinov3_vit", False)])
def test_a_picture_is_examined_with_a_map_only_where_the_tower_is_a_clips(tmp_path, family, explained):
    save_backbone(family, tmp_path)
    model = RobustClipForImageClassification.from_backbone(tmp_path, head_depth=1)
    noise().save(tmp_path / "picture.png")
    last = [*examine(Detector(model, load_processor(tmp_path)), tmp_path / "picture.png")][-1]
    assert last.complete
    assert (last.explanation is not None) == explained
