"""`python -m train ablate` and `compare`."""

from pathlib import Path

from ..arguments import RobustTrainingArguments
from ..fit.options import HeadArguments
from ..report.markdown import number
from .nested import CLEAN
from .options import StudyArguments
from .running import run_study


def run_plan(arguments: StudyArguments, head: HeadArguments, training: RobustTrainingArguments) -> None:
    """Run a plan, and print each case's AUC."""
    for name, case in run_study(arguments, head, training)["cases"].items():
        groups = ", ".join(map(str, case["uncalibrated_groups"]))
        note = f"; groups that could not be calibrated: {groups}" if groups else ""
        print(f"{name}: AUC {number(case['figures'][CLEAN]['auc'])}{note}")
    print(f"written: {Path(arguments.output) / 'report.md'}")
