"""Options of `python -m train audit` and `card`."""

from dataclasses import dataclass, field


@dataclass
class AuditArguments:
    """Where to."""

    output: str = field(metadata={"help": "Folder for audit.json and audit.md."})


@dataclass
class CardArguments:
    """Which checkpoint, and which documents show what was measured of it."""

    checkpoint: str = field(
        default="checkpoints/default",
        metadata={
            "help": "Folder with config.json, the evaluation.json that `fit` wrote and, if you like, card.yaml with "
            "what only a person can say."
        },
    )
    card: str | None = field(
        default=None,
        metadata={
            "help": "File for the card: README.md in the folder by default, model_card.md for the embedded default."
        },
    )
    documents: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Documents to rewrite between the marks of their figures. For checkpoints/default: all of the "
            "project that have marks."
        },
    )


@dataclass
class ManifestArguments:
    """Of which data, and where to."""

    data: str = field(
        metadata={
            "help": "Data folder of Parquet files and, where there is one, pictures.csv; or a manifest.csv: its page "
            "is then written again without a picture."
        }
    )
    output: str = field(
        metadata={
            "help": "Folder for data.md and data/: manifest.csv, evidence.csv, sources.csv. `docs` for the project's."
        }
    )


__all__ = ["AuditArguments", "CardArguments", "ManifestArguments"]
