"""The settings of the fit that ships, read as `python -m train fit` reads them."""

from pathlib import Path

from ..arguments import RobustTrainingArguments
from ..fit.options import FitArguments
from ..options import MethodArguments, TrainerArguments
from ..parsing import Command, parse

_FIT = Command("fit", "fit the default", "", (FitArguments, MethodArguments, TrainerArguments))


def read_recipe(path: Path, bank: Path, output: Path) -> tuple[FitArguments, RobustTrainingArguments]:
    """The recipe with its bank, and the folder of its folds that are done.

    Raises:
        SystemExit: it has a setting that `fit` does not, which is then said on stderr.
        ValueError: it is no YAML file of settings, or a setting is out of range.
    """
    fit_arguments, training = parse(_FIT, [str(path), "--bank", str(bank), "--output_dir", str(output)])
    return fit_arguments, training


__all__ = ["read_recipe"]
