"""The table of a comparison: Markdown for people, CSV and JSON for programs."""

import csv
import io
from pathlib import Path

from modeling.files import write_json, write_text

from ..report.markdown import cell, number, percent, share, table

_HEADER = (
    "attempt",
    "AUC",
    "AUC, sources alike",
    "found at 1 % / 5 % false alarms (oracle)",
    "false alarms",
    "worst source",
    "found",
    "AUC web / hard",
    "false alarms web / hard",
    "found web / hard",
    "ECE",
    "AUC minus",
    "sources alike minus",
    "s a fit",
)


def write_report(results: dict, folder: Path) -> None:
    """Write table.md, results.csv and results.json, each all or nothing."""
    write_text(folder / "table.md", comparison_table(results))
    write_text(folder / "results.csv", _csv(results))
    write_json(folder / "results.json", results)


def comparison_table(results: dict) -> str:
    """The whole report as Markdown."""
    settings, made = results["settings"], results["made_by"]
    pictures, targets = settings["pictures"], settings["targets"]
    kinds = [name for row in list(results["rows"].values())[:1] for name in row["false_alarms_by_kind"]]
    delivered = settings["delivered_pictures"]
    told = (
        "" if delivered == sum(pictures.values()) else f" Figures after `web` and `hard` are of {delivered:,} of them."
    )
    chosen = ", ".join(f"{group}: {cell(name)}" for group, name in enumerate(results["chosen_inside"]))
    each = "" if targets["source_fpr"] is None else f", at most {share(targets['source_fpr'])} of any one real source"
    parts = [
        "# Ways to build and fit a head, compared\n",
        f"{pictures['real']:,} real and {pictures['generated']:,} generated pictures, {settings['folds']} groups of "
        f"sources held out in turn, seeds {', '.join(map(str, settings['seeds']))}: figures are means over seeds, "
        "intervals are 95 % by a bootstrap over sources. Calibration and thresholds of a group (aimed at "
        f"{share(targets['fpr'])} false alarms and {share(targets['fnr'])} of generated pictures called real, sources "
        f"alike{each}) and the attempt in the last row come from fits that never saw the group.{told} Bank "
        f"{made['bank']['fingerprint'][:12]}, code {(made['git_commit'] or 'unknown')[:12]}, {made['date']}.\n",
        table(_HEADER, (_line(name, row) for name, row in results["rows"].items())),
        f"\nChosen inside, by group: {chosen}.\n",
        "## False alarms by kind and source of real pictures\n",
        table(
            ("attempt", *kinds, "sources above 6 %"),
            (
                [
                    name,
                    *(share(row["false_alarms_by_kind"][kind]) for kind in kinds),
                    "; ".join(f"{source} {share(rate)}" for source, rate in _bad_sources(row)) or "none",
                ]
                for name, row in results["rows"].items()
            ),
        ),
        "\n## What was tried\n",
        "\n".join(f"- **{cell(name)}**: {cell(entry['why'])}" for name, entry in results["attempts"].items()),
        "\nOracle figures use thresholds chosen on these very pictures. Sources count from 30 pictures on; expected "
        "calibration error (ECE) weighs sources and classes alike.\n",
    ]
    return "\n".join(parts)


def _line(name: str, row: dict) -> list[str]:
    clean, web, hard = (row[delivery] for delivery in ("clean", "web", "hard"))
    worst = max(row["false_alarms_by_source"].values(), default=None)
    difference, alike = (row.get(f"auc_difference{of}") for of in ("", "_sources_weighted_equally"))
    return [
        name,
        number(clean["auc"]),
        number(clean["auc_sources_weighted_equally"]),
        f"{share(clean['tpr_at_1_percent_fpr']['value'])} / {share(clean['tpr_at_5_percent_fpr']['value'])}",
        percent(clean["false_alarms"]),
        share(worst),
        percent(clean["found"]),
        f"{web['auc']['value']:.3f} / {hard['auc']['value']:.3f}",
        f"{share(web['false_alarms']['value'])} / {share(hard['false_alarms']['value'])}",
        f"{share(web['found']['value'])} / {share(hard['found']['value'])}",
        f"{row['ece']:.3f}",
        "" if difference is None else f"{row['compared_with']}: {number(difference)}",
        "" if alike is None else number(alike),
        f"{row['seconds_per_fit']:.1f}" if "seconds_per_fit" in row else "",
    ]


def _bad_sources(row: dict) -> list[tuple[str, float]]:
    return [(source, rate) for source, rate in row["false_alarms_by_source"].items() if rate > 0.06]


def _csv(results: dict) -> str:
    """One line for each attempt, delivery and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("attempt", "delivery", "figure", "value", "low", "high"))
    for name, row in results["rows"].items():
        for delivery in ("clean", "web", "hard"):
            for figure, value in row[delivery].items():
                writer.writerow((name, delivery, figure, value["value"], *(value["interval"] or ("", ""))))
        writer.writerow((name, "clean", "ece", row["ece"], "", ""))
        for kind in ("source", "kind"):
            for source, rate in row[f"false_alarms_by_{kind}"].items():
                writer.writerow((name, "clean", f"false alarms of {kind} {source}", rate, "", ""))
    return text.getvalue()


__all__ = ["comparison_table", "write_report"]
