"""Scores of pictures by fits that never saw their source: one fit a fold, kept on disk until all are done."""

import copy
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from tqdm import tqdm
from transformers import PrinterCallback, set_seed

from modeling import RobustClipForImageClassification
from modeling.files import replacing

from ..arguments import RobustTrainingArguments
from ..embedding_dataset import EmbeddingDataset, collate_batch, score_embeddings
from ..features.bank import FeatureBank
from ..jobs.processes import first_decides, world_size
from ..measure.metrics import source_weights
from ..measure.text_leak import scores_by_input
from ..trainer import RobustTrainer
from .components import projected

# Logistic regressions that the head must not be worse than: inverse penalty, and whether every source weighs the same.
# With the default backbone these two are the best in pooled AUC and in AUC with sources weighted equally.
BASELINES = {"logistic regression": (0.1, False), "logistic regression, sources weighted equally": (0.01, True)}

# So many rows give the principal components to three digits; more would only take memory.
MOST_COMPONENT_ROWS = 20_000

# What a fit's scores come from, besides data and settings.
_CODE = (
    "modeling/modeling_robust_clip.py",
    "train/jobs/processes.py",
    "train/embedding_dataset.py",
    "train/fit/held_out.py",
    "train/losses.py",
    "train/measure/metrics.py",
    "train/fit/components.py",
    "train/sam.py",
    "train/sampling.py",
    "train/measure/text_leak.py",
    "train/trainer.py",
)
# And what of the model's configuration.
_HEAD = ("image_layers", "image_tokens", "head_components", "head_depth", "head_width", "head_dropout")


