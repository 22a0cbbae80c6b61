"""Plots of an ablation study. Colours are told apart by colour-blind readers, and markers and line styles differ too.

Figures are made without pyplot: no global state, no window, no style that leaks.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ..report.plots import BLUE, GREY, ORANGE
from .figures import FIGURES

# Colour, marker and line.
_STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"))
_INTERVAL = "95 % interval over sources"


def write_plots(results: dict, folder: Path) -> list[str]:
    """Write every plot of the results into a folder and return the file names."""
    plots = {
        "recipes.png": _recipes(results),
        "sensitivity.png": _sensitivity(results),
        "imbalance.png": _imbalance(results),
        "landscape-slices.png": _slices(results),
        "landscape-planes.png": _planes(results),
    }
    for name, figure in plots.items():
        figure.savefig(folder / name, dpi=120)
    return list(plots)


def _recipes(results: dict) -> Figure:
    """A row a recipe, for two figures."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    recipes = results["recipes"]
    heights = np.arange(len(recipes))[::-1]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("auc", "auc_within_folds"), strict=True):
        for height, (recipe, measured) in zip(heights, recipes.items(), strict=True):
            colour, marker, _ = _STYLES[recipe.endswith("SAM")]
            colour = GREY if recipe in results["settings"]["baselines"] else colour
            if (value := measured["figures"][name]) is not None:
                axes.errorbar(value["value"], height, xerr=_bars([value]), fmt=marker, color=colour, capsize=3)
        axes.set_xlabel(f"{FIGURES[name]}, {_INTERVAL}")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(heights, list(recipes))
    figure.suptitle("Held-out sources, mean over seeds (circles: without SAM, squares: with)")
    return figure


def _sensitivity(results: dict) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (setting, points) in zip(panels, results["sensitivity"].items(), strict=True):
        for style, name in zip(_STYLES, ("auc", "auc_within_folds"), strict=True):
            values = [point["figures"][name] for point in points]
            _curve(axes, [point["value"] for point in points], values, style, FIGURES[name])
        axes.axvline(results["settings"]["training"][setting], color=GREY, linestyle=":", label="the recipe")
        axes.set_xlabel(setting)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"AUC, {_INTERVAL}")
    panels[0].legend()
    figure.suptitle("Sensitivity of the full recipe, first seed")
    return figure


def _imbalance(results: dict) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    points = results["imbalance"]
    ratios = np.array([point["ratio"] for point in points])
    for axes, name in zip(figure.subplots(1, 2), ("auc", "tpr_at_1_percent_fpr"), strict=True):
        for index, case in enumerate(points[0]["cases"]):
            values = [point["cases"][case]["figures"][name] for point in points]
            _curve(axes, list(ratios * (0.97, 1.03)[index]), values, _STYLES[index], case)
        axes.set_xscale("log")
        axes.set_xticks(ratios, [f"1:{ratio}" for ratio in ratios])
        axes.minorticks_off()
        axes.set_xlabel("real : generated pictures in training")
        axes.set_ylabel(f"{FIGURES[name]}, {_INTERVAL}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Class imbalance in training; the same held-out pictures at every ratio")
    return figure


def _slices(results: dict) -> Figure:
    """Losses along directions, a line a seed, and the rise after SAM's ascent step."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    along, rise = figure.subplots(1, 2, width_ratios=(2, 1))
    landscape = results["landscape"]
    for index, (name, heads) in enumerate(landscape["heads"].items()):
        colour, marker, line = _STYLES[index]
        for number, head in enumerate(heads):
            mean = np.mean(head["slices"], axis=0)
            label = name if number == 0 else None
            along.plot(landscape["steps"], mean, color=colour, linestyle=line, alpha=0.8, label=label)
        ascents = [head["sharpness"]["ascent"] for head in heads]
        rise.plot(np.full(len(heads), index), ascents, marker, color=colour, alpha=0.8)
    along.set_xlabel("distance along a filter-normalised direction")
    along.set_ylabel("training loss, mean over directions")
    along.set_yscale("log")
    along.yaxis.set_major_formatter(ScalarFormatter())
    along.yaxis.set_minor_formatter(ScalarFormatter())
    along.legend(title="a line a seed")
    along.grid(alpha=0.3)
    rise.set_xticks(range(len(landscape["heads"])), list(landscape["heads"]))
    rise.set_xlim(-0.5, len(landscape["heads"]) - 0.5)
    rise.set_ylim(0, 1.1 * rise.get_ylim()[1])
    rise.set_ylabel("rise of the loss after SAM's ascent step")
    rise.grid(axis="y", alpha=0.3)
    return figure


def _planes(results: dict) -> Figure:
    """Loss over the plane of two directions, first seed; one colour scale for both heads."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    landscape = results["landscape"]
    steps = landscape["grid_steps"]
    losses = {name: np.log10(heads[0]["grid"]) for name, heads in landscape["heads"].items()}
    low, high = min(plane.min() for plane in losses.values()), max(plane.max() for plane in losses.values())
    levels = np.linspace(low, high if high > low else low + 1, 20)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, plane) in zip(panels, losses.items(), strict=True):
        drawn = axes.contourf(steps, steps, plane, levels=levels, cmap="cividis")
        axes.plot(0, 0, "+", color="white", markersize=12)
        axes.set_title(name)
        axes.set_xlabel("first direction")
    panels[0].set_ylabel("second direction")
    figure.colorbar(drawn, ax=panels, label="log10 of the training loss", format="%.1f")
    return figure


def _curve(axes: Axes, positions: list[float], values: list[dict | None], style: tuple, label: str) -> None:
    """Points with intervals, joined; what is not defined is left out."""
    colour, marker, line = style
    defined = [(position, value) for position, value in zip(positions, values, strict=True) if value is not None]
    if defined:
        at, shown = zip(*defined, strict=True)
        axes.errorbar(
            at,
            [value["value"] for value in shown],
            yerr=_bars(list(shown)),
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=3,
            label=label,
        )


def _bars(values: list[dict]) -> list[list[float]]:
    """Lengths below and above. A percentile interval need not hold its value: then the bar has no length there."""
    below = [max(0.0, value["value"] - value["interval"][0]) for value in values]
    return [below, [max(0.0, value["interval"][1] - value["value"]) for value in values]]


__all__ = ["write_plots"]
