"""The report of an ablation study: report.md, results.json, results.csv and plots, all from the same numbers.

The sentences are written by rules, so that the report says what the numbers show, also where a part does not help.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from modeling.files import write_json, write_text

from .ablation_plots import write_plots
from .figures import FIGURES, WORST_SOURCE_PICTURES

COLUMNS = ("part", "case", "figure", "value", "low", "high", "seed_sd")


def write_report(results: dict, folder: Path) -> None:
    """Write every file of the report into a folder; text files all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_plots(results, folder)
    write_json(folder / "results.json", results)
    write_text(folder / "results.csv", _csv(results))
    sections = (_summary, _settings, _recipes, _parts, _sensitivity, _imbalance, _inputs, _landscape, _reading)
    write_text(folder / "report.md", "\n\n".join(section(results) for section in sections) + "\n")


def finding(subject: str, figures: dict) -> str:
    """One plain sentence on a paired difference: in which figures something helps, hurts, or shows nothing.

    Args:
        subject: what was added, for example "SAM".
        figures: for each of FIGURES a difference with its interval and values by seed, or `None`.
    """
    groups: dict[str, list[str]] = {"helps": [], "hurts": [], "open": []}
    for name, difference in figures.items():
        if difference is not None:
            low, high = difference["interval"]
            kind = "helps" if low > 0 else "hurts" if high < 0 else "open"
            agree = sum((value > 0) == (low > 0) and value != 0 for value in difference["by_seed"])
            seeds = "" if kind == "open" else f" ({agree} of {len(difference['by_seed'])} seeds agree)"
            groups[kind].append(f"{FIGURES[name]} {_difference(difference)}{seeds}")
    parts = [f"**{kind}** in {'; '.join(groups[kind])}" for kind in ("helps", "hurts") if groups[kind]]
    if groups["open"]:
        which = "" if parts else "**no evidence** that it helps or hurts, "
        parts.append(f"{which}the interval of the difference includes 0 in {'; '.join(groups['open'])}")
    return f"{subject}: {', and '.join(parts) or 'not defined on these pictures'}."


def _summary(results: dict) -> str:
    settings = results["settings"]
    full, no_sam, bce = settings["full"], settings["no_sam"], settings["bce"]
    subjects = {
        (full, bce): f"The whole recipe ({full}) in place of {bce}",
        (full, no_sam): "SAM, in the full recipe",
        (full, "CVaR + SAM"): "The AUC loss added to CVaR, with SAM",
        (full, "AUC + SAM"): "CVaR added to the AUC loss, with SAM",
        ("CVaR + SAM", f"{bce} + SAM"): f"CVaR in place of {bce}, with SAM",
        **{(full, name): f"The whole recipe in place of {name}" for name in settings["baselines"]},
    }
    pairs = {(pair["first"], pair["second"]): pair["figures"] for pair in results["comparisons"]}
    lines = ["# Ablation study: what each part of the recipe is worth", "## In short"]
    lines.append("Differences are paired and measured on held-out sources, with 95 % intervals.\n")
    lines[-1] += "\n" + "\n".join(f"- {finding(subject, pairs[pair])}" for pair, subject in subjects.items())
    lines[-1] += f"\n- {_flatness(results)}"
    return "\n\n".join(lines)


def _settings(results: dict) -> str:
    settings = results["settings"]
    training = ", ".join(f"{name} {value}" for name, value in settings["training"].items() if value != -1)
    folds = ", ".join(f"{fold['real']} + {fold['generated']}" for fold in settings["fold_pictures"])
    merged = f" Held out together: {', '.join(settings['merge_sources'])}." if settings["merge_sources"] else ""
    return (
        "## Data and settings\n\n"
        f"{settings['pictures']['real']} real pictures of {settings['sources']['real']} sources and "
        f"{settings['pictures']['generated']} generated ones of {settings['sources']['generated']} sources, "
        f"{settings['views']} views; backbone {settings['backbone']}, bank {settings['bank_fingerprint'][:16]}. "
        f"{settings['folds']} groups of whole sources are held out in turn (real + generated pictures: {folds}). "
        f"Heads are fitted on every view and scored on pictures as they are.{merged} "
        f"Seeds: {', '.join(map(str, settings['seeds']))}. Recipe: {training}. Code: {settings['git_commit']}."
    )


