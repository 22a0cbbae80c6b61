"""Options of `python -m train ablate` and `compare`."""

from dataclasses import dataclass, field

from ..options import HoldOutArguments, TargetArguments

DEFAULT_FOLDS = 5


@dataclass
class StudyArguments(HoldOutArguments, TargetArguments):
    """What to study, on which data.

    The plan's cases change the recipe that the other arguments describe.
    """

    bank: str = field(metadata={"help": "Feature bank, or folder of banks, by `python -m train features`."})
    output: str = field(metadata={"help": "Folder of the report; an interrupted study goes on where it stopped."})
    plan: str = field(
        default="ablation",
        metadata={"help": "YAML file of cases (docs/studies.md), or `ablation` or `nested`, which ship."},
    )
    folds: int = field(
        default=DEFAULT_FOLDS,
        metadata={"help": "Groups of sources, or periods, held out in turn; at least 3 for a nested plan."},
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the fits; inner fits have the first."}
    )

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        super().__post_init__()
        self.check_folds(self.folds, DEFAULT_FOLDS)


@dataclass
class CompareArguments(StudyArguments):
    """The same with a plan that must be named."""

    plan: str = field(metadata={"help": "YAML file of cases (docs/studies.md), or `nested`, which ships."})


__all__ = ["CompareArguments", "StudyArguments"]
