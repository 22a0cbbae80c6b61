"""`python -m train fit` and `known_data`."""

import logging
import shutil
from pathlib import Path

from accelerate import PartialState

from modeling.cautions.known_data import KNOWN_DATA_FILE

from ..arguments import RobustTrainingArguments
from ..publish.model import check_target, publish_checkpoint
from ..report.card import read_notes
from ..report.summary import summary
from ..report.writing import write_report
from .fitting import UNFINISHED, fit
from .known_data import write_known_data
from .options import FitArguments, KnownDataArguments
from .saving import save_detector, save_head

logger = logging.getLogger(__name__)


def fit_and_report(arguments: FitArguments, training: RobustTrainingArguments) -> None:
    """Fit a head, write checkpoint, card and report to `output_dir`, publish where asked, and print the figures.

    Raises:
        ValueError: what `fit` raises, `push_to_hub` without a name, and a card.yaml that cannot be read.
        HubError: `push_to_hub`, and nobody is logged in, or the Hub refused.
    """
    output = Path(str(training.output_dir))
    head_output = None if arguments.head_output is None else Path(arguments.head_output)
    # What can be refused is, before hours of fitting.
    for folder in (output, head_output):
        if folder is not None:
            read_notes(folder)
    if training.push_to_hub:
        if not training.hub_model_id:
            raise ValueError("`push_to_hub` needs `hub_model_id`, the owner/name to publish as.")
        check_target(training.hub_model_id, training.hub_token)
    fitted = fit(arguments, training)
    if PartialState().is_main_process:
        save_detector(fitted, output)
        if head_output is not None:
            save_head(fitted, head_output)
        write_report(output / "report", fitted.evaluation, fitted.pictures)
        shutil.rmtree(output / UNFINISHED)
        if training.push_to_hub:
            _publish(training)
        print(summary(fitted.evaluation))
        print(f"written: {training.output_dir}, with report/report.html")
    PartialState().wait_for_everyone()


def _publish(training: RobustTrainingArguments) -> None:
    """Publish the finished checkpoint; what fails here is on disk and can be published by the command."""
    published = publish_checkpoint(
        Path(str(training.output_dir)),
        str(training.hub_model_id),
        public=training.hub_private_repo is False,
        token=training.hub_token,
        revision=training.hub_revision,
    )
    logger.info("Published: %s", published.url)


def known_data(arguments: KnownDataArguments) -> None:
    """Write what the fitted data looks like, and print how much of it there was."""
    known = write_known_data(arguments)
    print(f"{known.made_from['pictures']} pictures from {known.made_from['sources']} sources")
    print(f"written: {Path(arguments.output) / KNOWN_DATA_FILE}")
