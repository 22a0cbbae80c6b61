"""The paper's objective, as pure functions of scores and labels: CVaR of the sample losses and a pairwise AUC loss.

Source: arXiv 2404.12908. Two ways of computing differ from its reference code, and the values do not: CVaR comes from
its closed form instead of a scalar search, and the sum over all pairs from sorted scores instead of a matrix.
Labels are 0 = real and 1 = generated; a higher score means "more likely generated".
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Pairs held at once by the powers that have no sorted form: 8 MiB for each float64 temporary.
PAIRS_AT_ONCE = 2**20


class RobustLoss(NamedTuple):
    """The objective and its parts, detached for logging; `cvar_threshold` is the smallest loss in CVaR's tail."""

    loss: Tensor
    cvar: Tensor
    auc: Tensor
    cvar_threshold: Tensor


class _WithGradient(torch.autograd.Function):
    """A number whose gradient by `scores` is known already."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_batch(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"`scores` and `labels` must be (B,) both, got {tuple(scores.shape)} and {tuple(labels.shape)}."
        )
    if not scores.is_floating_point():
        raise TypeError(f"`scores` must be floating point, got {scores.dtype}.")
    outside = (labels != 0) & (labels != 1)
    if outside.any():
        raise ValueError(f"`labels` must be 0 (real) or 1 (generated), got {labels[outside][0].item()}.")


def _squared_hinge(generated: Tensor, real: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over pairs of max(margin - (s_i - s_j), 0)^2 and its gradients by (P,) `generated` and (N,) `real` scores.

    With t_i = s_i - margin a pair counts where s_j > t_i, and the sum of (s_j - t_i)^2 over those reals is
    S2 - 2 t_i S1 + t_i^2 S0, where S0, S1, S2 are suffix sums of 1, s, s^2 over the sorted reals.
    """
    thresholds = generated - margin
    ordered = real.sort(descending=True).values
    # (N + 1,): entry k sums the k largest reals.
    sums = nn.functional.pad(ordered.cumsum(0), (1, 0))
    square_sums = nn.functional.pad(ordered.square().cumsum(0), (1, 0))
    s0 = len(real) - torch.searchsorted(ordered.flip(0), thresholds, right=True)  # (P,) reals above each threshold
    s1, s2 = sums[s0], square_sums[s0]
    # Rounding may leave a difference of squares just below zero.
    total = (s2 - 2 * thresholds * s1 + thresholds.square() * s0).clamp_min(0).sum()

    ordered_thresholds = thresholds.sort().values
    below = torch.searchsorted(ordered_thresholds, real)  # (N,) thresholds under each real
    threshold_sums = nn.functional.pad(ordered_thresholds.cumsum(0), (1, 0))[below]
    return total, 2 * (thresholds * s0 - s1), 2 * (real * below - threshold_sums)


