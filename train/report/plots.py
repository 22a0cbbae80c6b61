"""Plots of an evaluation, without pyplot. Colours are told apart by colour-blind readers, and markers differ too."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeling.verdicts import CLASSES, GENERATED, REAL

from ..measure.schema import Evaluation, Robustness
from ..measure.schema import Figure as Measured

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
MOST_GROUPS = 40
_STYLES = {REAL: (BLUE, "o"), GENERATED: (ORANGE, "s")}


def write_plots(evaluation: Evaluation, pictures: pd.DataFrame, folder: Path) -> list[str]:
    """Write every plot into a folder and return the file names.

    Args:
        evaluation: as in evaluation.json.
        pictures: one row a picture: label, score, probability.
        folder: an existing one.
    """
    plots = {
        "roc.png": _roc(evaluation, pictures),
        "scores.png": _scores(evaluation, pictures),
        "reliability.png": _reliability(evaluation),
        "sources.png": _sources(evaluation),
    }
    if (robustness := evaluation["robustness"]) is not None:
        plots |= {"robustness.png": _robustness(robustness), "heatmap.png": _heatmap(robustness)}
    for name, figure in plots.items():
        figure.savefig(folder / name, dpi=110, metadata={"Software": None})
    return list(plots)


def _roc(evaluation: Evaluation, pictures: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    real, generated = (np.sort(pictures.loc[pictures["label"] == label, "probability"]) for label in (0, 1))
    if len(real) and len(generated):
        thresholds = np.concatenate([[np.inf], np.unique(pictures["probability"])[::-1]])
        axes.plot(*(_share_from(values, thresholds) for values in (real, generated)), color=BLUE)
        for (name, threshold), marker in zip(evaluation["thresholds"].items(), ("v", "^"), strict=True):
            point = [_share_from(values, np.array([threshold])) for values in (real, generated)]
            axes.plot(*point, marker, color=ORANGE, markersize=9, label=f'shipped threshold of "{name}"')
        axes.legend(loc="lower right")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.set(xlabel="real pictures flagged", ylabel="generated pictures found", title="ROC curve")
    axes.grid(alpha=0.3)
    return figure


def _share_from(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of sorted values at or above each threshold."""
    return 1 - np.searchsorted(ordered, thresholds, side="left") / len(ordered)


