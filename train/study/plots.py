"""Plots of a study. Colours are told apart by colour-blind readers, and markers and line styles differ too.

Figures are made without pyplot: no global state, no window, no style that leaks.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ..report.plots import BLUE, ORANGE
from .figures import FIGURES
from .nested import CLEAN
from .plan import plot_name

# Colour, marker and line.
_STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"))


def write_plots(results: dict, folder: Path) -> dict[str, str]:
    """Write every plot of the results into a folder: file names by a section's title, "slices" and "planes"."""
    plots = {section["title"]: _cases(results, section) for section in results["sections"] if section["cases"]}
    if results["landscape"]:
        plots |= {"slices": _slices(results["landscape"]), "planes": _planes(results["landscape"])}
    names = {}
    for title, figure in plots.items():
        names[title] = f"{plot_name(title)}.png"
        figure.savefig(folder / names[title], dpi=110)
    return names


def _cases(results: dict, section: dict) -> Figure:
    """A row a case, for the two figures that depend least on the largest sources and on offsets between fits."""
    names = section["cases"]
    figure = Figure(figsize=(10, 1.2 + 0.33 * len(names)), layout="constrained")
    heights = np.arange(len(names))[::-1]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, which, (colour, marker, _) in zip(panels, ("auc", "source_weighted_auc"), _STYLES, strict=True):
        for height, name in zip(heights, names, strict=True):
            if (value := results["cases"][name]["figures"][CLEAN][which]) is not None:
                axes.errorbar(value["value"], height, xerr=_bars(value), fmt=marker, color=colour, capsize=3)
        axes.set_xlabel(f"{FIGURES[which]}, 95 % interval over sources")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(heights, names, parse_math=False)
    figure.suptitle(f"{section['title']}: held-out sources, mean over seeds")
    return figure


def _slices(landscape: dict) -> Figure:
    """Losses along directions, a line a seed, and the rise after SAM's ascent step."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    along, rise = figure.subplots(1, 2, width_ratios=(2, 1))
    for index, (name, heads) in enumerate(landscape["heads"].items()):
        colour, marker, line = _STYLES[index % 2]
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


def _planes(landscape: dict) -> Figure:
    """Loss over the plane of two directions, first seed; one colour scale for both heads."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
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


def _bars(value: dict) -> list[list[float]]:
    """Lengths below and above. A percentile interval need not hold its value: then the bar has no length there."""
    low, high = value["interval"]
    return [[max(0.0, value["value"] - low)], [max(0.0, high - value["value"])]]


__all__ = ["write_plots"]
