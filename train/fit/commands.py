"""`python -m train fit` and `known_data`."""

from pathlib import Path

from accelerate import PartialState

from modeling.cautions.known_data import KNOWN_DATA_FILE

from ..arguments import RobustTrainingArguments
from ..report.summary import summary
from .fitting import fit
from .known_data import write_known_data
from .options import FitArguments, KnownDataArguments


def fit_and_report(arguments: FitArguments, training: RobustTrainingArguments) -> None:
    """Fit a head, and print its figures."""
    evaluation = fit(arguments, training)
    if not PartialState().is_main_process:
        return
    print(summary(evaluation))
    print(f"written: {training.output_dir}, with report/report.html")


def known_data(arguments: KnownDataArguments) -> None:
    """Write what the fitted data looks like, and print how much of it there was."""
    known = write_known_data(arguments)
    print(f"{known.made_from['pictures']} pictures from {known.made_from['sources']} sources")
    print(f"written: {Path(arguments.output) / KNOWN_DATA_FILE}")
