"""The report of a study: report.md, results.json, results.csv and plots, all from the same numbers.

The sentences are written by rules, so that the report says what the numbers show, also where a part does not help.
"""

from collections.abc import Iterator
from pathlib import Path

from modeling.files import write_json, write_text

from ..measure.rules import SOURCE_PICTURES
from ..report.markdown import cell, number, percent, share, table
from ..report.tables import csv_text
from .figures import FIGURES, WORST_SOURCE_PICTURES
from .nested import CLEAN
from .plots import write_plots

_COLUMNS = ("case", "of", "figure", "value", "low", "high", "seed_sd")


def write_report(results: dict, folder: Path) -> None:
    """Write every file of the report into a folder; text files all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = write_plots(results, folder)
    write_json(folder / "results.json", results)
    write_text(folder / "results.csv", csv_text(_COLUMNS, _rows(results)))
    parts = [f"# {results['title']}", _settings(results)]
    parts += [_section(results, section, plots) for section in results["sections"]]
    parts += [_rates(results), _cases(results), _reading(results)]
    write_text(folder / "report.md", "\n\n".join(filter(None, parts)) + "\n")


def finding(shows: str, figures: dict) -> str:
    """One plain sentence on a paired difference: in which figures something helps, hurts, or shows nothing.

    Args:
        shows: what was added, for example "SAM".
        figures: for each of FIGURES a difference with its interval and values by seed, or `None`.
    """
    groups: dict[str, list[str]] = {"helps": [], "hurts": [], "open": []}
    for name, difference in figures.items():
        if difference is not None:
            low, high = difference["interval"]
            kind = "helps" if low > 0 else "hurts" if high < 0 else "open"
            agree = sum((value > 0) == (low > 0) and value != 0 for value in difference["by_seed"])
            seeds = "" if kind == "open" else f" ({agree} of {len(difference['by_seed'])} seeds agree)"
            groups[kind].append(f"{FIGURES[name]} {number(difference)}{seeds}")
    parts = [f"**{kind}** in {'; '.join(groups[kind])}" for kind in ("helps", "hurts") if groups[kind]]
    if groups["open"]:
        which = "" if parts else "**no evidence** that it helps or hurts, "
        parts.append(f"{which}the interval of the difference includes 0 in {'; '.join(groups['open'])}")
    return f"{shows}: {', and '.join(parts) or 'not defined on these pictures'}."


def _settings(results: dict) -> str:
    settings, made = results["settings"], results["made_by"]
    groups = ", ".join(" + ".join(map(str, group.values())) for group in settings["pictures_of_group"])
    pictures = " and ".join(
        f"{count:,} {name} pictures of {settings['sources'][name]} sources"
        for name, count in settings["pictures"].items()
    )
    recipe = ", ".join(f"{name} {value}" for name, value in settings["recipe"].items() if value is not None)
    text = (
        f"{pictures}, {settings['views']:,} views; backbone {made['backbone']}, bank "
        f"{made['bank']['fingerprint'][:12]}. "
        f"Pictures are {settings['protocol']}. {settings['folds']} groups (real + generated pictures: {groups}). "
        f"Seeds: {', '.join(map(str, settings['seeds']))}. Code {(made['git_commit'] or 'unknown')[:12]}, "
        f"{made['date']}.\n\nRecipe: {recipe}."
    )
    if settings["merge_sources"]:
        text += f" Held out together: {', '.join(map(cell, settings['merge_sources']))}."
    if results["same_fits"]:
        pairs = "; ".join(f"{cell(first)} and {cell(second)}" for first, second in results["same_fits"])
        text += f"\n\nWith this recipe these are the same fits, and so are not compared: {pairs}."
    return text


def _section(results: dict, section: dict, plots: dict[str, str]) -> str:
    """Findings, figures and differences of a section's cases."""
    parts = [f"## {section['title']}", section["text"]]
    if section["left_out"]:
        return "\n\n".join([parts[0], f"Left out. {section['left_out']}"])
    pairs = [pair for pair in results["differences"] if pair["first"] in section["cases"]]
    parts.append("\n".join(f"- {finding(pair['shows'], pair['figures'])}" for pair in pairs if pair["shows"]))
    if section["cases"]:
        parts.append(_figures(results, section["cases"]))
        parts.append(_families(results, section["cases"]))
        parts.append(f"![{section['title']}]({plots[section['title']]})")
    if pairs:
        rows = [
            [f"{pair['first']} minus {pair['second']}", *(number(pair["figures"][name]) for name in FIGURES)]
            for pair in pairs
        ]
        parts.append(table(["difference", *FIGURES.values()], rows))
    if section["same_text"]:
        parts.append(_same_text(section["same_text"]))
    if section["landscape"]:
        parts.append(_landscape(results["landscape"], section["landscape"], plots))
    return "\n\n".join(filter(None, parts))


