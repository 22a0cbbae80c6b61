"""Figures of an evaluation as a table, and the documents that show it: what they say is what was measured."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- figures: python -m train card -->", "<!-- end of figures -->"


@dataclass
class CardArguments:
    """Which evaluation, and which documents show it."""

    evaluation: str = field(
        default="checkpoints/default/evaluation.json", metadata={"help": "evaluation.json that `fit` wrote."}
    )
    documents: list[str] = field(
        default_factory=lambda: ["README.md", "model_card.md"],
        metadata={"help": f"Documents to rewrite between {BEGIN} and {END}."},
    )


def update_documents(arguments: CardArguments) -> None:
    """Write the evaluation's table into each document, between the two marks.

    Raises:
        ValueError: a document lacks the marks, or the evaluation is not one that `fit` wrote.
    """
    evaluation = json.loads(Path(arguments.evaluation).read_text())
    if "verdicts_by_other_sources" not in evaluation:
        raise ValueError(f"{arguments.evaluation} must be one that `fit` wrote: it has no held-out figures.")
    table = figures_table(evaluation)
    texts = {Path(name): _replaced(Path(name), table) for name in arguments.documents}
    for path, text in texts.items():
        temporary = path.with_name(path.name + ".partial")
        temporary.write_text(text)
        os.replace(temporary, path)


def _replaced(path: Path, table: str) -> str:
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must hold the marks {BEGIN} and {END}, between which the figures are written.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def figures_table(evaluation: dict) -> str:
    """Markdown: the protocol, the counts, and the main figures with their 95 % intervals."""
    shares, baselines = evaluation["verdicts_by_other_sources"], evaluation["baselines"]
    plain = baselines["logistic regression"]
    weighted = baselines["logistic regression, sources weighted equally"]
    auc, equal = "auc", "auc_sources_weighted_equally"
    real, generated = shares["real"], shares["generated"]
    rows: list[tuple[str, Sequence[str]]] = [
        ("ROC AUC", [_number(evaluation[auc])]),
        ("ROC AUC, sources weighted equally", [_number(evaluation[equal])]),
        (
            "ROC AUC of a logistic regression on the same embeddings; head minus it",
            [f"{plain[auc]:.3f}", _number(plain[f"{auc}_head_minus_baseline"])],
        ),
        (
            "the same, sources weighted equally in its fit and in the figure; head minus it",
            [f"{weighted[equal]:.3f}", _number(weighted[f"{equal}_head_minus_baseline"])],
        ),
        (
            "generated pictures found at 1 %; at 5 % false alarms, by thresholds chosen afterwards",
            [_percent(evaluation[f"tpr_at_{fpr}_percent_fpr"]) for fpr in (1, 5)],
        ),
        ("real pictures called generated", [_percent(real["generated"])]),
        ("real pictures called real; left uncertain", [_percent(real["real"]), _percent(real["uncertain"])]),
        ("generated pictures called generated", [_percent(generated["generated"])]),
        (
            "generated pictures called real; left uncertain",
            [_percent(generated["real"]), _percent(generated["uncertain"])],
        ),
    ]
    shipped = _percent(evaluation["verdicts"]["real"]["generated"])
    rows.append(("real pictures called generated at the shipped thresholds, which were set on them", [shipped]))
    calibration = _number(evaluation["weighted_expected_calibration_error"])
    rows.append(("expected calibration error, sources weighted equally", [calibration]))
    if "random_deliveries" in evaluation:
        rows.append(("ROC AUC on randomly delivered views", [_number(evaluation["random_deliveries"][auc])]))
    pictures, sources = evaluation["pictures"], evaluation["sources"]
    lines = [
        f"Protocol: {evaluation['protocol']}; verdicts by thresholds that the other sources gave. "
        f"{pictures['real']:,} real pictures of {sources['real']} sources, {pictures['generated']:,} generated ones "
        f"of {sources['generated']}.",
        "",
        "| figure | value and 95 % interval |",
        "|---|---|",
        *(f"| {name} | {'; '.join(values)} |" for name, values in rows),
    ]
    return "\n".join(lines) + "\n"


def _number(figure: dict) -> str:
    interval = figure["interval"]
    shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "(one source: no interval)"
    return f"{figure['value']:.3f} {shown}"


def _percent(figure: dict) -> str:
    interval = figure["interval"]
    shown = f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "(one source: no interval)"
    return f"{100 * figure['value']:.1f} % {shown}"


__all__ = ["BEGIN", "END", "CardArguments", "figures_table", "update_documents"]
