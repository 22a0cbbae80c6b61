"""`python -m train evaluate`: all that is true of a checkpoint on somebody's pictures, in one report."""

import logging
import os
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from transformers import PreTrainedConfig

from modeling import RobustClipConfig, RobustClipForImageClassification
from modeling.checkpoints import resolve_checkpoint
from modeling.detector import corrected_name
from modeling.proof import load_checkpoint

from .data.options import DataArguments
from .data.records import load_records
from .embedding_dataset import score_embeddings
from .features.backbone import state_fingerprint
from .features.bank import FeatureBank, bank_folders
from .features.made_by import made_by
from .features.making import build_feature_bank
from .jobs.processes import start_processes
from .measure.bias_audit import rule_folds
from .measure.by_input import WITH_TEXT, WITHOUT_TEXT, Calibrations, measure_input
from .measure.evaluation import evaluate_views
from .measure.schema import VERSION, Evaluation, TextFigures
from .measure.text_leak import IMAGE_ONLY, has_text, measure_text, scores_by_input
from .options import EvaluateArguments
from .report.evaluation_file import EVALUATION_FILE, read_evaluation, write_evaluation
from .report.summary import summary
from .report.writing import write_report

logger = logging.getLogger(__name__)


def run(arguments: EvaluateArguments, data: DataArguments) -> None:
    """Evaluate, and print the figures."""
    if (evaluation := evaluate(arguments, data)) is not None:
        print(summary(evaluation))
        print(f"written: {Path(arguments.output) / 'report.html'}")


def evaluate(arguments: EvaluateArguments, data: DataArguments) -> Evaluation | None:
    """Evaluate a checkpoint and write evaluation.json and the report into `output`.

    Args:
        arguments: the checkpoint and the output.
        data: the pictures, or in `data.data` a feature bank made with the checkpoint's backbone. Pictures are embedded
            into `output`/bank, from where an interrupted run goes on.

    Returns:
        The evaluation, not rounded. Several processes (torchrun) embed together; then the first goes on alone, and
        the others return `None`.

    Raises:
        ValueError: nothing to evaluate, or the bank was made with another backbone or image processor.
    """
    output = Path(arguments.output)
    checkpoint = resolve_checkpoint(arguments.checkpoint)
    bank = embed_for(arguments.checkpoint, data, output / "bank", views=1, probed=arguments.probed)
    if not PartialState().is_main_process:
        return None
    training = None if arguments.training_bank is None else FeatureBank.load(arguments.training_bank).rows
    evaluation, pictures = evaluate_checkpoint(checkpoint, bank, training, name=arguments.checkpoint)
    write_evaluation(output, evaluation)
    write_report(output, evaluation, pictures)
    return evaluation


def embed_for(checkpoint: str, data: DataArguments, folder: Path, *, views: int, probed: int = 0) -> FeatureBank:
    """The bank that is given, or one of pictures, with the features that a checkpoint's head reads.

    Args:
        checkpoint: folder, Hub id or `default`.
        data: the pictures, or in `data.data` a feature bank or a folder of banks.
        folder: gets the bank of pictures; an interrupted run goes on there.
        views: of each picture.
        probed: pictures that are also embedded under every standard delivery.
    """
    if _is_bank(Path(data.data)):
        return FeatureBank.load(data.data)
    with start_processes().main_process_first():
        records = load_records(data)
    found = resolve_checkpoint(checkpoint)
    config = load_checkpoint(found)[0].config  # what cannot be loaded is refused before hours of embedding
    return build_feature_bank(
        records,
        folder,
        backbone="default" if checkpoint == "default" else found,
        image_layers=config.image_layers or (),
        image_tokens=config.image_tokens or (),
        image_size=config.vision_config.image_size if checkpoint == "default" else None,
        views=views,
        probed=probed,
    )