def fit_head(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    rows: np.ndarray,
    training: RobustTrainingArguments,
    components: nn.ModuleList | None = None,
) -> None:
    """Fit a fresh head, in place, on these rows of the bank. The same seed gives the same head.

    Args:
        model: as `train.fit.fitting.new_model` makes it.
        bank: the data.
        rows: of the bank, to fit on.
        training: the recipe.
        components: what `fit_components` gives for these rows, where it is known already.

    Raises:
        ValueError: there are not more rows than components.
    """
    if components is None and model.head.components is not None:
        components = fit_components(model, bank, rows)
    set_seed(training.seed)
    model.reset_head()
    model.head.components = components
    labels = torch.tensor(bank.rows["label"].to_numpy(dtype=np.int64))
    sources = torch.from_numpy(pd.factorize(bank.rows["source"])[0])
    with projected(model, bank.image_embeds, rows) as image_embeds:
        dataset = EmbeddingDataset(image_embeds, labels, bank.text_embeds, torch.from_numpy(rows), sources)
        trainer = RobustTrainer(
            model=model,
            args=training,
            train_dataset=dataset,
            data_collator=collate_batch,  # type: ignore[arg-type]
        )
        trainer.remove_callback(PrinterCallback)  # run times of dozens of fits
        trainer.train()
    # Under mixed precision Trainer has wrapped `forward`, once more at each fit; scores are taken in float32.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def fit_components(model: RobustClipForImageClassification, bank: FeatureBank, rows: np.ndarray) -> nn.ModuleList:
    """Projections for the model's head to the principal components of these rows' image features, frozen.

    Of each part all have one scale, a mean square of 1 on average, and so keep their shares of the variance. Whitened,
    the many directions in which pictures hardly differ drown the few in which they do (experiments/README.md).
    Of more than MOST_COMPONENT_ROWS rows every n-th is used.

    Raises:
        ValueError: there are not more rows than components.
    """
    rows = rows[:: -(-len(rows) // MOST_COMPONENT_ROWS)]
    components = copy.deepcopy(cast(nn.ModuleList, model.head.components))
    projections = [module for module in components if isinstance(module, nn.Linear)]
    most = max(project.out_features for project in projections)
    if len(rows) <= most:
        raise ValueError(f"`head_components` must be below the number of rows to fit on, {len(rows)}, got {most}.")
    parts = bank.image_embeds[torch.from_numpy(rows)].split(model.config.image_parts, dim=-1)
    for project, part in zip(projections, parts, strict=True):
        found = PCA(project.out_features, svd_solver="covariance_eigh").fit(part.double().numpy())
        basis = found.components_ / np.sqrt(max(found.explained_variance_.mean(), np.finfo(np.float32).tiny))
        with torch.no_grad():
            project.weight.copy_(torch.from_numpy(basis))
            project.bias.copy_(torch.from_numpy(-basis @ found.mean_))
    return components


def join_sources(rows: pd.DataFrame, merge_sources: list[str]) -> None:
    """Rename sources of these rows in place, so that related ones are one in folds, weights and intervals."""
    names = set(rows["source"])
    for entry in merge_sources:
        part, _, whole = entry.partition("=")
        if not {part, whole} <= names:
            raise ValueError(f"`merge_sources` must be NAME=OTHER, both sources of the bank, got {entry!r}.")
        rows["source"] = rows["source"].replace(part, whole)


def split_by_source(bank: FeatureBank, folds: int) -> np.ndarray:
    """Number of the fold that holds each row out, (N,): whole sources, and each class left in every other fold.

    Args:
        bank: the data.
        folds: groups of sources; 0 = each source on its own.

    Raises:
        ValueError: leaving a fold out takes a class away.
    """
    pictures = bank.rows[bank.rows["view"] == 0]  # how many views a picture has must not move the groups
    sources, labels = pictures["source"].to_numpy(), pictures["label"].to_numpy()
    folds = folds or len(np.unique(sources))
    fold_of_source: dict[str, int] = {}
    for number, (train_rows, held_out) in enumerate(GroupKFold(n_splits=folds).split(sources, groups=sources)):
        if len(np.unique(labels[train_rows])) < 2:
            raise ValueError(
                f"Without {sorted(set(sources[held_out]))} one class has no picture left: each class needs sources in "
                "at least two folds."
            )
        fold_of_source |= dict.fromkeys(sources[held_out], number)
    return bank.rows["source"].map(fold_of_source).to_numpy(dtype=np.int64)


def held_out_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    fold: np.ndarray,
    training: RobustTrainingArguments,
    unfinished: Path,
) -> dict[str, np.ndarray]:
    """Scores of every row (the head's, the baselines' and, with text, by input) from fits that never saw its source.

    Views of standard deliveries are scored, and never fitted on. Each fold's scores are kept in `unfinished`, so that
    an interrupted run goes on with the next fold.
    """
    scores: dict[str, np.ndarray] = {}
    trained_on = (bank.rows["view"] >= 0).to_numpy()
    for number in tqdm(range(fold.max() + 1), desc="held-out sources", unit="fit"):
        train_rows, held_out = np.flatnonzero((fold != number) & trained_on), np.flatnonzero(fold == number)
        path = unfinished / f"{_fit_digest(model, bank, train_rows, training)}.safetensors"
        if first_decides(path.is_file()):
            found = load_file(path)
        else:
            found = _fold_scores(model, bank, train_rows, held_out, training)
            if PartialState().is_main_process:
                with replacing(path) as temporary:
                    save_file(found, temporary)
        for name, values in found.items():
            scores.setdefault(name, np.full(len(bank), np.nan))[held_out] = values
    return scores


def _fit_digest(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    rows: np.ndarray,
    training: RobustTrainingArguments,
) -> str:
    """Name of a fit's stored scores: all that decides them, so that those of other settings are never taken."""
    untold = ("output_dir", "run_name", "project", "logging", "report_to", "disable_tqdm")
    settings = {name: value for name, value in training.to_dict().items() if not name.startswith(untold)}
    settings |= {name: getattr(model.config, name) for name in _HEAD}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(f"{bank.info['fingerprint']} {world_size()} {version('torch')}".encode())
    digest.update(rows.tobytes() + "\n".join(bank.rows["source"]).encode())
    for name in _CODE:
        digest.update((Path(__file__).parents[2] / name).read_bytes())
    return digest.hexdigest()[:32]


def _fold_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    train_rows: np.ndarray,
    held_out: np.ndarray,
    training: RobustTrainingArguments,
) -> dict[str, np.ndarray]:
    """Scores (H,) of the held-out rows by a head, and by each baseline, fitted on the others.

    Where there is text, also the head's with a part of the input taken out.
    """
    fit_head(model, bank, train_rows, training)
    text = None if bank.text_embeds is None else bank.text_embeds[held_out]
    scores = {"head": score_embeddings(model, bank.image_embeds[held_out], text).astype(np.float64)}
    scores |= scores_by_input(model, bank, held_out)
    for name in BASELINES:
        scores[name] = baseline_scores(name, bank, train_rows, held_out)
    return scores


def baseline_scores(name: str, bank: FeatureBank, train_rows: np.ndarray, held_out: np.ndarray) -> NDArray[np.float64]:
    """Scores (H,) of the held-out rows by one of `BASELINES` on the image embeddings, fitted on the others."""
    inverse_penalty, weighted = BASELINES[name]
    features, labels = bank.image_embeds.numpy(), bank.rows["label"].to_numpy()[train_rows]
    sources = bank.rows["source"].to_numpy()[train_rows]
    weights = source_weights(labels, sources) * len(train_rows) if weighted else None
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=2000))
    probe.fit(features[train_rows], labels, logisticregression__sample_weight=weights)
    return probe.decision_function(features[held_out]).astype(np.float64)


__all__ = ["BASELINES", "baseline_scores", "fit_head", "held_out_scores", "join_sources", "split_by_source"]
