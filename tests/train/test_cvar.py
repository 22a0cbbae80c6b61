"""CVaR against hand computation, a plain loop, the dual problem and numeric gradients."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from train.losses import cvar

from .batches import value_and_gradient


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