def evaluate_checkpoint(
    checkpoint: str | os.PathLike, bank: FeatureBank, training: pd.DataFrame | None = None, *, name: str | None = None
) -> tuple[Evaluation, pd.DataFrame]:
    """Evaluate a checkpoint on a bank.

    Args:
        checkpoint: a folder, a Hub id, or "default".
        bank: made with the checkpoint's own backbone. It should hold no picture that the checkpoint was fitted on.
        training: rows of the bank that it was fitted on, where known, to say which pictures are in both.
        name: what the evaluation calls the checkpoint; as it is given by default.

    Returns:
        The evaluation, and one row a picture with score, probability and verdict.

    Raises:
        ValueError: the bank was made with another backbone or image processor.
    """
    checkpoint = resolve_checkpoint(checkpoint)
    model, processor = load_checkpoint(checkpoint)
    bank.check_made_by(model.backbone, processor)
    bank = bank.narrow(model.config)
    scores = score_embeddings(model, bank.image_embeds, bank.text_embeds).astype(np.float64)
    calibrations, written = Calibrations.of_config(cast(RobustClipConfig, model.config)), has_text(bank)
    rows = calibrations.judge(bank.rows.assign(score=scores), written)
    clean = (rows["view"] == 0).to_numpy(copy=True)
    pictures = rows[clean]
    decision = model.config.decision(with_text=bool(written.any()))
    thresholds = {"real_threshold": decision.real_threshold, "generated_threshold": decision.generated_threshold}
    if in_sample := is_in_sample(checkpoint, bank, model.config):
        logger.warning("The checkpoint was fitted on these very pictures: its figures here are in-sample, too good.")
    evaluation: Evaluation = {
        "version": VERSION,
        **evaluate_views(rows, **thresholds, training=training),
        "text": _measure_text(model, bank, pictures, calibrations),
        "fit": None,
        "nested": None,
        "checkpoint": {
            "name": corrected_name(name or str(checkpoint), model.config),
            "weights_sha256": state_fingerprint(model.head.state_dict()),
            "in_sample": in_sample,
        },
        "made_by": made_by(bank),
    }
    return evaluation, pictures


def _is_bank(folder: Path) -> bool:
    """Whether it is a bank or a folder of banks only: one of pictures may have their bank in it."""
    banks = bank_folders(folder)
    return bool(banks) and (banks == [folder] or all(path in banks or path.is_file() for path in folder.iterdir()))


def _measure_text(
    model: RobustClipForImageClassification, bank: FeatureBank, pictures: pd.DataFrame, calibrations: Calibrations
) -> TextFigures | None:
    """Figures with and without the text of the pictures as they are; `None` for a bank without text."""
    if bank.text_embeds is None:
        return None
    rows = np.flatnonzero(bank.rows["view"] == 0)
    parts, written = scores_by_input(model, bank, rows), has_text(bank)[rows]
    alone = pictures.assign(score=parts[IMAGE_ONLY])
    return measure_text(
        pictures,
        bank.text_embeds[torch.from_numpy(rows)],
        parts,
        rule_folds(pictures)[0],
        measure_input(pictures[written], calibrations.with_text, WITH_TEXT),
        measure_input(alone, calibrations.without_text or calibrations.with_text, WITHOUT_TEXT),
    )


def is_in_sample(checkpoint: str, bank: FeatureBank, config: PreTrainedConfig) -> bool | None:
    """`True` where the checkpoint says that it was fitted on, or corrected by, the bank's records, else unknown."""
    records = bank.info["records_sha256"]
    if any(correction.get("records_sha256") == records for correction in config.corrections or []):
        return True
    if not (Path(checkpoint) / EVALUATION_FILE).is_file():
        return None
    try:
        beside = read_evaluation(Path(checkpoint))
    except ValueError as error:  # of another version, or somebody else's
        logger.warning("Whether the checkpoint was fitted on these pictures is not known: %s", error)
        return None
    fitted_on = None if beside["fit"] is None else beside["made_by"]["bank"]["records_sha256"]
    return True if fitted_on == records else None


__all__ = ["embed_for", "evaluate", "evaluate_checkpoint", "is_in_sample"]
