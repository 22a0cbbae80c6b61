"""Landscape figures against surfaces that are known in closed form."""

import copy

import numpy as np
import pytest
import torch

from train.study import landscape
from train.study.landscape import filter_normalised_direction, losses_at, measure_landscape, sharpness


class Bowl(torch.nn.Module):
    """loss = 1/2 sum over the weight matrix of curvature * w^2."""

    def __init__(self, curvature):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        self.bias = torch.nn.Parameter(torch.ones(2))
        self.frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.curvature = curvature

    def loss(self):
        return 0.5 * self.curvature * self.weight.square().sum()


def test_a_direction_is_as_long_as_the_weights_row_by_row():
    model = Bowl(1.0)
    weight, bias = filter_normalised_direction(model, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weight.norm(dim=1), torch.tensor([5.0, 2.0]))
    assert not bias.any()


def test_directions_scale_with_the_weights():
    model = Bowl(1.0)
    first, _ = filter_normalised_direction(model, torch.Generator().manual_seed(3))
    with torch.no_grad():
        model.weight *= 10
    second, _ = filter_normalised_direction(model, torch.Generator().manual_seed(3))
    torch.testing.assert_close(second, 10 * first)


def test_losses_along_directions_equal_the_formula_and_leave_the_weights_alone():
    model = Bowl(2.0)
    before = copy.deepcopy(model.state_dict())
    directions = [filter_normalised_direction(model, torch.Generator().manual_seed(k)) for k in range(2)]
    points = np.array([[0.0, 0.0], [0.5, 0.0], [-1.0, 2.0]])
    expected = [
        (before["weight"] + a * directions[0][0] + b * directions[1][0]).square().sum().item() for a, b in points
    ]
    assert losses_at(model, model.loss, directions, points) == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_come_back_when_the_loss_fails():
    model = Bowl(1.0)
    before = copy.deepcopy(model.state_dict())
    direction = filter_normalised_direction(model, torch.Generator().manual_seed(0))

    def fails():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        losses_at(model, fails, [direction], np.array([[1.0]]))
    assert torch.equal(model.weight, before["weight"])


def test_ascent_on_a_bowl_is_the_worst_point_of_the_ball():
    model = Bowl(3.0)
    measured = sharpness(model, model.loss, rho=0.05, generator=torch.Generator().manual_seed(0))
    length = model.weight.norm().item()
    assert measured["ascent"] == pytest.approx(1.5 * ((length + 0.05) ** 2 - length**2), rel=1e-3)
    assert abs(measured["random_mean"]) < measured["random_max"] <= measured["ascent"]


def test_random_points_at_a_minimum_rise_by_half_the_curvature():
    model = Bowl(4.0)
    with torch.no_grad():
        model.weight.zero_()
    del model.bias  # all directions curve alike
    measured = sharpness(model, model.loss, rho=0.1, generator=torch.Generator().manual_seed(0))
    assert measured["ascent"] == 0  # no gradient, no direction
    assert measured["random_mean"] == pytest.approx(0.5 * 4 * 0.01, rel=1e-4)
    assert measured["random_max"] == pytest.approx(0.5 * 4 * 0.01, rel=1e-4)


def test_sharper_bowls_measure_sharper(monkeypatch):
    monkeypatch.setattr(landscape, "GRID_STEPS", np.array([-1.0, 0.0, 1.0]))
    flat, sharp = (
        measure_landscape(model, model.loss, rho=0.05, seed=0, with_grid=True) for model in (Bowl(1.0), Bowl(8.0))
    )
    assert sharp["rise"] == pytest.approx(8 * flat["rise"], rel=1e-4)
    assert sharp["sharpness"]["ascent"] == pytest.approx(8 * flat["sharpness"]["ascent"], rel=1e-3)
    assert np.shape(flat["slices"]) == (landscape.DIRECTIONS, len(landscape.STEPS))
    assert flat["grid"][1][1] == pytest.approx(flat["loss"])
    # The first row of slices runs along the plane's first direction: columns.
    assert flat["grid"][1] == pytest.approx([flat["slices"][0][0], flat["loss"], flat["slices"][0][-1]], rel=1e-5)
    assert flat["grid"][0][1] == pytest.approx(flat["slices"][1][0], rel=1e-5)
