"""The whole objective: the mix of its parts, in every precision, and what it refuses."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from train.losses import cvar, pairwise_auc_loss, robust_loss

from .batches import random_batch, value_and_gradient


def loop_loss_over_sources(scores, labels, sources, alpha, smoothing):
    """CVaR of the sources' mean losses, one sample after the other."""
    losses = {}
    for score, label, source in zip(scores.tolist(), labels.tolist(), sources.tolist(), strict=True):
        target = label * (1 - smoothing) + smoothing / 2
        chance = 1 / (1 + math.exp(-score))
        loss = -target * math.log(chance) - (1 - target) * math.log(1 - chance)
        losses.setdefault(source, []).append(loss)
    left = k = alpha * len(losses)
    total = 0.0
    for mean in sorted((sum(values) / len(values) for values in losses.values()), reverse=True):
        total += min(1.0, max(left, 0.0)) * mean
        left -= 1
    return total / k


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
    [("cvar_alpha", 1.5), ("cvar_alpha", 0), ("auc_margin", -1), ("auc_power", 0.9), ("cvar_weight", 1.1)]
    + [("label_smoothing", 1.0), ("label_smoothing", -0.1)],
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


def test_cvar_over_sources_matches_hand_computation():
    # BCE: 0.126928 | 0.313262, 1.313262 of source 7, 0.126928 of source 2: means 0.813262 and 0.126928.
    scores, labels, sources = torch.tensor([2.0, -1.0, 1.0]), torch.tensor([1, 0, 0]), torch.tensor([2, 7, 7])
    worst = robust_loss(scores, labels, cvar_alpha=0.5, sources=sources)
    assert worst.cvar.item() == pytest.approx(0.8132617, rel=1e-6)
    assert worst.cvar_threshold == worst.cvar
    both = robust_loss(scores, labels, cvar_alpha=0.75, sources=sources)
    assert both.cvar.item() == pytest.approx((0.8132617 + 0.5 * 0.1269280) / 1.5, rel=1e-6)
    assert both.auc == robust_loss(scores, labels).auc
    # A sample of the worst source weighs 1/2, its BCE's slope is its chance of being generated.
    _, gradient = value_and_gradient(
        lambda s: robust_loss(s, labels, cvar_alpha=0.5, cvar_weight=1, sources=sources).loss, scores
    )
    assert gradient.tolist() == pytest.approx([0, 0.2689414 / 2, 0.7310586 / 2], rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.8, 1.0])
def test_cvar_over_sources_equals_the_loop(alpha, smoothing):
    scores, labels = random_batch(17, size=60)
    sources = torch.randint(-1, 9, (60,), generator=torch.Generator().manual_seed(17))
    parts = robust_loss(scores, labels, cvar_alpha=alpha, sources=sources, label_smoothing=smoothing)
    expected = loop_loss_over_sources(scores, labels, sources, alpha, smoothing)
    assert parts.cvar.item() == pytest.approx(expected, rel=1e-12)


def test_cvar_over_sources_passes_gradcheck():
    scores, labels = random_batch(18, size=20)
    sources = torch.arange(20) % 3 + torch.arange(20) // 10
    settings = {"sources": sources, "label_smoothing": 0.1, "cvar_alpha": 0.6}
    assert torch.autograd.gradcheck(lambda s: robust_loss(s, labels, **settings).loss, scores.requires_grad_())


def test_cvar_over_sources_of_one_sample_each_is_that_over_samples():
    scores, labels = random_batch(19)
    over_samples, over_sources = robust_loss(scores, labels), robust_loss(scores, labels, sources=torch.arange(40))
    assert over_samples == over_sources


def test_cvar_over_one_source_is_the_mean_loss():
    scores, labels = random_batch(20)
    parts = robust_loss(scores, labels, cvar_alpha=0.1, sources=torch.zeros(40, dtype=torch.long))
    torch.testing.assert_close(parts.cvar, robust_loss(scores, labels, cvar_alpha=1).cvar)


def test_a_source_with_a_loss_that_is_not_a_number_is_not_hidden():
    scores = torch.tensor([math.nan, 1.0, 0.0, 5.0])
    sources = torch.tensor([0, 0, 1, 2])
    assert robust_loss(scores, torch.tensor([1, 0, 0, 0]), cvar_alpha=0.2, sources=sources).cvar.isnan()


def test_sources_that_do_not_fit_are_refused():
    scores, labels = torch.zeros(3), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"`sources` must have one number a sample, \(3,\), got \(2,\)"):
        robust_loss(scores, labels, sources=torch.tensor([0, 1]))
    with pytest.raises(TypeError, match=r"`sources` must be integers, got torch.float32"):
        robust_loss(scores, labels, sources=torch.zeros(3))


def test_label_smoothing_matches_hand_computation():
    # Targets 0.9 and 0.1 at scores 2 and 2: 0.9 * 0.126928 + 0.1 * 2.126928, and 0.1 * 0.126928 + 0.9 * 2.126928.
    scores, labels = torch.tensor([2.0, 2.0]), torch.tensor([1, 0])
    parts = robust_loss(scores, labels, cvar_alpha=1, label_smoothing=0.2)
    assert parts.cvar.item() == pytest.approx((0.3269280 + 1.9269280) / 2, rel=1e-6)
    assert parts.auc == robust_loss(scores, labels).auc


def test_smoothed_labels_ask_for_a_finite_score():
    # The minimum of BCE lies where the chance is the target: log(0.9 / 0.1).
    _, gradient = value_and_gradient(
        lambda s: robust_loss(s, torch.tensor([1]), label_smoothing=0.2).loss, torch.tensor([math.log(9)])
    )
    assert gradient.item() == pytest.approx(0, abs=1e-7)
