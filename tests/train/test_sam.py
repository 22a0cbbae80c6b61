"""SAM by hand on a quadratic, and what must happen once a step only."""

import pytest
import torch
from torch import nn

from train.sam import SAM, frozen_batch_norm, same_random_numbers


def test_perturbed_moves_by_rho_along_the_gradient_and_comes_back_bit_for_bit():
    parameter = nn.Parameter(torch.tensor([3.0, 0.1]))
    before = parameter.detach().clone()
    with SAM([parameter], rho=0.5).perturbed([torch.tensor([3.0, 4.0])]) as norm:
        assert norm == pytest.approx(5)
        assert parameter.tolist() == pytest.approx([3.3, 0.5])
    assert torch.equal(parameter, before)


def test_twenty_steps_on_a_quadratic_equal_the_formula():
    # f(w) = 0.5 a w^2: gradient at w + rho * sign(w) is a (w + rho sign(w))
    curvature, rho, rate = torch.tensor([2.0], dtype=torch.float64), 0.05, 0.1
    parameter = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    expected = 1.0
    optimizer = torch.optim.SGD([parameter], lr=rate)
    for _ in range(20):
        gradient = torch.autograd.grad((0.5 * curvature * parameter**2).sum(), [parameter])
        with SAM([parameter], rho).perturbed(gradient):
            optimizer.zero_grad()
            (0.5 * curvature * parameter**2).sum().backward()
        optimizer.step()
        expected -= rate * 2.0 * (expected + rho * (1 if expected > 0 else -1))
    assert parameter.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gradient", [torch.zeros(2), None])
def test_without_a_gradient_nothing_moves(gradient):
    parameter = nn.Parameter(torch.tensor([1.0, -0.0]))
    with SAM([parameter], rho=0.5).perturbed([gradient]) as norm:
        assert norm == 0
        assert parameter.tolist() == [1.0, 0.0]


def test_the_norm_is_over_all_parameters():
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    with SAM([first, second], rho=1).perturbed([torch.tensor([3.0]), torch.tensor([4.0])]):
        assert first.item() == pytest.approx(0.6)
        assert second.item() == pytest.approx(0.8)


def test_an_error_inside_still_restores_the_weights():
    parameter = nn.Parameter(torch.tensor([0.1]))
    before = parameter.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), SAM([parameter], rho=1).perturbed([torch.ones(1)]):
        raise RuntimeError("inside")
    assert torch.equal(parameter, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused(value):
    parameter = nn.Parameter(torch.ones(1))
    with pytest.raises(FloatingPointError, match="norm"), SAM([parameter], 1).perturbed([torch.tensor([value])]):
        pass
    assert parameter.item() == 1


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="`sam_rho` must be 0 or more"):
        SAM([], -0.1)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_uses_batch_statistics_but_counts_them_once(momentum):
    layer = nn.BatchNorm1d(3, momentum=momentum).train()
    batch = torch.randn(16, 3)
    first = layer(batch)
    mean, variance = layer.running_mean.clone(), layer.running_var.clone()
    with frozen_batch_norm(layer), frozen_batch_norm(layer):
        second = layer(batch)
    torch.testing.assert_close(first, second)
    assert torch.equal(layer.running_mean, mean)
    assert torch.equal(layer.running_var, variance)
    assert layer.num_batches_tracked.item() == 1
    layer(batch)
    assert layer.num_batches_tracked.item() == 2
    assert layer.momentum == momentum
    assert set(layer.state_dict()) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_batch_norm_is_restored_after_an_error():
    layer = nn.BatchNorm1d(3).train()
    with pytest.raises(RuntimeError), frozen_batch_norm(layer):
        raise RuntimeError
    assert layer.track_running_stats
    assert layer.running_mean is not None


def test_both_passes_draw_the_same_dropout_mask_and_the_next_step_another():
    dropout, ones = nn.Dropout(0.5).train(), torch.ones(1000)
    torch.manual_seed(0)
    alone = [dropout(ones), dropout(ones)]
    torch.manual_seed(0)
    with same_random_numbers(torch.device("cpu")):
        first = dropout(ones)
    second, following = dropout(ones), dropout(ones)
    assert torch.equal(first, second)
    assert torch.equal(second, alone[0])
    assert torch.equal(following, alone[1])
