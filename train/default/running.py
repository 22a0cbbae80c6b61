"""The default, step by step: banks, fit, pages about the data, and what ships of it."""

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

from modeling.check import write_expected
from modeling.checkpoints import cache_folder, load_processor
from modeling.detector import Detector
from modeling.embedded import DEFAULT_SOURCE, ROOT
from modeling.files import write_together

from ..arguments import RobustTrainingArguments
from ..fit.fitting import fit
from ..fit.options import FitArguments
from ..fit.saving import save_detector, save_head
from ..fit.stored import PACKAGES
from ..report.card import read_notes
from ..report.data_pages import write_data_pages
from ..report.writing import write_report
from .banks import data_files, make_banks, told_of
from .options import DefaultArguments
from .recipe import read_recipe
from .release import CHECKPOINT, REPORT, default_files, detector_files
from .steps import Steps, sha256

# Where the code is that figures come from. A bank is not made anew for a change of it, nor is a fit, unless it is of
# the code that `train.fit.stored` names.
CODE = ("modeling", "train")


def make_default(arguments: DefaultArguments) -> tuple[Steps, list[Path]]:
    """Do every step that is not done, and write what ships where it differs from what is there.

    Returns:
        The steps, with the time that each took, and the files that were written.

    Raises:
        ValueError: what the steps raise: files that are no data, banks of other files, a recipe that does not fit
            them, a card.yaml that cannot be read.
    """
    cache = Path(arguments.cache) if arguments.cache else cache_folder() / "default"
    output = Path(arguments.output) if arguments.output else DEFAULT_SOURCE
    recipe = Path(arguments.recipe) if arguments.recipe else DEFAULT_SOURCE / "fit.yaml"
    is_default = output.resolve() == DEFAULT_SOURCE
    if is_default and arguments.backbone != "default":
        raise ValueError("`backbone` of the embedded default cannot be chosen here: name an --output of your own.")
    read_notes(output)  # what can be refused is, before hours of work
    fit_arguments, training = read_recipe(recipe, cache / "bank", cache / "fits")
    data, steps = Path(arguments.data), Steps(cache / "done")
    banks = make_banks(data, cache / "bank", fit_arguments, arguments.backbone, steps)
    fitted, pages = cache / "fitted", cache / "data"
    inputs = {"banks": banks, "recipe": sha256(recipe), "code": code(), "whole": not is_default}
    steps.run("fit", inputs, [fitted], lambda: _fit(fit_arguments, training, fitted, whole=not is_default))
    if not is_default:
        return steps, write_together(detector_files(fitted, output))
    files = {name: [sha256(file), told_of(file)] for name, file in data_files(data).items()}
    inputs = {"files": files, "code": code()}
    steps.run("data", inputs, [pages], lambda: write_data_pages(data, pages))
    return steps, write_together(default_files(fitted, pages))


def _fit(arguments: FitArguments, training: RobustTrainingArguments, folder: Path, *, whole: bool) -> None:
    """Held-out scores, calibration, evaluation, the head, and a report of them, into a folder.

    Args:
        arguments: of the recipe.
        training: of the recipe.
        folder: gets the checkpoint and its report.
        whole: the checkpoint holds its backbone; else, the head alone and the scores of the example pictures.
    """
    fitted = fit(arguments, training)
    checkpoint = folder / CHECKPOINT
    shutil.rmtree(folder, ignore_errors=True)  # of what was fitted before nothing may ship
    if whole:
        save_detector(fitted, checkpoint)
    else:
        save_head(fitted, checkpoint)
        write_expected(Detector(fitted.model, load_processor(fitted.backbone)), checkpoint)
    write_report(folder / REPORT, fitted.evaluation, fitted.pictures)


def code() -> dict[str, str]:
    """A digest of the code that figures come from, and the versions of the packages that they depend on."""
    digest = hashlib.sha256()
    for path in sorted(path for part in CODE for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".md")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {"digest": digest.hexdigest()} | {name: version(name) for name in PACKAGES}


__all__ = ["make_default"]
