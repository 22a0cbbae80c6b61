"""Training arguments: the paper's settings as defaults, in one dataclass over `transformers.TrainingArguments`."""

from dataclasses import dataclass

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from .options import MethodArguments, TrainerArguments


@dataclass
class RobustTrainingArguments(MethodArguments, TrainerArguments, TrainingArguments):
    """`TrainingArguments` plus the loss, SAM and text dropout of arXiv 2404.12908.

    Defaults follow the reference (AdamW, lr 1e-3, weight decay 0.01, batch 2048, 32 epochs), with one deviation: the
    learning rate falls once along a cosine to 1e-5. The reference's cosine has a quarter of the training as its half
    period, so that its rate falls and rises again twice. It clips no gradients; Trainer's clipping at 1 is left on.
    `train/recipes/reference.yaml` has its settings as they are.

    Raises:
        ValueError: a value is out of its range, or gradient accumulation or pushing pickles is asked for.
    """

    def __post_init__(self) -> None:
        """Check our own fields, then let transformers check its own."""
        ranges = {
            "cvar_alpha": (0 < self.cvar_alpha <= 1, "in (0, 1]"),
            "auc_margin": (self.auc_margin > 0, "above 0"),
            "auc_power": (self.auc_power >= 1, "at least 1"),
            "cvar_weight": (0 <= self.cvar_weight <= 1, "in [0, 1]"),
            "real_share": (self.real_share is None or 0 < self.real_share < 1, "in (0, 1)"),
            "source_balance": (0 <= self.source_balance <= 1, "in [0, 1]"),
            "cvar_over": (self.cvar_over in ("pictures", "sources"), "pictures or sources"),
            "label_smoothing_factor": (0 <= self.label_smoothing_factor < 1, "in [0, 1)"),
            "sam_rho": (self.sam_rho >= 0, "0 or more"),
            "text_dropout": (0 <= self.text_dropout <= 1, "in [0, 1]"),
        }
        for name, (valid, expected) in ranges.items():
            if not valid:
                raise ValueError(f"`{name}` must be {expected}, got {getattr(self, name)}.")
        if self.gradient_accumulation_steps != 1:
            raise ValueError(
                "`gradient_accumulation_steps` must be 1, got "
                f"{self.gradient_accumulation_steps}: CVaR and the pairwise loss are not means over samples, so micro-"
                "batches would train another objective. Stored embeddings are small: raise the batch size instead."
            )
        if HubStrategy(self.hub_strategy) in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"`hub_strategy` must be end or every_save, got {HubStrategy(self.hub_strategy).value}: what "
                "training resumes from is stored as pickles, and pickles are not published."
            )
        # Otherwise processes that torchrun starts on a machine without an accelerator would each train alone.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()


__all__ = ["RobustTrainingArguments"]
