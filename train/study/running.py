"""Run a plan on a feature bank: fits by groups of sources and seeds, then figures, paired differences and a report.

For every case, seed and group one fit leaves the group out and scores it. A nested plan also makes inner fits, from
which thresholds and a choice come (`nested`).
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from modeling.verdicts import CLASSES

from ..arguments import RobustTrainingArguments
from ..features.bank import STANDARD_VIEW, FeatureBank
from ..features.made_by import made_by
from ..fit.options import HeadArguments
from ..measure.bootstrap import DRAWS
from ..measure.sources import protocol, split
from . import landscape
from .banks import check_bank, load_bank, possible, same_views
from .figures import WORST_SOURCE_PICTURES, HeldOut
from .fits import Fit, Study
from .nested import CLEAN, Answers, Nested
from .options import StudyArguments
from .plan import CHOSEN, SHIPPED, Case, Plan, Section, read_plan
from .report import write_report
from .reported import candidates, reported

# Settings of the recipe that the report states.
_STATED = (
    *("cvar_alpha", "auc_margin", "auc_power", "cvar_weight", "sam_rho", "source_balance", "text_dropout"),
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "learning_rate", "weight_decay"),
    "lr_scheduler_type",
)
# And of a case.
_OF_CASE = ("settings", "baseline", "bank", "inputs", "ratio", "views")


def run_study(
    arguments: StudyArguments, head: HeadArguments, training: RobustTrainingArguments, *, draws: int = DRAWS
) -> dict:
    """Make every fit of the plan, and write report.md, results.json, results.csv and plots to `arguments.output`.

    Several processes that are given the same output share the fits.

    Args:
        arguments: plan, data, groups and seeds.
        head: of the recipe that the plan's cases change.
        training: of the recipe; `seed` and `output_dir` are not used.
        draws: of the bootstrap.

    Returns:
        The results, as written to results.json.

    Raises:
        ValueError: a plan that cannot be read, settings out of range, or a bank that lacks what the plan needs: its
            deliveries, text, or sources for the groups; or that has near-duplicates in two sources.
    """
    plan = read_plan(SHIPPED.get(arguments.plan) or Path(arguments.plan))
    if not arguments.seeds or len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(f"`seeds` must be at least one number, each once, got {arguments.seeds}.")
    bank = load_bank(arguments.bank, arguments.merge_sources, plan)
    check_bank(bank, plan)
    results = Run(bank, plan, arguments, head, training, draws).results()
    write_report(results, Path(arguments.output))
    return results


class Run:
    """The fits of a plan, and what is measured on them.

    Args:
        bank: as `load_bank` gives it.
        plan: what is fitted.
        arguments: groups, seeds and targets; other banks are loaded with its `merge_sources`.
        head: of the recipe.
        training: of the recipe.
        draws: of the bootstrap.
    """

    def __init__(
        self,
        bank: FeatureBank,
        plan: Plan,
        arguments: StudyArguments,
        head: HeadArguments,
        training: RobustTrainingArguments,
        draws: int,
    ) -> None:
        self.plan, self.arguments, self.seeds = possible(plan, bank), arguments, arguments.seeds
        largest = max([1, *(case.ratio for case in self.plan.cases.values())])
        folder = Path(arguments.output) / "fits"
        group = split(bank.rows, arguments.hold_out, arguments.folds)
        if plan.nested and group.max() < 2:
            raise ValueError(
                f"A nested plan leaves two groups out together and needs 3 or more, got {group.max() + 1}."
            )
        self.study = study = Study(bank, folder, head, training, group, largest_ratio=largest)
        for name in {case.bank for case in self.plan.cases.values()} - {""}:
            study.banks[name] = same_views(bank, name, load_bank(name, arguments.merge_sources, plan))
        delivery = bank.rows["delivery"].where(bank.rows["view"] == STANDARD_VIEW)
        self.views = {CLEAN: study.clean} | {name: np.flatnonzero(delivery == name) for name in plan.deliveries}
        self.nested = Nested(study, self.views, self.seeds, arguments.targets, draws) if plan.nested else None
        self.held_out = {
            name: HeldOut(bank.rows.iloc[rows], study.group[rows], draws) for name, rows in self.views.items()
        }

    def results(self) -> dict:
        """Make the fits and measure."""
        self.study.make(self.fits())
        answers = {name: self.answers(case) for name, case in self.plan.cases.items()}
        chosen = self._choose(answers)
        cases = self.plan.cases
        same = [
            (first, second)
            for first, second, _ in self.plan.pairs
            if self.study.is_same(cases[first], cases[second], self.seeds[0])
        ]
        return {
            "title": self.plan.title,
            "settings": self._settings(),
            "sections": [self._section(section, answers) for section in self.plan.sections],
            "cases": {
                name: self.measure(self.plan.cases.get(name), found)
                for name, found in tqdm(answers.items(), desc="figures", unit="case")
            },
            "differences": [
                {"first": first, "second": second, "shows": shows, "figures": self._difference(answers, first, second)}
                for first, second, shows in tqdm(self.plan.pairs, desc="differences", unit="pair")
                if (first, second) not in same
            ],
            "same_fits": [list(pair) for pair in same],
            "nested": chosen,
            "landscape": self._landscape(),
            "made_by": made_by(self.study.banks[""]),
        }

    def fits(self) -> Iterator[Fit]:
        """Every fit that the plan needs."""
        for case in self.plan.cases.values():
            for seed in self._seeds(case):
                yield from (Fit(case, seed, (group,)) for group in self.study.groups)
            if self.nested:
                yield from self.nested.inner_fits(case)
        for case in self._with_landscape():
            yield from (Fit(case, seed, (0,), keep_head=True) for seed in self._seeds(case))

    def _seeds(self, case: Case) -> list[int]:
        """A logistic regression has no seed."""
        return self.seeds[: 1 if case.baseline else case.seeds or len(self.seeds)]

    def _with_landscape(self) -> list[Case]:
        return [self.plan.cases[name] for section in self.plan.sections for name in section.landscape]

    def answers(self, case: Case) -> Answers:
        """Scores of a case; a nested plan's are probabilities, with verdicts."""
        scores = self.study.scores(case, self._seeds(case))
        return (
            self.nested.judge(case, scores)
            if self.nested
            else Answers(scores, *np.zeros((2, *scores.shape), dtype=bool))
        )

    def _choose(self, answers: dict[str, Answers]) -> dict | None:
        """By group the head with the best inner AUC; what these say becomes one more row."""
        if self.nested is None:
            return None
        inner = {name: self.nested.inner_auc(case) for name, case in self.plan.cases.items()}
        names = candidates(self.plan.cases)
        chosen = [max(names, key=lambda name: inner[name][group]) for group in self.study.groups]
        answers[CHOSEN] = self.nested.assemble(answers, chosen)
        figures = reported(self.plan.cases, self.study, self.held_out[CLEAN], answers, chosen, self._protocol())
        return {"inner_auc": inner, "chosen": chosen, "reported": figures}

    def _protocol(self) -> str:
        return protocol(self.study.banks[""].rows, self.arguments.hold_out, self.arguments.folds)

    def measure(self, case: Case | None, answers: Answers) -> dict:
        """All figures of a case, or of what was chosen for each group (`None`)."""
        measured: dict = {
            "figures": {
                name: self.held_out[name].measure(answers.probability[rows]) for name, rows in self.views.items()
            },
            "worst_source": self.held_out[CLEAN].worst_source(answers.probability[self.study.clean]),
            "families": self.held_out[CLEAN].families(answers.probability[self.study.clean])
            if self.arguments.hold_out == "generator"
            else None,
            "rates": self.nested.rates(answers, self.plan.kinds) if self.nested else None,
            "uncalibrated_groups": answers.uncalibrated,
        }
        if case is not None:
            seeds = self._seeds(case)
            first = [self.study.stored(Fit(case, seeds[0], (group,))) for group in self.study.groups]
            measured |= {
                "why": case.why,
                "settings": {name: value for name, value in asdict(case).items() if value and name in _OF_CASE},
                "seeds": seeds,
                "fitted_on": self.study.fitted_on(case, seeds),
                "seconds_per_fit": float(np.mean([fit["seconds"].item() for fit in first])),
            }
        return measured

    def _difference(self, answers: dict[str, Answers], *names: str) -> dict:
        return self.held_out[CLEAN].compare(*(answers[name].probability[self.study.clean] for name in names))

    def _section(self, section: Section, answers: dict[str, Answers]) -> dict:
        """What the report shows under a heading."""
        names = [*section.cases, *([CHOSEN] if self.nested and section is self.plan.sections[0] else [])]
        with_text = section.needs_text and not section.left_out
        return {
            **{name: getattr(section, name) for name in ("title", "text", "left_out")},
            "cases": names,
            "landscape": list(section.landscape),
            "same_text": self._same_text({name: answers[name] for name in names}) if with_text else None,
        }

    def _same_text(self, answers: dict[str, Answers]) -> dict:
        """Figures on the pictures whose very text is found with both classes, if there are enough of both."""
        mask = self.study.shares_text()
        labels = self.study.labels[self.study.clean]
        pictures = {name: int((mask & (labels == label)).sum()) for label, name in enumerate(CLASSES)}
        if min(pictures.values()) < WORST_SOURCE_PICTURES:
            return {"pictures": pictures, "figures": None}
        rows = self.held_out[CLEAN].part(mask)
        figures = {name: rows.measure(found.probability[self.study.clean][mask]) for name, found in answers.items()}
        return {"pictures": pictures, "figures": figures}

    def _landscape(self) -> dict | None:
        """Landscapes of the heads of some cases, one a seed; the plane for the first seed."""
        heads: dict[str, list[dict]] = {}
        for case in self._with_landscape():
            for seed in tqdm(self._seeds(case), desc=f"landscape, {case.name}", unit="head"):
                measured = self.study.landscape(case, seed, with_grid=seed == self.seeds[0])
                heads.setdefault(case.name, []).append({"seed": seed, **measured})
        steps = {"steps": landscape.STEPS.tolist(), "grid_steps": landscape.GRID_STEPS.tolist()}
        return {**steps, "rise_at": landscape.RISE_AT, "heads": heads} if heads else None

    def _settings(self) -> dict:
        """What the report must say of data and settings."""
        study, rows = self.study, self.study.banks[""].rows.iloc[self.study.clean]
        by_class = {name: rows[rows["label"] == label] for label, name in enumerate(CLASSES)}
        recipe = {name: value for name, value in study.training.to_dict().items() if name in _STATED and value != -1}
        return {
            "pictures": {name: len(part) for name, part in by_class.items()},
            "sources": {name: int(part["source"].nunique()) for name, part in by_class.items()},
            "views": len(study.labels),
            "delivered_pictures": {name: len(rows) for name, rows in self.views.items() if name != CLEAN},
            "folds": len(study.groups),
            "protocol": self._protocol(),
            "pictures_of_group": [
                {name: int((study.group[part.index] == group).sum()) for name, part in by_class.items()}
                for group in study.groups
            ],
            "seeds": self.seeds,
            "merge_sources": self.arguments.merge_sources,
            "targets": self.arguments.reported_targets if self.nested else None,
            "recipe": recipe | asdict(study.head),
        }


__all__ = ["Run", "run_study"]
