"""The pairwise AUC loss against hand computation, a plain loop and numeric gradients."""

import math

import pytest
import torch

from train import losses
from train.losses import pairwise_auc_loss

from .batches import random_batch, value_and_gradient


def loop_auc(scores, labels, margin=0.6, power=2.0):
    """The pairwise loss and its gradient as the formula reads."""
    scores, labels = [float(score) for score in scores], [int(label) for label in labels]
    generated = [i for i, label in enumerate(labels) if label == 1]
    real = [j for j, label in enumerate(labels) if label == 0]
    pairs = len(generated) * len(real)
    total, gradient = 0.0, [0.0] * len(scores)
    for i in generated:
        for j in real:
            gap = margin - (scores[i] - scores[j])
            if gap > 0:
                total += gap**power
                gradient[i] -= power * gap ** (power - 1) / pairs
                gradient[j] += power * gap ** (power - 1) / pairs
    return total / pairs, gradient


def test_auc_loss_matches_hand_computation():
    # Gaps with margin 1: (2, 1.5) 0.5; (2, 0) -1; (1, 1.5) 1.5; (1, 0) 0, exactly on the margin.
    scores, labels = torch.tensor([2.0, 1.0, 1.5, 0.0]), torch.tensor([1, 1, 0, 0])
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, margin=1.0)
    assert value.item() == (0.25 + 2.25) / 4
    assert gradient.tolist() == [-0.25, -0.75, 1.0, 0.0]
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, margin=1.0, power=1)
    assert value.item() == (0.5 + 1.5) / 4
    assert gradient.tolist() == [-0.25, -0.25, 0.5, 0.0]
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, margin=1.0, power=3)
    assert value.item() == (0.125 + 3.375) / 4
    assert gradient.tolist() == pytest.approx([-0.1875, -1.6875, 1.875, 0.0])


@pytest.mark.parametrize("power", [1, 1.5, 2, 2.0, 3, 4.7])
@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 0.01), (2, 10.0), (3, 1e4)])
def test_auc_loss_and_gradient_equal_the_loop(seed, scale, power):
    scores, labels = random_batch(seed, scale=scale)
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=power)
    expected, slopes = loop_auc(scores, labels, power=power)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(gradient, torch.tensor(slopes, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pairs_at_once", [1, 7, 100])
def test_auc_loss_does_not_depend_on_the_block_size(monkeypatch, pairs_at_once):
    scores, labels = random_batch(5)
    whole, whole_gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=3)
    monkeypatch.setattr(losses, "PAIRS_AT_ONCE", pairs_at_once)
    blocks, blocks_gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=3)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(blocks_gradient, whole_gradient)


def test_auc_loss_of_sorted_scores_agrees_with_the_blocks():
    scores, labels = random_batch(6, size=3000)
    sorted_value, sorted_gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=2)
    blocks_value, blocks_gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=2 + 1e-13)
    torch.testing.assert_close(sorted_value, blocks_value, rtol=1e-11, atol=0)
    torch.testing.assert_close(sorted_gradient, blocks_gradient, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("power", [1, 2, 2.5])
def test_auc_loss_passes_gradcheck(power):
    scores, labels = random_batch(7, size=25)
    assert torch.autograd.gradcheck(lambda s: pairwise_auc_loss(s, labels, power=power), scores.requires_grad_())


@pytest.mark.parametrize("power", [1, 2, 3])
def test_auc_loss_of_pairs_on_the_margin_is_zero_without_slope(power):
    scores, labels = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0]), torch.tensor([1, 1, 0, 0, 0])
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, margin=0.5, power=power)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("power", [1, 2, 3])
def test_auc_loss_of_equal_scores_is_the_margin_to_the_power(power):
    scores, labels = torch.full((12,), 3.0, dtype=torch.float64), torch.tensor([1, 0, 0] * 4)
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=power)
    assert value.item() == pytest.approx(0.6**power, rel=1e-12)
    slope = power * 0.6 ** (power - 1)
    assert gradient.tolist() == pytest.approx([-slope / 4, slope / 8, slope / 8] * 4, rel=1e-12)


def test_auc_loss_of_well_separated_classes_is_exactly_zero():
    scores, labels = torch.tensor([1e4, 2e4, -1e4, -3e4]), torch.tensor([1, 1, 0, 0])
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("power", [2, 3])
def test_auc_loss_keeps_its_digits_under_a_float32_offset(power):
    scores, labels = random_batch(8, dtype=torch.float32)
    scores = scores + 1e6  # rounded to steps of 1/16, and computed with in full from there
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels, power=power)
    expected, slopes = loop_auc(scores, labels, power=power)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor(slopes), rtol=1e-5, atol=1e-7)


def test_auc_loss_keeps_its_digits_beside_a_far_outlier():
    scores, labels = random_batch(9)
    scores[1] = 1e6  # a generated picture far above: its own pairs cost nothing
    expected, slopes = loop_auc(scores, labels)
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(gradient, torch.tensor(slopes, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_auc_loss_of_huge_mistakes_is_right_in_float32():
    scores, labels = torch.tensor([-1e4, 1e4]), torch.tensor([1, 0])
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels)
    assert value.item() == pytest.approx(20000.6**2, rel=1e-6)
    assert gradient.tolist() == pytest.approx([-2 * 20000.6, 2 * 20000.6], rel=1e-6)


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("labels", [[1], [0], [0, 0, 0], [1, 1, 1], []])
def test_auc_loss_of_one_class_is_zero_with_a_zero_gradient(labels, power):
    scores = torch.arange(len(labels), dtype=torch.float32)
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, torch.tensor(labels), power=power)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(scores))


@pytest.mark.parametrize("power", [2, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("labels", [[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
def test_auc_loss_shows_scores_that_are_not_finite(labels, bad, power):
    assert pairwise_auc_loss(torch.tensor([bad, 1.0, 2.0, 3.0]), torch.tensor(labels), power=power).isnan()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
def test_auc_loss_takes_labels_of_any_dtype(dtype):
    scores, labels = random_batch(10)
    assert torch.equal(pairwise_auc_loss(scores, labels.to(dtype)), pairwise_auc_loss(scores, labels))


def test_auc_loss_is_unchanged_by_order():
    scores, labels = random_batch(11)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(pairwise_auc_loss, scores, labels)
    moved, moved_gradient = value_and_gradient(pairwise_auc_loss, scores[order], labels[order])
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[order])


@pytest.mark.parametrize(("name", "value"), [("margin", 0), ("margin", math.inf), ("power", 0.5), ("power", math.nan)])
def test_auc_loss_rejects_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"`auc_{name}` must be .*, got {value}"):
        pairwise_auc_loss(torch.zeros(2), torch.tensor([0, 1]), **{name: value})
