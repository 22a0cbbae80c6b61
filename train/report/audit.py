"""The bias audit for people: sections of a report, and the files of `python -m train audit`."""

from collections.abc import Sequence
from pathlib import Path

from modeling.files import write_json, write_text
from modeling.verdicts import CLASSES

from ..measure.bias_audit import GIVES_AWAY, Unreadable
from ..measure.duplicates import without_record_ids
from ..measure.schema import BiasAudit
from .markdown import cell, number, table
from .tables import duplicates_csv


def write_audit(folder: Path, audit: BiasAudit, unreadable: Sequence[Unreadable]) -> None:
    """Write audit.json, audit.md and duplicates.csv of a data set without a detector."""
    listed = [f"- {cell(entry['record_id'])}: {cell(entry['error'])}" for entry in unreadable]
    sections = [
        audit_section(audit),
        duplicates_section(audit),
        f"{len(listed)} pictures could not be read.",
        "\n".join(listed),
    ]
    write_json(folder / "audit.json", without_record_ids(audit) | {"unreadable": list(unreadable)})
    write_text(folder / "duplicates.csv", duplicates_csv(audit))
    write_text(folder / "audit.md", "\n\n".join(sections).removeprefix("#").strip() + "\n")


def audit_finding(audit: BiasAudit) -> str:
    """What an audit's rules came to, in a sentence; "" where none was fitted."""
    if not any(row["auc"] for row in audit["rules"]):
        return ""
    return audit["warning"] or f"No rule reaches an AUC of {GIVES_AWAY} with an interval above 0.5."


def audit_summary(audit: BiasAudit) -> str:
    """What an audit came to, as the command prints it."""
    duplicates = audit["duplicates"]
    finding = audit["warning"] or f"{audit['protocol']}. {audit_finding(audit)}"
    return (
        f"{finding}\n"
        f"near-duplicates: {duplicates['pairs']} pairs, {duplicates['pairs_of_two_sources']} of them of two sources"
    )


def duplicates_warnings(audit: BiasAudit) -> list[str]:
    """What near-duplicates in two classes or two sources mean for the figures, a sentence each."""
    found = audit["duplicates"]
    sentences = []
    if found["pairs_of_two_classes"]:
        sentences.append(
            f"Near-duplicates: {found['pairs_of_two_classes']:,} pairs are of two classes: a label may be wrong."
        )
    if found["pairs_of_two_sources"]:
        sentences.append(
            f"Near-duplicates: {found['pairs_of_two_sources']:,} pairs lie in two sources, which intervals take for "
            "independent: they may be too narrow."
        )
    return sentences


def audit_section(audit: BiasAudit) -> str:
    """The rules, the detector on matched pictures, and the facts of the files by class."""
    matched = audit["matched"]
    figures = f"ROC AUC of the rule on all facts {number(matched['rule_auc'])}"
    if matched["auc_before"] is not None:
        figures += f", of the detector {number(matched['auc'])} (on all pictures {number(matched['auc_before'])})"
    counts = []
    for fact, by_class in audit["counts"].items():
        for value in sorted(set().union(*by_class.values())):
            found = [by_class[name].get(value, 0) for name in CLASSES]
            counts.append((f"{fact}: {value or 'none'}", *found))
    medians = [
        (
            f"median {fact.replace('_', ' ')}",
            *("-" if value is None else f"{value:,.0f}" for value in by_class.values()),
        )
        for fact, by_class in audit["medians"].items()
    ]
    return "\n\n".join(
        [
            "## Bias audit: can the classes be told apart without looking?",
            f"Rules read facts of the file only; {audit['protocol']}. {audit_finding(audit)}",
            table(("rule on", "ROC AUC, held out"), [(row["facts"], number(row["auc"])) for row in audit["rules"]]),
            "Shape and size alone (width, height, squareness), without a pixel: ROC AUC "
            f"{number(audit['shape_and_size'])}. A detector's AUC means little where it is not well above that.",
            f"On {matched['pictures'][CLASSES[0]]} real and {matched['pictures'][CLASSES[1]]} generated pictures, "
            f"weighted so that both classes agree in {matched['on']}: {figures}.",
            table(("files", *CLASSES), [*counts, *medians]),
        ]
    )


def duplicates_section(audit: BiasAudit) -> str:
    """How many pictures are nearly the same."""
    found = audit["duplicates"]
    known = found["in_training"]
    lines = [
        "### Near-duplicates",
        f"Perceptual hashes at most {found['limit']} of {found['bits']} bits apart: {found['pairs']} pairs, "
        f"{found['pairs_of_two_sources']} of them of two sources and {found['pairs_of_two_classes']} of two classes. "
        "A crop is not recognised.",
    ]
    if known is not None:
        lines.append(f"**{known['pictures']} pictures are also in the training data.**")
    if found["pairs"] or (known is not None and known["pictures"]):
        lines.append("The nearest are named in duplicates.csv.")
    return "\n\n".join(lines)


__all__ = [
    "audit_finding",
    "audit_section",
    "audit_summary",
    "duplicates_section",
    "duplicates_warnings",
    "write_audit",
]