def _figures(results: dict, names: list[str]) -> str:
    """Every figure of these cases; under deliveries AUC alone."""
    cases = {name: results["cases"][name] for name in names}
    deliveries = list(results["settings"]["delivered_pictures"])
    with_ratio = any(case.get("settings", {}).get("ratio") for case in cases.values())
    header = [
        "case",
        *(["real + generated fitted on"] if with_ratio else []),
        *FIGURES.values(),
        "SD of AUC over seeds",
    ]
    header += [f"AUC, {delivery}" for delivery in deliveries] + ["worst source: AUC"]
    rows = []
    for name, case in cases.items():
        auc, worst = case["figures"][CLEAN]["auc"], case["worst_source"]
        row = [name, *([" + ".join(f"{count:.0f}" for count in case["fitted_on"])] if with_ratio else [])]
        row += [number(case["figures"][CLEAN][figure]) for figure in FIGURES]
        row.append("" if auc is None or auc["seed_sd"] is None else f"{auc['seed_sd']:.3f}")
        row += [number(case["figures"][delivery]["auc"]) for delivery in deliveries]
        row.append(f"{worst['source']} ({worst['class']}): {worst['value']:.3f}" if worst else "")
        rows.append(row)
    return table(header, rows)


def _families(results: dict, names: list[str]) -> str:
    """What these cases find of families that no fit had seen; "" where families were not held out."""
    measured = {name: results["cases"][name]["families"] for name in names}
    rows, families = [], None
    for name, families in measured.items():
        if families is not None:
            least = families["by_family"][0]
            found = f"{least['family']} ({least['pictures']}): {share(least['found'])}"
            rows.append((name, share(families["mean"]), found))
    if families is None:
        return ""
    header = ("case", f"mean of {len(families['by_family'])} families", "family that is found least (pictures)")
    return f"Families, found at {share(families['false_alarms'])} false alarms:\n\n{table(header, rows)}"


def _same_text(same: dict) -> str:
    text = (
        f"Same text: {same['pictures']['real']} real and {same['pictures']['generated']} generated pictures have a "
        "text that is found, word for word, with the other class too. "
    )
    if same["figures"] is None:
        return text + f"Fewer than {WORST_SOURCE_PICTURES} of a class are too few to measure."
    rows = [[name, *(number(figures[figure]) for figure in FIGURES)] for name, figures in same["figures"].items()]
    return f"{text}On these alone:\n\n{table(['input', *FIGURES.values()], rows)}"


def _landscape(landscape: dict, names: list[str], plots: dict[str, str]) -> str:
    """Sharpness and rises of every head, and whether the last case lies flatter than the first."""
    heads = {name: landscape["heads"][name] for name in names}
    rows = [
        [name, head["seed"], *(f"{value:.4g}" for value in (head["loss"], head["sharpness"]["ascent"]))]
        + [f"{head['sharpness'][figure]:.3g}" for figure in ("random_mean", "random_max")]
        + [f"{head['rise']:.4g}"]
        for name, of_case in heads.items()
        for head in of_case
    ]
    header = ["case", "seed", "loss", "rise after SAM's ascent", "mean rise, random", "largest rise, random"]
    header.append(f"mean rise at distance {landscape['rise_at']}")
    first, last = heads[names[0]], heads[names[-1]]

    def compared(figures: list[list[float]]) -> str:
        lower = sum(ours < other for other, ours in zip(*figures, strict=True))
        means = [
            f"{sum(values) / len(values):.4g} for {name}"
            for name, values in zip((names[0], names[-1]), figures, strict=True)
        ]
        return f"mean {means[0]}, {means[1]}, lower for the latter in {lower} of {len(first)} seeds"

    ascent = compared([[head["sharpness"]["ascent"] for head in part] for part in (first, last)])
    rise = compared([[head["rise"] for head in part] for part in (first, last)])
    return (
        f"{table(header, rows)}\n\nRise of the loss after an ascent step of {first[0]['sharpness']['rho']:g}: "
        f"{ascent}. "
        f"Along filter-normalised directions: {rise}.\n\n![slices]({plots['slices']})\n\n![planes]({plots['planes']})"
    )


