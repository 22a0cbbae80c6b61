"""Learned weights of the parts of the image features: what they do, and that an ordinary head comes out."""

import numpy as np
import pandas as pd
import pytest
import torch

from modeling import RobustClipForImageClassification
from tests.train.tiny_training import arguments
from train.features.bank import FeatureBank
from train.fit.held_out import fit_head
from train.layer_weights import PACE, PartWeights, layer_weights


def layered_model(tiny_config, text=False, **fields):
    """A detector whose head reads the embedding and the class tokens of two blocks, 8 + 16 + 16 columns."""
    torch.manual_seed(0)
    return RobustClipForImageClassification(
        tiny_config(text=text, image_layers=[1, 2], **({"head_depth": 1, "head_width": 6} | fields))
    )


def layered_bank(rows=96):
    """Features of which one part, the last token, tells the class."""
    torch.manual_seed(1)
    labels = torch.arange(rows) % 2
    features = torch.randn(rows, 40)
    features[:, 24:] += 1.5 * (2 * labels[:, None] - 1)
    frame = pd.DataFrame({"label": labels.numpy(), "source": "s"})
    return FeatureBank(frame, features, None, {})


def test_all_parts_count_alike_at_first_and_the_text_is_left_alone():
    weights = PartWeights([2, 3])
    matrix = torch.randn(4, 7)
    torch.testing.assert_close(weights(matrix), matrix)
    with torch.no_grad():
        weights.logits.copy_(torch.tensor([torch.log(torch.tensor(3.0)) / PACE, 0.0]))
    # 3 : 1 with the mean of 1: 1.5 and 0.5.
    torch.testing.assert_close(weights(matrix), matrix * torch.tensor([1.5, 1.5, 0.5, 0.5, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("components", [None, 4])
def test_what_was_learned_is_in_the_first_linear_afterwards(tiny_config, components):
    model = layered_model(tiny_config, head_components=components).eval()
    features = torch.randn(5, 40)
    keys = set(model.state_dict())
    with torch.no_grad():
        before = model.head(features)
        with layer_weights(model, True):
            torch.testing.assert_close(model.head(features), before)
            model.head.layers[0].parametrizations.weight[0].logits.copy_(torch.tensor([0.1, -0.2, 0.3]))
            within = model.head(features)
        after = model.head(features)
    assert not torch.allclose(before, within)
    torch.testing.assert_close(after, within)
    assert set(model.state_dict()) == keys
    assert model.head.layers[0].weight.requires_grad


def test_columns_of_a_text_are_no_part(tiny_config):
    model = layered_model(tiny_config, text=True).eval()
    with torch.no_grad(), layer_weights(model, True):
        first = model.head.layers[0]
        original = first.parametrizations.weight.original.clone()
        first.parametrizations.weight[0].logits.copy_(torch.tensor([0.1, -0.2, 0.3]))
        assert torch.equal(first.weight[:, 40:], original[:, 40:])
        assert not torch.isclose(first.weight[:, :40], original[:, :40]).any()


@pytest.mark.parametrize("depth", [0, 1])
def test_a_fit_learns_which_part_tells_the_class(tiny_config, tmp_path, monkeypatch, depth):
    learned = []
    forward = PartWeights.forward
    monkeypatch.setattr(
        PartWeights, "forward", lambda self, w: learned.append(self.logits.detach().clone()) or forward(self, w)
    )
    model, bank = layered_model(tiny_config, head_depth=depth), layered_bank()
    settings = {"max_steps": 60, "per_device_train_batch_size": 48, "learning_rate": 1e-2}
    fit_head(model, bank, np.arange(96), arguments(tmp_path, layer_weights=True, **settings))
    assert learned[-1].argmax() == 2
    assert learned[-1][2] > learned[-1][:2].max() + 0.02
    weighted = model.head.state_dict()
    assert not any("parametrizations" in name for name in weighted)
    learned.clear()
    fit_head(model, bank, np.arange(96), arguments(tmp_path, **settings))
    assert not learned
    assert not torch.equal(model.head.state_dict()["layers.0.weight"], weighted["layers.0.weight"])


def test_fits_are_joined_and_repeated_as_ever(tiny_config, tmp_path):
    bank, results = layered_bank(), []
    for _ in range(2):
        model = layered_model(tiny_config, head_width=12)
        fit_head(model, bank, np.arange(96), arguments(tmp_path, layer_weights=True, max_steps=3), members=2)
        results.append(model.head.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    assert results[0]["layers.0.weight"].shape == (12, 40)
