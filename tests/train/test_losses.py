"""Losses against hand-computed numbers, plain double loops and an independent search on the dual."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits

from train.losses import cvar, pairwise_auc_loss, robust_loss


def naive_auc_loss(scores, labels, margin, power):
    pairs = [
        max(margin - (si - sj), 0.0) ** power
        for si, li in zip(scores, labels, strict=True)
        for sj, lj in zip(scores, labels, strict=True)
        if li == 1 and lj == 0
    ]
    return sum(pairs) / len(pairs) if pairs else 0.0


def random_batch(seed, n=40, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, generator=generator, dtype=torch.float64) * scale
    labels = (torch.rand(n, generator=generator) < 0.6).long()
    labels[:2] = torch.tensor([0, 1])
    return scores.to(dtype), labels


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(1.0, 2.5), (0.5, 3.5), (0.25, 4.0), (0.1, 4.0), (0.625, (4 + 3 + 0.5 * 2) / 2.5), (0.375, (4 + 0.5 * 3) / 1.5)],
)
def test_cvar_equals_numbers_computed_by_hand(alpha, expected):
    losses = torch.tensor([1.0, 4.0, 2.0, 3.0], dtype=torch.float64)
    assert cvar(losses, alpha).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_cvar_equals_the_minimum_of_its_dual(alpha, seed):
    losses = torch.rand(57, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def dual(lam):
        return lam + (losses - lam).clamp(min=0).sum().item() / (alpha * len(losses))

    best = minimize_scalar(dual, bounds=(-0.1, 1.1), method="bounded", options={"xatol": 1e-12}).fun
    assert cvar(losses, alpha).item() == pytest.approx(best, rel=1e-9)


def test_cvar_falls_from_the_maximum_to_the_mean_as_alpha_grows():
    losses = torch.rand(31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = [cvar(losses, alpha).item() for alpha in torch.linspace(0.001, 1, 50).tolist()]
    assert values == sorted(values, reverse=True)
    assert values[0] == losses.max().item()
    assert cvar(losses, 1.0).item() == losses.mean().item()


def test_cvar_gradient_is_the_tail_weights():
    losses = torch.tensor([1.0, 4.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    cvar(losses, 0.625).backward()
    assert losses.grad.tolist() == pytest.approx([0, 0.4, 0.2, 0.4])


def test_cvar_of_ties_keeps_value_and_total_weight():
    losses = torch.ones(5, dtype=torch.float64, requires_grad=True)
    value = cvar(losses, 0.5)
    value.backward()
    assert value.item() == pytest.approx(1)
    assert losses.grad.sum().item() == pytest.approx(1)


def test_cvar_of_one_sample_is_that_sample():
    assert cvar(torch.tensor([3.0]), 0.8).item() == 3.0


def test_cvar_passes_gradcheck():
    losses = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert gradcheck(lambda values: cvar(values, 0.43), losses)


def test_cvar_shows_nan():
    assert math.isnan(cvar(torch.tensor([1.0, float("nan"), 2.0]), 0.5).item())


@pytest.mark.parametrize("alpha", [0, -0.1, 1.5, float("nan")])
def test_cvar_refuses_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match="`cvar_alpha` must be in"):
        cvar(torch.ones(3), alpha)


def test_cvar_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="n >= 1"):
        cvar(torch.ones(0), 0.5)


def test_auc_loss_equals_numbers_computed_by_hand():
    scores = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    labels = torch.tensor([1, 0, 0])
    # pairs (1, 0): 0.6 - 1 < 0; (1, 0.5): 0.6 - 0.5 = 0.1
    assert pairwise_auc_loss(scores, labels).item() == pytest.approx(0.1**2 / 2, rel=1e-9)


@pytest.mark.parametrize("power", [1, 1.5, 2, 3])
@pytest.mark.parametrize("scale", [0.01, 1, 100])
@pytest.mark.parametrize("seed", range(3))
def test_auc_loss_equals_the_double_loop(power, scale, seed):
    scores, labels = random_batch(seed, scale=scale)
    expected = naive_auc_loss(scores.tolist(), labels.tolist(), 0.6, power)
    assert pairwise_auc_loss(scores, labels, 0.6, power).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_auc_gradient_by_sorting_equals_the_gradient_over_all_pairs(seed):
    scores, labels = random_batch(seed)
    scores[4:10] = scores[3]  # ties
    by_sorting, by_pairs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    pairwise_auc_loss(by_sorting, labels).backward()
    pairs = 0.6 - (by_pairs[labels == 1][:, None] - by_pairs[labels == 0][None])
    pairs.clamp(min=0).square().mean().backward()
    torch.testing.assert_close(by_sorting.grad, by_pairs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("power", [2, 3])
def test_auc_loss_passes_gradcheck(power):
    scores, labels = random_batch(7, n=12)
    assert gradcheck(lambda values: pairwise_auc_loss(values, labels, 0.6, power), scores.requires_grad_())


def test_auc_loss_keeps_its_digits_far_from_zero_in_float32():
    scores, labels = random_batch(0, n=200, dtype=torch.float32)
    far = (scores + 1024).float()  # exact up to 2**-13: compare with the double loop on the same rounded numbers
    expected = naive_auc_loss(far.double().tolist(), labels.tolist(), 0.6, 2)
    assert pairwise_auc_loss(far, labels).item() == pytest.approx(expected, rel=1e-6)


def test_auc_loss_of_huge_scores_is_exact():
    scores = torch.tensor([-1e4, 1e4], dtype=torch.float32)
    assert pairwise_auc_loss(scores, torch.tensor([1, 0])).item() == pytest.approx((2e4 + 0.6) ** 2, rel=1e-6)
    assert pairwise_auc_loss(scores, torch.tensor([0, 1])).item() == 0


def test_auc_loss_at_the_margin_is_zero_with_zero_gradient():
    scores = torch.tensor([0.5, 0.0], dtype=torch.float64, requires_grad=True)
    loss = pairwise_auc_loss(scores, torch.tensor([1, 0]), margin=0.5)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [0, 0]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("power", [2, 3])
def test_auc_loss_of_one_class_is_zero_with_zero_gradient(label, power):
    scores = torch.randn(5, requires_grad=True)
    loss = pairwise_auc_loss(scores, torch.full((5,), label), power=power)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [0] * 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_return_at_least_float32(dtype):
    scores, labels = random_batch(0, dtype=dtype)
    parts = robust_loss(scores.requires_grad_(), labels)
    assert parts.loss.dtype == torch.promote_types(dtype, torch.float32)
    parts.loss.backward()
    assert scores.grad.dtype == dtype


def test_robust_loss_is_the_same_under_autocast():
    scores, labels = random_batch(0, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = robust_loss(scores, labels)
    assert inside.loss.item() == robust_loss(scores, labels).loss.item()


def test_robust_loss_is_the_weighted_sum_of_its_parts():
    scores, labels = random_batch(3)
    parts = robust_loss(scores, labels, cvar_alpha=0.7, cvar_weight=0.3, auc_margin=0.4, auc_power=3)
    losses = binary_cross_entropy_with_logits(scores, labels.double(), reduction="none")
    assert parts.cvar.item() == pytest.approx(cvar(losses, 0.7).item())
    assert parts.auc.item() == pytest.approx(naive_auc_loss(scores.tolist(), labels.tolist(), 0.4, 3))
    assert parts.loss.item() == pytest.approx(0.3 * parts.cvar.item() + 0.7 * parts.auc.item())


def test_a_part_of_weight_zero_cannot_spoil_the_loss():
    scores = torch.tensor([float("inf"), 0.0])
    labels = torch.tensor([1, 0])
    assert math.isfinite(robust_loss(torch.tensor([3.0, 0.0]), labels, cvar_weight=0).loss.item())
    assert robust_loss(scores[1:], labels[1:], cvar_weight=1).loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cvar_weight": 1.5}, "`cvar_weight` must be in"),
        ({"cvar_alpha": 0}, "`cvar_alpha` must be in"),
        ({"auc_margin": 0}, "`auc_margin` must be above 0"),
        ({"auc_power": 0.5}, "`auc_power` must be at least 1"),
    ],
)
def test_robust_loss_refuses_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        robust_loss(torch.zeros(2), torch.tensor([0, 1]), **options)


def test_losses_refuse_other_shapes_and_labels():
    with pytest.raises(ValueError, match="must be"):
        robust_loss(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="0 \\(real\\) or 1"):
        robust_loss(torch.zeros(2), torch.tensor([0, 2]))
