"""Fit a head on a feature bank: held-out scores first, then calibration, then the head that ships.

Every figure comes from pictures whose whole source was left out of the fit that scored them; the shipped head is
fitted last, on everything, with the same settings.
"""

import hashlib
import json
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from transformers import AutoTokenizer, PrinterCallback, set_seed

from modeling import RobustClipForImageClassification
from modeling.checkpoints import HEAD_FILE, default_backbone, load_processor
from modeling.default_backbone import HUB_ID, HUB_REVISION

from .arguments import RobustTrainingArguments
from .calibration import Calibration, calibrate
from .distributed import first_decides, world_size
from .evaluation import compare_scores, evaluate_scores, verdicts_by_other_sources, write_evaluation
from .feature_bank import FeatureBank, processor_settings, weights_fingerprint
from .metrics import source_weights
from .trainer import EmbeddingDataset, RobustTrainer, collate_batch, score_embeddings

logger = logging.getLogger(__name__)

# Logistic regressions that the head must not be worse than: inverse penalty, and whether every source weighs the same.
# With the default backbone these two are the best in pooled AUC and in AUC with sources weighted equally.
BASELINES = {"logistic regression": (0.1, False), "logistic regression, sources weighted equally": (0.01, True)}


# What a fit's scores come from, besides data and settings.
_CODE = (
    "modeling/modeling_robust_clip.py",
    "train/distributed.py",
    "train/fit.py",
    "train/losses.py",
    "train/sam.py",
    "train/sampling.py",
    "train/trainer.py",
)


@dataclass
class FitArguments:
    """What to fit, how to hold sources out, and which error rates the verdicts aim at."""

    bank: str = field(metadata={"help": "Feature bank made by `python -m train features`."})
    folds: int = field(
        default=0, metadata={"help": "Groups of sources to hold out in turn; 0 = one source at a time."}
    )
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
    head_depth: int = field(default=3, metadata={"help": "Blocks of the head. Paper: 3."})
    head_width: int | None = field(default=None, metadata={"help": "Width of the head; its input's by default."})
    head_dropout: float = field(default=0.335, metadata={"help": "Dropout of the head. Reference: 0.335."})
    head_output: str | None = field(
        default=None,
        metadata={"help": "Also write configuration, head, processor and evaluation.json here, without the backbone."},
    )


def fit(arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """Fit, evaluate by held-out sources, calibrate, and write a checkpoint to `training.output_dir`.

    Interrupted, it goes on with the first fold that is not done when it is called again with the same settings, data
    and code.
    Several processes (torchrun) fit each head together; the first of them writes.

    Returns:
        The evaluation, as written to evaluation.json.

    Raises:
        ValueError: the bank has fewer than two sources or lacks a class, also where a fold is left out; or
            `merge_sources` names a source that is not in it; or the backbone is not the one that made the bank.
    """
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank, arguments.merge_sources)
    if bank.rows["source"].nunique() < 2 or bank.rows["label"].nunique() < 2:
        raise ValueError(f"{arguments.bank} needs both classes and at least two sources to hold one out.")
    if bank.text_embeds is not None and arguments.head_output is not None:
        raise ValueError("`head_output` is for heads that read no text; `output_dir` gets the whole model.")
    fold = _folds(bank, arguments)
    model = new_model(bank, arguments)
    _check_backbone(bank, model)
    provenance = _provenance(bank, arguments, training)
    unfinished = Path(str(training.output_dir)) / "held-out-scores"
    # Only the fit of the head that ships is logged; none is saved half-way, since each is short and can be repeated.
    training = replace(training, save_strategy="no", disable_tqdm=True)
    quiet = replace(training, logging_strategy="no", report_to="none")
    scores = _held_out_scores(model, bank, fold, quiet, unfinished)
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    rows = bank.rows[clean].assign(score=scores["head"][clean])
    calibration = calibrate(
        rows["label"], rows["score"], rows["source"], target_fpr=arguments.target_fpr, target_fnr=arguments.target_fnr
    )
    evaluation = _evaluate(bank, scores["head"], calibration, arguments) | {
        "verdicts_by_other_sources": verdicts_by_other_sources(
            rows, fold[clean], target_fpr=arguments.target_fpr, target_fnr=arguments.target_fnr
        ),
        "baselines": {
            name: {"C": inverse_penalty} | compare_scores(rows, scores[name][clean])
            for name, (inverse_penalty, _) in BASELINES.items()
        },
        "made_by": provenance,
    }
    fit_head(model, bank, np.arange(len(bank)), training)
    if PartialState().is_main_process:
        _write_checkpoint(model, bank, calibration, evaluation, arguments, training)
        shutil.rmtree(unfinished)
    PartialState().wait_for_everyone()
    return evaluation


