"""SAM by hand on a quadratic, against an independent plain implementation, and beside BatchNorm and dropout."""

import copy
import math

import pytest
import torch
from torch import nn

from train.losses import robust_loss
from train.sam import SAM, frozen_batch_norm, same_random_numbers


def small_head(momentum=0.1, dropout=0.3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=momentum), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)
    )


def small_batches(count):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(32, 6, generator=generator), torch.arange(32) % 2) for _ in range(count)]


def batch_loss(model, batch):
    features, labels = batch
    return robust_loss(model(features).squeeze(1), labels).loss


def train(model, batches, rho, optimizer):
    """One SAM step a batch, as a trainer makes it."""
    parameters = list(model.parameters())
    history = []
    for batch in batches:
        with same_random_numbers("cpu"):
            loss = batch_loss(model, batch)
            gradients = torch.autograd.grad(loss, parameters)
        optimizer.zero_grad()
        with SAM(parameters, rho).perturbed(gradients), frozen_batch_norm(model):
            batch_loss(model, batch).backward()
        optimizer.step()
        history.append(loss.item())
    return history


def bits(tensor):
    return tensor.detach().view(torch.int32).tolist()


# The ascent


def test_step_on_a_quadratic_matches_hand_computation():
    # L = (w0^2 + 2 w1^2) / 2 at (3, 2): g = (3, 4), |g| = 5; with rho 0.5 the ascent ends at (3.3, 2.4), where
    # g = (3.3, 4.8); a step of lr 0.1 from (3, 2) ends at (2.67, 1.52).
    weights = nn.Parameter(torch.tensor([3.0, 2.0], dtype=torch.float64))
    curvature = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def loss():
        return (curvature * weights.square()).sum() / 2

    (gradient,) = torch.autograd.grad(loss(), [weights])
    with SAM([weights], rho=0.5).perturbed([gradient]) as norm:
        assert norm == 5.0
        assert weights.tolist() == pytest.approx([3.3, 2.4], rel=1e-15)
        loss().backward()
    assert weights.tolist() == [3.0, 2.0]
    assert weights.grad.tolist() == pytest.approx([3.3, 4.8], rel=1e-15)
    torch.optim.SGD([weights], lr=0.1).step()
    assert weights.tolist() == pytest.approx([2.67, 1.52], rel=1e-15)


