"""`python -m train ablate` and `compare`."""

from pathlib import Path

from ..arguments import RobustTrainingArguments
from .ablation import ablate
from .comparison import compare
from .options import AblationArguments, CompareArguments


def run_ablation(arguments: AblationArguments, training: RobustTrainingArguments) -> None:
    """Run the ablation, and print each recipe's AUC."""
    results = ablate(arguments, training)
    for name, recipe in results["recipes"].items():
        if (figure := recipe["figures"]["auc"]) is not None:
            print(f"{name}: auc {figure['value']:.4f}, 95 % interval {_interval(figure)}")
    print(f"written: {Path(arguments.output) / 'report.md'}")


def run_comparison(arguments: CompareArguments, training: RobustTrainingArguments) -> None:
    """Run the comparison, and print each attempt's figures."""
    results = compare(arguments, training)
    for name, row in results["rows"].items():
        clean = row["clean"]
        print(
            f"{name}: auc {clean['auc']['value']:.4f}, 95 % interval {_interval(clean['auc'])}; at the thresholds "
            f"{100 * clean['false_alarms']['value']:.1f} % false alarms, {100 * clean['found']['value']:.1f} % found"
        )
    print(f"written: {Path(arguments.output) / 'table.md'}")


def _interval(figure: dict) -> str:
    """Such as "[0.9120, 0.9310]"."""
    if figure["interval"] is None:
        return "not known (one source)"
    return f"[{figure['interval'][0]:.4f}, {figure['interval'][1]:.4f}]"
