"""Noise on the head's input: how much, where, and when."""

import copy

import torch

from modeling import RobustClipForImageClassification
from tests.train.tiny_training import embeddings, trainer
from train.feature_noise import add_noise, feature_noise


def inputs_of_first_layer(model):
    """A list that collects what the head's first layer really gets."""
    seen = []
    model.head.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].detach().clone()))
    return seen


def test_the_level_is_relative_to_each_part_of_each_row():
    features = torch.tensor([[3.0, 4.0, 10.0], [0.0, 0.0, -2.0]])
    torch.manual_seed(0)
    found = add_noise(features, [2, 1], 0.5)
    torch.manual_seed(0)
    noise = torch.randn(2, 3)
    level = torch.tensor([[12.5**0.5, 12.5**0.5, 10.0], [0.0, 0.0, 2.0]])  # (9 + 16) / 2 = 12.5
    torch.testing.assert_close(found, features + 0.5 * level * noise)


def test_components_and_tokens_get_noise_of_their_own_level(tiny_config):
    fields = {"image_layers": [1, 2], "head_depth": 1}
    rows = torch.randn(4000, 8 + 16 + 16) * torch.tensor([1.0] * 8 + [5.0] * 16 + [0.1] * 16)
    for components, widths in [(None, [8, 16, 16]), (4, [4, 4, 4])]:
        model = RobustClipForImageClassification(tiny_config(text=False, head_components=components, **fields))
        seen = inputs_of_first_layer(model)
        with torch.no_grad():
            model.head(rows)
            with feature_noise(model, 0.5):
                model.head(rows)
            model.head(rows)
        clean, noisy, after = seen
        assert torch.equal(clean, after)
        for part, moved in zip(clean.split(widths, dim=1), (noisy - clean).split(widths, dim=1), strict=True):
            relative = moved / part.square().mean(dim=1, keepdim=True).sqrt()
            assert abs(relative.mean()) < 0.02
            assert abs(relative.std() - 0.5) < 0.02


def test_both_passes_of_sam_see_the_same_noise_and_evaluation_none(tiny_model, tmp_path):
    seen = inputs_of_first_layer(tiny_model)
    dataset = embeddings(rows=16)
    run = trainer(tiny_model, tmp_path, dataset, feature_noise=0.3, max_steps=2, sam_rho=0.05)
    run.train()
    first, second, third, fourth = seen
    # Columns of the picture: those of the text hold the no-text embedding, which SAM moves.
    assert torch.equal(first[:, :8], second[:, :8])
    assert torch.equal(third[:, :8], fourth[:, :8])
    clean = dataset.tensors["image_embeds"]
    for given in (first, third):
        assert torch.cdist(given[:, :8], clean).min() > 1e-3
    seen.clear()
    run.evaluate(dataset)
    assert torch.equal(seen[0][:, :8], clean)


def test_noise_changes_what_is_learned(tiny_model, tmp_path):
    results = []
    for scale in (0.0, 0.3, 0.3):
        model = copy.deepcopy(tiny_model)
        trainer(model, tmp_path, feature_noise=scale, max_steps=2, seed=1).train()
        results.append(model.head.layers[0].weight.detach())
    assert not torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
