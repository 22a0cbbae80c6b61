"""Options of `python -m train ablate` and `compare`."""

from dataclasses import dataclass, field

from ..options import SourceArguments, TargetArguments


@dataclass
class AblationArguments(SourceArguments):
    """What to study. The recipe is that of the training arguments; their `seed` and `output_dir` are not used."""

    bank: str = field(metadata={"help": "Feature bank made by `python -m train features`."})
    output: str = field(metadata={"help": "Folder of the report; an interrupted study goes on where it stopped."})
    folds: int = field(default=5, metadata={"help": "Groups of sources, held out in turn."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the fits."})


@dataclass
class CompareArguments(SourceArguments, TargetArguments):
    """What to compare, on which data. The plan's recipe is that of the training arguments, which it may change."""

    plan: str = field(metadata={"help": "YAML file of attempts: see docs/studies.md."})
    bank: str = field(
        metadata={"help": "Feature bank made with `--deliveries web hard`, or `--probe_per_source` of some pictures."}
    )
    output: str = field(metadata={"help": "Folder of the table; an interrupted comparison goes on where it stopped."})
    folds: int = field(default=5, metadata={"help": "Groups of sources, held out in turn; at least 3."})
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2, 3, 4],
        metadata={"help": "Seeds; inner fits have the first."},
    )


__all__ = ["AblationArguments", "CompareArguments"]