def fit_head(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: np.ndarray, training: RobustTrainingArguments
) -> None:
    """Fit a fresh head, in place, on these rows of the bank. The same seed gives the same head."""
    set_seed(training.seed)
    model.reset_head()
    labels = torch.tensor(bank.rows["label"].to_numpy(dtype=np.int64))
    trainer = RobustTrainer(
        model=model,
        args=training,
        train_dataset=EmbeddingDataset(bank.image_embeds, labels, bank.text_embeds, torch.from_numpy(rows)),
        data_collator=collate_batch,  # type: ignore[arg-type]
    )
    trainer.remove_callback(PrinterCallback)  # run times of dozens of fits
    trainer.train()
    # Under mixed precision Trainer has wrapped `forward`, once more at each fit; scores are taken in float32.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def join_sources(bank: FeatureBank, merge_sources: list[str]) -> None:
    """Rename sources in place, so that related ones are one source in folds, weights and intervals."""
    names = set(bank.rows["source"])
    for entry in merge_sources:
        part, _, whole = entry.partition("=")
        if not {part, whole} <= names:
            raise ValueError(f"`merge_sources` must be NAME=OTHER, both sources of the bank, got {entry!r}.")
        bank.rows["source"] = bank.rows["source"].replace(part, whole)


def new_model(bank: FeatureBank, arguments: FitArguments) -> RobustClipForImageClassification:
    """The bank's backbone with a fresh head."""
    return RobustClipForImageClassification.from_backbone(
        _backbone_folder(bank),
        use_text=bank.text_embeds is not None,
        head_depth=arguments.head_depth,
        head_width=arguments.head_width,
        head_dropout=arguments.head_dropout,
    )


def _check_backbone(bank: FeatureBank, model: RobustClipForImageClassification) -> None:
    """What is loaded now must be what made the bank, or the head would be served with other embeddings.

    Raises:
        ValueError: with what differs.
    """
    found = {
        "backbone_sha256": weights_fingerprint(model.backbone),
        "processor": processor_settings(load_processor(_backbone_folder(bank))),
    }
    for name, value in found.items():
        if value != bank.info[name]:
            raise ValueError(
                f"The bank was made by backbone {bank.info['backbone']} with {name} {bank.info[name]}, which is now "
                f"{value}: make the bank again."
            )


def _backbone_folder(bank: FeatureBank) -> str:
    """Folder or Hub id of the bank's backbone."""
    return str(default_backbone()) if bank.info["backbone"] == "default" else bank.info["backbone"]


def _folds(bank: FeatureBank, arguments: FitArguments) -> np.ndarray:
    """Number of the fold that holds each row out, (N,): whole sources, and each class left in every other fold.

    Raises:
        ValueError: leaving a fold out takes a class away.
    """
    sources, labels = bank.rows["source"].to_numpy(), bank.rows["label"].to_numpy()
    folds = arguments.folds or len(np.unique(sources))
    fold = np.empty(len(bank), dtype=np.int64)
    for number, (train_rows, held_out) in enumerate(GroupKFold(n_splits=folds).split(sources, groups=sources)):
        if len(np.unique(labels[train_rows])) < 2:
            raise ValueError(
                f"Without {sorted(set(sources[held_out]))} one class has no picture left: each class needs sources in "
                "at least two folds."
            )
        fold[held_out] = number
    return fold


def _held_out_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    fold: np.ndarray,
    training: RobustTrainingArguments,
    unfinished: Path,
) -> dict[str, np.ndarray]:
    """Scores of every row, by the head and by the baselines, from fits that never saw the row's source.

    Each fold's scores are kept in `unfinished`, so that an interrupted run goes on with the next fold.
    """
    scores = {name: np.full(len(bank), np.nan) for name in ("head", *BASELINES)}
    for number in tqdm(range(fold.max() + 1), desc="held-out sources", unit="fit"):
        train_rows, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        path = unfinished / f"{_fit_digest(bank, train_rows, training)}.safetensors"
        if first_decides(path.is_file()):
            found = load_numpy(path)
        else:
            found = _fold_scores(model, bank, train_rows, held_out, training)
            if PartialState().is_main_process:
                unfinished.mkdir(parents=True, exist_ok=True)
                save_numpy(found, path.with_suffix(".partial"))
                path.with_suffix(".partial").replace(path)
        for name, values in found.items():
            scores[name][held_out] = values
    return scores


def _fit_digest(bank: FeatureBank, rows: np.ndarray, training: RobustTrainingArguments) -> str:
    """Name of a fit's stored scores: all that decides them, so that those of other settings are never taken."""
    untold = ("output_dir", "run_name", "project", "logging", "report_to", "disable_tqdm")
    settings = {name: value for name, value in training.to_dict().items() if not name.startswith(untold)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(f"{bank.info['fingerprint']} {world_size()} {version('torch')}".encode())
    digest.update(rows.tobytes() + "\n".join(bank.rows["source"]).encode())
    for name in _CODE:
        digest.update((Path(__file__).parent.parent / name).read_bytes())
    return digest.hexdigest()[:32]


def _fold_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    train_rows: np.ndarray,
    held_out: np.ndarray,
    training: RobustTrainingArguments,
) -> dict[str, np.ndarray]:
    """Scores (H,) of the held-out rows by a head, and by each baseline, fitted on the others."""
    fit_head(model, bank, train_rows, training)
    text = None if bank.text_embeds is None else bank.text_embeds[held_out]
    scores = {"head": score_embeddings(model, bank.image_embeds[held_out], text).astype(np.float64)}
    features, labels = bank.image_embeds.numpy(), bank.rows["label"].to_numpy()
    weights = source_weights(labels[train_rows], bank.rows["source"].to_numpy()[train_rows]) * len(train_rows)
    for name, (inverse_penalty, weighted) in BASELINES.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=2000))
        sample_weight = weights if weighted else None
        probe.fit(features[train_rows], labels[train_rows], logisticregression__sample_weight=sample_weight)
        scores[name] = probe.decision_function(features[held_out]).astype(np.float64)
    return scores


