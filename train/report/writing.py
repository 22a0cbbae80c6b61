"""The report of an evaluation for people: Markdown, tables as CSV, plots, and one HTML page that holds everything."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from modeling.files import staged
from modeling.verdicts import GENERATED, REAL

from ..measure.schema import ByClass, Evaluation, FitFacts
from ..measure.sources import FULL_SOURCE
from .audit import audit_section, duplicates_section, duplicates_warnings
from .contents import contents_section
from .evaluation_file import as_written
from .groups import groups_section
from .limits import limits_sentences
from .markdown import cell, number, percent, share, share_and_interval, table
from .nested import nested_section
from .page import html_page
from .plots import write_plots
from .robustness import random_section, robustness_section
from .tables import csv_tables
from .text import text_section
from .thresholds import answers_table, rules_text, uncertain_sentence
from .verdicts import NOT_CALIBRATED, VERDICT_HEADER, families_sentences, verdict_rows, worst_sentences

# Fields of a reliability bin that the report shows.
_TENTH: tuple[Literal["mean_probability"], Literal["share_generated"]] = ("mean_probability", "share_generated")

# Figures of probabilities and verdicts that the report shows, plain and source-weighted.
_JUDGED: tuple[tuple[str, Literal["balanced_accuracy", "brier_score", "expected_calibration_error"]], ...] = (
    ("balanced accuracy at the operating point", "balanced_accuracy"),
    ("Brier score (0.25 = a constant 0.5)", "brier_score"),
    ("expected calibration error", "expected_calibration_error"),
)


def write_report(folder: Path, evaluation: Evaluation, pictures: pd.DataFrame) -> None:
    """Write report.md, report.html, the tables (CSV) and the plots (PNG) into a folder, all or none.

    Args:
        folder: made if it is not there; files of these names are replaced, others stay.
        evaluation: as it was measured.
        pictures: one row a picture, `PICTURE_COLUMNS`.
    """
    markdown = report_text(evaluation)
    with staged(folder) as staging:
        plots = {name: (staging / name).read_bytes() for name in write_plots(evaluation, pictures, staging)}
        texts = {"report.md": markdown, "report.html": html_page(markdown, plots), **csv_tables(evaluation, pictures)}
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")


def report_text(evaluation: Evaluation) -> str:
    """The report as Markdown, rounded as the file: a card that is made from the file shows the same figures."""
    sections: Sequence[Callable[[Evaluation], str]] = (
        _head,
        nested_section,
        _ranking,
        _verdicts,
        _calibration,
        _families,
        groups_section,
        contents_section,
        random_section,
        robustness_section,
        lambda evaluation: audit_section(evaluation["bias_audit"]),
        lambda evaluation: duplicates_section(evaluation["bias_audit"]),
        text_section,
        _reading,
    )
    written = as_written(evaluation)
    return "\n\n".join(filter(None, (section(written) for section in sections))) + "\n"


def _head(evaluation: Evaluation) -> str:
    pictures, sources, made = evaluation["pictures"], evaluation["sources"], evaluation["made_by"]
    fit, checkpoint = evaluation["fit"], evaluation["checkpoint"]
    lines = ["# How right is the detector? An evaluation"]
    if checkpoint is not None and checkpoint["in_sample"]:
        lines.append("**The checkpoint was fitted on these very pictures: every figure here is in-sample, too good.**")
    origin = [f"Protocol: {fit['protocol']}."] if fit is not None else []
    origin += [f"Checkpoint: {cell(checkpoint['name'])}."] if checkpoint is not None else []
    commit, _, changed = (made["git_commit"] or "unknown").partition("-")
    lines.append(
        f"{pictures[REAL]:,} real pictures of {sources[REAL]} sources and {pictures[GENERATED]:,} generated ones of "
        f"{sources[GENERATED]}; {made['unreadable_pictures']} could not be read. {' '.join(origin)} Data "
        f"{made['bank']['records_sha256'][:12]}, code {commit[:12]}{' with uncommitted changes' if changed else ''}, "
        f"{made['date']}."
    )
    lines += [f"**{sentence}**" for sentence in limits_sentences(evaluation)]
    if fit is not None and fit["calibration"] is None:
        lines.append(f"**{NOT_CALIBRATED}**")
    lines += worst_sentences(evaluation["worst"])
    if (text := evaluation["text"]) is not None and text["warning"]:
        lines.append(f"**{text['warning']}**")
    if warning := evaluation["bias_audit"]["warning"]:
        lines.append(f"**{warning}**")
    lines += [f"**{warning}**" for warning in duplicates_warnings(evaluation["bias_audit"])]
    return "\n\n".join(lines)


def _ranking(evaluation: Evaluation) -> str:
    plain, weighted = evaluation["plain"], evaluation["source_weighted"]
    rows: list[tuple[str, ...]] = [
        ("ROC AUC", number(evaluation["auc"]), number(weighted["auc"])),
        ("average precision", number(evaluation["average_precision"]), ""),
        *((name, number(plain[field]), number(weighted[field])) for name, field in _JUDGED),
        ("TPR at 1 % FPR, threshold chosen in-sample", percent(evaluation["tpr_at_1_percent_fpr"]), ""),
        ("TPR at 5 % FPR, threshold chosen in-sample", percent(evaluation["tpr_at_5_percent_fpr"]), ""),
        ("equal error rate, threshold chosen in-sample", percent(evaluation["equal_error_rate"]), ""),
    ]
    if (fit := evaluation["fit"]) is not None:
        for name, baseline in fit["baselines"].items():
            rows.append((f"{name}: ROC AUC", f"{baseline['auc']:.3f}", f"{baseline['auc_source_weighted']:.3f}"))
            differences = (baseline["auc_difference"], baseline["auc_source_weighted_difference"])
            rows.append((f"head minus {name}", *map(number, differences)))
    return (
        "## Ranking\n\n"
        + table(("figure", "value and 95 % interval", "source-weighted"), rows)
        + "\n\nA threshold chosen in-sample is chosen on these very pictures: for comparison with other work only.\n\n"
        "![ROC curve with the shipped operating points](roc.png)"
    )


def _verdicts(evaluation: Evaluation) -> str:
    thresholds, fit = evaluation["thresholds"], evaluation["fit"]
    plain, weighted = evaluation["plain"], evaluation["source_weighted"]
    pictures = evaluation["pictures"]
    rows = verdict_rows(evaluation["verdicts"], "shipped thresholds")
    uncertain = [uncertain_sentence(evaluation["verdicts"], pictures, "at the shipped thresholds")]
    if fit is not None:
        rows += verdict_rows(fit["verdicts"], "thresholds of the other folds")
        uncertain.append(uncertain_sentence(fit["verdicts"], pictures, "at thresholds of the other folds"))
    return (
        "## Verdicts\n\n"
        + table(VERDICT_HEADER, rows)
        + f'\n\n"Generated" from probability {thresholds[GENERATED]:.3f}, "real" up to {thresholds[REAL]:.3f}. '
        f'Where "uncertain" counts as no answer, {percent(plain["share_answered"])} are answered, and of these '
        f"{percent(plain['accuracy_of_answered'])} rightly; source-weighted {percent(weighted['share_answered'])} and "
        f"{percent(weighted['accuracy_of_answered'])}. Each class counts half. "
        f"{' '.join(uncertain)}\n\n"
        + (_choice(fit, pictures) if fit is not None and fit["calibration"] is not None else "")
        + "![Histogram of probabilities by class](scores.png)"
    )


def _families(evaluation: Evaluation) -> str:
    fit = evaluation["fit"]
    if fit is None or (families := fit["families"]) is None:
        return ""
    rows = [
        (row["family"], row["pictures"], row["sources"], share_and_interval(row["found"], row["interval"]))
        for row in families["by_family"]
    ]
    return "\n\n".join(
        [
            "## Families of generators that no fit had seen",
            *families_sentences(families),
            table(("family", "pictures", "sources", f"found at {share(families['false_alarms'])} false alarms"), rows),
        ]
    )


def _choice(fit: FitFacts, pictures: ByClass[int]) -> str:
    """How the thresholds were chosen, and what an answer is worth."""
    parts = ["### How the thresholds were chosen", rules_text(fit, pictures)]
    if (answers := fit["answers"]) is not None:
        parts += [
            "### What an answer is worth",
            "Of pictures that get the answer, so many in 100 are real, if half of all pictures are. Thresholds are "
            "those of the other folds. A third is a third of the distance in probability between the two thresholds. "
            "Intervals are the wider of a bootstrap over sources and Wilson's over pictures.",
            answers_table(answers),
        ]
    return "\n\n".join(parts) + "\n\n"


def _calibration(evaluation: Evaluation) -> str:
    both = zip(evaluation["plain"]["reliability"], evaluation["source_weighted"]["reliability"], strict=True)
    rows = [
        (plain["pictures"], *(f"{row[name]:.3f}" for row in (plain, weighted) for name in _TENTH))
        for plain, weighted in both
    ]
    header = ("pictures", "mean probability", "share generated")
    return (
        "## Calibration\n\nOf pictures that get a probability near p, the share p should be generated "
        "(both classes equally likely beforehand).\n\n"
        + table((*header, *(f"{name}, source-weighted" for name in header[1:])), rows)
        + "\n\n![Reliability diagram](reliability.png)"
    )


def _reading(evaluation: Evaluation) -> str:
    return (
        "## How to read this\n\n"
        "- Intervals are 95 %, by a bootstrap over sources within each class: pictures of one source are not "
        "independent. They say what other sources of the same kind would give, not what a new kind gives. One "
        "source alone gives none. Nor has the expected calibration error one: like every such estimate it lies above "
        "the truth, and resamples lie higher still.\n"
        "- An AUC of 0.5 is chance. FPR: the share of real pictures called generated, the error that hurts people. "
        "TPR: the share of generated pictures called generated.\n"
        f"- Source-weighted: a source weighs as many pictures as it has of a class, and at most {FULL_SOURCE}. So "
        "those of as many or more weigh alike, and smaller ones in proportion. Each class has half of all weight, "
        "here and in the plain figures beside them, where every picture of a class weighs the same.\n"
        "- The thresholds assume that new pictures come from sources like these. `python -m train calibrate` sets "
        "them on your own photographs.\n"
        "- Plots and tables: the CSV files beside this report; everything in full: evaluation.json."
    )


__all__ = ["report_text", "write_report"]
