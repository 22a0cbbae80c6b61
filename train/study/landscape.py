"""Loss landscape around a trained head: slices along random directions, and two figures of sharpness.

Slices follow Li et al., arXiv 1712.09913: a random direction is scaled so that each row of it (a neuron's incoming
weights) is as long as that row of the weights, and biases, BatchNorm and the no-text embedding stay. Sharpness is the
rise of the loss within a ball of radius rho around the weights, the quantity that SAM (arXiv 2010.01412) keeps small.
Everything is in evaluation mode: BatchNorm uses its running statistics, dropout is off. The weights come back bit for
bit.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modeling import RobustClipForImageClassification

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..losses import robust_loss
from ..sam import SAM

# Distances along a direction; 1 is as far as the weights are long. The middle one is 0, the head itself.
STEPS = np.round(np.linspace(-1, 1, 21), 2)
GRID_STEPS = np.round(np.linspace(-1, 1, 17), 3)
# Radius of the ball in which sharpness is measured: that of SAM by default.
RHO = 0.05
# The rise at this distance is reported as one number.
RISE_AT = 0.5
DIRECTIONS = 5
RANDOM_POINTS = 20

# The loss of the model as it stands, a scalar.
Loss = Callable[[], Tensor]


def recipe_loss(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: NDArray, training: RobustTrainingArguments
) -> Loss:
    """The recipe's loss of a model on these rows of a bank, as one batch."""
    labels = torch.tensor(bank.rows["label"].to_numpy()[rows])
    text = None if bank.text_embeds is None else bank.text_embeds[rows]
    over_sources = training.cvar_over == "sources"
    sources = torch.from_numpy(pd.factorize(bank.rows["source"].to_numpy()[rows])[0]) if over_sources else None

    def loss() -> Tensor:
        return robust_loss(
            model(image_embeds=bank.image_embeds[rows], text_embeds=text).score,
            labels,
            cvar_alpha=training.cvar_alpha,
            auc_margin=training.auc_margin,
            auc_power=training.auc_power,
            cvar_weight=training.cvar_weight,
            sources=sources,
            label_smoothing=training.label_smoothing_factor,
        ).loss

    return loss


def measure_landscape(model: nn.Module, loss: Loss, *, seed: int, with_grid: bool, rho: float = RHO) -> dict:
    """Slices and sharpness around the trainable parameters of a model.

    Args:
        model: set to evaluation mode; its parameters are moved and put back.
        loss: the loss of `model` on fixed rows.
        rho: radius of the ball, above 0.
        seed: of the directions. Two models of one shape get the same directions, each scaled to its own weights.
        with_grid: also measure the plane of the first two directions.

    Returns:
        A JSON-ready dictionary: `loss` at the head, `slices` (DIRECTIONS x len(STEPS)), `rise` (mean over directions
        of the rise at distance RISE_AT), `sharpness` and, where asked, `grid` (rows: second direction).
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    directions = [filter_normalised_direction(model, generator) for _ in range(DIRECTIONS)]
    slices = np.stack([losses_at(model, loss, [direction], STEPS[:, None]) for direction in directions])
    at_head = float(slices[0, len(STEPS) // 2])
    measured: dict = {
        "loss": at_head,
        "slices": slices.tolist(),
        "rise": float(slices[:, np.isclose(np.abs(STEPS), RISE_AT)].mean() - at_head),
        "sharpness": sharpness(model, loss, rho=rho, generator=generator),
    }
    if with_grid:
        plane = np.stack(np.meshgrid(GRID_STEPS, GRID_STEPS), axis=-1)  # (rows, columns, 2)
        losses = losses_at(model, loss, directions[:2], plane.reshape(-1, 2))
        measured["grid"] = losses.reshape(plane.shape[:2]).tolist()
    return measured


def filter_normalised_direction(model: nn.Module, generator: torch.Generator) -> list[Tensor]:
    """A random direction, one tensor a trainable parameter: each row as long as the weights' row, vectors zero."""
    direction = []
    for parameter in _trainable(model):
        values = parameter.detach()
        if values.ndim < 2:
            direction.append(torch.zeros_like(values))
            continue
        noise = torch.randn(values.shape, generator=generator).to(values)
        rows = tuple(range(1, values.ndim))
        lengths = torch.linalg.vector_norm(values, dim=rows, keepdim=True)
        direction.append(noise / torch.linalg.vector_norm(noise, dim=rows, keepdim=True) * lengths)
    return direction


@torch.no_grad()
def losses_at(
    model: nn.Module, loss: Loss, directions: Sequence[Sequence[Tensor]], coefficients: NDArray
) -> NDArray[np.float64]:
    """Losses at weights + sum over d of coefficient * direction.

    Args:
        model: its trainable parameters are moved and put back.
        loss: the loss of `model` as it stands.
        directions: D of them, each one tensor a trainable parameter.
        coefficients: (P, D), a row a point.

    Returns:
        (P,) losses.
    """
    parameters = _trainable(model)
    originals = [parameter.clone() for parameter in parameters]
    losses = []
    try:
        for point in coefficients:
            for index, (parameter, original) in enumerate(zip(parameters, originals, strict=True)):
                parameter.copy_(original)
                for coefficient, direction in zip(point, directions, strict=True):
                    parameter.add_(direction[index], alpha=float(coefficient))
            losses.append(loss().item())
    finally:
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.copy_(original)
    return np.array(losses)


def sharpness(model: nn.Module, loss: Loss, *, rho: float, generator: torch.Generator) -> dict:
    """Rise of the loss at distance `rho` from the weights.

    Args:
        model: in the mode in which it is to be measured.
        loss: the loss of `model` as it stands.
        rho: Euclidean radius over all trainable parameters together.
        generator: of the random directions.

    Returns:
        `rho`; `ascent`, the rise after one step along the gradient, SAM's own estimate of the worst point in the
        ball; `random_mean` and `random_max` over RANDOM_POINTS uniform points of the sphere.
    """
    parameters = _trainable(model)
    before = loss()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    before = before.detach()
    with torch.no_grad():
        with SAM(parameters, rho).perturbed(gradients):
            ascent = loss() - before
        rises = []
        for _ in range(RANDOM_POINTS):
            noise = [torch.randn(parameter.shape, generator=generator).to(parameter) for parameter in parameters]
            with SAM(parameters, rho).perturbed(noise):
                rises.append((loss() - before).item())
    return {
        "rho": rho,
        "ascent": ascent.item(),
        "random_mean": float(np.mean(rises)),
        "random_max": float(np.max(rises)),
    }


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


__all__ = ["filter_normalised_direction", "losses_at", "measure_landscape", "recipe_loss", "sharpness"]
