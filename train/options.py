"""Options that several commands share, and those of the commands that are one file.

This file and the rooms' `options.py` import nothing heavy: `python -m train <command> --help` is written from them.
A class is a group of the help, titled by the first line of its docstring.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class SourceArguments:
    """Which sources belong together."""

    merge_sources: list[str] = field(
        default_factory=list,
        metadata={"help": "Related sources, held out together: NAME=OTHER makes NAME a part of OTHER."},
    )


@dataclass(kw_only=True)
class HoldOutArguments(SourceArguments):
    """What is left out of the fits that score it."""

    hold_out: Literal["source", "generator", "date"] = field(
        default="source",
        metadata={
            "help": "Whole sources; or whole families of generators; or generated pictures by date, in --folds "
            "periods of whole months. Real pictures are always held out by source."
        },
    )

    def check_folds(self, folds: int, default: int) -> None:
        """Refuse a number that would not be used, before hours of fits."""
        if self.hold_out == "generator" and folds != default:
            raise ValueError(
                f"`hold_out` generator makes a group of each large family, whatever `folds` is: leave `folds` at its "
                f"default, {default}, got {folds}."
            )


@dataclass(kw_only=True)
class TargetArguments:
    """Which error rates the verdicts aim at."""

    target_fpr: float = field(
        default=0.02,
        metadata={
            "help": "Share of real pictures that may be called generated. The rules on sources and kinds of pictures "
            "hold besides (docs/evaluate.md)."
        },
    )
    target_fnr: float = field(default=0.10, metadata={"help": "Share of generated pictures that may be called real."})

    def __post_init__(self) -> None:
        """Refuse what is no share, before hours of fits."""
        for name, value in self.targets.items():
            if not 0 < value < 1:
                raise ValueError(f"`{name}` is a share and must be in (0, 1), got {value}.")

    @property
    def targets(self) -> dict[str, float]:
        """What `calibrate` aims at, by the names of its arguments."""
        return {"target_fpr": self.target_fpr, "target_fnr": self.target_fnr}

    @property
    def reported_targets(self) -> dict[str, float]:
        """The same as reports name them: fpr, fnr."""
        return {name.removeprefix("target_"): value for name, value in self.targets.items()}


@dataclass
class MethodArguments:
    """The loss and SAM of arXiv 2404.12908, text dropout, and how batches are drawn."""

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
            "[0, 1]; 1 draws every source of a class equally often. Above 0 it stratifies."
        },
    )
    balance_shapes: bool = field(
        default=False,
        metadata={
            "help": "Square, wide and tall pictures weigh a third each within both classes, so that shape does not "
            "tell them apart: in what is drawn, and in the logistic regressions beside the head. It stratifies."
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


@dataclass
class TrainerArguments:
    """Arguments of `transformers.TrainingArguments` that matter here; those it has besides follow --help_all."""

    output_dir: str | None = field(default=None, metadata={"help": "Folder of the checkpoint and its report."})
    num_train_epochs: float = field(default=32, metadata={"help": "Epochs over all views."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    per_device_train_batch_size: int = field(default=2048, metadata={"help": "Batch size of a device. Paper: 2048."})
    per_device_eval_batch_size: int = field(default=4096, metadata={"help": "Batch size of a device in evaluation."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    lr_scheduler_type: str = field(default="cosine_with_min_lr", metadata={"help": "Learning rate schedule."})
    lr_scheduler_kwargs: dict | str | None = field(
        default_factory=lambda: {"min_lr": 1e-5}, metadata={"help": "Arguments of the schedule, as JSON."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the fit."})
    push_to_hub: bool = field(default=False, metadata={"help": "Publish the checkpoint when it is done."})
    hub_model_id: str | None = field(default=None, metadata={"help": "owner/name to publish it as."})
    hub_private_repo: bool | None = field(default=True, metadata={"help": "Whether a new repository is private."})
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Embeddings are small: pinning costs more than it saves, and warns on a CPU."}
    )
    # The columns are ours, not the names in `forward`.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep False: batches are tensors already."})


@dataclass
class EvaluateArguments:
    """What to measure, and where to."""

    output: str = field(metadata={"help": "Folder for evaluation.json and the report."})
    checkpoint: str = field(default="default", metadata={"help": "Folder or Hub id; the embedded default otherwise."})
    probed: int = field(
        default=300,
        metadata={
            "help": "Pictures, half of each class, that are also embedded under every standard delivery. A bank has "
            "its own."
        },
    )
    training_bank: str | None = field(
        default=None,
        metadata={"help": "Bank that the checkpoint was fitted on: pictures that are in both are reported."},
    )


@dataclass
class CalibrateArguments:
    """Whose photographs, and how many false alarms."""

    data: str = field(metadata={"help": "Folder of real photographs, none of them generated; subfolders included."})
    output: str = field(metadata={"help": "New folder for the calibrated copy of the checkpoint."})
    checkpoint: str = field(default="default", metadata={"help": "Folder or Hub id; the embedded default otherwise."})
    target_fpr: float = field(default=0.01, metadata={"help": "Share of such photographs that may be flagged."})


__all__ = [
    "CalibrateArguments",
    "EvaluateArguments",
    "HoldOutArguments",
    "MethodArguments",
    "SourceArguments",
    "TargetArguments",
    "TrainerArguments",
]
