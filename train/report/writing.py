"""The report of an evaluation for people: Markdown, tables as CSV, plots, and one HTML page that holds everything."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from modeling.files import staged, write_json, write_text
from modeling.verdicts import CLASSES, OPPOSITE, VERDICTS

from ..measure.bias_audit import audit_finding
from ..measure.duplicates import without_record_ids
from ..measure.evaluation import rounded
from .groups import groups_section, told_share
from .markdown import cell, number, percent, share, table
from .page import html_page
from .plots import write_plots
from .tables import PICTURE_COLUMNS, csv_tables, duplicates_csv

_CODECS = ("jpeg_", "webp_", "resize_")


def write_report(folder: Path, evaluation: dict, pictures: pd.DataFrame) -> None:
    """Write report.md, report.html, the tables (CSV) and the plots (PNG) into a folder, all or none.

    Args:
        folder: made if it is not there; files of these names are replaced, others stay.
        evaluation: as in evaluation.json, also an older one, which lacks parts.
        pictures: one row a picture, `PICTURE_COLUMNS`.
    """
    sections: Sequence[Callable[[dict], str]] = (
        _head,
        _figures,
        _verdicts,
        _calibration,
        groups_section,
        _random_deliveries,
        _robustness,
        _bias,
        _duplicates,
        _text,
        _reading,
    )
    told = rounded(evaluation)  # as evaluation.json has them, so that a card made from it rounds no figure otherwise
    markdown = "\n\n".join(section(told) for section in sections) + "\n"
    with staged(folder) as staging:
        plots = {name: (staging / name).read_bytes() for name in write_plots(evaluation, pictures, staging)}
        texts = {"report.md": markdown, "report.html": html_page(markdown, plots), **csv_tables(evaluation, pictures)}
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")


def write_audit(folder: Path, audit: dict) -> None:
    """Write audit.json, audit.md and duplicates.csv of a data set without a detector."""
    found = {"bias_audit": audit}
    listed = [f"- {cell(entry['record_id'])}: {cell(entry['error'])}" for entry in audit["unreadable"]]
    sections = [_bias(found), _duplicates(found), f"{len(listed)} pictures could not be read.", "\n".join(listed)]
    write_json(folder / "audit.json", without_record_ids(found)["bias_audit"])
    write_text(folder / "duplicates.csv", duplicates_csv(found))
    write_text(folder / "audit.md", "\n\n".join(sections).removeprefix("#").strip() + "\n")


def _head(evaluation: dict) -> str:
    pictures, sources, made = evaluation["pictures"], evaluation["sources"], evaluation.get("made_by") or {}
    lines = ["# How right is the detector? An evaluation"]
    if evaluation.get("fitted_on_these_pictures"):
        lines.append("**The checkpoint was fitted on these very pictures: every figure here is too good.**")
    protocol = f" Protocol: {evaluation['protocol']}." if "protocol" in evaluation else ""
    checkpoint = f" Checkpoint: {cell(made['checkpoint'])}." if "checkpoint" in made else ""
    unreadable = made.get("unreadable_pictures", "an unknown number")
    data = made.get("bank", {}).get("records_sha256", "unknown")[:12]
    commit, _, changed = (made.get("git_commit") or "unknown").partition("-")
    code = f"{commit[:12]}{' with uncommitted changes' if changed else ''}"
    lines.append(
        f"{pictures['real']:,} real pictures of {sources['real']} sources and {pictures['generated']:,} generated "
        f"ones of {sources['generated']}; {unreadable} could not be read.{protocol}{checkpoint} Data {data}, code "
        f"{code}, {made.get('date', 'date unknown')}."
    )
    for kind, worst in (evaluation.get("worst") or {}).items():
        if worst is not None:
            lines.append(_worst(kind, worst))
    audit = evaluation.get("bias_audit") or {}
    if audit.get("warning"):
        lines.append(f"**{audit['warning']}**")
    return "\n\n".join(lines)


def _worst(kind: str, worst: dict) -> str:
    count = f"{worst['pictures']} pictures"
    if kind == "real_source":
        flagged = told_share(worst, "called_generated", "interval")
        return f"Worst real source: {cell(worst['source'])} ({count}), {flagged} called generated."
    if kind == "generator":
        found, missed = told_share(worst, "found", "interval"), share(worst["called_real"])
        name = cell(worst["generator"]) or "not named"
        return f"Worst generator: {name} ({count}), {found} found, {missed} called real."
    if kind == "calibration":
        return (
            f"Most misleading probabilities: {worst['class']} pictures of {worst['kind']} "
            f"{cell(worst['name']) or 'not named'} ({count}), expected calibration error "
            f"{worst['balanced_expected_calibration_error']:.3f} against all pictures of the other class."
        )
    wrong = f"{told_share(worst, 'wrong', 'interval')} called {OPPOSITE[worst['class']]}"
    style = cell(worst["style"]) or "not known"
    return f"Worst style: {worst['class']} pictures of style {style} ({count}), {wrong}."


def _figures(evaluation: dict) -> str:
    rows = [
        ("ROC AUC", number(evaluation["auc"])),
        ("ROC AUC, sources weighted equally", number(evaluation["auc_sources_weighted_equally"])),
        ("average precision", number(evaluation["average_precision"])),
        (
            "balanced accuracy of flagging at the shipped threshold, sources weighted equally",
            number(evaluation["weighted_balanced_accuracy_of_flagging"]),
        ),
        ("Brier score, sources weighted equally (0.25 = knows nothing)", number(evaluation["weighted_brier_score"])),
        (
            "expected calibration error, sources weighted equally",
            number(evaluation["weighted_expected_calibration_error"]),
        ),
        ("oracle: generated pictures found at 1 % false alarms", percent(evaluation["tpr_at_1_percent_fpr"])),
        ("oracle: generated pictures found at 5 % false alarms", percent(evaluation["tpr_at_5_percent_fpr"])),
        ("oracle: equal error rate", percent(evaluation["oracle_equal_error_rate"])),
    ]
    for name, baseline in evaluation.get("baselines", {}).items():
        rows.append((f"{name}: ROC AUC", f"{baseline['auc']:.3f}"))
        rows.append((f"head minus {name}", number(baseline["auc_head_minus_baseline"])))
    return (
        "## Ranking\n\n"
        + table(("figure", "value and 95 % interval"), rows)
        + "\n\nOracle figures use a threshold chosen afterwards on these very pictures: for comparison with other "
        "work only.\n\n![ROC curve with the shipped operating points](roc.png)"
    )


def _verdicts(evaluation: dict) -> str:
    thresholds = evaluation["thresholds"]
    rows = []
    told = [("shipped thresholds", evaluation["verdicts"])]
    if "verdicts_by_other_sources" in evaluation:
        told.append(("thresholds that the other sources gave", evaluation["verdicts_by_other_sources"]))
    for name, verdicts in told:
        for actual, shares in verdicts.items():
            if shares is not None:
                rows.append([f"{actual}, {name}", *(percent(shares[verdict]) for verdict in VERDICTS)])
    answered = percent(evaluation["weighted_share_answered"])
    right = percent(evaluation["weighted_share_right_of_answered"])
    return (
        "## Verdicts\n\n"
        + table(("pictures", "called real", "left uncertain", "called generated"), rows)
        + f'\n\n"Generated" from probability {thresholds["generated"]:.3f}, "real" up to {thresholds["real"]:.3f}. '
        f'Where "uncertain" counts as no answer, {answered} are answered, and of these {right} rightly (sources and '
        "classes weighted equally).\n\n![Histogram of probabilities by class](scores.png)"
    )


def _calibration(evaluation: dict) -> str:
    rows = [
        (row["pictures"], f"{row['mean_probability']:.3f}", f"{row['share_generated']:.3f}")
        for row in evaluation["weighted_reliability"]
    ]
    return (
        "## Calibration\n\nOf pictures that get a probability near p, the share p should be generated (sources and "
        "classes weighted equally; both classes equally likely beforehand).\n\n"
        + table(("pictures", "mean probability", "share generated"), rows)
        + "\n\n![Reliability diagram](reliability.png)"
    )


def _random_deliveries(evaluation: dict) -> str:
    title = "## Random deliveries"
    if (random := evaluation.get("random_deliveries")) is None:
        return f"{title}\n\nNot measured: the bank holds every picture as it is only (make it with --views 2 or more)."
    counted = (
        " {real:,} views of real and {generated:,} of generated pictures.".format(**random["views"])
        if "views" in random
        else ""
    )
    rows = [
        [name, *(percent(shares[verdict]) for verdict in VERDICTS)]
        for name, shares in random["verdicts"].items()
        if shares is not None
    ]
    return "\n\n".join(
        [
            title,
            "Every picture once more or several times, recompressed, resized or cropped at random, both classes alike."
            f"{counted} ROC AUC {number(random['auc'])}, against {number(evaluation['auc'])} of the pictures as they "
            "are. The verdicts, by the shipped thresholds:",
            table(("pictures", "called real", "left uncertain", "called generated"), rows),
        ]
    )


def _robustness(evaluation: dict) -> str:
    title = "## Robustness: the same pictures on their way"
    if (robustness := evaluation.get("robustness")) is None:
        return (
            f"{title}\n\nNo picture was embedded under the standard deliveries: make the bank with --probe_per_source."
        )
    pictures, sources = robustness["pictures"], robustness["sources"]
    rows = [
        (
            row["delivery"],
            number(row["auc"]),
            number(row["auc_minus_clean"]) if row["auc_minus_clean"] else "-",
            percent(row["real_called_generated"]),
            percent(row["generated_found"]),
            percent(row["verdict_changed"]),
            percent(row["real_turned_generated"]),
        )
        for row in robustness["deliveries"]
    ]
    header = ("delivery", "ROC AUC", "minus clean", "real called generated", "generated found", "verdict changed")
    moved = [row for row in robustness["deliveries"] if row["delivery"].startswith(_CODECS)]
    worst = f" The largest fall of ROC AUC: {robustness['worst_delivery']}." if robustness["worst_delivery"] else ""
    return "\n\n".join(
        [
            title,
            f"{pictures['real']} real pictures of {sources['real']} sources and {pictures['generated']} generated "
            f"ones of {sources['generated']}, a few of each source, each of them sent on every standard way; both "
            f"classes travel the same way.{worst}",
            table((*header, "real turned generated"), rows),
            "![ROC AUC and shares called generated by delivery](robustness.png)",
            "![Share called generated by generator and delivery](heatmap.png)",
            "### When only the codec or the size changes\n\nMean change of the probability, and its mean size:",
            table(
                ("delivery", "real pictures", "generated pictures", "either way"),
                [
                    (
                        row["delivery"],
                        *(_signed(row["mean_probability_change"][name]) for name in CLASSES),
                        f"{row['mean_absolute_probability_change']:.3f}",
                    )
                    for row in moved
                ],
            ),
        ]
    )


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _bias(evaluation: dict) -> str:
    title = "## Bias audit: can the classes be told apart without looking?"
    if (audit := evaluation.get("bias_audit")) is None:
        return f"{title}\n\nNot made: this evaluation is older than the audit. Evaluate the checkpoint again."
    matched = audit["matched"]
    told = f"ROC AUC of the rule on all facts {number(matched['rule_auc'])}"
    if matched["auc_before"] is not None:
        told += f", of the detector {number(matched['auc'])} (on all pictures {number(matched['auc_before'])})"
    counts = [
        (f"{fact}: {value or 'none'}", *(audit["counts"][fact][name].get(value, 0) for name in CLASSES))
        for fact in audit["counts"]
        for value in sorted({*audit["counts"][fact]["real"], *audit["counts"][fact]["generated"]})
    ]
    medians = [
        (f"median {fact.replace('_', ' ')}", *("-" if by[name] is None else f"{by[name]:,.0f}" for name in by))
        for fact, by in audit["medians"].items()
    ]
    return "\n\n".join(
        [
            title,
            f"Rules read facts of the file only: {audit['protocol']}. {audit_finding(audit)}",
            table(("rule on", "ROC AUC, held out"), [(row["facts"], number(row["auc"])) for row in audit["rules"]]),
            f"On {matched['pictures']['real']} real and {matched['pictures']['generated']} generated pictures, "
            f"weighted so that both classes agree in {matched['on']}: {told}.",
            table(("files", "real", "generated"), [*counts, *medians]),
        ]
    )


def _duplicates(evaluation: dict) -> str:
    if (audit := evaluation.get("bias_audit")) is None:
        return ""
    found = audit["duplicates"]
    lines = [
        "### Near-duplicates",
        f"Perceptual hashes at most {found['limit']} of {found['bits']} bits apart: {found['pairs']} pairs, "
        f"{found['pairs_of_two_sources']} of them of two sources and {found['pairs_of_two_classes']} of two classes. "
        "A crop is not recognised.",
    ]
    if found["in_training"] is not None:
        lines.append(f"**{found['in_training']['pictures']} pictures are also in the training data.**")
    if found["pairs"] or (found["in_training"] or {}).get("pictures"):
        lines.append("The nearest are named in duplicates.csv.")
    return "\n\n".join(lines)


def _text(evaluation: dict) -> str:
    title = "## Text"
    if (text := evaluation.get("text")) is None:
        return f"{title}\n\nThe detector reads no text, or the pictures have none."
    shares = {name: "-" if value is None else share(value) for name, value in text["pictures_with_text"].items()}
    return "\n\n".join(
        [
            title,
            f"{shares['real']} of real and {shares['generated']} of generated pictures have a text. Where text alone, "
            "or having one at all, tells the classes apart, it gives the label away.",
            table(("the detector sees", "ROC AUC"), [(k, number(v)) for k, v in text["auc"].items()]),
        ]
    )


def _reading(evaluation: dict) -> str:
    return (
        "## How to read this\n\n"
        "- Intervals are 95 %, by a bootstrap over sources within each class: pictures of one source are not "
        "independent. They say what other sources of the same kind would give, not what a new kind gives. One "
        "source alone gives none. Nor has the expected calibration error one: like every such estimate it lies above "
        "the truth, and resamples lie higher still.\n"
        "- An AUC of 0.5 is chance. Real pictures called generated are false alarms: the error that hurts people.\n"
        "- The thresholds assume that new pictures come from sources like these. `python -m train calibrate` sets "
        "them on your own photographs.\n"
        "- Plots and tables: the CSV files beside this report; everything in full: evaluation.json."
    )


__all__ = ["PICTURE_COLUMNS", "write_audit", "write_report"]