def _recipes(results: dict) -> str:
    full = results["settings"]["full"]
    minus = {pair["second"]: pair["figures"] for pair in results["comparisons"] if pair["first"] == full}
    rows = []
    for name, measured in results["recipes"].items():
        figures = measured["figures"]
        auc = figures["auc"]
        seed_sd = "–" if auc is None or auc["seed_sd"] is None else f"{auc['seed_sd']:.4f}"
        difference = _difference(minus[name]["auc"]) if name in minus else "–"
        rows.append([name, *(_value(figures[figure]) for figure in FIGURES), seed_sd, difference])
    titles = ["recipe", *FIGURES.values(), "SD of AUC over seeds", "full recipe minus this, AUC"]
    worst = [
        [name, row["source"], row["class"], str(row["pictures"]), f"{row['value']:.4f}", _range(row["by_seed"])]
        if (row := measured["worst_source"])
        else [name, "none is large enough", "–", "–", "–", "–"]
        for name, measured in results["recipes"].items()
    ]
    return (
        f"## Recipes\n\n{_table(titles, rows)}\n\n![recipes](recipes.png)\n\n"
        "Worst source: lowest AUC of one held-out source's pictures of one class against all pictures of the other, "
        f"among sources with at least {WORST_SOURCE_PICTURES}. It has no interval: the lowest of a resample does not "
        "estimate the lowest of all.\n\n"
        f"{_table(['recipe', 'worst source', 'class', 'pictures', 'AUC', 'over seeds'], worst)}"
    )


def _parts(results: dict) -> str:
    rows = [
        [f"{pair['first']} minus {pair['second']}", *(_difference(pair["figures"][name]) for name in FIGURES)]
        for pair in results["comparisons"]
    ]
    return (
        f"## Paired differences\n\n{_table(['difference', *FIGURES.values()], rows)}\n\n"
        f"These are {len(rows) * len(FIGURES)} intervals of 95 %: about one in twenty leaves out 0 by chance alone, "
        "so one that just does is weak evidence."
    )


def _sensitivity(results: dict) -> str:
    parts = ["## Sensitivity\n\nThe full recipe with one setting changed; first seed only, paired with it.\n"]
    for name, points in results["sensitivity"].items():
        used = results["settings"]["training"][name]
        rows = [
            [f"{point['value']:g}{' (recipe)' if point['value'] == used else ''}"]
            + [_value(point["figures"][figure]) for figure in FIGURES]
            + [_difference(point["minus_recipe"]["auc"])]
            for point in points
        ]
        apart = [f"{point['value']:g}" for point in points if _is_apart(point["minus_recipe"]["auc"])]
        parts.append(_table([name, *FIGURES.values(), "minus the recipe, AUC"], rows) + "\n")
        parts.append(
            f"AUC differs from the recipe's, with an interval that leaves out 0, at {name} {', '.join(apart)}.\n"
            if apart
            else f"No value of {name} differs from the recipe's in AUC: every interval includes 0.\n"
        )
    return "\n".join([*parts, "![sensitivity](sensitivity.png)"])


def _imbalance(results: dict) -> str:
    rows = []
    lines = []
    for point in results["imbalance"]:
        pictures = point["pictures"]
        for name, measured in point["cases"].items():
            fitted = f"{pictures['real']:.0f} + {pictures['generated']:.0f}"
            figures = measured["figures"]
            rows.append([f"1:{point['ratio']}", fitted, name, *(_value(figures[figure]) for figure in FIGURES)])
        subject = f"At 1:{point['ratio']}, the full recipe in place of BCE"
        lines.append(f"- {finding(subject, point['full_minus_bce'])}")
    titles = ["real : generated", "pictures fitted on", "recipe", *FIGURES.values()]
    return (
        "## Class imbalance\n\nReal pictures are the rare class, as in the paper's data. The number of pictures is "
        "the same at every ratio, so that only the balance changes. The held-out pictures are those of the other "
        "tables.\n\n"
        f"{_table(titles, rows)}\n\n" + "\n".join(lines) + "\n\n![imbalance](imbalance.png)"
    )


def _inputs(results: dict) -> str:
    inputs = results["inputs"]
    if inputs is None:
        return (
            "## Image and text\n\nThe bank has no text: image-only, text-only, image + text and same-text cannot be "
            "told apart here. Every figure of this report is image-only."
        )
    titles = ["input", *FIGURES.values()]
    rows = [[name, *(_value(figures[figure]) for figure in FIGURES)] for name, figures in inputs["figures"].items()]
    same = inputs["same_text"]
    pictures = f"{same['pictures']['real']} real and {same['pictures']['generated']} generated pictures"
    text = (
        "## Image and text\n\n" + _table(titles, rows) + "\n\nA text-only AUC above 0.5 means that the text alone "
        "carries the label: what image + text gains may then come from the captions, not the pictures.\n\n"
        + "\n".join(f"- {finding(name, figures)}" for name, figures in inputs["comparisons"].items())
        + f"\n\nSame text: {pictures} have a text that is found, word for word, with the other class too. "
    )
    if same["figures"] is None:
        return text + f"Fewer than {WORST_SOURCE_PICTURES} of a class are too few to measure."
    rows = [[name, *(_value(figures[figure]) for figure in FIGURES)] for name, figures in same["figures"].items()]
    return text + f"On these alone:\n\n{_table(titles, rows)}"


