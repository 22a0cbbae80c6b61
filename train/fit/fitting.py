"""Fit a detector on a feature bank: held-out scores first, then calibration, then the head that ships.

Every figure comes from pictures whose whole source (or family, or period) was left out of the fit that scored them;
the shipped head is fitted last, on everything, with the same settings.
"""

import logging
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.cautions.known_data import KnownData
from modeling.checkpoints import load_processor
from modeling.configuration_robust_clip import Decision
from modeling.default_backbone import HUB_ID, HUB_REVISION
from modeling.verdicts import GENERATED, REAL

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..features.made_by import made_by
from ..jobs.processes import first_decides, world_size
from ..measure.by_input import WITHOUT_TEXT, Calibrations, HeldOut, Inputs, measure_input
from ..measure.calibration import UNCALIBRATED
from ..measure.duplicates import check_sources_apart
from ..measure.evaluation import compare_scores, evaluate_views, verdicts_by_class
from ..measure.families import measure_families
from ..measure.photographs import in_100, share_of_photographs
from ..measure.rules import measure_rules
from ..measure.schema import VERSION, Evaluation, FitFacts, Targets, TextFigures
from ..measure.set_aside import SetAside, set_aside_of, set_sources_aside
from ..measure.shapes import number_shapes, unbalanced
from ..measure.sources import join_sources, protocol, split
from ..measure.text_leak import IMAGE_ONLY, PARTS, has_text, measure_text
from .baselines import BASELINES
from .head import backbone_folder, fit_head, fitted_tensors, new_model
from .held_out import held_out_scores
from .known_data import known_data_of
from .options import FitArguments
from .stored import fit_key, load_fit, store_fit

logger = logging.getLogger(__name__)
# From so many fits on, holding out groups of sources is advised.
MANY_SOURCES = 200


# Folder in `output_dir` of the fits that are done; of no use once the detector is saved.
UNFINISHED = "held-out-scores"


@dataclass(frozen=True)
class FittedDetector:
    """What `fit` gives.

    Args:
        model: its configuration holds the calibration, the operating point and the backbone's name.
        processor: prepares pictures as those of the bank were.
        calibrations: of the held-out scores; UNCALIBRATED where they do not rise from real to generated.
        evaluation: as evaluation.json holds it.
        pictures: one row a picture as it is, with its held-out score, probability and verdict.
        known_data: what the fitted data looks like to the backbone.
        backbone: folder or Hub id, with, where the model reads text, the tokenizer.
        set_aside: features of pictures that no fit saw; `None` where none were set aside.
    """

    model: RobustClipForImageClassification
    processor: RobustClipImageProcessor
    calibrations: Calibrations
    evaluation: Evaluation
    pictures: pd.DataFrame
    known_data: KnownData
    backbone: str
    set_aside: SetAside | None = None


def fit(arguments: FitArguments, training: RobustTrainingArguments) -> FittedDetector:
    """Fit, evaluate by held-out sources and calibrate; `save_detector` writes what this gives.

    The folds that are done are kept in `output_dir`: interrupted, it goes on with the first that is not when it is
    called again with the same settings, data and code. Several processes (torchrun) fit each head together.

    Raises:
        ValueError: the bank has fewer than two sources or lacks a class, also where a fold is left out; or its
            tower saw squares of another size than `image_size`; or
            `merge_sources` names a source that is not in it; or two sources have near-duplicates; or the backbone is
            not the one that made the bank; or a head alone is asked for and the bank has text; or sources are to be
            set aside and there are too few, or the bank has text.
    """
    bank, aside = _load_bank(arguments), None
    if arguments.set_aside:
        bank, aside = set_sources_aside(bank, arguments.set_aside)
    if arguments.image_size not in (None, seen := bank.info["processor"]["size"]):
        raise ValueError(
            f"`image_size` must be that of the bank, {seen}, got {arguments.image_size}: leave it out, or make the "
            "bank with --image_size."
        )
    fold = split(bank.rows, arguments.hold_out, arguments.folds)
    arguments = replace(arguments, head_components=_possible_components(bank, fold, arguments.head_components))
    model = new_model(bank, arguments)
    processor = load_processor(backbone_folder(bank), bank.info.get("image_size"))
    bank.check_made_by(model.backbone, processor)
    bank = bank.narrow(model.config)
    # Only the fit of the head that ships is logged; none is saved half-way, since each is short and can be repeated.
    once = replace(training, save_strategy="no", disable_tqdm=True, push_to_hub=False)
    quiet = replace(once, logging_strategy="no", report_to="none")
    if training.balance_shapes:
        _say_what_cannot_be_balanced(bank.rows, fold)
    unfinished = Path(str(training.output_dir)) / UNFINISHED
    scores = held_out_scores(model, bank, fold, quiet, unfinished)
    _fit_on_all(model, bank, once, unfinished)
    settings = _settings(arguments, training)
    evaluation, pictures, calibrations, held_out = _measure(bank, scores, fold, arguments, settings)
    protocol_used = cast(FitFacts, evaluation["fit"])["protocol"]
    _set_operating_point(model, calibrations, held_out, protocol_used, arguments)
    _name_backbone(model, bank.info["backbone"])
    known_data = known_data_of(bank, model.config)
    set_aside = None if aside is None else set_aside_of(aside.narrow(model.config), model)
    folder = backbone_folder(bank)
    return FittedDetector(model.eval(), processor, calibrations, evaluation, pictures, known_data, folder, set_aside)


