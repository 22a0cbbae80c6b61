"""CVaR and the pairwise AUC loss against hand computation, plain loops, the dual problem and numeric gradients."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import binary_cross_entropy_with_logits

from train import losses
from train.losses import cvar, pairwise_auc_loss, robust_loss


def loop_cvar(values, alpha):
    """CVaR by walking down the sorted losses until `alpha * n` of them are used up."""
    left = k = alpha * len(values)
    total = 0.0
    for value in sorted(values, reverse=True):
        share = min(1.0, left)
        total += share * value
        left -= share
        if left <= 0:
            break
    return total / k


def dual_cvar(values, alpha):
    """CVaR as the minimum over lam, by scalar search."""
    tensor = torch.tensor(values, dtype=torch.float64)

    def objective(lam):
        return lam + (tensor - lam).clamp_min(0).sum().item() / (alpha * len(values))

    bounds = (min(values) - 1, max(values) + 1)
    return minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-12}).fun


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


def random_batch(seed, size=40, share=0.3, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(size, generator=generator) < share).long()
    labels[:2] = torch.tensor([0, 1])
    scores = torch.randn(size, generator=generator, dtype=torch.float64) * scale + labels
    return scores.to(dtype), labels


def value_and_gradient(function, scores, *arguments, **settings):
    scores = scores.clone().requires_grad_()
    value = function(scores, *arguments, **settings)
    value.backward()
    return value.detach(), scores.grad


# CVaR


@pytest.mark.parametrize(
    ("alpha", "expected", "weights"),
    [
        (1.0, 2.5, [0.25, 0.25, 0.25, 0.25]),
        (0.75, 3.0, [0, 1 / 3, 1 / 3, 1 / 3]),
        (0.5, 3.5, [0, 0, 0.5, 0.5]),
        (0.625, (4 + 3 + 0.5 * 2) / 2.5, [0, 0.2, 0.4, 0.4]),
        (0.25, 4.0, [0, 0, 0, 1]),
        (0.001, 4.0, [0, 0, 0, 1]),
    ],
)
def test_cvar_and_its_gradient_match_hand_computation(alpha, expected, weights):
    value, gradient = value_and_gradient(cvar, torch.tensor([1.0, 2.0, 3.0, 4.0]), alpha)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert gradient.tolist() == pytest.approx(weights, rel=1e-6)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.1, 0.29, 1 / 3, 0.7, 0.8, 0.999999])
@pytest.mark.parametrize("size", [1, 2, 7, 10, 100])
def test_cvar_equals_the_loop_and_the_dual(size, alpha):
    values = torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64).exp().tolist()
    value = cvar(torch.tensor(values, dtype=torch.float64), alpha).item()
    assert value == pytest.approx(loop_cvar(values, alpha), rel=1e-12)
    assert value == pytest.approx(dual_cvar(values, alpha), rel=1e-6)


def test_cvar_at_one_is_exactly_the_mean():
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cvar(values, 1.0), values.mean())


def test_cvar_just_below_one_approaches_the_mean():
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(cvar(values, math.nextafter(1.0, 0.0)), values.mean(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.001, 0.01])
def test_cvar_of_at_most_one_sample_is_exactly_the_maximum(alpha):
    values = torch.rand(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cvar(values, alpha), values.max())


def test_cvar_never_rises_with_alpha_and_lies_between_mean_and_maximum():
    values = torch.rand(37, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    curve = [cvar(values, step / 200).item() for step in range(1, 201)]
    assert all(left >= right - 1e-15 for left, right in zip(curve, curve[1:], strict=False))
    assert curve[0] == values.max().item()
    assert curve[-1] == values.mean().item()


@pytest.mark.parametrize("alpha", [0.01, 0.37, 0.8, 1.0])
def test_cvar_of_equal_losses_is_that_loss_and_the_weights_sum_to_one(alpha):
    value, gradient = value_and_gradient(cvar, torch.full((23,), 0.7, dtype=torch.float64), alpha)
    assert value.item() == pytest.approx(0.7, rel=1e-14)
    assert gradient.sum().item() == pytest.approx(1.0, rel=1e-14)
    assert gradient.min() >= 0
    assert gradient.max() <= 1 / min(alpha * 23, 1) + 1e-14


def test_cvar_is_unchanged_by_order_and_moves_with_shift_and_scale():
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(50, generator=generator, dtype=torch.float64)
    base = cvar(values, 0.33)
    torch.testing.assert_close(cvar(values[torch.randperm(50, generator=generator)], 0.33), base)
    torch.testing.assert_close(cvar(3 * values + 5, 0.33), 3 * base + 5)


def test_cvar_of_micro_batches_averages_to_at_most_that_of_the_union():
    values = torch.rand(64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parts = torch.stack([cvar(part, 0.3) for part in values.chunk(4)]).mean()
    assert parts < cvar(values, 0.3)


@pytest.mark.parametrize("alpha", [0.1, 0.47, 0.8, 1.0])
def test_cvar_passes_gradcheck(alpha):
    values = torch.rand(17, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda losses: cvar(losses, alpha), values)


@pytest.mark.parametrize("alpha", [0.1, 0.55, 1.0])
def test_cvar_shows_nan_and_infinity(alpha):
    assert cvar(torch.tensor([1.0, math.nan, 3.0]), alpha).isnan()
    assert cvar(torch.tensor([1.0, math.inf, 3.0]), alpha) == math.inf


def test_cvar_ignores_what_is_outside_the_tail():
    value, gradient = value_and_gradient(cvar, torch.tensor([-math.inf, 1.0, 2.0, 3.0]), 0.5)
    assert value == 2.5
    assert gradient.tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cvar_of_half_precision_sums_in_float32(dtype):
    value, gradient = value_and_gradient(cvar, torch.ones(4096, dtype=dtype), 0.9)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(1.0, rel=1e-6)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("alpha", [0, -0.1, 1.5, math.nan])
def test_cvar_rejects_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match=r"`cvar_alpha` must be in \(0, 1\], got"):
        cvar(torch.ones(3), alpha)


@pytest.mark.parametrize("shape", [(0,), (), (2, 2)])
def test_cvar_rejects_no_losses_and_other_shapes(shape):
    with pytest.raises(ValueError, match="`per_sample_losses` must be"):
        cvar(torch.ones(shape), 0.5)


# Pairwise AUC loss


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


# Both


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
