"""`RobustTrainer`: the paper's loss and Sharpness-Aware Minimization inside `transformers.Trainer`.

Two hooks of Trainer are replaced, `compute_loss` and `training_step` (transformers 5.23); everything else is its own.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, Trainer

from .arguments import RobustTrainingArguments
from .losses import RobustLoss, robust_loss
from .metrics import roc_auc
from .sam import SAM, frozen_batch_norm, same_random_numbers


class EmbeddingDataset(Dataset):
    """Stored embeddings, batched by tensor indexing instead of one Python object a sample."""

    def __init__(self, image_embeds: Tensor, labels: Tensor, text_embeds: Tensor | None = None) -> None:
        """Hold (N, D_image) embeddings, (N,) labels of 0 = real and 1 = generated, and (N, D_text) or `None`."""
        if len(image_embeds) != len(labels) or (text_embeds is not None and len(text_embeds) != len(labels)):
            raise ValueError("`image_embeds`, `text_embeds` and `labels` must have one row a sample.")
        self.tensors = {"image_embeds": image_embeds, "labels": labels}
        if text_embeds is not None:
            self.tensors["text_embeds"] = text_embeds

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.tensors["labels"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample, without a batch axis."""
        return {name: tensor[index] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch; PyTorch's loader calls this and hands the result to `collate_batch`."""
        rows = torch.as_tensor(indices)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


def collate_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pass a batch of `EmbeddingDataset` on as it is."""
    return batch


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """ROC AUC over the whole evaluation set, from the two logits."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"auc": roc_auc(prediction.label_ids, logits[:, 1] - logits[:, 0])}


class RobustTrainer(Trainer):
    """`transformers.Trainer` with CVaR + pairwise AUC loss and SAM.

    Each step ascends to the worst point within `sam_rho` (with the first pass's gradient), takes the gradient there,
    and lets the base optimiser step from the original weights. BatchNorm statistics and random numbers (dropout)
    advance once a step. Plain gradients cost one forward and backward, SAM two.

    Raises:
        FloatingPointError: in training, when the loss is not finite.
    """

    args: RobustTrainingArguments
    # Our loss is a statistic of the batch, not a sum over samples: Trainer must not rescale it.
    loss_is_scaled_for_ga = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return gamma * CVaR + (1 - gamma) * AUC of the raw scores (and the model's output)."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        if model.training and "text_embeds" in inputs:
            # A row of zeros means "no text": the learned no-text embedding stands in.
            keep = torch.rand(len(labels), 1, device=labels.device) >= self.args.text_dropout
            inputs["text_embeds"] = inputs["text_embeds"] * keep
        outputs = model(**inputs)
        parts = robust_loss(
            outputs.score,
            labels,
            cvar_alpha=self.args.cvar_alpha,
            auc_margin=self.args.auc_margin,
            auc_power=self.args.auc_power,
            cvar_weight=self.args.cvar_weight,
        )
        self._last_parts: RobustLoss = parts
        return (parts.loss, {"logits": outputs.logits}) if return_outputs else parts.loss

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Take one SAM step's two gradients; the second is left in `.grad` for the base optimiser."""
        if self.args.sam_rho == 0:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self._raise_unless_finite(loss)
            self._step_parts = self._last_parts
            return loss
        model.train()
        inputs = self._prepare_inputs(inputs)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with same_random_numbers(parameters[0].device):
            with self.accelerator.no_sync(model), self.compute_loss_context_manager():
                loss = cast(Tensor, self.compute_loss(model, inputs))
            self._raise_unless_finite(loss)
            # autograd.grad leaves `.grad` alone.
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._step_parts = self._last_parts
        with SAM(parameters, self.args.sam_rho).perturbed(gradients), frozen_batch_norm(model):
            super().training_step(model, inputs, num_items_in_batch)
        return loss.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss parts of the last step to the training log."""
        if "loss" in logs:
            logs |= {"cvar": self._step_parts.cvar.item(), "auc_loss": self._step_parts.auc.item()}
        super().log(logs, start_time)

    def _raise_unless_finite(self, loss: Tensor) -> None:
        """Stop at the first bad step: the log's filter would hide it and the weights would be lost."""
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {self.state.global_step} (CVaR {self._last_parts.cvar.item()}, "
                f"AUC {self._last_parts.auc.item()}): check the embeddings for NaN, or lower the learning rate."
            )


def score_embeddings(model: nn.Module, image_embeds: Tensor, text_embeds: Tensor | None = None) -> np.ndarray:
    """Raw scores (N,) of stored embeddings, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        return model(image_embeds=image_embeds, text_embeds=text_embeds).score.float().numpy()


__all__ = ["EmbeddingDataset", "RobustTrainer", "collate_batch", "compute_metrics", "score_embeddings"]