def _fit_on_all(
    model: RobustClipForImageClassification, bank: FeatureBank, training: RobustTrainingArguments, unfinished: Path
) -> None:
    """Fit the head that ships, in place, unless that is done."""
    rows = np.flatnonzero(bank.rows["view"] >= 0)
    path = unfinished / f"{fit_key(bank, rows, rows[:0], model.config, training, 'the head')}.safetensors"
    if first_decides(path.is_file()):
        shapes = {name: tensor.shape for name, tensor in fitted_tensors(model).items()}
        model.load_state_dict(load_fit(path, shapes), strict=False)  # the backbone stays
        return
    fit_head(model, bank, rows, training)
    # Trainer writes it into any configuration: a head that was fitted now must ship as one that was kept.
    vars(model.config).pop("use_cache", None)
    if PartialState().is_main_process:
        store_fit(path, {name: tensor.cpu() for name, tensor in fitted_tensors(model).items()})


def _load_bank(arguments: FitArguments) -> FeatureBank:
    """The bank, with related sources joined, if it can be held out by source."""
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank.rows, arguments.merge_sources)
    if bank.rows["source"].nunique() < 2 or bank.rows["label"].nunique() < 2:
        raise ValueError(f"{arguments.bank} needs both classes and at least two sources to hold one out.")
    if bank.text_embeds is not None and arguments.head_output is not None:
        raise ValueError("`head_output` is for heads that read no text; `output_dir` gets the whole model.")
    if bank.text_embeds is not None and arguments.set_aside:
        raise ValueError("`set_aside` is for heads that read no text: leave it out, or make a bank without text.")
    check_sources_apart(bank.rows[bank.rows["view"] == 0])
    one_each = arguments.hold_out == "source" and not arguments.folds
    if one_each and (sources := bank.rows["source"].nunique()) > MANY_SOURCES:
        logger.warning("%d sources, one fit for each: --folds 10 holds out groups of them and takes 10 fits.", sources)
    return bank


def _measure(
    bank: FeatureBank, scores: dict[str, np.ndarray], fold: np.ndarray, arguments: FitArguments, settings: dict
) -> tuple[Evaluation, pd.DataFrame, Calibrations, HeldOut]:
    """Calibrate the held-out scores, by input, and evaluate them; also one row a picture with probability and verdict.

    And the pictures as calibrations of the other folds judge them.
    """
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    written, rows = has_text(bank), bank.rows.assign(score=scores["head"])
    alone = None if bank.text_embeds is None else scores[IMAGE_ONLY][clean]
    inputs = Inputs(rows[clean], written[clean], alone, fold[clean], arguments.targets)
    calibrations, held_out = inputs.calibrate(), inputs.judge_held_out()
    calibration = calibrations.with_text
    known = calibration is not UNCALIBRATED
    real, generated = calibration.real_threshold, calibration.generated_threshold
    rows = calibrations.judge(rows, written)
    pictures = rows[clean]
    fit_facts: FitFacts = {
        "protocol": protocol(bank.rows, arguments.hold_out, arguments.folds),
        "calibration": {"scale": calibration.scale, "bias": calibration.bias} if known else None,
        "targets": cast(Targets, arguments.reported_targets),
        "rules": measure_rules(calibration.judge(inputs.pictures[inputs.fitted]), generated, arguments.target_fpr)
        if known
        else None,
        "verdicts": verdicts_by_class(held_out.as_they_come),
        "answers": share_of_photographs(held_out.as_they_come) if known else None,
        "baselines": {
            name: {"inverse_penalty": inverse_penalty, **compare_scores(pictures, scores[name][clean])}
            for name, (inverse_penalty, _) in BASELINES.items()
        },
        "families": measure_families(pictures) if arguments.hold_out == "generator" else None,
        "arguments": settings,
        "processes": world_size(),
    }
    evaluation: Evaluation = {
        "version": VERSION,
        **evaluate_views(rows, real_threshold=real, generated_threshold=generated),
        "text": _measure_text(bank, scores, inputs, calibrations, held_out),
        "fit": fit_facts,
        "nested": None,
        "checkpoint": None,
        "made_by": made_by(bank),
    }
    return evaluation, pictures, calibrations, held_out