def _rates(results: dict) -> str:
    """What follows at thresholds that inner fits gave; nothing where the plan is not nested."""
    if results["nested"] is None:
        return ""
    targets, deliveries = results["settings"]["targets"], list(results["settings"]["delivered_pictures"])
    views = [CLEAN, *deliveries]
    kinds = next(iter(results["cases"].values()))["rates"]["fpr_by_kind"]
    header = ["case", *(f"FPR, {view}" for view in views), *(f"TPR, {view}" for view in views)]
    header += [
        "ECE",
        *(f"FPR, {kind}" for kind in kinds),
        "real sources with more than one flagged",
        "s a fit",
    ]
    rows = []
    for name, case in results["cases"].items():
        rates = case["rates"]
        row = [name, *(percent(rates["views"][view][rate]) for rate in ("fpr", "tpr") for view in views)]
        row += [f"{rates['ece']:.3f}", *(share(rates["fpr_by_kind"][kind]) for kind in kinds)]
        twice = rates["sources_flagged_twice"]
        row.append(f"{share(twice['share'])} of {twice['sources']}" if twice["sources"] else "none is large enough")
        rows.append([*row, f"{case['seconds_per_fit']:.1f}" if "seconds_per_fit" in case else ""])
    chosen = ", ".join(f"{group}: {cell(name)}" for group, name in enumerate(results["nested"]["chosen"]))
    delivered = "; ".join(
        f"{count:,} under {name}" for name, count in results["settings"]["delivered_pictures"].items()
    )
    uncalibrated = "".join(
        f"\n\n{cell(name)}: the inner scores of the groups {', '.join(map(str, case['uncalibrated_groups']))} do not "
        "rise from real to generated. They were not calibrated, every verdict there is uncertain, and pooled figures "
        "mix scores of two scales."
        for name, case in results["cases"].items()
        if case["uncalibrated_groups"]
    )
    return (
        "## At thresholds from inner fits\n\nCalibration and thresholds of a group come from fits that never saw it, "
        f"and aim at FPR {share(targets['fpr'])} and FNR {share(targets['fnr'])} by the rules of `fit`. Sources count "
        f"from {SOURCE_PICTURES} real pictures on. ECE is source-weighted. Pictures: {delivered or 'as they are'}.\n\n"
        f"{table(header, rows)}\n\nChosen by inner fits, by group: {chosen}.{uncalibrated}"
    )


def _cases(results: dict) -> str:
    lines = [f"- **{cell(name)}**: {cell(case['why'])}" for name, case in results["cases"].items() if case.get("why")]
    return "## Why each case\n\n" + "\n".join(lines) if lines else ""


def _reading(results: dict) -> str:
    intervals = len(results["differences"]) * len(FIGURES)
    return f"""## How the figures are made

- A figure is computed for each seed and averaged; scores never are, because those of different fits are not on one
  scale. Intervals are 95 %: whole sources are resampled within each class, the same ones for all seeds and both sides
  of a difference. They cover other sources, not other seeds (see the SD).
- There are {intervals} intervals of differences. About one in twenty leaves out 0 by chance: one that just does is
  weak evidence.
- Source-weighted figures give every source of a class the same weight.
- Figures pool the scores of all groups, each from its own fit, and a constant that differs between fits lowers them.
  The AUC loss leaves that constant free. AUC within groups, a mean over groups with both classes, is free of it.
- TPR at 1 % and 5 % FPR use in-sample thresholds, which stand on the few highest-scored real pictures.
- Worst source: the lowest AUC of one source's pictures of one class, {WORST_SOURCE_PICTURES} at least, against all
  of the other. The lowest of a resample does not estimate the lowest of all, so it has no interval.
- The logistic regressions see the inputs of the heads and have no seed."""


def _rows(results: dict) -> Iterator[tuple[object, ...]]:
    """Every figure, difference and rate, a row each; the landscape is in results.json."""
    for name, case in results["cases"].items():
        for view, figures in case["figures"].items():
            yield from _figure_rows(name, view, figures)
        for view, rates in (case["rates"] or {}).get("views", {}).items():
            yield from _figure_rows(name, view, rates)
        for row in (case["families"] or {}).get("by_family", ()):
            yield name, f"family {row['family']}", "tpr_at_2_percent_fpr", row["found"], None, None, None
        for of, rates in _rates_of_groups(case["rates"] or {}):
            yield name, of, "fpr", rates, None, None, None
    for pair in results["differences"]:
        yield from _figure_rows(f"{pair['first']} minus {pair['second']}", CLEAN, pair["figures"])
    for section in results["sections"]:
        for name, figures in ((section["same_text"] or {}).get("figures") or {}).items():
            yield from _figure_rows(name, "same text", figures)


def _figure_rows(name: str, of: str, figures: dict) -> Iterator[tuple[object, ...]]:
    for figure, value in figures.items():
        if value is not None:
            yield name, of, figure, value["value"], *(value["interval"] or (None, None)), value.get("seed_sd")


def _rates_of_groups(rates: dict) -> Iterator[tuple[str, float]]:
    for kind in ("source", "kind"):
        for name, rate in rates.get(f"fpr_by_{kind}", {}).items():
            yield f"{kind} {name}", rate


__all__ = ["finding", "write_report"]
