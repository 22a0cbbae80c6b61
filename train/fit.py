"""Fit a head on a feature bank: held-out scores first, then calibration, then the head that ships.

Every figure comes from pictures whose whole source was left out of the fit that scored them; the shipped head is
fitted last, on everything, with the same settings.
"""

import logging
import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from transformers import set_seed

from modeling import RobustClipForImageClassification
from modeling.checkpoints import HEAD_FILE, default_backbone, load_processor
from modeling.default_backbone import HUB_ID, HUB_REVISION

from .arguments import RobustTrainingArguments
from .calibration import Calibration, calibrate
from .evaluation import STATISTICS, evaluate_scores, write_json
from .feature_bank import FeatureBank
from .metrics import Statistic, bootstrap_interval, source_weights
from .trainer import EmbeddingDataset, RobustTrainer, collate_batch, score_embeddings

logger = logging.getLogger(__name__)

# Inverse penalty of the baseline; on standardised 512-d embeddings weaker penalties do worse on unseen sources.
BASELINE_C = 0.01


@dataclass
class FitArguments:
    """What to fit, how to hold sources out, and which error rates the verdicts aim at."""

    bank: str = field(metadata={"help": "Feature bank made by `python -m train features`."})
    folds: int = field(
        default=0, metadata={"help": "Groups of sources to hold out in turn; 0 = one source at a time."}
    )
    target_fpr: float = field(default=0.03, metadata={"help": "Share of real pictures that may be called generated."})
    target_fnr: float = field(default=0.10, metadata={"help": "Share of generated pictures that may be called real."})
    head_depth: int = field(default=3, metadata={"help": "Blocks of the head. Paper: 3."})
    head_width: int | None = field(default=None, metadata={"help": "Width of the head; its input's by default."})
    head_dropout: float = field(default=0.335, metadata={"help": "Dropout of the head. Reference: 0.335."})
    head_output: str | None = field(
        default=None,
        metadata={"help": "Also write configuration, head, processor and evaluation.json here, without the backbone."},
    )


def fit(arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """Fit, evaluate by held-out sources, calibrate, and write a checkpoint to `training.output_dir`.

    Returns:
        The evaluation, as written to evaluation.json.

    Raises:
        ValueError: the bank lacks a class, or has fewer than two sources.
    """
    bank = FeatureBank.load(arguments.bank)
    if bank.rows["source"].nunique() < 2 or bank.rows["label"].nunique() < 2:
        raise ValueError(f"{arguments.bank} needs both classes and at least two sources to hold one out.")
    model = _new_model(bank, arguments)
    scores, baseline = _held_out_scores(model, bank, arguments, training)
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    rows = bank.rows[clean].assign(score=scores[clean])
    calibration = calibrate(
        rows["label"], rows["score"], rows["source"], target_fpr=arguments.target_fpr, target_fnr=arguments.target_fnr
    )
    evaluation = _evaluate(bank, scores, calibration, arguments) | {
        "baseline": _evaluate_baseline(rows, baseline[clean]),
        "made_by": _provenance(bank, arguments, training),
    }
    fit_head(model, bank, np.arange(len(bank)), training)
    _write_checkpoint(model, bank, calibration, evaluation, arguments, training)
    return evaluation


def fit_head(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: np.ndarray, training: RobustTrainingArguments
) -> None:
    """Fit a fresh head, in place, on these rows of the bank. The same seed gives the same head."""
    set_seed(training.seed)
    model.reset_head()
    trainer = RobustTrainer(
        model=model,
        args=training,
        train_dataset=_dataset(bank, rows),
        data_collator=collate_batch,  # type: ignore[arg-type]
    )
    trainer.train()


def _new_model(bank: FeatureBank, arguments: FitArguments) -> RobustClipForImageClassification:
    """The bank's backbone with a fresh head."""
    backbone = bank.info["backbone"]
    return RobustClipForImageClassification.from_backbone(
        str(default_backbone()) if backbone == "default" else backbone,
        use_text=bank.text_embeds is not None,
        head_depth=arguments.head_depth,
        head_width=arguments.head_width,
        head_dropout=arguments.head_dropout,
    )


def _dataset(bank: FeatureBank, rows: np.ndarray) -> EmbeddingDataset:
    labels = torch.tensor(bank.rows["label"].to_numpy(dtype=np.int64))
    text = None if bank.text_embeds is None else bank.text_embeds[rows]
    return EmbeddingDataset(bank.image_embeds[rows], labels[rows], text)


def _held_out_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    arguments: FitArguments,
    training: RobustTrainingArguments,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of every row, and of a logistic regression, by fits that never saw the row's source."""
    sources = bank.rows["source"].to_numpy()
    folds = arguments.folds or len(np.unique(sources))
    splits = GroupKFold(n_splits=folds).split(sources, groups=sources)
    scores, baseline = np.full((2, len(bank)), np.nan)
    features = bank.image_embeds.numpy()
    labels = bank.rows["label"].to_numpy()
    for train_rows, held_out in tqdm(splits, total=folds, desc="held-out sources", unit="fit"):
        fit_head(model, bank, train_rows, training)
        text = None if bank.text_embeds is None else bank.text_embeds[held_out]
        scores[held_out] = score_embeddings(model, bank.image_embeds[held_out], text)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=BASELINE_C, max_iter=2000))
        weights = source_weights(labels[train_rows], sources[train_rows]) * len(train_rows)
        probe.fit(features[train_rows], labels[train_rows], logisticregression__sample_weight=weights)
        baseline[held_out] = probe.decision_function(features[held_out])
    return scores, baseline