def _powered_hinge(generated: Tensor, real: Tensor, margin: float, power: float) -> tuple[Tensor, Tensor, Tensor]:
    """Like `_squared_hinge` for any power, by blocks of rows of the (P, N) matrix."""
    total = generated.new_zeros(())
    by_generated, by_real = torch.zeros_like(generated), torch.zeros_like(real)
    rows = max(1, PAIRS_AT_ONCE // len(real))
    for start in range(0, len(generated), rows):
        block = slice(start, start + rows)
        gaps = margin - (generated[block, None] - real)  # (rows, N)
        # A pair on the margin counts as satisfied: with power 1, 0^0 would give it a slope.
        slopes = torch.where(gaps > 0, gaps.clamp_min(0).pow(power - 1), 0)
        total += (gaps * slopes).sum()
        by_generated[block] = -power * slopes.sum(1)
        by_real += power * slopes.sum(0)
    return total, by_generated, by_real


def cvar(per_sample_losses: Tensor, alpha: float) -> Tensor:
    """Conditional value at risk: the mean of the worst `alpha` share of the losses.

    min over lam of lam + 1/(alpha n) sum_i max(l_i - lam, 0). With the losses in falling order, k = alpha n and
    m = floor(k) it equals (l_(1) + ... + l_(m) + (k - m) l_(m+1)) / k. The gradient is the same weighted sum with the
    weights held fixed (Danskin); among equal losses at the boundary any choice is a subgradient. The tail is that of
    this batch: a mean over micro-batches is at most the value of their union.

    Args:
        per_sample_losses: (n,) with n >= 1, any floating dtype; summed in float32, or float64 where given. NaN stays.
        alpha: Tail share in (0, 1]. 1 is the mean, 1 / n or less the maximum.

    Returns:
        Scalar of float32 or float64.

    Raises:
        ValueError: no losses, more than one axis, or `alpha` out of range.

    References:
        Rockafellar & Uryasev, "Optimization of Conditional Value-at-Risk", 2000; arXiv 2404.12908.
    """
    return _cvar_and_threshold(per_sample_losses, alpha)[0]


def _cvar_and_threshold(per_sample_losses: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """CVaR, and detached the smallest loss in its tail: a lambda at which the minimum over lambda is reached."""
    if not 0 < alpha <= 1:
        raise ValueError(f"`cvar_alpha` must be in (0, 1], got {alpha}.")
    if per_sample_losses.ndim != 1 or len(per_sample_losses) == 0:
        raise ValueError(f"`per_sample_losses` must be (n,) with n >= 1, got {tuple(per_sample_losses.shape)}.")
    losses = _at_least_float32(per_sample_losses)
    if alpha == 1:
        return losses.mean(), losses.detach().min()
    k = alpha * len(losses)
    count = math.ceil(k)
    worst = losses.topk(count, sorted=False).values  # topk ranks NaN first
    smallest = worst.detach().argmin()  # the first NaN where there is one
    # The smallest one's weight is above 0 by the choice of `count`, so that no 0 * inf arises.
    weights = torch.full_like(worst, 1 / k, requires_grad=False)
    weights[smallest] = (k - (count - 1)) / k
    return (weights * worst).sum(), worst[smallest].detach()


def _mean_by_source(sample_losses: Tensor, sources: Tensor) -> Tensor:
    """Mean loss (S,) of each source that is in the batch."""
    if sources.shape != sample_losses.shape:
        raise ValueError(
            f"`sources` must have one number a sample, {tuple(sample_losses.shape)}, got {tuple(sources.shape)}."
        )
    if sources.is_floating_point() or sources.is_complex():
        raise TypeError(f"`sources` must be integers, got {sources.dtype}.")
    _, source_of_sample, counts = sources.unique(return_inverse=True, return_counts=True)
    sums = sample_losses.new_zeros(len(counts)).index_add(0, source_of_sample, sample_losses)
    return sums / counts


def pairwise_auc_loss(scores: Tensor, labels: Tensor, margin: float = 0.6, power: float = 2) -> Tensor:
    """Surrogate of 1 - AUC over all pairs of one generated and one real picture.

    mean over pairs (i generated, j real) of max(margin - (s_i - s_j), 0)^power. Exact for every power: power 2 in
    O(B log B) time and O(B) memory, others in O(B^2) time and bounded memory. Sums run in float64 on centred scores,
    so that a common offset does not cancel the digits.

    Args:
        scores: (B,) raw scores of any floating dtype.
        labels: (B,) of 0 = real, 1 = generated, any dtype.
        margin: Gap asked between the two scores of a pair, above 0. The paper's 0.6 is on raw scores.
        power: At least 1. The paper uses 2.

    Returns:
        Scalar of float32, or float64 for float64 scores; differentiable once. A batch with one class has no pair: 0
        with a zero gradient. A score that is not finite gives NaN.

    Raises:
        ValueError: shapes differ, a label is neither 0 nor 1, or a setting is out of range.
        TypeError: `scores` is not floating point.

    References:
        arXiv 2404.12908; Rust & Hocking, "A Log-linear Gradient Descent Algorithm for Unbalanced Binary Classification
        using the All Pairs Squared Hinge Loss", arXiv 2302.11062.
    """
    _check_batch(scores, labels)
    if not 0 < margin < math.inf:
        raise ValueError(f"`auc_margin` must be above 0 and finite, got {margin}.")
    if not 1 <= power < math.inf:
        raise ValueError(f"`auc_power` must be at least 1 and finite, got {power}.")
    scores = _at_least_float32(scores)
    is_generated = labels == 1
    with torch.no_grad():
        values = scores.detach()
        if values.device.type == "mps":  # which has no float64
            values, is_generated = values.cpu(), is_generated.cpu()
        values = values.double()
        loss = 0 * values.sum()  # NaN where a score is not finite: sorting alone could hide it
        gradient = torch.zeros_like(values)
        generated, real = values[is_generated], values[~is_generated]
        pairs = len(generated) * len(real)
        if pairs:
            # The median, because one far outlier would pull a mean away from all the others.
            centre = values.median()
            generated, real = generated - centre, real - centre
            if power == 2:
                total, by_generated, by_real = _squared_hinge(generated, real, margin)
            else:
                total, by_generated, by_real = _powered_hinge(generated, real, margin, power)
            loss = loss + total / pairs
            gradient[is_generated], gradient[~is_generated] = by_generated / pairs, by_real / pairs
    return _WithGradient.apply(scores, loss.to(scores), gradient.to(scores))


def robust_loss(
    scores: Tensor,
    labels: Tensor,
    cvar_alpha: float = 0.8,
    auc_margin: float = 0.6,
    auc_power: float = 2,
    cvar_weight: float = 0.5,
    sources: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> RobustLoss:
    """The paper's objective: cvar_weight * CVaR(BCE-with-logits) + (1 - cvar_weight) * pairwise AUC loss.

    Two things are not the paper's, and off by default. With `sources` CVaR is over the mean losses of the sources in
    the batch, which is group DRO with the worst `cvar_alpha` share of the groups in place of the single worst one.
    With `label_smoothing` s the targets of BCE are y (1 - s) + s / 2; the AUC part has no targets to smooth.

    Args:
        scores: (B,) raw scores with B >= 1, any floating dtype.
        labels: (B,) of 0 = real, 1 = generated, any dtype.
        cvar_alpha: Tail share of CVaR in (0, 1].
        auc_margin: Margin of the pairwise loss, above 0.
        auc_power: Power of the pairwise loss, at least 1.
        cvar_weight: The paper's gamma, in [0, 1]. A part of weight 0 is reported and does not touch the loss.
        sources: (B,) integer number of each sample's source, any numbering; `None` takes CVaR over the samples.
        label_smoothing: s in [0, 1).

    Returns:
        `RobustLoss`: the differentiable loss, its two detached, unweighted parts, and a lambda at which CVaR's minimum
        is reached (samples, or sources, of a smaller loss do not count); float32, or float64 for float64 scores. A
        batch with one class has an AUC part of 0, so that only CVaR is left.

    Raises:
        ValueError: no samples, shapes differ, a label is neither 0 nor 1, or a setting is out of range.
        TypeError: `scores` is not floating point, or `sources` are not integers.

    References:
        arXiv 2404.12908; Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", arXiv 1911.08731.

    Example:
        >>> robust_loss(torch.tensor([2.0, -1.0]), torch.tensor([1, 0])).loss
        tensor(0.1360)
    """
    _check_batch(scores, labels)
    if not 0 <= cvar_weight <= 1:
        raise ValueError(f"`cvar_weight` must be in [0, 1], got {cvar_weight}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1), got {label_smoothing}.")
    scores = _at_least_float32(scores)
    targets = labels.to(scores) * (1 - label_smoothing) + label_smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    if sources is not None:
        losses = _mean_by_source(losses, sources)
    cvar_part, threshold = _cvar_and_threshold(losses, cvar_alpha)
    auc_part = pairwise_auc_loss(scores, labels, auc_margin, auc_power)
    if cvar_weight == 0:  # 0 * inf would be NaN
        loss = auc_part
    elif cvar_weight == 1:
        loss = cvar_part
    else:
        loss = cvar_weight * cvar_part + (1 - cvar_weight) * auc_part
    return RobustLoss(loss, cvar_part.detach(), auc_part.detach(), threshold)


__all__ = ["RobustLoss", "cvar", "pairwise_auc_loss", "robust_loss"]
