"""The model's contracts, on tiny random CLIPs."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipModel
from tests.tiny import TEXT, VISION


def batch(size=4):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 90, (size, 6), generator=generator)
    ids[:, -1] = 99
    return torch.randn(size, 3, 32, 32, generator=generator), ids, torch.ones_like(ids)


def without_text(**fields):
    return {
        "calibration_scale": 1.0,
        "calibration_bias": 0.0,
        "real_threshold": 0.5,
        "generated_threshold": 0.5,
        **fields,
    }


def test_the_papers_head_has_7093249_parameters():
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
    with torch.device("meta"):
        model = RobustClipForImageClassification(RobustClipConfig(text_config=text))
    assert model.config.feature_dim == 1536
    assert sum(parameter.numel() for parameter in model.head.parameters()) == 7_093_249


def test_softmax_of_the_logits_is_the_calibrated_probability(tiny_model):
    tiny_model.config.calibration_scale, tiny_model.config.calibration_bias = 2.5, -0.7
    output = tiny_model(*batch())
    expected = torch.sigmoid(2.5 * output.score - 0.7)
    torch.testing.assert_close(output.logits.softmax(-1)[:, 1], expected)


def test_each_row_has_the_calibration_of_its_input(tiny_model):
    config = tiny_model.config
    config.calibration_scale, config.calibration_bias = 2.5, -0.7
    config.without_text = without_text(calibration_scale=0.5, calibration_bias=3.0)
    pixels, ids, mask = batch()
    mask[1] = 0
    output = tiny_model(pixels, ids, mask)
    expected = torch.sigmoid(2.5 * output.score - 0.7)
    expected[1] = torch.sigmoid(0.5 * output.score[1] + 3)
    torch.testing.assert_close(output.logits.softmax(-1)[:, 1], expected)
    embeds = output.text_embeds.clone()
    embeds[1] = 0
    stored = tiny_model(image_embeds=output.image_embeds, text_embeds=embeds)
    torch.testing.assert_close(stored.logits, output.logits)
    alone = tiny_model(pixels)
    torch.testing.assert_close(alone.logits.softmax(-1)[:, 1], torch.sigmoid(0.5 * alone.score + 3))
    with_text = tiny_model(pixels, ids)  # no mask: every row has a text
    torch.testing.assert_close(with_text.logits.softmax(-1)[:, 1], torch.sigmoid(2.5 * with_text.score - 0.7))


def test_the_part_without_text_comes_back_and_may_be_missing(tiny_config, tiny_model, tmp_path):
    config = tiny_config(without_text=without_text(real_threshold=0.25), real_threshold=0.125)
    config.save_pretrained(tmp_path)
    again = RobustClipConfig.from_pretrained(tmp_path)
    assert again.without_text == config.without_text
    assert again.decision(with_text=False) == (1.0, 0.0, 0.25, 0.5)
    assert again.decision(with_text=True) == (1.0, 0.0, 0.125, 0.5)
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields["without_text"]  # as an earlier version wrote it
    (tmp_path / "config.json").write_text(json.dumps(fields))
    old = RobustClipConfig.from_pretrained(tmp_path)
    assert old.decision(with_text=False) == old.decision(with_text=True) == (1.0, 0.0, 0.125, 0.5)


def test_a_row_without_text_gets_the_no_text_embedding_and_leaves_its_neighbours_alone(tiny_model):
    pixels, ids, mask = batch()
    full = tiny_model(pixels, ids, mask)
    mask[1] = 0
    partial = tiny_model(pixels, ids, mask)
    assert torch.equal(partial.text_embeds[1], tiny_model.backbone.no_text_embed)
    torch.testing.assert_close(partial.score[[0, 2, 3]], full.score[[0, 2, 3]])
    torch.testing.assert_close(tiny_model(pixels).score[1], partial.score[1])


def test_stored_embeddings_give_the_same_score_as_pictures(tiny_model):
    pixels, ids, mask = batch()
    mask[2] = 0
    direct = tiny_model(pixels, ids, mask)
    stored = direct.text_embeds.clone()
    stored[2] = 0  # no text
    torch.testing.assert_close(tiny_model(image_embeds=direct.image_embeds, text_embeds=stored).score, direct.score)


def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(tiny_model):
    tiny_model.train()
    pixels, ids, mask = batch()
    mask[0] = 0
    tiny_model(pixels, ids, mask, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    trainable = {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    with_gradient = {name for name, parameter in tiny_model.named_parameters() if parameter.grad is not None}
    assert trainable == with_gradient
    assert all(name.startswith("head.") or name == "backbone.no_text_embed" for name in trainable)


def test_a_checkpoint_comes_back_with_its_towers_frozen(tiny_model, tmp_path):
    trainable = {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert not any("tower" in name for name in trainable)
    tiny_model.save_pretrained(tmp_path)
    again, info = RobustClipForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert {name for name, parameter in again.named_parameters() if parameter.requires_grad} == trainable
    assert {
        name
        for name, parameter in RobustClipModel.from_pretrained(tmp_path).named_parameters()
        if parameter.requires_grad
    } == {"no_text_embed"}


def test_frozen_towers_stay_in_evaluation_mode(tiny_model):
    tiny_model.train()
    assert tiny_model.head.training
    assert not tiny_model.backbone.vision_tower.training
    tiny_model.backbone.vision_tower.requires_grad_(True)
    tiny_model.train()
    assert tiny_model.backbone.vision_tower.training


def test_an_image_tower_alone_refuses_text(tiny_config):
    model = RobustClipForImageClassification(tiny_config(text=False)).eval()
    pixels, ids, mask = batch()
    assert model.config.feature_dim == 8
    assert model(pixels).text_embeds is None
    with pytest.raises(ValueError, match="no text tower"):
        model(pixels, ids, mask)


def test_pictures_and_embeddings_exclude_each_other(tiny_model):
    with pytest.raises(ValueError, match="exactly one"):
        tiny_model()
    with pytest.raises(ValueError, match="exactly one"):
        tiny_model(torch.zeros(1, 3, 32, 32), image_embeds=torch.zeros(1, 8))


def test_return_dict_false_gives_a_tuple(tiny_model):
    assert isinstance(tiny_model(torch.zeros(1, 3, 32, 32), return_dict=False), tuple)


@pytest.mark.parametrize("with_text", [True, False])
def test_from_backbone_takes_the_weights_of_a_saved_clip(tmp_path, with_text):
    from tests.tiny import TEXT, VISION

    if with_text:
        clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=8)).eval()
    else:
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).eval()
    clip.save_pretrained(tmp_path)
    model = RobustClipForImageClassification.from_backbone(str(tmp_path), head_depth=1).eval()
    # The backbone's name alone says where it is from: no tower keeps a path of this machine.
    assert model.config.to_json_string().count(str(tmp_path)) == 1
    pixels, ids, mask = batch()
    if with_text:
        expected = clip(input_ids=ids, attention_mask=mask, pixel_values=pixels)
        output = model(pixels, ids, mask)
        # CLIPModel normalises its embeddings, the detector does not.
        for name in ("image_embeds", "text_embeds"):
            torch.testing.assert_close(
                torch.nn.functional.normalize(output[name], dim=-1),
                torch.nn.functional.normalize(expected[name], dim=-1),
            )
    else:
        torch.testing.assert_close(model(pixels).image_embeds, clip(pixels).image_embeds)


def test_parameters_missing_in_a_checkpoint_are_initialised(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "head" not in name and "no_text" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = RobustClipForImageClassification.from_pretrained(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert parameter.abs().max() < 5, name


def test_features_load_from_a_whole_detector(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    features, info = RobustClipModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    pixels = batch()[0]
    torch.testing.assert_close(features(pixels).image_embeds, tiny_model(pixels).image_embeds)


def test_reset_head_depends_on_the_seed_only(tiny_model):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        tiny_model.reset_head()
        states.append({name: value.clone() for name, value in tiny_model.head.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dropout": 1.0}, "head_dropout"),
        ({"head_depth": -1}, "head_depth"),
        ({"head_width": 0}, "head_width"),
        ({"calibration_scale": 0.0}, "calibration_scale"),
        ({"real_threshold": 0.8, "generated_threshold": 0.4}, "Thresholds"),
        ({"real_threshold": 1.5, "generated_threshold": 1.6}, "Thresholds"),
        ({"head_depth": "3"}, "^`head_depth` must be int, got '3'.$"),
        ({"calibration_scale": "much"}, r"^`calibration_scale` must be float \| int, got 'much'.$"),
        ({"without_text": {"real_threshold": 0.5}}, "^`without_text` needs a text tower, got no `text_config`.$"),
        (
            {"text_config": TEXT, "without_text": {"bias": 0.5}},
            "^`without_text` must hold cali.*, got bias.$",
        ),
        ({"text_config": TEXT, "without_text": {"bias": "0"}}, r"^`without_text` must be dict\[str, float"),
        ({"text_config": TEXT, "without_text": without_text(calibration_scale=0)}, "calibration_scale.*, got 0.$"),
        ({"text_config": TEXT, "without_text": without_text(real_threshold=0.6)}, "Thresholds .* got 0.6 and 0.5.$"),
        ({"vision_config": dict(VISION, hidden_size="wide")}, "hidden_size.*expected int.*wide"),
    ],
)
def test_the_configuration_refuses_wrong_values_in_one_sentence(fields, message):
    with pytest.raises(ValueError, match=message) as refused:
        RobustClipConfig(**{"vision_config": VISION, **fields})
    assert "\n" not in str(refused.value)


def test_a_head_with_an_unknown_activation_is_refused(tiny_config):
    with pytest.raises(ValueError, match="`head_activation` must be one of .*leaky_relu.*, got 'soft'"):
        RobustClipForImageClassification(tiny_config(head_activation="soft"))


@pytest.mark.parametrize("load", [RobustClipConfig.from_pretrained, RobustClipForImageClassification.from_pretrained])
def test_a_wrong_value_in_a_file_names_the_file_and_what_to_do(tiny_model, tmp_path, load):
    tiny_model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"head_dropout": 1.5}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="^config.json is not valid: `head_dropout` must be in .* Correct it, or get"):
        load(tmp_path)