def _evaluate(bank: FeatureBank, scores: np.ndarray, calibration: Calibration, arguments: FitArguments) -> dict:
    """Evaluation of the held-out scores: in full on the pictures as they are, in short on delivered views."""
    rows = bank.rows.assign(score=scores, probability=calibration.probability(scores))
    thresholds = {
        "real_threshold": calibration.real_threshold,
        "generated_threshold": calibration.generated_threshold,
    }
    delivered = rows[rows["view"] > 0]
    evaluation = {
        "protocol": f"{f'{arguments.folds} groups of sources' if arguments.folds else 'each source'} held out in turn",
        "calibration": {"scale": calibration.scale, "bias": calibration.bias},
        "targets": {"fpr": arguments.target_fpr, "fnr": arguments.target_fnr},
        **evaluate_scores(rows[rows["view"] == 0], **thresholds),
    }
    if not delivered.empty:
        measured = evaluate_scores(delivered, **thresholds)
        evaluation["random_deliveries"] = {name: measured[name] for name in ("auc", "verdicts")}
    return evaluation


def _provenance(bank: FeatureBank, arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """What made this checkpoint: backbone, data, seed, arguments, versions, commit."""
    used: tuple[str, ...] = ("cvar_alpha", "auc_margin", "auc_power", "cvar_weight", "sam_rho", "text_dropout", "seed")
    used += ("sam_adaptive", "sam_micro_batches", "stratified", "real_share", "per_device_train_batch_size", "optim")
    used += ("learning_rate", "weight_decay", "num_train_epochs", "max_steps", "lr_scheduler_type", "max_grad_norm")
    used += ("lr_scheduler_kwargs", "bf16", "fp16")
    fit_used = ("folds", "merge_sources", "target_fpr", "target_fnr", "head_depth", "head_width", "head_dropout")
    return {
        "backbone": bank.info["backbone"],
        "backbone_sha256": bank.info["backbone_sha256"],
        "bank": {key: bank.info[key] for key in ("records", "records_sha256", "views", "seed", "fingerprint")},
        "unreadable_pictures": len(bank.info["unreadable"]),
        "arguments": {
            **{name: getattr(training, name) for name in used},
            **{name: getattr(arguments, name) for name in fit_used},
        },
        "processes": world_size(),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "scikit-learn")},
        "python": platform.python_version(),
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """Commit of the code that runs, with a mark if it was changed; `None` outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None


def _write_checkpoint(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    calibration: Calibration,
    evaluation: dict,
    arguments: FitArguments,
    training: RobustTrainingArguments,
) -> None:
    """Write the whole checkpoint, and where asked the part of it that is ours."""
    config = model.config
    config.calibration_scale, config.calibration_bias = calibration.scale, calibration.bias
    config.real_threshold, config.generated_threshold = calibration.real_threshold, calibration.generated_threshold
    config.operating_point = {
        "target_fpr": arguments.target_fpr,
        "target_fnr": arguments.target_fnr,
        "measured_on": evaluation["protocol"],
        "false_positive_rate": evaluation["verdicts_by_other_sources"]["real"]["generated"],
        "true_positive_rate": evaluation["verdicts_by_other_sources"]["generated"]["generated"],
        "false_negative_rate": evaluation["verdicts_by_other_sources"]["generated"]["real"],
    }
    backbone = bank.info["backbone"]
    config.backbone_name = HUB_ID if backbone == "default" else backbone
    config.backbone_revision = HUB_REVISION if backbone == "default" else config.backbone_revision
    processor = load_processor(_backbone_folder(bank))
    with _staged(Path(str(training.output_dir))) as folder:
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        if bank.text_embeds is not None:
            AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
        write_evaluation(folder, evaluation)
    if arguments.head_output is not None:
        with _staged(Path(arguments.head_output)) as folder:
            config.save_pretrained(folder)
            processor.save_pretrained(folder)
            for code in folder.glob("*_robust_clip.py"):  # the code is in `modeling` already
                code.unlink()
            save_file(model.head.state_dict(), folder / HEAD_FILE)
            (folder / HEAD_FILE).chmod(0o644)  # safetensors writes 0600
            write_evaluation(folder, evaluation)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files come to `folder` together when all are written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as staging:
        yield Path(staging)
        for file in Path(staging).iterdir():
            file.replace(folder / file.name)


__all__ = ["BASELINES", "FitArguments", "fit", "fit_head", "git_commit", "join_sources", "new_model"]