def test_norm_is_taken_over_all_parameters_together():
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2, 1))
    sam = SAM([first, second], rho=1.0)
    sam.ascend([torch.tensor([3.0]), torch.tensor([[4.0], [0.0]])])
    assert first.tolist() == pytest.approx([0.6])
    assert second.flatten().tolist() == pytest.approx([0.8, 0.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_of_half_precision_gradients_is_taken_in_float32(dtype):
    weights = nn.Parameter(torch.zeros(10_000, dtype=dtype))
    sam = SAM([weights], rho=1.0)
    sam.ascend([torch.full((10_000,), 1000.0, dtype=dtype)])  # the norm, 1e5, is beyond float16
    assert weights.float().mean().item() == pytest.approx(0.01, rel=5e-3)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_ascent_has_length_rho_whatever_the_size_of_the_gradient(scale):
    weights = nn.Parameter(torch.zeros(4))
    sam = SAM([weights], rho=0.05)
    sam.ascend([torch.full((4,), scale)])
    assert weights.norm().item() == pytest.approx(0.05, rel=1e-6)


def test_parameters_without_a_gradient_and_frozen_ones_stay_put():
    unused, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    used = nn.Parameter(torch.ones(2))
    sam = SAM([unused, frozen, used], rho=1.0)
    sam.ascend([None, None, torch.tensor([0.0, 2.0])])
    assert unused.tolist() == frozen.tolist() == [1.0, 1.0]
    assert used.tolist() == [1.0, 2.0]
    sam.restore()
    assert used.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("gradients", [[torch.zeros(3)], [None]])
def test_no_slope_means_no_move(gradients):
    weights = nn.Parameter(torch.tensor([1.0, -0.0, 2.0]))
    with SAM([weights], rho=1.0).perturbed(gradients):
        assert bits(weights) == bits(torch.tensor([1.0, -0.0, 2.0]))


# The way back


def test_restore_is_bit_for_bit():
    weights = nn.Parameter(torch.randn(1000, generator=torch.Generator().manual_seed(2)) * 1e-3)
    with torch.no_grad():
        weights[:3] = torch.tensor([-0.0, 1e-42, math.inf])
    before = bits(weights)
    with SAM([weights], rho=7.0).perturbed([torch.ones(1000)]):
        assert bits(weights) != before
    assert bits(weights) == before


def test_weights_come_back_when_the_second_pass_raises():
    model = small_head()
    before = copy.deepcopy(model.state_dict())
    sam = SAM(model.parameters(), rho=0.5)
    gradients = [torch.ones_like(parameter) for parameter in model.parameters()]
    with pytest.raises(KeyError), sam.perturbed(gradients), frozen_batch_norm(model):
        model(torch.randn(4, 6))
        raise KeyError("second pass")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].track_running_stats
    with sam.perturbed(gradients):  # and the next step works
        assert not torch.equal(model[0].weight, before["0.weight"])


def test_second_ascent_is_refused_and_the_first_can_be_undone():
    weights = nn.Parameter(torch.zeros(1))
    sam = SAM([weights], rho=1.0)
    sam.ascend([torch.ones(1)])
    with pytest.raises(RuntimeError, match="perturbed already"):
        sam.ascend([torch.ones(1)])
    sam.restore()
    sam.restore()
    assert weights.item() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_refused_before_anything_moves(bad):
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sam = SAM([first, second], rho=1.0)
    with pytest.raises(FloatingPointError, match=f"norm of the gradients is {bad}"):
        sam.ascend([torch.ones(2), torch.tensor([1.0, bad])])
    assert first.tolist() == second.tolist() == [1.0, 1.0]


def test_gradients_that_do_not_fit_are_refused_before_anything_moves():
    weights = nn.Parameter(torch.zeros(2, 2))
    sam = SAM([weights], rho=1.0)
    with pytest.raises(ValueError, match="`gradients` must be 1, one a parameter, got 0"):
        sam.ascend([])
    with pytest.raises(ValueError, match=r"A gradient is \(2,\), its parameter \(2, 2\)"):
        sam.ascend([torch.ones(2)])
    assert not weights.any()


@pytest.mark.parametrize("rho", [-0.1, math.inf, math.nan])
def test_rho_out_of_range_is_refused(rho):
    with pytest.raises(ValueError, match="`sam_rho` must be 0 or more and finite, got"):
        SAM([], rho)


# Whole steps


def plain_sam(model, batches, rho, lr):
    """SAM with SGD on copies of the model: no shared state, BatchNorm statistics from the first pass only."""
    for batch in batches:
        model.train()
        seed_state = torch.get_rng_state()
        model.zero_grad()
        batch_loss(model, batch).backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
        worst = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, source in zip(worst.parameters(), model.parameters(), strict=True):
                parameter += rho * source.grad / norm
        worst.zero_grad()
        torch.set_rng_state(seed_state)
        batch_loss(worst, batch).backward()
        with torch.no_grad():
            for parameter, source in zip(model.parameters(), worst.parameters(), strict=True):
                parameter -= lr * source.grad


def test_twenty_steps_follow_an_independent_implementation():
    batches = small_batches(20)
    ours, theirs = small_head().double(), small_head().double()
    batches = [(features.double(), labels) for features, labels in batches]
    torch.manual_seed(3)
    history = train(ours, batches, 0.05, torch.optim.SGD(ours.parameters(), lr=0.2))
    torch.manual_seed(3)
    plain_sam(theirs, batches, 0.05, 0.2)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-9, atol=1e-11)
    assert len(set(history)) == 20


def test_rho_zero_equals_the_base_optimiser_bit_for_bit():
    batches = small_batches(20)
    with_sam, without = small_head(), small_head()
    with torch.no_grad():
        with_sam[0].bias[0] = without[0].bias[0] = -0.0
    torch.manual_seed(4)
    train(with_sam, batches, 0.0, torch.optim.AdamW(with_sam.parameters(), lr=1e-2))
    torch.manual_seed(4)
    optimizer = torch.optim.AdamW(without.parameters(), lr=1e-2)
    for batch in batches:
        optimizer.zero_grad()
        batch_loss(without, batch).backward()
        optimizer.step()
    for name, value in with_sam.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), name
    assert torch.equal(*[torch.signbit(model[0].bias) for model in (with_sam, without)])


def test_rho_zero_moves_nothing_even_with_infinite_gradients():
    weights = nn.Parameter(torch.tensor([-0.0, 1.0]))
    with SAM([weights], rho=0.0).perturbed([torch.tensor([math.inf, math.nan])]):
        assert bits(weights) == bits(torch.tensor([-0.0, 1.0]))


def test_frozen_parameters_neither_move_nor_get_a_gradient():
    model = small_head(dropout=0.0)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    (batch,) = small_batches(1)
    gradients = torch.autograd.grad(batch_loss(model, batch), trainable)
    with SAM(trainable, 0.05).perturbed(gradients), frozen_batch_norm(model):
        assert torch.equal(model[0].weight, before)
        batch_loss(model, batch).backward()
    assert model[0].weight.grad is None
    assert all(parameter.grad is not None for parameter in trainable)