def _evaluate(bank: FeatureBank, scores: np.ndarray, calibration: Calibration, arguments: FitArguments) -> dict:
    """Evaluation of the held-out scores: in full on the pictures as they are, in short on delivered views."""
    rows = bank.rows.assign(score=scores, probability=calibration.probability(scores))
    thresholds = {
        "real_threshold": calibration.real_threshold,
        "generated_threshold": calibration.generated_threshold,
    }
    delivered = rows[rows["view"] > 0]
    evaluation = {
        "protocol": f"{'one source' if arguments.folds == 0 else f'{arguments.folds} groups of sources'} held out",
        "calibration": {"scale": calibration.scale, "bias": calibration.bias},
        "targets": {"fpr": arguments.target_fpr, "fnr": arguments.target_fnr},
        **evaluate_scores(rows[rows["view"] == 0], **thresholds),
    }
    if not delivered.empty:
        measured = evaluate_scores(delivered, **thresholds)
        evaluation["random_deliveries"] = {name: measured[name] for name in ("auc", "verdicts")}
    return evaluation


def _evaluate_baseline(rows: pd.DataFrame, baseline: np.ndarray) -> dict:
    """Ranking figures of the logistic regression, and the paired difference to it with its interval."""
    figures: dict = {"what": f"logistic regression, C={BASELINE_C}, same rows, same held-out sources"}
    for name in ("auc", "auc_sources_weighted_equally"):
        figures[name] = STATISTICS[name](rows["label"].to_numpy(), baseline, rows["source"].to_numpy())
        figures[f"{name}_head_minus_baseline"] = _paired_difference(rows, baseline, STATISTICS[name])
    return figures


def _paired_difference(rows: pd.DataFrame, baseline: np.ndarray, statistic: Statistic) -> dict:
    """Our figure minus the baseline's; every resample of sources is the same for both."""
    ours = rows["score"].to_numpy()

    def difference(labels: np.ndarray, index: np.ndarray, sources: np.ndarray) -> float:
        drawn = index.astype(int)
        return statistic(labels, ours[drawn], sources) - statistic(labels, baseline[drawn], sources)

    labels, sources, index = rows["label"].to_numpy(), rows["source"].to_numpy(), np.arange(len(rows), dtype=float)
    return {
        "value": difference(labels, index, sources),
        "interval": bootstrap_interval(difference, labels, index, sources),
    }


def _provenance(bank: FeatureBank, arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """What made this checkpoint: backbone, data, seed, arguments, versions, commit."""
    used: tuple[str, ...] = ("cvar_alpha", "auc_margin", "auc_power", "cvar_weight", "sam_rho", "text_dropout", "seed")
    used += ("per_device_train_batch_size", "learning_rate", "weight_decay", "num_train_epochs", "lr_scheduler_kwargs")
    fit_used = ("folds", "target_fpr", "target_fnr", "head_depth", "head_width", "head_dropout")
    return {
        "backbone": bank.info["backbone"],
        "backbone_sha256": bank.info["backbone_sha256"],
        "bank": {key: bank.info[key] for key in ("records", "records_sha256", "views", "seed", "fingerprint")},
        "unreadable_pictures": len(bank.info["unreadable"]),
        "arguments": {
            **{name: getattr(training, name) for name in used},
            **{name: getattr(arguments, name) for name in fit_used},
        },
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "scikit-learn")},
        "python": platform.python_version(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
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
        "false_positive_rate": evaluation["verdicts"]["real"]["generated"],
        "true_positive_rate": evaluation["verdicts"]["generated"]["generated"],
    }
    backbone = bank.info["backbone"]
    config.backbone_name = HUB_ID if backbone == "default" else backbone
    config.backbone_revision = HUB_REVISION if backbone == "default" else config.backbone_revision
    folder = Path(str(training.output_dir))
    processor = load_processor(default_backbone() if backbone == "default" else backbone)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    write_json(folder / "evaluation.json", evaluation)
    if arguments.head_output is not None:
        part = Path(arguments.head_output)
        part.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(part)
        processor.save_pretrained(part)
        for code in part.glob("*_robust_clip.py"):  # the code is in `modeling` already
            code.unlink()
        save_file(model.head.state_dict(), part / f".{HEAD_FILE}")
        (part / f".{HEAD_FILE}").replace(part / HEAD_FILE)
        write_json(part / "evaluation.json", evaluation)


__all__ = ["FitArguments", "fit", "fit_head"]
