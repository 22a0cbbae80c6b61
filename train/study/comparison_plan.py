"""The plan of a comparison: which attempts there are, read from a YAML file (docs/studies.md)."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from ..arguments import RobustTrainingArguments
from ..fit.baselines import BASELINES
from ..fit.fitting import FitArguments
from .fits import Case

# The row that answers for every group with the attempt chosen inside; no attempt may have its name.
CHOSEN = "chosen inside"


@dataclass(frozen=True)
class Plan:
    """What a plan file says.

    Args:
        cases: the attempts, by name.
        why: for each, what is tried and why.
        baseline_of: for each, the name of the attempt that it is compared with, pair by pair.
        kinds: kinds of real sources that get false-alarm rates of their own: name -> sources.
    """

    cases: dict[str, Case]
    why: dict[str, str]
    baseline_of: dict[str, str]
    kinds: dict[str, list[str]]


def read_plan(path: Path) -> Plan:
    """Read and check a plan: `kinds` (optional), `recipe` (optional) and a list `attempts`.

    Raises:
        ValueError: it is no such file; with the place and what was expected.
    """
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or not isinstance(content.get("attempts"), list) or not content["attempts"]:
        raise ValueError(f"{path} must hold a list `attempts`, see docs/studies.md.")
    if unknown := sorted(set(content) - {"kinds", "recipe", "attempts"}):
        raise ValueError(f"{path} must hold `kinds`, `recipe` and `attempts`, got also {', '.join(unknown)}.")
    recipe = content.get("recipe") or {}
    plan = Plan({}, {}, {}, content.get("kinds") or {})
    told = {"name", "why", "bank", "head", "training", "views", "baseline", "compared_with"}
    for number, entry in enumerate(content["attempts"], start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or set(entry) - told:
            raise ValueError(f"Attempt {number} of {path} must have a name, and of {sorted(told)} no others.")
        name, baseline = entry["name"], entry.get("baseline")
        if name in plan.cases or name == CHOSEN:
            raise ValueError(f"Attempt {number} of {path} must have a name of its own, got {name!r} again.")
        if baseline is not None and baseline not in BASELINES:
            raise ValueError(f"`baseline` of {name!r} must be one of {', '.join(BASELINES)}, got {baseline!r}.")
        other = entry.get("compared_with")
        if other is not None and other not in plan.cases:
            raise ValueError(f"`compared_with` of {name!r} must be the name of an earlier attempt, got {other!r}.")
        changes, head = recipe | (entry.get("training") or {}), entry.get("head") or {}
        for part, given, known in (("training", changes, RobustTrainingArguments), ("head", head, FitArguments)):
            if unknown := sorted(set(given) - {allowed.name for allowed in fields(known)}):
                raise ValueError(
                    f"`{part}` of {name!r} must hold fields of {known.__name__}, got also {', '.join(unknown)}."
                )
        plan.cases[name] = Case(
            name,
            changes=changes,
            head=head,
            inputs=entry.get("bank") or "bank",
            views=entry.get("views") or 0,
            baseline=baseline,
        )
        plan.why[name] = " ".join((entry.get("why") or "").split())
        if other is not None:
            plan.baseline_of[name] = other
    return plan


__all__ = ["CHOSEN", "Plan", "read_plan"]
