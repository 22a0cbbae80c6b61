"""The figures of a nested study, which come first in report, card and documents."""

from typing import cast

from modeling.verdicts import GENERATED, REAL

from ..measure.schema import Evaluation, Figure, Nested, NestedCase, NestedFigures
from .contents import predicted_sign
from .markdown import cell, number, percent, share, share_and_interval, table
from .verdicts import VERDICT_HEADER, verdict_rows

CHOSEN_INSIDE = "chosen inside"
_FIGURES = (
    ("auc", "ROC AUC", number),
    ("auc_source_weighted", "ROC AUC, source-weighted", number),
    ("tpr_at_1_percent_fpr", "TPR at 1 % FPR", percent),
    ("tpr_at_1_percent_fpr_source_weighted", "TPR at 1 % FPR, source-weighted", percent),
    ("tpr_at_2_percent_fpr", "TPR at 2 % FPR", percent),
    ("tpr_at_2_percent_fpr_source_weighted", "TPR at 2 % FPR, source-weighted", percent),
)


def nested_table(nested: Nested) -> str:
    """Markdown: the protocol in words, and the figures beside the logistic regression's by the same protocol."""
    cases = [nested["case"], *([nested["baseline_case"]] if nested["baseline_case"] else [])]
    header = ["figure, 95 % interval", CHOSEN_INSIDE]
    if nested["baseline_case"]:
        header += [f"{nested['baseline']}, by the same protocol", "the former minus the latter, paired"]
    rows = []
    for name, title, written in _FIGURES:
        row = [title, *(written(_figure(case["figures"], name)) for case in cases)]
        rows.append([*row, written(_figure(nested["differences"], name))] if nested["differences"] else row)
    blank = [""] if nested["differences"] else []
    rows.append(
        ["expected calibration error", *(f"{case['expected_calibration_error']:.3f}" for case in cases), *blank]
    )
    for title, of in (("FPR", REAL), ("TPR", GENERATED)):
        found = (percent(_called_generated(case, of)) for case in cases)
        rows.append([f"{title} at thresholds from inside", *found, *blank])
    return f"{_protocol(nested)}\n\n{table(header, rows)}"


def nested_section(evaluation: Evaluation) -> str:
    """The section of a report; "" without a nested study."""
    if (nested := evaluation["nested"]) is None:
        return ""
    parts = ["## Chosen inside", nested_table(nested)]
    parts.append(table(VERDICT_HEADER, verdict_rows(nested["case"]["verdicts"], CHOSEN_INSIDE)))
    signs = {(row["class"], row["name"]): predicted_sign(row) for row in evaluation["by_kind"]}  # the same pictures
    for title, groups in (("kind", nested["case"]["by_kind"]), ("family", nested["case"]["by_family"])):
        if groups:
            rows = [
                (
                    group["name"] + (signs.get((group["class"], group["name"]), "") if title == "kind" else ""),
                    group["class"],
                    group["pictures"],
                    share(group["called_real"]),
                    share_and_interval(group["called_generated"], group["interval"]),
                )
                for group in groups
            ]
            parts.append(table((title, "class", "pictures", "called real", "called generated"), rows))
    return "\n\n".join(parts)


def nested_lines(evaluation: Evaluation) -> list[str]:
    """A line a figure, as a command prints them; none without a nested study."""
    if (nested := evaluation["nested"]) is None:
        return []
    lines = [f"Chosen inside ({nested['protocol']}):"]
    for name, title, written in _FIGURES:
        other = ""
        if nested["differences"]:
            other = f"; minus {nested['baseline']}: {written(_figure(nested['differences'], name))}"
        lines.append(f"  {title}: {written(_figure(nested['case']['figures'], name))}{other}")
    lines += [f"  {sentence}" for sentence in _uncalibrated(nested)]
    return [*lines, "The shipped settings' own held-out figures:"]


def _protocol(nested: Nested) -> str:
    held_out = nested["protocol"]
    text = f"{held_out[:1].upper()}{held_out[1:]}. Both TPR at a fixed FPR choose their threshold in-sample."
    return " ".join([cell(text), *map(cell, _uncalibrated(nested))])


def _uncalibrated(nested: Nested) -> list[str]:
    """Which groups could not be calibrated, and what that means."""
    cases = {CHOSEN_INSIDE: nested["case"]}
    if nested["baseline"] and nested["baseline_case"]:
        cases[nested["baseline"]] = nested["baseline_case"]
    return [
        f"Of {name}, the groups {', '.join(map(str, case['uncalibrated_groups']))} could not be calibrated: the inner "
        "scores do not rise from real to generated, and every verdict there is uncertain."
        for name, case in cases.items()
        if case["uncalibrated_groups"]
    ]


def _figure(figures: NestedFigures | None, name: str) -> Figure | None:
    return cast(dict[str, Figure | None], figures or {}).get(name)


def _called_generated(case: NestedCase, name: str) -> Figure | None:
    shares = case["verdicts"][name]
    return None if shares is None else shares[GENERATED]


__all__ = ["CHOSEN_INSIDE", "nested_lines", "nested_section", "nested_table"]