# BatchNorm and random numbers


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_counts_a_batch_once_and_still_normalises_by_it(momentum):
    once, twice = small_head(momentum)[1], small_head(momentum)[1]
    features = torch.randn(16, 8, generator=torch.Generator().manual_seed(5)) * 3 + 7
    once(features)
    twice(features)
    with frozen_batch_norm(twice):
        output = twice(features + 100)
    torch.testing.assert_close(output.mean(0), torch.zeros(8), rtol=0, atol=1e-4)
    for name, value in once.state_dict().items():
        assert torch.equal(value, twice.state_dict()[name]), name
    once(features * 2)
    twice(features * 2)  # and counts again afterwards
    assert twice.momentum == momentum
    assert twice.num_batches_tracked == 2
    assert torch.equal(once.running_mean, twice.running_mean)


def test_batch_norm_in_evaluation_mode_keeps_using_its_statistics():
    layer = nn.BatchNorm1d(2)
    layer(torch.tensor([[0.0, 1.0], [4.0, 9.0]]))
    layer.eval()
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expected = layer(features)
    with frozen_batch_norm(layer):
        assert torch.equal(layer(features), expected)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.BatchNorm3d(3), nn.SyncBatchNorm(3)])
def test_every_kind_of_batch_norm_is_frozen_and_released(layer):
    untracked = nn.BatchNorm1d(3, track_running_stats=False)
    model = nn.ModuleList([layer, untracked])
    with pytest.raises(KeyError), frozen_batch_norm(model):
        with frozen_batch_norm(model):
            assert not layer.track_running_stats
        assert not layer.track_running_stats
        raise KeyError("second pass")
    assert layer.track_running_stats
    assert not untracked.track_running_stats


def test_both_passes_see_one_dropout_mask_and_the_numbers_go_on_as_after_one():
    dropout, ones = nn.Dropout(0.5), torch.ones(1000)
    torch.manual_seed(6)
    expected, after = dropout(ones), torch.rand(3)
    torch.manual_seed(6)
    with same_random_numbers("cpu"):
        first = dropout(ones)
    second = dropout(ones)
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert torch.equal(torch.rand(3), after)


def test_random_numbers_are_rewound_when_the_first_pass_raises():
    state = torch.get_rng_state()
    with pytest.raises(KeyError), same_random_numbers(torch.device("cpu")):
        torch.rand(1)
        raise KeyError("first pass")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_numbers_of_a_cuda_device_are_rewound():
    with same_random_numbers("cuda"):
        first = torch.rand(100, device="cuda")
    assert torch.equal(torch.rand(100, device="cuda"), first)


def test_an_adaptive_step_matches_hand_computation():
    weights = [nn.Parameter(torch.tensor([2.0, -1.0])), nn.Parameter(torch.tensor([0.0]))]
    gradients = [torch.tensor([0.5, 1.0]), torch.tensor([3.0])]
    scales = [torch.tensor([2.01, 1.01]), torch.tensor([0.01])]
    norm = math.sqrt((2.01 * 0.5) ** 2 + 1.01**2 + 0.03**2)
    sam = SAM(weights, rho=0.5, adaptive=True)
    assert sam.ascend(gradients) == pytest.approx(norm)
    for weight, start, scale, gradient in zip(weights, [[2.0, -1.0], [0.0]], scales, gradients, strict=True):
        expected = torch.tensor(start) + 0.5 * scale**2 * gradient / norm
        torch.testing.assert_close(weight.detach(), expected)
    sam.restore()
    assert weights[0].tolist() == [2.0, -1.0]


def test_an_adaptive_ascent_does_not_see_the_scale_of_a_layer():
    """Twice the first layer and half the second is the same function: so must be the loss at the ascended point."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 4, generator=generator), torch.randn(64, 1, generator=generator)
    rises = {}
    for adaptive in (True, False):
        for scale in (1.0, 8.0):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False))
            with torch.no_grad():
                for parameter in model.parameters():  # far from the floor of 0.01
                    parameter.copy_(parameter.sign() * (parameter.abs() + 1))
                model[0].weight.mul_(scale)
                model[2].weight.div_(scale)
            parameters = list(model.parameters())
            loss = (model(x) - y).square().mean()
            with SAM(parameters, 0.1, adaptive).perturbed(torch.autograd.grad(loss, parameters)):
                rises[adaptive, scale] = ((model(x) - y).square().mean() - loss).item()
    assert rises[True, 8.0] == pytest.approx(rises[True, 1.0], rel=0.05)
    assert rises[False, 8.0] > 1.5 * rises[False, 1.0]
