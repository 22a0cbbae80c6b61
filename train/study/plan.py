"""The plan of a study, read from a YAML file: its cases, and the sections of its report (docs/studies.md)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..arguments import RobustTrainingArguments
from ..fit.baselines import BASELINES
from ..fit.options import HeadArguments
from ..options import MethodArguments, TrainerArguments
from ..parsing import read_yaml, typed

# Plans that are called by a name: what `python -m train ablate` runs, and one recipe beside a logistic regression.
SHIPPED = {name: Path(__file__).with_name(f"{name}.yaml") for name in ("ablation", "nested")}
# The row that answers for every group with the case chosen by inner fits; no case may have its name.
CHOSEN = "chosen by inner fits"
# Whose settings are read as on the command line: YAML takes 5e-2 for text.
_TYPED = (HeadArguments, MethodArguments, TrainerArguments)
# What tells the pictures that a case is not fitted on.
LEFT_OUT_BY = ("source", "generator", "family", "label")
# Plots beside those of the sections: no section's plot may have their names.
_LANDSCAPE_PLOTS = ("slices", "planes")


@dataclass(frozen=True)
class Case:
    """One way to fit: what differs from the recipe.

    Args:
        name: as the report calls it.
        why: what is tried.
        settings: fields of `HeadArguments` and `RobustTrainingArguments`.
        baseline: fit this logistic regression of `BASELINES` instead of a head.
        bank: folder of another bank with the same views of the same pictures; the study's own by default.
        inputs: "all" that the bank has, "image" or "text".
        ratio: generated pictures for each real one in training; 0 for every picture of the bank.
        views: fit on view numbers below this; 0 for every view.
        without: pictures that are scored and not fitted on; each entry may name `source`, `generator`, `family` and
            `label`, of which its pictures have all, and the `share` of them, 1 by default.
        compared_with: names of cases, each with what the difference shows ("SAM, in the full recipe") or `None`.
        seeds: use the first so many seeds of the study; 0 for all.
    """

    name: str
    why: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    bank: str = ""
    inputs: str = "all"
    ratio: int = 0
    views: int = 0
    without: list[dict[str, Any]] = field(default_factory=list)
    compared_with: dict[str, str | None] = field(default_factory=dict)
    seeds: int = 0


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Args:
        title: its heading.
        text: what stands below.
        cases: names of what its tables show.
        needs_text: leave it out where the bank has no text; else also measure on the pictures alone whose very text is
            found with the other class too.
        landscape: names of cases whose heads get a loss landscape.
        left_out: why it stays empty with the bank at hand.
    """

    title: str
    text: str = ""
    cases: tuple[str, ...] = ()
    needs_text: bool = False
    landscape: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a plan file says.

    Args:
        title: of the report.
        cases: by name.
        sections: in the report's order.
        nested: whether calibration, thresholds and the choice of a case come from inner fits.
        deliveries: standard deliveries whose figures are reported beside those of the pictures as they are.
        kinds: kinds of real sources with false-positive rates of their own: name -> sources.
    """

    title: str
    cases: dict[str, Case]
    sections: list[Section]
    nested: bool = False
    deliveries: tuple[str, ...] = ()
    kinds: dict[str, list[str]] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str, str | None]]:
        """(first, second, what the difference shows) of every comparison."""
        return [
            (case.name, other, shows) for case in self.cases.values() for other, shows in case.compared_with.items()
        ]


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Raises:
        ValueError: it is no such file; with the place and what was expected.
    """
    content = read_yaml(path)
    if not isinstance(content.get("sections"), list) or not content["sections"]:
        raise ValueError(f"{path} must hold a list `sections`, see docs/studies.md.")
    _check_names(content, {"title", "recipe", "nested", "deliveries", "kinds", "sections"}, str(path))
    cases: dict[str, Case] = {}
    sections: list[Section] = []
    for number, entry in enumerate(content["sections"], start=1):
        where = f"Section {number} of {path}"
        if not isinstance(entry, dict) or not isinstance(entry.get("title"), str):
            raise ValueError(f"{where} must have a `title`.")
        _check_names(entry, {"title", "text", "cases", "seeds", "needs_text", "landscape"}, where)
        if plot_name(entry["title"]) in (*_LANDSCAPE_PLOTS, *(plot_name(section.title) for section in sections)):
            raise ValueError(
                f"{where} must have a title of its own, by its letters a-z and digits, which name its plot; got "
                f"{entry['title']!r}."
            )
        names = [_case(case, content.get("recipe") or {}, entry, cases, where) for case in entry.get("cases") or []]
        landscape = tuple(entry.get("landscape") or ())
        needs_text, text = bool(entry.get("needs_text")), _one_line(entry.get("text"))
        sections.append(Section(entry["title"], text, tuple(names), needs_text, landscape))
    known = {name for case in cases.values() for name in case.compared_with}
    known |= {name for section in sections for name in section.landscape}
    if unknown := sorted(known - set(cases)):
        raise ValueError(f"`compared_with` and `landscape` of {path} must name its cases, got {', '.join(unknown)}.")
    nested, deliveries = bool(content.get("nested")), tuple(content.get("deliveries") or ())
    return Plan(
        content.get("title") or "Ways to fit, compared",
        cases,
        sections,
        nested,
        deliveries,
        content.get("kinds") or {},
    )


