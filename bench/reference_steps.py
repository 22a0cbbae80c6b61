"""The computing steps of the reference trainer and ours beside them, for `train_vs_reference.py`.

Source: arXiv 2404.12908. Written anew from a description of its reference code: the pairwise loss as a P x N matrix,
CVaR by a scalar search on the host, batches collated sample by sample, SAM one parameter after the other, and CLIP
loaded again for every batch of pictures. The values are the same as ours; only the way to them differs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from scipy.optimize import fminbound
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from train.losses import cvar, pairwise_auc_loss, robust_loss
from train.sam import SAM, frozen_batch_norm, same_random_numbers

if TYPE_CHECKING:  # transformers takes seconds to import, in each process that measures a loss
    from train.embedding_dataset import EmbeddingDataset

Loss = Callable[[Tensor, Tensor], Tensor]


class Phases:
    """Adds up wall time by the name of a phase: `with phases("loss"): ...`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the body."""
        start = perf_counter()
        yield
        self.seconds[name] += perf_counter() - start


def searched_cvar(losses: Tensor, alpha: float = 0.8) -> Tensor:
    """CVaR of (n,) losses: its threshold by a bounded search on the host, then the dual with the threshold held."""
    on_host = losses.detach().cpu().numpy()

    def dual(threshold: float) -> float:
        return threshold + (on_host - threshold).clip(min=0).mean() / alpha

    threshold = float(fminbound(dual, on_host.min(), on_host.max()))
    return threshold + (losses - threshold).relu().mean() / alpha


def matrix_auc_loss(scores: Tensor, labels: Tensor, margin: float = 0.6, power: float = 2) -> Tensor:
    """Mean over pairs of max(margin - (s_i - s_j), 0)^power, all P x N of them held at once."""
    gaps = scores[labels == 1].unsqueeze(1) - scores[labels == 0].unsqueeze(0)  # (P, N)
    return (margin - gaps).relu().pow(power).mean()


def reference_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """The objective with the default weight of one half, from the search and the matrix."""
    losses = nn.functional.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="none")
    return 0.5 * searched_cvar(losses) + 0.5 * matrix_auc_loss(scores, labels)


def our_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """The objective by its closed forms, with the default weight of one half."""
    return robust_loss(scores, labels).loss


def libauc_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """LibAUC's pairwise squared hinge with our margin."""
    from libauc.losses.auc import PairwiseAUCLoss

    return PairwiseAUCLoss("squared_hinge", 0.6)(scores, labels)


def bce_cvar(cvar_of: Loss, scores: Tensor, labels: Tensor) -> Tensor:
    """CVaR of the sample losses alone."""
    return cvar_of(nn.functional.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="none"), 0.8)


LOSSES: dict[str, Loss] = {
    "reference": reference_loss,
    "ours": our_loss,
    "CVaR, reference": partial(bce_cvar, searched_cvar),
    "CVaR, ours": partial(bce_cvar, cvar),
    "pairs, LibAUC": libauc_loss,
    "pairs, ours": pairwise_auc_loss,
}


class SampleDataset(Dataset):
    """Embeddings in arrays, handed out as one pair of new tensors a sample."""

    def __init__(self, image_embeds: Tensor, labels: Tensor) -> None:
        self.features, self.labels = image_embeds.numpy(), labels.numpy()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One sample."""
        return torch.tensor(self.features[index]), torch.tensor(self.labels[index])


def new_head(width: int) -> nn.Module:
    """A head of three blocks with the default settings, on features of this width, in training mode."""
    from modeling import RobustClipConfig
    from modeling.modeling_robust_clip import RobustClipHead

    config = RobustClipConfig(vision_config={"projection_dim": width}, text_config=None)
    return RobustClipHead(config).train()


def score_slopes(scores: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Gradient of the loss by the scores, (B,), apart from the head's own backward pass."""
    leaf = scores.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf, labels), leaf)[0]


def reference_step(
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: SampleDataset,
    rows: Sequence[int],
    phases: Phases,
    rho: float = 0.05,
) -> None:
    """One SAM step of the reference on these rows."""
    parameters = list(head.parameters())
    norms = [module for module in head.modules() if isinstance(module, nn.BatchNorm1d)]
    with phases("batch"):
        features, labels = default_collate([dataset[row] for row in rows])
    _backward(head, features, labels, phases)
    with phases("SAM"), torch.no_grad():
        norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
        originals = [parameter.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.add_(parameter.grad * (rho / (norm + 1e-12)))
        optimizer.zero_grad()
        momenta = [layer.momentum for layer in norms]
        for layer in norms:
            layer.momentum = 0
    _backward(head, features, labels, phases)
    with phases("SAM"), torch.no_grad():
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.copy_(original)
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
    with phases("optimiser"):
        optimizer.step()
        optimizer.zero_grad()


def _backward(head: nn.Module, features: Tensor, labels: Tensor, phases: Phases) -> None:
    """Forward, loss, backward into `.grad`."""
    with phases("head"):
        scores = head(features)
    with phases("loss"):
        slopes = score_slopes(scores, labels, reference_loss)
    with phases("head"):
        scores.backward(slopes)


def our_step(
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: "EmbeddingDataset",
    rows: Sequence[int],
    phases: Phases,
) -> None:
    """`RobustTrainer.training_step` and the optimiser's, with a clock between the parts."""
    parameters = list(head.parameters())
    stack = ExitStack()
    with phases("batch"):
        batch = dataset.__getitems__(rows)
        features, labels = batch["image_embeds"], batch["labels"]
    with phases("SAM"):
        stack.enter_context(same_random_numbers("cpu"))
    with phases("head"):
        scores = head(features)
    with phases("loss"):
        slopes = score_slopes(scores, labels, our_loss)
    with phases("head"):
        gradients = torch.autograd.grad(scores, parameters, slopes)
    with phases("SAM"):
        stack.close()
        sam = SAM(parameters)
        sam.ascend(gradients)
        stack.enter_context(frozen_batch_norm(head))
    with phases("head"):
        scores = head(features)
    with phases("loss"):
        slopes = score_slopes(scores, labels, our_loss)
    with phases("head"):
        scores.backward(slopes)
    with phases("SAM"):
        sam.restore()
        stack.close()
    with phases("optimiser"):
        optimizer.step()
        optimizer.zero_grad()


def load_tower(backbone: str) -> nn.Module:
    """The image tower of a backbone's folder, frozen."""
    from transformers import CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection.from_pretrained(backbone, dtype=torch.float32).eval()


def embed_reloading(backbone: str, pictures: Sequence[Path], batch_size: int) -> Tensor:
    """Image embeddings (N, D), with the backbone loaded again for every batch."""
    from modeling.checkpoints import load_processor
    from modeling.images import open_image

    embeds = []
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        tower = load_tower(backbone)
        processor = load_processor(backbone)
        pixels = torch.zeros(len(batch), 3, processor.size, processor.size)
        for row, picture in enumerate(batch):
            pixels[row] = processor(images=open_image(picture), return_tensors="pt")["pixel_values"][0]
        with torch.no_grad():
            embeds.append(tower(pixel_values=pixels).image_embeds)
    return torch.cat(embeds)


__all__ = [
    "LOSSES",
    "Phases",
    "SampleDataset",
    "embed_reloading",
    "load_tower",
    "new_head",
    "our_step",
    "reference_step",
]
