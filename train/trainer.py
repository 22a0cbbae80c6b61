"""`RobustTrainer`: the paper's loss and Sharpness-Aware Minimization inside `transformers.Trainer`.

Hooks of Trainer that are replaced (transformers 5.23): `compute_loss`, `training_step`, `log`, `_get_train_sampler`,
`_get_dataloader`, `_get_grad_norm`, and for the Hub those of `publish.training`; everything else is its own.
"""

import math
from collections.abc import Sized
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .arguments import RobustTrainingArguments
from .embedding_dataset import EmbeddingDataset
from .jobs.processes import average_gradients, gather_batch
from .losses import RobustLoss, robust_loss
from .publish.training import PublishingTrainer
from .sam import SAM, frozen_batch_norm, same_random_numbers
from .sampling import StratifiedSampler


class RobustTrainer(PublishingTrainer):
    """`transformers.Trainer` with CVaR + pairwise AUC loss and SAM.

    Each step ascends to the worst point within `sam_rho` (with the first pass's gradient), takes the gradient there,
    and lets the base optimiser step from the original weights. BatchNorm statistics and random numbers (dropout)
    advance once a step. Plain gradients cost one forward and backward, SAM two.

    With several processes the loss is that of their batches together, and the ascent follows the mean of their
    gradients: N processes with batches of B take the step of one with N x B, except in BatchNorm, which sees each
    process's batch alone, and dropout, whose masks are the same in each process.

    Raises:
        FloatingPointError: in training, when the loss or a gradient is not finite.
    """

    args: RobustTrainingArguments
    # Our loss is a statistic of the batch, not a sum over samples: Trainer must not rescale it.
    loss_is_scaled_for_ga = False
    _sampler: StratifiedSampler | None = None

    def get_train_dataloader(self) -> DataLoader:
        """Drop a last batch of one sample, which BatchNorm cannot take; shuffled, it is another one each epoch."""
        sampler = self._get_train_sampler()
        length = len(sampler) if isinstance(sampler, Sized) else 0
        drop_last = self.args.dataloader_drop_last
        if length > self.args.train_batch_size and length % self.args.train_batch_size == 1:
            self.args.dataloader_drop_last = True
        try:
            return super().get_train_dataloader()
        finally:  # the arguments may serve other fits and evaluation
            self.args.dataloader_drop_last = drop_last

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return gamma * CVaR + (1 - gamma) * AUC of the raw scores (and the model's output).

        Trainer's own label smoother is not asked: it is for a loss of its own, and `robust_loss` smooths the labels.
        """
        inputs = dict(inputs)
        labels, sources = inputs.pop("labels"), inputs.pop("sources", None)
        if self.args.cvar_over == "pictures":
            sources = None
        elif sources is None:
            raise ValueError("`cvar_over` sources needs `sources` in every batch, the number of each sample's source.")
        if model.training and "text_embeds" in inputs:
            # A row of zeros means "no text": the learned no-text embedding stands in.
            keep = torch.rand(len(labels), 1, device=labels.device) >= self.args.text_dropout
            inputs["text_embeds"] = inputs["text_embeds"] * keep
        outputs = model(**inputs)
        scores = outputs.score
        if model.training:  # the loss of all processes' batches together, as if they were one
            scores, labels = gather_batch(scores), gather_batch(labels)
            sources = None if sources is None else gather_batch(sources)
        parts = robust_loss(
            scores,
            labels,
            cvar_alpha=self.args.cvar_alpha,
            auc_margin=self.args.auc_margin,
            auc_power=self.args.auc_power,
            cvar_weight=self.args.cvar_weight,
            sources=sources,
            label_smoothing=self.args.label_smoothing_factor,
        )
        self._last_parts: RobustLoss = parts
        return (parts.loss, {"logits": outputs.logits}) if return_outputs else parts.loss

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Leave in `.grad` what the base optimiser steps along: SAM's gradient, or the plain one without a radius."""
        if self.args.sam_rho == 0:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self._raise_unless_finite(loss)
            self._step_parts = self._last_parts
            return loss
        model.train()
        inputs = self._prepare_inputs(inputs)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._step_parts = self._sam_passes(model, parameters, inputs, num_items_in_batch)
        return self._step_parts.loss

    def _sam_passes(
        self,
        model: nn.Module,
        parameters: list[nn.Parameter],
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None,
    ) -> RobustLoss:
        """Ascend, add the gradient found there to `.grad`, come back; return the loss of the first pass, detached."""
        with same_random_numbers(parameters[0].device):
            with self.accelerator.no_sync(model), self.compute_loss_context_manager():
                loss = cast(Tensor, self.compute_loss(model, inputs))
            self._raise_unless_finite(loss)
            # Under fp16 small gradients would vanish without the scaler; its factor cancels in the direction.
            scaler = self.accelerator.scaler
            # autograd.grad leaves `.grad` alone.
            gradients = torch.autograd.grad(
                loss if scaler is None else scaler.scale(loss), parameters, allow_unused=True
            )
        average_gradients(gradients)
        parts = self._last_parts
        try:
            with (
                SAM(parameters, self.args.sam_rho, self.args.sam_adaptive).perturbed(gradients),
                frozen_batch_norm(model),
            ):
                super().training_step(model, inputs, num_items_in_batch)
        except FloatingPointError:
            if scaler is None:
                raise self._not_finite("gradient of the loss", parts) from None
            # The scale was too high: an ordinary pass overflows too, and the scaler skips the step and lowers it.
            with frozen_batch_norm(model):
                super().training_step(model, inputs, num_items_in_batch)
        return parts._replace(loss=loss.detach())

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Stop before the optimiser takes a gradient that is not finite; under fp16 the scaler skips such a step."""
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.accelerator.scaler is None and not math.isfinite(float(grad_norm)):
            raise self._not_finite("gradient", self._step_parts)
        return grad_norm

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Stratify where asked."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        arguments = self.args
        by_weight = arguments.source_balance > 0 or arguments.balance_shapes
        if not arguments.stratified and arguments.real_share is None and not by_weight:
            return super()._get_train_sampler(dataset)
        if not isinstance(dataset, EmbeddingDataset):
            raise TypeError(
                "`stratified`, `real_share`, `source_balance` and `balance_shapes` need an EmbeddingDataset, whose "
                f"labels are at hand, got {type(dataset).__name__}."
            )
        if self._sampler is None:
            seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
            shapes = dataset.shapes if arguments.balance_shapes else None
            if arguments.balance_shapes and shapes is None:
                raise ValueError("`balance_shapes` needs an EmbeddingDataset with `shapes`, got one without.")
            self._sampler = StratifiedSampler(
                dataset.labels, arguments.real_share, seed, dataset.sources, arguments.source_balance, shapes
            )
            self.add_callback(_SetEpoch(self._sampler))
        return self._sampler

    def _get_dataloader(self, dataset: Dataset, *args: Any, **kwargs: Any) -> DataLoader:
        """Put the sources into batches, of training and evaluation, where the loss needs them."""
        if self.args.cvar_over == "sources":
            if not isinstance(dataset, EmbeddingDataset):
                raise TypeError(
                    f"`cvar_over` sources needs an EmbeddingDataset with sources, got {type(dataset).__name__}."
                )
            dataset = dataset.with_sources()
        return super()._get_dataloader(dataset, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss parts of the last step to the training log."""
        if "loss" in logs:
            parts = self._step_parts
            logs |= {"cvar": parts.cvar.item(), "cvar_threshold": parts.cvar_threshold.item()}
            logs |= {"auc_loss": parts.auc.item()}
        super().log(logs, start_time)

    def _raise_unless_finite(self, loss: Tensor) -> None:
        """Stop at the first bad step: the log's filter would hide it and the weights would be lost."""
        if not torch.isfinite(loss):
            raise self._not_finite("loss", self._last_parts)

    def _not_finite(self, what: str, parts: RobustLoss) -> FloatingPointError:
        return FloatingPointError(
            f"The {what} is not finite at step {self.state.global_step} (loss {parts.loss.item()}, CVaR "
            f"{parts.cvar.item()}, AUC {parts.auc.item()}): check the embeddings for NaN, or lower the learning rate."
        )


class _SetEpoch(TrainerCallback):
    """Tells a sampler the epoch; accelerate does not reach it where a resumed epoch is divided among processes."""

    def __init__(self, sampler: StratifiedSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Resumed within an epoch, `state.epoch` has a fraction."""
        self.sampler.set_epoch(int(state.epoch or 0))


__all__ = ["RobustTrainer"]