def _scores(evaluation: Evaluation, pictures: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label, name in enumerate(CLASSES):
        colour, _ = _STYLES[name]
        values = pictures.loc[pictures["label"] == label, "probability"]
        if len(values):
            weights = [100 / len(values)] * len(values)
            hatch = "//" if label else None
            axes.hist(
                values, bins=25, range=(0, 1), weights=weights, color=colour, alpha=0.55, hatch=hatch, label=name
            )
    for name, threshold in evaluation["thresholds"].items():
        if threshold <= 1:
            axes.axvline(threshold, color=GREY, linestyle="--" if name == REAL else "-", label=f'"{name}" threshold')
    axes.set(xlabel="probability of being generated", ylabel="% of the class", title="Where the pictures fall")
    # Below the axes: bars and thresholds may stand anywhere in them.
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _reliability(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    table = evaluation["source_weighted"]["reliability"]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    mean, true = ([row[name] for row in table] for name in ("mean_probability", "share_generated"))
    axes.plot(mean, true, "o-", color=BLUE, label="measured")
    axes.bar(mean, [row["weight"] for row in table], width=0.04, color=ORANGE, alpha=0.4, label="share of the weight")
    axes.set(xlabel="mean probability", ylabel="share generated", title="Reliability", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _sources(evaluation: Evaluation) -> Figure:
    """Share called generated, of real sources and of generators, with intervals; the largest groups."""
    real = [
        (f"{row['source']} ({row['pictures']})", row["called_generated"], row["wrong_interval"])
        for row in evaluation["by_source"]
        if row["class"] == REAL
    ]
    generators = [
        (
            f"{row['generator'] or 'not named'} ({row['pictures']})",
            row["called_generated"],
            row["called_generated_interval"],
        )
        for row in evaluation["by_generator"]
    ]
    groups = [(GENERATED, generators[:MOST_GROUPS]), (REAL, real[:MOST_GROUPS])]
    number = sum(len(rows) for _, rows in groups)
    figure = Figure(figsize=(9, 1.6 + 0.24 * number), layout="constrained")
    axes = figure.subplots()
    names: list[str] = []
    for kind, rows in groups:
        colour, marker = _STYLES[kind]
        for name, share, (low, high) in rows:
            bars = [[100 * max(0, share - low)], [100 * max(0, high - share)]]
            axes.errorbar(100 * share, len(names), xerr=bars, fmt=marker, color=colour, capsize=2)
            names.append(name)
    short = [name if len(name) < 60 else f"{name[:45]}...{name[-12:]}" for name in names]
    axes.set_yticks(range(len(names)), short, parse_math=False)
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlim=(-2, 102), ylim=(len(names) - 0.4, -0.6), xlabel="% called generated, 95 % interval")
    left_out = len(real) + len(generators) - number
    # Over the whole figure: long names leave the axes too narrow for it.
    figure.suptitle(
        "Generators found (squares) and real sources flagged (circles)"
        + (f"\nthe {left_out} smallest groups are left out" if left_out else "")
    )
    axes.grid(alpha=0.3)
    return figure


def _robustness(robustness: Robustness) -> Figure:
    deliveries = robustness["deliveries"]
    names = [row["delivery"] for row in deliveries]
    figure = Figure(figsize=(10, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _points(upper, [row["auc"] for row in deliveries], 1, BLUE, "o", "ROC AUC")
    upper.set(ylabel="ROC AUC", title="The same pictures on their way, 95 % intervals over sources")
    rates = {
        REAL: [row["false_positive_rate"] for row in deliveries],
        GENERATED: [row["true_positive_rate"] for row in deliveries],
    }
    for kind, figures in rates.items():
        colour, marker = _STYLES[kind]
        _points(lower, figures, 100, colour, marker, f"{kind} pictures called generated")
    _points(lower, [row["verdict_changed"] for row in deliveries], 100, GREY, "^", "verdict changed")
    lower.set(ylabel="%", ylim=(-3, 122), yticks=range(0, 101, 20))
    lower.legend(loc="upper center", ncols=3, fontsize=8)
    lower.set_xticks(range(len(names)), names, rotation=60, ha="right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def _points(axes: Axes, figures: list[Measured | None], scale: float, colour: str, marker: str, label: str) -> None:
    """A line of figures with their intervals; what is not defined is left out."""
    known = [(place, figure) for place, figure in enumerate(figures) if figure is not None]
    if not known:
        return
    places = [place for place, _ in known]
    values = np.array([scale * figure["value"] for _, figure in known])
    ends = np.array([[scale * end for end in figure["interval"] or [figure["value"]] * 2] for _, figure in known])
    bars = np.maximum(0, [values - ends[:, 0], ends[:, 1] - values])
    axes.errorbar(places, values, yerr=bars, fmt=f"{marker}-", color=colour, capsize=3, label=label, linewidth=1)


def _heatmap(robustness: Robustness) -> Figure:
    shares = robustness["called_generated"]
    names = [row["delivery"] for row in robustness["deliveries"]]
    values = np.array([[100 * by[name] for name in names] for by in shares.values()])
    figure = Figure(figsize=(3.5 + 0.48 * len(names), 2.2 + 0.36 * len(shares)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > 55 else "white"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    pictures = robustness["pictures_by_group"]
    labels = [name or "not named" for name in shares]
    short = [name if len(name) < 42 else f"{name[:39]}..." for name in labels]
    counts = [f" ({pictures[group]})" for group in shares]
    named = [name + count for name, count in zip(short, counts, strict=True)]
    axes.set_yticks(range(len(shares)), named, fontsize=8, parse_math=False)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_title("% called generated: low is right in the first row, high in the others")
    figure.colorbar(image, ax=axes, pad=0.01)
    return figure


__all__ = ["BLUE", "GREY", "ORANGE", "write_plots"]
