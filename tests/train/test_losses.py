"""The whole objective: the mix of its parts, in every precision, and what it refuses."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from train.losses import cvar, pairwise_auc_loss, robust_loss

from .batches import random_batch, value_and_gradient


def test_robust_loss_matches_hand_computation():
    # BCE: softplus(-2) = 0.126928, softplus(-1) = 0.313262, softplus(1) = 1.313262 for scores 2 | 1, -1 | 0, 1 | 0.
    scores, labels = torch.tensor([2.0, -1.0, 1.0]), torch.tensor([1, 0, 0])
    parts = robust_loss(scores, labels, cvar_alpha=0.5, auc_margin=2.0, cvar_weight=0.25)
    assert parts.cvar.item() == pytest.approx((1.3132617 + 0.5 * 0.3132617) / 1.5, rel=1e-6)
    assert parts.auc.item() == 0.5
    assert parts.loss.item() == pytest.approx(0.25 * 0.9799282 + 0.75 * 0.5, rel=1e-6)


def test_robust_loss_is_the_mix_of_its_parts_in_value_and_gradient():
    scores, labels = random_batch(12)
    _, cvar_gradient = value_and_gradient(
        lambda s: cvar(binary_cross_entropy_with_logits(s, labels.double(), reduction="none"), 0.8), scores
    )
    _, auc_gradient = value_and_gradient(pairwise_auc_loss, scores, labels)
    leaf = scores.clone().requires_grad_()
    parts = robust_loss(leaf, labels, cvar_weight=0.3)
    parts.loss.backward()
    torch.testing.assert_close(leaf.grad, 0.3 * cvar_gradient + 0.7 * auc_gradient)
    torch.testing.assert_close(parts.loss, 0.3 * parts.cvar + 0.7 * parts.auc)
    assert parts.loss.requires_grad
    assert not parts.cvar.requires_grad
    assert not parts.auc.requires_grad


def test_robust_loss_passes_gradcheck():
    scores, labels = random_batch(13, size=20)
    assert torch.autograd.gradcheck(lambda s: robust_loss(s, labels).loss, scores.requires_grad_())


def test_robust_loss_with_a_weight_of_zero_is_free_of_that_part():
    # Finite scores whose squared gaps, and then whose summed losses, are infinite in float32.
    scores, labels = torch.tensor([-3e38, 1.0, 0.0]), torch.tensor([1, 1, 0])
    value, gradient = value_and_gradient(lambda s: robust_loss(s, labels, cvar_weight=1).loss, scores)
    assert robust_loss(scores, labels).auc == math.inf
    assert value.item() == pytest.approx(3e38 / 2.4, rel=1e-6)
    assert gradient.isfinite().all()

    scores, labels = torch.tensor([-3e38, -3e38]), torch.tensor([1, 1])
    value, gradient = value_and_gradient(lambda s: robust_loss(s, labels, cvar_alpha=1, cvar_weight=0).loss, scores)
    assert robust_loss(scores, labels, cvar_alpha=1).cvar == math.inf
    assert value == 0
    assert not gradient.any()


def test_robust_loss_of_one_class_is_the_cvar_part():
    value, gradient = value_and_gradient(lambda s: robust_loss(s, torch.ones(5)).loss, torch.zeros(5))
    assert value.item() == pytest.approx(0.5 * math.log(2))
    assert gradient.sum().item() == pytest.approx(-0.25)


@pytest.mark.parametrize("label", [0, 1])
def test_robust_loss_of_one_sample_works(label):
    parts = robust_loss(torch.tensor([0.0]), torch.tensor([label]))
    assert parts.loss.item() == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_robust_loss_of_half_precision_scores_equals_float32(dtype):
    scores, labels = random_batch(14, size=500, dtype=dtype)
    half, half_gradient = value_and_gradient(lambda s: robust_loss(s, labels).loss, scores)
    full, full_gradient = value_and_gradient(lambda s: robust_loss(s, labels).loss, scores.float())
    assert half.dtype == torch.float32
    assert torch.equal(half, full)
    assert torch.equal(half_gradient, full_gradient.to(dtype))


def test_robust_loss_works_under_bfloat16_autocast():
    generator = torch.Generator().manual_seed(15)
    features, labels = torch.randn(64, 8, generator=generator), torch.arange(64) % 2
    head = torch.nn.Linear(8, 1)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head(features).squeeze(1)
        parts = robust_loss(scores, labels)
    parts.loss.backward()
    assert scores.dtype == torch.bfloat16
    assert parts.loss.dtype == torch.float32
    torch.testing.assert_close(parts.loss, robust_loss(scores.float(), labels).loss, rtol=1e-6, atol=0)
    assert head.weight.grad.abs().sum() > 0


def test_minimising_robust_loss_separates_the_classes():
    scores, labels = random_batch(16, size=60)
    scores = scores.requires_grad_()
    optimizer = torch.optim.SGD([scores], lr=5.0)
    first = robust_loss(scores, labels).loss.item()
    for _ in range(200):
        optimizer.zero_grad()
        robust_loss(scores, labels).loss.backward()
        optimizer.step()
    assert robust_loss(scores, labels).loss.item() < 0.2 * first
    assert scores[labels == 1].min() > scores[labels == 0].max()


@pytest.mark.parametrize(
    ("name", "value"),
    [("cvar_alpha", 1.5), ("cvar_alpha", 0), ("auc_margin", -1), ("auc_power", 0.9), ("cvar_weight", 1.1)],
)
def test_robust_loss_names_the_setting_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, got {value}\."):
        robust_loss(torch.zeros(2), torch.tensor([0, 1]), **{name: value})


@pytest.mark.parametrize("function", [pairwise_auc_loss, robust_loss])
def test_losses_reject_batches_that_do_not_fit(function):
    with pytest.raises(ValueError, match=r"must be \(B,\) both, got \(3,\) and \(2,\)"):
        function(torch.zeros(3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"must be \(B,\) both, got \(2, 1\)"):
        function(torch.zeros(2, 1), torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match=r"`labels` must be 0 \(real\) or 1 \(generated\), got 2"):
        function(torch.zeros(3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"got 0\.5"):
        function(torch.zeros(2), torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match="got nan"):
        function(torch.zeros(2), torch.tensor([math.nan, 1.0]))
    with pytest.raises(TypeError, match="`scores` must be floating point"):
        function(torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]))


def test_robust_loss_rejects_an_empty_batch():
    with pytest.raises(ValueError, match="n >= 1"):
        robust_loss(torch.zeros(0), torch.zeros(0))
