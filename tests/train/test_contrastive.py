"""The supervised contrastive loss by hand and by a naive loop, and the training of the hidden blocks."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PrinterCallback, set_seed

from modeling import RobustClipForImageClassification
from tests.train.tiny_training import arguments, embeddings, trainer
from train.contrastive import contrastive_loss, train_blocks
from train.embedding_dataset import EmbeddingDataset
from train.features.bank import FeatureBank
from train.fit.held_out import fit_head


def naive(features, labels, temperature):
    """Equation 2 of arXiv 2004.11362, as loops."""
    units = [row / row.norm() for row in features]
    losses = []
    for i in range(len(units)):
        others = [a for a in range(len(units)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            total = sum(math.exp(units[i] @ units[a] / temperature) for a in others)
            logs = [math.log(math.exp(units[i] @ units[p] / temperature) / total) for p in positives]
            losses.append(-sum(logs) / len(positives))
    return sum(losses) / len(losses)


def test_the_loss_matches_hand_computation():
    # Anchors 0 and 1 have each other: -log(e^2 / (e^2 + e^0)) = log(1 + e^-2). Sample 2 is alone in its class.
    features, labels = torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]]), torch.tensor([1, 1, 0])
    assert contrastive_loss(features, labels, 0.5).item() == pytest.approx(0.126928, rel=1e-5)


def test_the_loss_matches_a_naive_double_loop():
    generator = torch.Generator().manual_seed(0)
    for size, classes in [(2, 1), (9, 2), (12, 5)]:
        features = torch.randn(size, 4, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (size,), generator=generator)
        labels[:2] = 0
        for temperature in (0.1, 1.0):
            found = contrastive_loss(features, labels, temperature).item()
            assert found == pytest.approx(naive(features, labels, temperature), rel=1e-9)


def test_the_loss_passes_gradcheck():
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0, 1, 2, 1])
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, labels, 0.3), features)


@pytest.mark.parametrize("labels", [[], [1], [0, 1]])
def test_without_a_pair_the_loss_is_zero_and_so_is_its_gradient(labels):
    features = torch.randn(len(labels), 3, requires_grad=True)
    loss = contrastive_loss(features, torch.tensor(labels, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_length_does_not_matter_and_half_precision_is_computed_in_float32():
    features, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(2)), torch.arange(8) % 2
    torch.testing.assert_close(contrastive_loss(1000 * features, labels), contrastive_loss(features, labels))
    half = features.bfloat16()
    assert contrastive_loss(half, labels) == contrastive_loss(half.float(), labels)


def test_bad_input_of_the_loss_is_refused():
    with pytest.raises(ValueError, match=r"\(B, D\) and \(B,\), got \(3,\) and \(3,\)"):
        contrastive_loss(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="`temperature` must be above 0, got 0"):
        contrastive_loss(torch.zeros(3, 2), torch.zeros(3), 0)


def head_model(tiny_config, **fields):
    torch.manual_seed(0)
    return RobustClipForImageClassification(tiny_config(text=False, **({"head_depth": 1} | fields)))


def test_only_the_hidden_blocks_are_trained_and_draw_the_classes_apart(tiny_config, tmp_path):
    model = head_model(tiny_config, head_components=8, head_depth=2, head_width=16)
    dataset = embeddings(rows=129, text=False)  # a last batch of one row
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss():
        with torch.no_grad():
            features = model.head.features(dataset.tensors["image_embeds"])
            return contrastive_loss(model.eval().head.layers[:-1](features), dataset.labels).item()

    start = loss()
    settings = {"contrastive_epochs": 30, "learning_rate": 1e-2, "per_device_train_batch_size": 64}
    train_blocks(model, dataset, arguments(tmp_path, **settings))
    assert loss() < 0.85 * start
    blocks = [f"head.layers.{n}.{kind}" for n in (0, 1, 4, 5) for kind in ("weight", "bias")]
    after = dict(model.named_parameters())
    assert {name for name in after if not torch.equal(after[name], before[name])} == set(blocks)


def test_the_ordinary_fit_goes_on_from_there(tiny_config, tmp_path):
    model, dataset = head_model(tiny_config), embeddings(rows=32, text=False)
    bank = FeatureBank(
        pd.DataFrame({"label": dataset.labels, "source": "s"}), dataset.tensors["image_embeds"], None, {}
    )
    results = []
    for epochs in (0, 2, 2):
        fit_head(model, bank, np.arange(32), arguments(tmp_path, contrastive_epochs=epochs, max_steps=3))
        results.append(model.head.state_dict())
    set_seed(42)
    model.reset_head()
    train_blocks(model, dataset, arguments(tmp_path, contrastive_epochs=2))
    run = trainer(model, tmp_path, dataset, max_steps=3)
    run.remove_callback(PrinterCallback)
    run.train()
    for name, value in model.head.state_dict().items():
        assert torch.equal(results[1][name], value)
        assert torch.equal(results[2][name], value)
    assert not torch.equal(results[0]["layers.0.weight"], results[1]["layers.0.weight"])


def test_a_head_without_a_block_or_with_text_is_refused(tiny_config, tiny_model, tmp_path):
    settings = arguments(tmp_path, contrastive_epochs=2)
    with pytest.raises(ValueError, match="for a head that has no hidden block, got 2"):
        train_blocks(head_model(tiny_config, head_depth=0), embeddings(text=False), settings)
    with pytest.raises(ValueError, match="for a head that reads text, got 2"):
        train_blocks(tiny_model, embeddings(), settings)


def test_a_dataset_of_some_rows_is_trained_on_these_alone(tiny_config, tmp_path):
    whole = embeddings(rows=32, text=False)
    rows = torch.arange(5, 25)
    some = EmbeddingDataset(whole.tensors["image_embeds"], whole.labels, None, rows)
    alone = EmbeddingDataset(whole.tensors["image_embeds"][rows], whole.labels[rows])
    results = []
    for dataset in (some, alone):
        model = head_model(tiny_config)
        set_seed(0)
        train_blocks(model, dataset, arguments(tmp_path, contrastive_epochs=2))
        results.append(model.head.layers[0].weight)
    assert torch.equal(*results)
