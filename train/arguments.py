"""Training arguments: the paper's settings as defaults, in one dataclass over `transformers.TrainingArguments`."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy


@dataclass
class RobustTrainingArguments(TrainingArguments):
    """`TrainingArguments` plus the loss, SAM and text dropout of arXiv 2404.12908.

    Defaults follow the reference (AdamW, lr 1e-3, weight decay 0.01, batch 2048, 32 epochs), with one deviation: the
    learning rate falls once along a cosine to 1e-5. The reference's cosine has a quarter of the training as its half
    period, so that its rate falls and rises again twice. It clips no gradients; Trainer's clipping at 1 is left on.
    `train/recipes/reference.yaml` has its settings as they are.

    Raises:
        ValueError: a value is out of its range, or gradient accumulation or pushing pickles is asked for.
    """

    cvar_alpha: float = field(default=0.8, metadata={"help": "Tail fraction of CVaR, in (0, 1]; 1 is the mean."})
    auc_margin: float = field(default=0.6, metadata={"help": "Margin of the pairwise AUC loss, above 0."})
    auc_power: float = field(default=2.0, metadata={"help": "Power of the pairwise AUC loss, at least 1."})
    cvar_weight: float = field(
        default=0.5, metadata={"help": "Weight of CVaR in [0, 1], the paper's gamma; AUC has the rest."}
    )
    sam_rho: float = field(
        default=0.05, metadata={"help": "Radius of Sharpness-Aware Minimization; 0 switches it off."}
    )
    sam_adaptive: bool = field(
        default=False,
        metadata={"help": "Radius relative to each weight (ASAM, arXiv 2102.11600); wants a `sam_rho` of about 0.5."},
    )
    sam_micro_batches: int = field(
        default=1,
        metadata={
            "help": "Parts of a device's batch that each ascend on their own gradient (m-sharpness). SAM's effect "
            "shrinks with the size of the batch that one ascent is shared by; loss and BatchNorm are then the parts'."
        },
    )
    stratified: bool = field(
        default=False,
        metadata={"help": "Give every batch the same share of real samples, to within one; else shuffle (the paper)."},
    )
    real_share: float | None = field(
        default=None,
        metadata={"help": "Share of real samples in every batch, in (0, 1); the rarer class is repeated. Stratifies."},
    )
    source_balance: float = field(
        default=0.0,
        metadata={
            "help": "Draw a sample with a chance of (samples of its source in its class) ** -source_balance, in "
            "[0, 1]; 1 draws all sources of a class alike often. Above 0 it stratifies."
        },
    )
    cvar_over: str = field(
        default="pictures",
        metadata={
            "help": "What CVaR takes the worst share of: the losses of `pictures` (the paper), or the mean losses of "
            "the `sources` in a batch (group DRO, arXiv 1911.08731)."
        },
    )
    text_dropout: float = field(
        default=0.5,
        metadata={
            "help": "Share of samples whose text is hidden at each step, so that no text is a first-class input."
        },
    )
    feature_noise: float = field(
        default=0.0,
        metadata={
            "help": "Gaussian noise on what the head's first layer sees, in training: its standard deviation, as a "
            "multiple of the root mean square of each part of a sample's features."
        },
    )
    layer_weights: bool = field(
        default=False,
        metadata={
            "help": "Whether a fit learns a weight for each part of the image features, the embedding and each token "
            "(as RINE does, arXiv 2402.19091); RobustTrainer alone does not."
        },
    )
    contrastive_epochs: int = field(
        default=0,
        metadata={
            "help": "Epochs in which a fit first trains the head's hidden blocks by the supervised contrastive loss "
            "(arXiv 2004.11362); RobustTrainer alone does not."
        },
    )

    per_device_train_batch_size: int = field(default=2048, metadata={"help": "Batch size of a device. Paper: 2048."})
    per_device_eval_batch_size: int = field(default=4096, metadata={"help": "Batch size of a device in evaluation."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    num_train_epochs: float = field(default=32, metadata={"help": "Epochs over all views."})
    lr_scheduler_type: str = field(default="cosine_with_min_lr", metadata={"help": "Learning rate schedule."})
    lr_scheduler_kwargs: dict | str | None = field(
        default_factory=lambda: {"min_lr": 1e-5}, metadata={"help": "Arguments of the schedule."}
    )
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Embeddings are small: pinning costs more than it saves, and warns on a CPU."}
    )
    # The columns are ours, not the names in `forward`.
    hub_private_repo: bool | None = field(default=True, metadata={"help": "Whether a new repository is private."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep False: batches are tensors already."})

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
            "sam_micro_batches": (self.sam_micro_batches >= 1, "1 or more"),
            "text_dropout": (0 <= self.text_dropout <= 1, "in [0, 1]"),
            "feature_noise": (self.feature_noise >= 0, "0 or more"),
            "contrastive_epochs": (self.contrastive_epochs >= 0, "0 or more"),
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


@dataclass(kw_only=True)
class TargetArguments:
    """Which sources belong together, and which error rates the verdicts aim at."""

    merge_sources: list[str] = field(
        default_factory=list,
        metadata={"help": "Related sources, held out together: NAME=OTHER makes NAME a part of OTHER."},
    )
    target_fpr: float = field(
        default=0.03, metadata={"help": "Share of real pictures that may be called generated, sources alike."}
    )
    target_fnr: float = field(
        default=0.10, metadata={"help": "Share of generated pictures that may be called real, sources alike."}
    )
    target_source_fpr: float | None = field(
        default=None,
        metadata={"help": "Share that may be called generated of each real source of 30 or more pictures; no bound."},
    )

    @property
    def targets(self) -> dict[str, Any]:
        """What `calibrate` aims at, by the names of its arguments."""
        names = ("target_fpr", "target_fnr", "target_source_fpr")
        return {name: getattr(self, name) for name in names}

    @property
    def told_targets(self) -> dict[str, Any]:
        """The same as reports name them: fpr, fnr, source_fpr."""
        return {name.removeprefix("target_"): value for name, value in self.targets.items()}


__all__ = ["RobustTrainingArguments", "TargetArguments"]
