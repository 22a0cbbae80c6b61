"""Tokens of several layers beside the embedding: which they are, for every family, and that nothing else changes."""

import pytest
import torch

from modeling import RobustClipForImageClassification, RobustClipModel
from modeling.checkpoints import load_processor
from modeling.detector import Detector
from modeling.explanation import attribute_regions, average_patches, first_block, score_from, tokens_before
from tests.backbones import FAMILIES, save_backbone
from tests.pictures import noise

LAYERED = {"image_layers": [1, 2], "image_tokens": ["class", "patch_mean"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_stand_behind_the_embedding_layer_by_layer(tmp_path, family):
    theirs, _ = save_backbone(family, tmp_path)
    fields = LAYERED | ({"image_tokens": ["patch_mean"]} if family == "siglip" else {})
    model = RobustClipForImageClassification.from_backbone(tmp_path, head_depth=1, **fields).eval()
    plain = RobustClipForImageClassification.from_backbone(tmp_path, head_depth=1).eval()
    tower = getattr(theirs, "vision_model", theirs)
    pixel_values = load_processor(tmp_path)(images=[noise(), noise(60)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = model(pixel_values=pixel_values).image_embeds
        embedding = plain(pixel_values=pixel_values).image_embeds
        states = tower(pixel_values=pixel_values, output_hidden_states=True).hidden_states
    patches = (pixel_values.shape[-1] // tower.config.patch_size) ** 2
    expected = [embedding]
    for layer in (1, 2):
        if family != "siglip":
            expected.append(states[layer][:, 0])
        expected.append(states[layer][:, states[layer].shape[1] - patches :].mean(dim=1))
    torch.testing.assert_close(found, torch.cat(expected, dim=1))
    assert model.config.image_dim == found.shape[1]
    assert model.config.embedding_dim == plain.config.image_dim


def test_a_layered_checkpoint_comes_back_and_stored_features_give_its_score(tmp_path, tiny_config):
    torch.manual_seed(0)
    model = RobustClipForImageClassification(tiny_config(head_components=4, **LAYERED)).eval()
    for parameter in model.head.components.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    again = RobustClipForImageClassification.from_pretrained(tmp_path).eval()
    features = RobustClipModel.from_pretrained(tmp_path).eval()
    pixel_values = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = model(pixel_values=pixel_values)
        torch.testing.assert_close(again(pixel_values=pixel_values).score, expected.score)
        embeds = features(pixel_values=pixel_values).image_embeds
        torch.testing.assert_close(again(image_embeds=embeds).score, expected.score)
    assert again.config.image_parts == [8, 16, 16, 16, 16]
    assert again.config.feature_dim == 5 * 4 + 8  # components of each part, and the text
    assert not any(parameter.requires_grad for parameter in again.head.components.parameters())


def test_every_part_has_the_same_length_whatever_the_picture(tiny_config):
    model = RobustClipForImageClassification(tiny_config(text=False, head_components=4, head_depth=0, **LAYERED))
    seen = []
    model.head.layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    embeds = torch.randn(3, 72)
    with torch.no_grad():
        for weight in model.head.components:
            weight.bias.zero_()
        dim, bright = model(image_embeds=embeds).score, model(image_embeds=5 * embeds).score
    torch.testing.assert_close(seen[0].reshape(3, 5, 4).square().mean(dim=2), torch.ones(3, 5))
    torch.testing.assert_close(dim, bright)


@pytest.mark.parametrize("layers", [[1], [2], [1, 2]])
def test_the_map_starts_no_later_than_the_first_layer_that_is_read(tmp_path, tiny_config, layers):
    torch.manual_seed(0)
    config = tiny_config(text=False, image_layers=layers, image_tokens=["class", "patch_mean"])
    model = RobustClipForImageClassification(config).eval()
    block = first_block(model)
    assert block <= layers[0]
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        tokens = tokens_before(model, pixel_values, block)
        score = score_from(model, block, None)
        torch.testing.assert_close(score(tokens), model(pixel_values=pixel_values).score)
    save_backbone("clip", tmp_path)
    detector = Detector(model, load_processor(tmp_path), None, "layered")
    picture = noise()
    whole = attribute_regions(detector, picture, steps=200).sum()
    with torch.no_grad():
        tokens = tokens_before(model, detector.processor(images=picture, return_tensors="pt")["pixel_values"], block)
        difference = score(tokens) - score(average_patches(tokens))
    torch.testing.assert_close(whole, difference[0], rtol=0.05, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_layers": [0, 1]}, "`image_layers` must rise within 1 to the tower's 2 blocks"),
        ({"image_layers": [2, 1]}, "`image_layers` must rise"),
        ({"image_layers": [3]}, "`image_layers` must rise"),
        ({"image_layers": [1], "image_tokens": ["patch_mean", "class"]}, "in this order"),
        ({"image_layers": [1], "image_tokens": ["register"]}, "must be of"),
        ({"image_tokens": ["class"]}, "`image_tokens` needs `image_layers`"),
        ({"head_components": 0}, "`head_components` must be 1 or more"),
    ],
)
def test_layers_that_there_are_not_are_refused(tiny_config, fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


def test_without_layers_nothing_is_asked_of_the_tower(tiny_config, monkeypatch):
    model = RobustClipForImageClassification(tiny_config(image_layers=[], image_tokens=[])).eval()
    assert model.config.image_layers is None
    assert model.config.image_tokens is None
    asked = {}
    forward = type(model.backbone.vision_tower).forward
    monkeypatch.setattr(
        type(model.backbone.vision_tower),
        "forward",
        lambda self, *args, **kwargs: asked.update(kwargs) or forward(self, *args, **kwargs),
    )
    with torch.no_grad():
        model(pixel_values=torch.randn(1, 3, 32, 32))
    assert set(asked) == {"pixel_values"}
