"""The losses of arXiv 2404.12908 (section 3.3): CVaR of the binary cross-entropy and a pairwise AUC surrogate.

Pure functions of (scores, labels). Scores are raw logits, higher is more likely generated; labels are 0 = real and
1 = generated. CVaR is computed in closed form instead of by the reference's scalar search, and the AUC loss for power
2 by sorting instead of by the matrix of all pairs; both are exact.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

# Pairs held at once for powers other than 2: 64 MB in float64 (a few times that with the graph).
CHUNK_PAIRS = 2**23


class RobustLoss(NamedTuple):
    """The loss (with gradient) and its two parts (without, for the log)."""

    loss: Tensor
    cvar: Tensor
    auc: Tensor


def cvar(per_sample_losses: Tensor, alpha: float) -> Tensor:
    """Mean of the worst fraction `alpha` of the losses (conditional value at risk).

    With the losses sorted in falling order, k = alpha * n and m = floor(k):
    (l_1 + ... + l_m + (k - m) * l_(m+1)) / k. alpha = 1 is the mean; alpha <= 1/n is the maximum. By Danskin's theorem
    the gradient is that weighted sum's, with the weights held fixed.

    Args:
        per_sample_losses: (n,) with n >= 1.
        alpha: tail fraction in (0, 1].

    Returns:
        A scalar of the losses' dtype.

    Raises:
        ValueError: `alpha` out of range, or no losses.

    References:
        Rockafellar and Uryasev, Optimization of conditional value-at-risk, 2000.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"`cvar_alpha` must be in (0, 1], got {alpha}.")
    if per_sample_losses.ndim != 1 or per_sample_losses.numel() == 0:
        raise ValueError(f"`per_sample_losses` must be (n,) with n >= 1, got shape {tuple(per_sample_losses.shape)}.")
    if alpha == 1:
        return per_sample_losses.mean()
    n = per_sample_losses.numel()
    tail = max(alpha * n, 1.0)  # k; below one sample it is the maximum
    ranked, _ = torch.sort(per_sample_losses, descending=True)
    # Weight of rank r (from 0): 1 inside the tail, the fraction k - m at its edge, 0 outside.
    weights = (tail - torch.arange(n, device=ranked.device, dtype=torch.float64)).clamp(0, 1) / tail
    weights = weights.to(ranked.dtype)
    # Outside the tail nothing counts, not even an infinite loss times zero.
    inside = int(-(-tail // 1))
    return (ranked[:inside] * weights[:inside]).sum()


def pairwise_auc_loss(scores: Tensor, labels: Tensor, margin: float = 0.6, power: float = 2) -> Tensor:
    """Mean over all pairs of one generated i and one real j of max(margin - (s_i - s_j), 0) ** power.

    Args:
        scores: (B,) raw scores, any floating dtype; computed in float64.
        labels: (B,) of 0 = real and 1 = generated.
        margin: above 0. Reference: 0.6.
        power: at least 1. Reference: 2, which takes O(B log B) time and O(B) memory; others take all pairs in chunks.

    Returns:
        A scalar, float32 or the scores' dtype if that is wider. A batch of one class gives 0 with a zero gradient.

    Raises:
        ValueError: wrong shapes, labels other than 0 and 1, margin or power out of range.

    References:
        Rust and Hocking, A log-linear gradient descent algorithm for all-pairs squared hinge loss, arXiv 2302.11062.
    """
    _check(scores, labels)
    if not margin > 0:
        raise ValueError(f"`auc_margin` must be above 0, got {margin}.")
    if not power >= 1:
        raise ValueError(f"`auc_power` must be at least 1, got {power}.")
    dtype = torch.promote_types(scores.dtype, torch.float32)
    is_generated = labels.bool()
    # Differences are all that counts: centred, large scores keep their digits under the squares.
    values = scores.double()
    values = values - values.detach().mean()
    generated, real = values[is_generated], values[~is_generated]
    if len(generated) == 0 or len(real) == 0:
        return (scores * 0).sum().to(dtype)
    if power == 2:
        total = _SquaredHinge.apply(generated, real, margin)
    else:
        total = _hinge_in_chunks(generated, real, margin, power)
    return (total / (len(generated) * len(real))).to(dtype)


def robust_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    cvar_alpha: float = 0.8,
    auc_margin: float = 0.6,
    auc_power: float = 2,
    cvar_weight: float = 0.5,
) -> RobustLoss:
    """The paper's loss: cvar_weight * CVaR(BCE) + (1 - cvar_weight) * AUC.

    Args:
        scores: (B,) raw scores.
        labels: (B,) of 0 = real and 1 = generated.
        cvar_alpha: tail fraction of CVaR, in (0, 1].
        auc_margin: margin of the AUC loss.
        auc_power: power of the AUC loss.
        cvar_weight: the paper's gamma, in [0, 1].

    Returns:
        `RobustLoss`; its parts are detached. With one class in the batch the AUC part is 0.

    Raises:
        ValueError: see the parts.
    """
    if not 0 <= cvar_weight <= 1:
        raise ValueError(f"`cvar_weight` must be in [0, 1], got {cvar_weight}.")
    _check(scores, labels)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    # Half-precision scores are widened first, whatever autocast would choose.
    with torch.autocast(scores.device.type, enabled=False):
        per_sample = binary_cross_entropy_with_logits(wide, labels.to(wide.dtype), reduction="none")
        tail = cvar(per_sample, cvar_alpha)
        ranking = pairwise_auc_loss(wide, labels, auc_margin, auc_power)
        # A part of weight 0 is left out, so that its infinities cannot turn into NaN.
        weighted = [(cvar_weight, tail), (1 - cvar_weight, ranking)]
        loss = torch.stack([weight * part for weight, part in weighted if weight > 0]).sum()
    return RobustLoss(loss, tail.detach(), ranking.detach())


class _SquaredHinge(torch.autograd.Function):
    """Sum over all pairs of max(margin - (s_i - s_j), 0)^2, and its gradient, by sorting.

    With t = s_i - margin a pair counts where s_j > t, and the sum of (s_j - t)^2 is S2 - 2 t S1 + t^2 S0 over these j:
    sums over a suffix of the sorted real scores. The gradient in s_i is -2 (S1 - t S0); in s_j, by the mirrored
    argument, it is 2 (u P0 - P1) with u = s_j + margin and sums over the generated scores below u.
    """

    @staticmethod
    def forward(ctx, generated: Tensor, real: Tensor, margin: float) -> Tensor:  # noqa: ANN001
        real_sorted, _ = torch.sort(real)
        limit = generated - margin
        start = torch.searchsorted(real_sorted, limit, right=True)  # first real score above the limit
        count = (len(real) - start).to(real.dtype)
        first, second = (_suffix_sums(real_sorted**p)[start] for p in (1, 2))
        ctx.save_for_backward(generated, real)
        ctx.margin = margin
        ctx.by_generated = -2 * (first - limit * count)
        return (second - 2 * limit * first + limit**2 * count).clamp(min=0).sum()

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN001
        generated, real = ctx.saved_tensors
        generated_sorted, _ = torch.sort(generated)
        limit = real + ctx.margin
        count = torch.searchsorted(generated_sorted, limit)  # generated scores below the limit
        below = torch.cat([generated.new_zeros(1), generated_sorted.cumsum(0)])[count]
        by_real = 2 * (limit * count - below)
        return grad_output * ctx.by_generated, grad_output * by_real, None


def _suffix_sums(values: Tensor) -> Tensor:
    """(n + 1,): entry k is the sum of values[k:]."""
    return torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])


def _hinge_in_chunks(generated: Tensor, real: Tensor, margin: float, power: float) -> Tensor:
    """Sum over all pairs for any power, a bounded number of pairs at a time."""
    rows = max(1, CHUNK_PAIRS // len(real))
    total = generated.new_zeros(())
    for chunk in generated.split(rows):
        total = total + (margin - (chunk[:, None] - real[None, :])).clamp(min=0).pow(power).sum()
    return total


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape or scores.numel() == 0:
        raise ValueError(
            f"`scores` and `labels` must be (B,) with B >= 1, got {tuple(scores.shape)} and {tuple(labels.shape)}."
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"`labels` must be 0 (real) or 1 (generated), got {labels.unique().tolist()}.")


__all__ = ["RobustLoss", "cvar", "pairwise_auc_loss", "robust_loss"]