def _landscape(results: dict) -> str:
    landscape = results["landscape"]
    rows = [
        [name, str(head["seed"]), *(f"{value:.4g}" for value in (head["loss"], head["sharpness"]["ascent"]))]
        + [f"{value:.3g}" for value in (head["sharpness"]["random_mean"], head["sharpness"]["random_max"])]
        + [f"{head['rise']:.4g}"]
        for name, heads in landscape["heads"].items()
        for head in heads
    ]
    titles = ["recipe", "seed", "loss", "rise after SAM's ascent", "mean rise, random", "largest rise, random"]
    titles.append(f"mean rise at distance {landscape['rise_at']}")
    return (
        "## Loss landscape\n\nThe full recipe's loss on the training rows of the first group, in evaluation mode "
        "(running statistics of BatchNorm, no dropout), around heads fitted with and without SAM. Rises at the same "
        "Euclidean distance depend on how large the weights are; the last column goes along directions that are "
        "scaled to the weights (filter normalisation, arXiv 1712.09913).\n\n"
        f"{_table(titles, rows)}\n\n{_flatness(results)}\n\n"
        "![slices](landscape-slices.png)\n\n![planes](landscape-planes.png)"
    )


def _flatness(results: dict) -> str:
    """Whether SAM's heads lie flatter, in the mean and counted over seeds."""
    settings, heads = results["settings"], results["landscape"]["heads"]
    ours, others = heads[settings["full"]], heads[settings["no_sam"]]

    def compared(with_sam: list[float], without: list[float]) -> str:
        lower = sum(one < other for one, other in zip(with_sam, without, strict=True))
        means = f"mean {sum(with_sam) / len(with_sam):.4g} with SAM, {sum(without) / len(without):.4g} without"
        return f"{means}, lower with it in {lower} of {len(with_sam)} seeds"

    ascent = compared(*([head["sharpness"]["ascent"] for head in part] for part in (ours, others)))
    rise = compared(*([head["rise"] for head in part] for part in (ours, others)))
    return (
        f"Flatness: rise of the loss after an ascent step of {ours[0]['sharpness']['rho']:g}: {ascent}; along "
        f"filter-normalised directions: {rise}. A flatter minimum is no gain by itself: whether it helps is what the "
        "held-out figures say."
    )


def _reading(results: dict) -> str:
    return (
        "## How the figures are made\n\n"
        "- A figure is computed for each seed and averaged; scores are never averaged, because scores of different "
        "fits are not on one scale. Intervals resample whole sources within each class, the same ones for all seeds "
        "and both sides of a difference. They cover other sources, not other seeds (see the SD over seeds).\n"
        "- With sources weighted equally, every source of a class has the same say: the mean over sources.\n"
        "- AUC, its source-weighted form, TPR and the worst source pool the scores of all groups, each from its own "
        "fit. A constant that differs between fits lowers them. The AUC loss looks at differences alone and leaves "
        "that constant free, so pooled figures of AUC-only heads may be too low: AUC within folds (mean over groups "
        "that hold both classes) is free of it.\n"
        "- TPR at 1 % FPR stands on the few highest-scored real pictures and is the least certain figure.\n"
        "- The logistic regressions see image embeddings only and have no seed."
    )


def _is_apart(difference: dict | None) -> bool:
    return difference is not None and not difference["interval"][0] <= 0 <= difference["interval"][1]


def _value(figure: dict | None) -> str:
    return (
        "–" if figure is None else f"{figure['value']:.4f} [{figure['interval'][0]:.4f}, {figure['interval'][1]:.4f}]"
    )


def _difference(figure: dict | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:+.4f} [{figure['interval'][0]:+.4f}, {figure['interval'][1]:+.4f}]"


def _range(values: list[float]) -> str:
    return f"{min(values):.4f} to {max(values):.4f}"


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _csv(results: dict) -> str:
    """Every figure and difference, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part, case, figures in _flat(results):
        for name, value in figures.items():
            if value is not None:
                writer.writerow([part, case, name, value["value"], *value["interval"], value.get("seed_sd")])
    return text.getvalue()


def _flat(results: dict) -> Iterator[tuple[str, str, dict]]:
    """(part, case, figures) of everything but the landscape, which results.json holds."""
    for name, measured in results["recipes"].items():
        yield "recipes", name, measured["figures"]
    for pair in results["comparisons"]:
        yield "comparisons", f"{pair['first']} minus {pair['second']}", pair["figures"]
    for setting, points in results["sensitivity"].items():
        for point in points:
            yield "sensitivity", f"{setting} {point['value']:g}", point["figures"]
            yield "sensitivity", f"{setting} {point['value']:g} minus recipe", point["minus_recipe"]
    for point in results["imbalance"]:
        for name, measured in point["cases"].items():
            yield "imbalance", f"1:{point['ratio']} {name}", measured["figures"]
        yield "imbalance", f"1:{point['ratio']} full minus BCE", point["full_minus_bce"]
    if results["inputs"] is not None:
        yield from (("inputs", name, figures) for name, figures in results["inputs"]["figures"].items())
        yield from (("inputs", name, figures) for name, figures in results["inputs"]["comparisons"].items())
        same = results["inputs"]["same_text"]["figures"] or {}
        yield from (("inputs, same text", name, figures) for name, figures in same.items())


__all__ = ["finding", "write_report"]