def _measure_text(
    bank: FeatureBank, scores: dict[str, np.ndarray], inputs: Inputs, calibrations: Calibrations, held_out: HeldOut
) -> TextFigures | None:
    """Figures with and without the text of the pictures as they are; `None` for a bank without text."""
    without = calibrations.without_text
    if bank.text_embeds is None or without is None:
        return None
    clean, fold = np.flatnonzero(bank.rows["view"] == 0), inputs.fold
    return measure_text(
        inputs.pictures,
        bank.text_embeds[torch.from_numpy(clean)],
        {name: scores[name][clean] for name in PARTS},
        [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in np.unique(fold)],
        measure_input(
            inputs.pictures[inputs.fitted], calibrations.with_text, inputs.calibrated_on, held_out.with_text
        ),
        measure_input(inputs.without_text(), without, WITHOUT_TEXT, held_out.without_text),
    )


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


def _say_what_cannot_be_balanced(rows: pd.DataFrame, fold: np.ndarray) -> None:
    """Log where a class lacks a shape: in everything, or in what some folds leave."""
    labels, shapes = rows["label"].to_numpy(), number_shapes(rows)
    fits = [np.ones(len(rows), dtype=bool), *(fold != number for number in np.unique(fold))]
    for sentence in dict.fromkeys(unbalanced(labels[fitted], shapes[fitted]) for fitted in fits):
        if sentence:
            logger.warning("%s", sentence)


def _settings(arguments: FitArguments, training: RobustTrainingArguments) -> dict:
    """The settings that decide a fit."""
    used: tuple[str, ...] = ("cvar_alpha", "auc_margin", "auc_power", "cvar_weight", "sam_rho", "text_dropout", "seed")
    used += ("sam_adaptive", "stratified", "real_share", "per_device_train_batch_size", "optim")
    used += ("learning_rate", "weight_decay", "num_train_epochs", "max_steps", "lr_scheduler_type", "max_grad_norm")
    used += ("lr_scheduler_kwargs", "bf16", "fp16", "source_balance", "balance_shapes", "cvar_over")
    used += ("label_smoothing_factor",)
    fit_used: tuple[str, ...] = ("hold_out", "folds", "merge_sources", "set_aside", *arguments.targets)
    fit_used += ("image_layers", "image_tokens", "head_components", "head_depth", "head_width", "head_dropout")
    return {name: getattr(training, name) for name in used} | {name: getattr(arguments, name) for name in fit_used}


def _set_operating_point(
    model: RobustClipForImageClassification,
    calibrations: Calibrations,
    held_out: HeldOut,
    protocol: str,
    arguments: FitArguments,
) -> None:
    """Write calibrations, thresholds and what they were measured to give into the model's configuration."""
    config, calibration = model.config, calibrations.with_text
    config.calibration_scale, config.calibration_bias = calibration.scale, calibration.bias
    config.real_threshold, config.generated_threshold = calibration.real_threshold, calibration.generated_threshold
    point = {**arguments.targets, "measured_on": protocol, **measured_rates(held_out.with_text)}
    if calibrations.without_text is not None and held_out.without_text is not None:
        config.without_text = Decision(*astuple(calibrations.without_text))._asdict()
        point["without_text"] = {
            **arguments.targets,
            "measured_on": f"{protocol}, {WITHOUT_TEXT}",
            **measured_rates(held_out.without_text),
        }
    config.operating_point = None if calibration is UNCALIBRATED else point


def measured_rates(held_out: pd.DataFrame) -> dict[str, Any]:
    """What `operating_point` says of pictures that calibrations of the other folds judged."""
    real, generated = (cast(dict, shares) for shares in verdicts_by_class(held_out).values())
    return {
        "false_positive_rate": real[GENERATED],
        "true_positive_rate": generated[GENERATED],
        "false_negative_rate": generated[REAL],
        "photographs_in_100": in_100(share_of_photographs(held_out)),
    }


def _name_backbone(model: RobustClipForImageClassification, backbone: str) -> None:
    """Write into the model's configuration where its backbone can be had."""
    config = model.config
    config.backbone_name = HUB_ID if backbone == "default" else backbone
    config.backbone_revision = HUB_REVISION if backbone == "default" else config.backbone_revision


__all__ = ["UNFINISHED", "FittedDetector", "fit", "measured_rates"]
