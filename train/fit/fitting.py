"""Fit a head on a feature bank: held-out scores first, then calibration, then the head that ships.

Every figure comes from pictures whose whole source was left out of the fit that scored them; the shipped head is
fitted last, on everything, with the same settings.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from accelerate import PartialState
from safetensors.torch import save_file
from transformers import AutoTokenizer

from modeling import RobustClipForImageClassification
from modeling.checkpoints import HEAD_FILE, load_processor
from modeling.default_backbone import HUB_ID, HUB_REVISION
from modeling.files import staged
from modeling.verdicts import CLASSES, GENERATED, REAL

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..features.made_by import made_by
from ..jobs.processes import world_size
from ..measure.calibration import Calibration, calibrate
from ..measure.evaluation import compare_scores, evaluate_views, held_out_verdicts
from ..measure.schema import VERSION, Evaluation, FitFacts, Targets
from ..measure.sources import join_sources, split_by_source
from ..measure.text_leak import PARTS, has_text, measure_text
from ..publish.model import check_target, publish_checkpoint
from ..report.card import read_notes, write_card
from ..report.evaluation_file import write_evaluation
from ..report.writing import write_report
from .baselines import BASELINES
from .head import backbone_folder, fit_head, new_model
from .held_out import held_out_scores
from .known_data import known_data_of
from .options import FitArguments

logger = logging.getLogger(__name__)
# From so many fits on, holding out groups of sources is advised.
MANY_SOURCES = 200


def fit(arguments: FitArguments, training: RobustTrainingArguments) -> Evaluation:
    """Fit, evaluate by held-out sources, calibrate, and write a checkpoint and a report to `training.output_dir`.

    Interrupted, it goes on with the first fold that is not done when it is called again with the same settings, data
    and code.
    Several processes (torchrun) fit each head together; the first of them writes.

    Returns:
        The evaluation.

    Raises:
        ValueError: `push_to_hub` without a name; or
            the bank has fewer than two sources or lacks a class, also where a fold is left out; or
            `merge_sources` names a source that is not in it; or the backbone is not the one that made the bank.
    """
    if training.push_to_hub:
        if not training.hub_model_id:
            raise ValueError("`push_to_hub` needs `hub_model_id`, the owner/name to publish as.")
        check_target(training.hub_model_id, training.hub_token)
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank.rows, arguments.merge_sources)
    if bank.rows["source"].nunique() < 2 or bank.rows["label"].nunique() < 2:
        raise ValueError(f"{arguments.bank} needs both classes and at least two sources to hold one out.")
    if bank.text_embeds is not None and arguments.head_output is not None:
        raise ValueError("`head_output` is for heads that read no text; `output_dir` gets the whole model.")
    if not arguments.folds and (sources := bank.rows["source"].nunique()) > MANY_SOURCES:
        logger.warning("%d sources, one fit for each: --folds 10 holds out groups of them and takes 10 fits.", sources)
    fold = split_by_source(bank.rows, arguments.folds)
    arguments = replace(arguments, head_components=_possible_components(bank, fold, arguments.head_components))
    model = new_model(bank, arguments)
    bank.check_made_by(model.backbone, load_processor(backbone_folder(bank)))
    bank = bank.narrow(model.config)
    settings = _settings(arguments, training)
    unfinished = Path(str(training.output_dir)) / "held-out-scores"
    # Only the fit of the head that ships is logged; none is saved half-way, since each is short and can be repeated.
    push, training = training.push_to_hub, replace(training, save_strategy="no", disable_tqdm=True, push_to_hub=False)
    quiet = replace(training, logging_strategy="no", report_to="none")
    scores = held_out_scores(model, bank, fold, quiet, unfinished)
    evaluation, pictures, calibration = _measure(bank, scores, fold, arguments, settings)
    fit_head(model, bank, np.flatnonzero(bank.rows["view"] >= 0), training)
    if PartialState().is_main_process:
        _write_checkpoint(model, bank, calibration, evaluation, arguments, training)
        write_report(Path(str(training.output_dir)) / "report", evaluation, pictures)
        shutil.rmtree(unfinished)
        if push:
            _push(training)
    PartialState().wait_for_everyone()
    return evaluation


def _push(training: RobustTrainingArguments) -> None:
    """Publish the finished checkpoint; what fails here is on disk and can be published by the command."""
    published = publish_checkpoint(
        Path(str(training.output_dir)),
        str(training.hub_model_id),
        public=training.hub_private_repo is False,
        token=training.hub_token,
        revision=training.hub_revision,
    )
    logger.info("Published: %s", published.url)


def _measure(
    bank: FeatureBank, scores: dict[str, np.ndarray], fold: np.ndarray, arguments: FitArguments, settings: dict
) -> tuple[Evaluation, pd.DataFrame, Calibration]:
    """Calibrate the held-out scores and evaluate them; also one row a picture with its probability and verdict."""
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    rows = bank.rows.assign(score=scores["head"])
    calibration = calibrate(*(rows.loc[clean, name] for name in ("label", "score", "source")), **arguments.targets)
    real, generated = calibration.real_threshold, calibration.generated_threshold
    rows = calibration.judge(rows)
    pictures = rows[clean]
    parts = {name: scores[name][clean] for name in PARTS if name in scores}
    fit_facts: FitFacts = {
        "protocol": f"held out by source, {f'in {arguments.folds} folds' if arguments.folds else 'one at a time'}",
        "calibration": {"scale": calibration.scale, "bias": calibration.bias},
        "targets": cast(Targets, arguments.told_targets),
        "verdicts": held_out_verdicts(pictures, fold[clean], **arguments.targets),
        "baselines": {
            name: {"inverse_penalty": inverse_penalty, **compare_scores(pictures, scores[name][clean])}
            for name, (inverse_penalty, _) in BASELINES.items()
        },
        "arguments": settings,
        "processes": world_size(),
    }
    evaluation: Evaluation = {
        "version": VERSION,
        **evaluate_views(rows, real_threshold=real, generated_threshold=generated),
        "text": measure_text(pictures, has_text(bank, clean), parts),
        "fit": fit_facts,
        "checkpoint": None,
        "made_by": made_by(bank),
    }
    return evaluation, pictures, calibration


def _possible_components(bank: FeatureBank, fold: np.ndarray, asked: int | None) -> int | None:
    """As many components as asked for, or half the rows of the smallest fit: a first try may have a dozen pictures."""
    if asked is None:
        return None
    rows = np.bincount(fold[(bank.rows["view"] >= 0).to_numpy()])
    fewest = int(rows.sum() - rows.max())
    if (possible := fewest // 2) >= asked:
        return asked
    logger.warning("The smallest fit has %d rows: %d head_components instead of %d.", fewest, possible, asked)
    return possible


def _settings(arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """The settings that decide a fit."""
    used: tuple[str, ...] = ("cvar_alpha", "auc_margin", "auc_power", "cvar_weight", "sam_rho", "text_dropout", "seed")
    used += ("sam_adaptive", "stratified", "real_share", "per_device_train_batch_size", "optim")
    used += ("learning_rate", "weight_decay", "num_train_epochs", "max_steps", "lr_scheduler_type", "max_grad_norm")
    used += ("lr_scheduler_kwargs", "bf16", "fp16", "source_balance", "cvar_over", "label_smoothing_factor")
    fit_used: tuple[str, ...] = ("folds", "merge_sources", *arguments.targets, "image_layers", "image_tokens")
    fit_used += ("head_components", "head_depth", "head_width", "head_dropout")
    return {name: getattr(training, name) for name in used} | {name: getattr(arguments, name) for name in fit_used}


def _write_checkpoint(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    calibration: Calibration,
    evaluation: Evaluation,
    arguments: FitArguments,
    training: RobustTrainingArguments,
) -> None:
    """Write the whole checkpoint, and where asked the part of it that is ours."""
    config, fit_facts = model.config, cast(FitFacts, evaluation["fit"])
    real, generated = (cast(dict, fit_facts["verdicts"][name]) for name in CLASSES)
    config.calibration_scale, config.calibration_bias = calibration.scale, calibration.bias
    config.real_threshold, config.generated_threshold = calibration.real_threshold, calibration.generated_threshold
    config.operating_point = {
        **arguments.targets,
        "measured_on": fit_facts["protocol"],
        "false_positive_rate": real[GENERATED],
        "true_positive_rate": generated[GENERATED],
        "false_negative_rate": generated[REAL],
    }
    backbone = bank.info["backbone"]
    config.backbone_name = HUB_ID if backbone == "default" else backbone
    config.backbone_revision = HUB_REVISION if backbone == "default" else config.backbone_revision
    processor = load_processor(backbone_folder(bank))
    known_data = known_data_of(bank, config)
    with staged(Path(str(training.output_dir))) as folder:
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        if bank.text_embeds is not None:
            AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
        known_data.save(folder)
        write_evaluation(folder, evaluation)
        write_card(folder, read_notes(Path(str(training.output_dir))))
    if arguments.head_output is not None:
        with staged(Path(arguments.head_output)) as folder:
            config.save_pretrained(folder)
            processor.save_pretrained(folder)
            for code in folder.glob("*_robust_clip.py"):  # the code is in `modeling` already
                code.unlink()
            save_file(model.head.state_dict(), folder / HEAD_FILE)
            (folder / HEAD_FILE).chmod(0o644)  # safetensors writes 0600
            known_data.save(folder)
            write_evaluation(folder, evaluation)
            write_card(folder, read_notes(Path(arguments.head_output)))


__all__ = ["fit", "new_model"]