def plot_name(title: str) -> str:
    """What the plot of a section is called, without the ending."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _case(entry: Any, recipe: dict, section: dict, cases: dict[str, Case], where: str) -> str:
    """Name of a section's case; one that is described there is added to `cases`."""
    if isinstance(entry, str):  # one of an earlier section, shown again
        if entry not in cases:
            raise ValueError(f"{where} must name an earlier case or describe one, got {entry!r}.")
        return entry
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(f"{where}: each case must have a `name`.")
    name = entry["name"]
    _check_names(entry, {allowed.name for allowed in fields(Case)} - {"seeds"}, f"Case {name!r}")
    if name in cases or name == CHOSEN:
        raise ValueError(f"Every case must have a name of its own, got {name!r} again.")
    if entry.get("baseline") not in (None, *BASELINES):
        raise ValueError(f"`baseline` of {name!r} must be one of {', '.join(BASELINES)}, got {entry['baseline']!r}.")
    if entry.get("inputs", "all") not in ("all", "image", "text"):
        raise ValueError(f"`inputs` of {name!r} must be all, image or text, got {entry['inputs']!r}.")
    settings = recipe | (entry.get("settings") or {})
    allowed = {of.name for kind in (HeadArguments, RobustTrainingArguments) for of in fields(kind)}
    _check_names(settings, allowed, f"`settings` of {name!r}")
    _check_without(entry.get("without") or [], f"`without` of {name!r}")
    compared = entry.get("compared_with") or {}
    if not isinstance(compared, dict):
        compared = dict.fromkeys([compared] if isinstance(compared, str) else compared)
    cases[name] = Case(
        **entry
        | {
            "why": _one_line(entry.get("why")),
            "settings": typed(_TYPED, settings, f"`settings` of {name!r}"),
            "compared_with": compared,
            "seeds": section.get("seeds") or 0,
        }
    )
    return name


def _check_without(entries: Any, where: str) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{where} must be a list of what is left out, see docs/studies.md, got {entries!r}.")
    for entry in entries:
        _check_names(entry, (*LEFT_OUT_BY, "share"), where)
        share = entry.get("share", 1)
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"{where}: `share` must be above 0 and at most 1, got {share!r}.")


def _check_names(entry: dict, allowed: Iterable[str], where: str) -> None:
    if unknown := sorted(set(entry) - set(allowed)):
        raise ValueError(f"{where} must not hold {', '.join(unknown)}; it may hold {', '.join(sorted(allowed))}.")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


__all__ = ["CHOSEN", "LEFT_OUT_BY", "SHIPPED", "Case", "Plan", "Section", "plot_name", "read_plan"]
