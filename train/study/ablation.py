"""Ablation study on a feature bank: what each part of the recipe is worth on sources that no fit has seen.

BCE is CVaR with `cvar_alpha` 1; CVaR alone is `cvar_weight` 1, the AUC loss alone `cvar_weight` 0, no SAM `sam_rho` 0.
Everything else of the training arguments stays as given, for every case alike.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from numpy.typing import NDArray
from tqdm import tqdm

from modeling.verdicts import CLASSES

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..features.made_by import git_commit
from ..fit.baselines import BASELINES
from ..measure.sources import join_sources
from . import landscape
from .ablation_report import write_report
from .figures import WORST_SOURCE_PICTURES
from .fits import RATIOS, Case, Study
from .options import AblationArguments

FULL, NO_SAM, BCE = "CVaR + AUC + SAM", "CVaR + AUC", "BCE"
CVAR_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
CVAR_ALPHAS = (0.2, 0.5, 0.8, 1.0)
# Settings of the training that the report states.
_STATED = (
    "cvar_alpha",
    "auc_margin",
    "auc_power",
    "cvar_weight",
    "sam_rho",
    "text_dropout",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "learning_rate",
    "weight_decay",
    "lr_scheduler_type",
)


def ablate(arguments: AblationArguments, training: RobustTrainingArguments) -> dict:
    """Run the study and write report.md, results.json, results.csv and plots to `arguments.output`.

    Returns:
        The results, as written to results.json.

    Raises:
        ValueError: the recipe lacks a part that the study would take away, there are no seeds or a seed twice, or the
            bank's sources do not fill the groups.
    """
    _check_recipe(training)
    if not arguments.seeds or len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(f"`seeds` must be at least one number, each once, got {arguments.seeds}.")
    bank = FeatureBank.load(arguments.bank)
    bank = bank.select((bank.rows["view"] >= 0).to_numpy())  # without what only measures robustness
    join_sources(bank.rows, arguments.merge_sources)
    study = Study(bank, Path(arguments.output) / "fits", training, arguments.folds)
    plan = _Plan(study, arguments.seeds)
    plan.run()
    results = {
        "settings": _settings(study, arguments, training),
        "recipes": dict(plan.recipes()),
        "comparisons": list(plan.comparisons()),
        "sensitivity": {name: list(plan.sensitivity(name)) for name in plan.sensitivity_cases},
        "imbalance": list(plan.imbalance()),
        "inputs": plan.inputs() if plan.input_cases else None,
        "landscape": plan.landscape(),
    }
    write_report(results, Path(arguments.output))
    return results


def _check_recipe(training: RobustTrainingArguments) -> None:
    """Each part must be there to be taken away."""
    parts = {
        "cvar_weight": (0 < training.cvar_weight < 1, "between 0 and 1"),
        "cvar_alpha": (training.cvar_alpha < 1, "below 1"),
        "sam_rho": (training.sam_rho > 0, "above 0"),
    }
    for name, (present, expected) in parts.items():
        if not present:
            raise ValueError(
                f"`{name}` must be {expected} for an ablation, got {getattr(training, name)}: give the full recipe, "
                "the study takes its parts away."
            )


def recipe_cases() -> dict[str, Case]:
    """Eight recipes and the logistic regressions, by name."""
    losses: dict[str, dict[str, float]] = {
        BCE: {"cvar_weight": 1.0, "cvar_alpha": 1.0},
        "CVaR": {"cvar_weight": 1.0},
        "AUC": {"cvar_weight": 0.0},
        NO_SAM: {},
    }
    cases = []
    for name, changes in losses.items():
        keep = name == NO_SAM
        cases.append(Case(name, changes | {"sam_rho": 0.0}, keep_head=keep))
        cases.append(Case(f"{name} + SAM", changes, keep_head=keep))
    cases += [Case(name, baseline=name) for name in BASELINES]
    return {case.name: case for case in cases}


class _Plan:
    """The cases of every part of the study, and the results of each part."""

    def __init__(self, study: Study, seeds: list[int]) -> None:
        self.study, self.seeds = study, seeds
        self.cases = recipe_cases()
        training = study.training
        values = {"cvar_weight": CVAR_WEIGHTS, "cvar_alpha": CVAR_ALPHAS}
        self.sensitivity_cases = {
            name: {value: Case("", {name: value}) for value in sorted({*grid, getattr(training, name)})}
            for name, grid in values.items()
        }
        self.imbalance_cases = {
            ratio: {name: dataclasses.replace(self.cases[name], ratio=ratio, keep_head=False) for name in (BCE, FULL)}
            for ratio in RATIOS
        }
        self.input_cases: dict[str, Case] = {}
        embeds = study.banks["bank"].text_embeds
        if embeds is not None and bool((embeds != 0).any()):
            # Text that is hidden at random would leave a text-only head half of its samples to learn nothing from.
            text_only = Case("", {"text_dropout": 0.0}, inputs="text")
            self.input_cases = {"image only": Case("", inputs="image"), "text only": text_only}

    def run(self) -> None:
        """Make all fits."""
        every = [*self.cases.values(), *self.input_cases.values()]
        every += [case for cases in self.imbalance_cases.values() for case in cases.values()]
        points = [case for cases in self.sensitivity_cases.values() for case in cases.values()]
        self.study.run([(case, self._seeds(case)) for case in every] + [(case, self.seeds[:1]) for case in points])

    def recipes(self) -> Iterator[tuple[str, dict]]:
        """(name, figures) of each recipe and baseline."""
        for name, case in tqdm(self.cases.items(), desc="figures", unit="recipe"):
            yield name, self.study.rows.measure(self._scores(case))

    def comparisons(self) -> Iterator[dict]:
        """Paired differences: the full recipe minus every other, then what single parts change elsewhere."""
        pairs = [(FULL, name) for name in self.cases if name != FULL]
        pairs += [(f"{name} + SAM", name) for name in (BCE, "CVaR", "AUC")]
        pairs += [("CVaR", BCE), ("CVaR + SAM", f"{BCE} + SAM")]
        for first, second in tqdm(pairs, desc="comparisons", unit="pair"):
            figures = self.study.rows.compare(self._scores(self.cases[first]), self._scores(self.cases[second]))
            yield {"first": first, "second": second, "figures": figures}

    def sensitivity(self, name: str) -> Iterator[dict]:
        """For each value of a setting: figures, and their difference from the recipe's own value."""
        recipe = self.study.scores(self.cases[FULL], self.seeds[:1])
        for value, case in tqdm(self.sensitivity_cases[name].items(), desc=name, unit="value"):
            scores = self.study.scores(case, self.seeds[:1])
            measured = self.study.rows.measure(scores)
            yield {"value": value, **measured, "minus_recipe": self.study.rows.compare(scores, recipe)}

    def imbalance(self) -> Iterator[dict]:
        """For each ratio: pictures fitted on (mean over groups and seeds), figures of both cases, and difference."""
        for ratio, cases in tqdm(self.imbalance_cases.items(), desc="imbalance", unit="ratio"):
            scores = {name: self._scores(case) for name, case in cases.items()}
            yield {
                "ratio": ratio,
                "pictures": self.study.pictures(cases[FULL], self.seeds),
                "cases": {name: self.study.rows.measure(values) for name, values in scores.items()},
                "full_minus_bce": self.study.rows.compare(scores[FULL], scores[BCE]),
            }

    def inputs(self) -> dict:
        """Figures by input, and on the pictures whose very text is found with both classes."""
        scores = {name: self._scores(case) for name, case in self.input_cases.items()}
        scores["image + text"] = self._scores(self.cases[FULL])
        mask = self.study.shares_text()
        labels = self.study.rows.rows["label"].to_numpy()
        pictures = {name: int((mask & (labels == label)).sum()) for label, name in enumerate(CLASSES)}
        same_text: dict = {"pictures": pictures, "figures": None}
        if min(pictures.values()) >= WORST_SOURCE_PICTURES:
            rows = self.study.rows.part(mask)
            same_text["figures"] = {name: rows.measure(values[mask])["figures"] for name, values in scores.items()}
        compared = {
            f"image + text minus {name}": self.study.rows.compare(scores["image + text"], scores[name])
            for name in self.input_cases
        }
        all_text = {name: self.study.rows.measure(values)["figures"] for name, values in scores.items()}
        return {"figures": all_text, "comparisons": compared, "same_text": same_text}

    def landscape(self) -> dict:
        """Landscapes of the full recipe's heads with and without SAM, one a seed; the plane for the first seed."""
        pairs = [(name, seed) for name in (NO_SAM, FULL) for seed in self.seeds]
        heads: dict[str, list[dict]] = {NO_SAM: [], FULL: []}
        for name, seed in tqdm(pairs, desc="landscape", unit="head"):
            measured = self.study.landscape(self.cases[name], seed, with_grid=seed == self.seeds[0])
            heads[name].append({"seed": seed, **measured})
        return {
            "steps": landscape.STEPS.tolist(),
            "grid_steps": landscape.GRID_STEPS.tolist(),
            "rise_at": landscape.RISE_AT,
            "heads": heads,
        }

    def _seeds(self, case: Case) -> list[int]:
        """A logistic regression has no seed."""
        return self.seeds[:1] if case.baseline else self.seeds

    def _scores(self, case: Case) -> NDArray:
        return self.study.scores(case, self._seeds(case))


def _settings(study: Study, arguments: AblationArguments, training: RobustTrainingArguments) -> dict:
    """What the report must say of data and settings."""
    rows, info = study.rows.rows, study.banks["bank"].info
    by_class = {name: rows[rows["label"] == label] for label, name in enumerate(CLASSES)}
    return {
        "full": FULL,
        "no_sam": NO_SAM,
        "bce": BCE,
        "baselines": list(BASELINES),
        "backbone": info["backbone"],
        "bank_fingerprint": info["fingerprint"],
        "views": len(study.labels),
        "pictures": {name: len(part) for name, part in by_class.items()},
        "sources": {name: int(part["source"].nunique()) for name, part in by_class.items()},
        "folds": arguments.folds,
        "fold_pictures": [
            {name: int((part["label"] == label).sum()) for label, name in enumerate(by_class)}
            for part in (rows[study.rows.folds == fold] for fold in range(arguments.folds))
        ],
        "seeds": arguments.seeds,
        "merge_sources": arguments.merge_sources,
        "training": {name: value for name, value in training.to_dict().items() if name in _STATED},
        "git_commit": git_commit(),
    }


__all__ = ["ablate", "recipe_cases"]
