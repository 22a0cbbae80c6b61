"""The default, step by step: banks, nested study, fit, pages about the data, and what ships of it."""

import hashlib
import json
import shutil
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modeling.check import write_all_expected
from modeling.checkpoints import cache_folder
from modeling.detector import Detector
from modeling.embedded import DEFAULT_SOURCE, ROOT
from modeling.files import write_json, write_together

from ..arguments import RobustTrainingArguments
from ..fit.fitting import fit
from ..fit.options import FitArguments, HeadArguments
from ..fit.saving import save_detector, save_head
from ..fit.stored import PACKAGES
from ..measure.schema import Evaluation
from ..report.card import read_notes
from ..report.data_pages import write_data_pages
from ..report.writing import write_report
from ..study.options import StudyArguments
from ..study.running import run_study
from .banks import data_files, make_banks, told_of
from .options import DefaultArguments
from .recipe import read_recipe
from .release import CHECKPOINT, REPORT, default_files, detector_files
from .steps import Steps, sha256

# The plan of the nested study, and its groups of sources.
PLAN, GROUPS = "nested", 5
# Where the code is that figures come from. A bank is not made anew for a change of it, nor is a fit, unless it is of
# the code that `train.fit.stored` names.
CODE, KINDS_OF_CODE = ("modeling", "train"), (".py", ".md", ".yaml")


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
    inputs: dict[str, Any] = {"banks": banks, "recipe": sha256(recipe), "code": code()}
    nested, fitted, pages = cache / "nested.json", cache / "fitted", cache / "data"
    studied = steps.run("nested", inputs, [nested], lambda: _study(fit_arguments, training, cache / "study", nested))
    inputs |= {"nested": studied, "whole": not is_default}
    steps.run("fit", inputs, [fitted], lambda: _fit(fit_arguments, training, nested, fitted, whole=not is_default))
    if not is_default:
        return steps, write_together(detector_files(fitted, output))
    files = {name: [sha256(file), told_of(file)] for name, file in data_files(data).items()}
    inputs = {"files": files, "code": code()}
    steps.run("data", inputs, [pages], lambda: write_data_pages(data, pages))
    return steps, write_together(default_files(fitted, pages))


def _study(arguments: FitArguments, training: RobustTrainingArguments, folder: Path, output: Path) -> None:
    """What the recipe gives where calibration and thresholds, too, come from fits that never saw the source.

    Args:
        arguments: of the recipe.
        training: of the recipe.
        folder: of the study, its fits and its own report.
        output: gets what evaluation.json holds of it.
    """
    study = StudyArguments(
        bank=arguments.bank,
        output=str(folder),
        plan=PLAN,
        folds=GROUPS,
        seeds=[training.seed],
        merge_sources=arguments.merge_sources,
        target_fpr=arguments.target_fpr,
        target_fnr=arguments.target_fnr,
    )
    head = HeadArguments(**{option.name: getattr(arguments, option.name) for option in fields(HeadArguments)})
    write_json(output, run_study(study, head, training)["nested"]["reported"])


def _fit(
    arguments: FitArguments, training: RobustTrainingArguments, nested: Path, folder: Path, *, whole: bool
) -> None:
    """Held-out scores, calibration, evaluation, the head, and a report of them, into a folder.

    Args:
        arguments: of the recipe.
        training: of the recipe.
        nested: what the nested study gave, which the evaluation holds too.
        folder: gets the checkpoint and its report.
        whole: the checkpoint holds its backbone; else, the head alone and the scores of the example pictures.
    """
    fitted = fit(arguments, training)
    evaluation: Evaluation = {**fitted.evaluation, "nested": json.loads(nested.read_text(encoding="utf-8"))}
    fitted = replace(fitted, evaluation=evaluation)
    checkpoint = folder / CHECKPOINT
    shutil.rmtree(folder, ignore_errors=True)  # of what was fitted before nothing may ship
    if whole:
        save_detector(fitted, checkpoint)
    else:
        save_head(fitted, checkpoint)
        write_all_expected(Detector(fitted.model, fitted.processor), checkpoint)
    write_report(folder / REPORT, evaluation, fitted.pictures)


def code() -> dict[str, str]:
    """A digest of code, plans and templates that figures come from, and the versions of packages they depend on."""
    digest = hashlib.sha256()
    for path in sorted(path for part in CODE for path in (ROOT / part).rglob("*") if path.suffix in KINDS_OF_CODE):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {"digest": digest.hexdigest()} | {name: version(name) for name in PACKAGES}


__all__ = ["make_default"]
