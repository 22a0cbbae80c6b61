"""Options of `python -m train fit` and `known_data`."""

from dataclasses import dataclass, field

from ..options import HoldOutArguments, SourceArguments, TargetArguments

# Each source on its own.
DEFAULT_FOLDS = 0


@dataclass(kw_only=True)
class HeadArguments:
    """What the head reads, and its size."""

    image_layers: list[int] = field(
        default_factory=list,
        metadata={"help": "Blocks whose tokens the head sees beside the embedding; none by default, as in the paper."},
    )
    image_tokens: list[str] = field(
        default_factory=list, metadata={"help": "Which tokens: `class` (the default), `patch_mean`."}
    )
    head_components: int | None = field(
        default=None,
        metadata={
            "help": "Principal components of each part of the image features, at most half as many as there "
            "are rows to fit on; all as they are, else."
        },
    )
    head_depth: int = field(default=3, metadata={"help": "Blocks of the head. Paper: 3."})
    head_width: int | None = field(default=None, metadata={"help": "Width of the head; its input's by default."})
    head_dropout: float = field(default=0.335, metadata={"help": "Dropout of the head. Reference: 0.335."})


@dataclass
class FitArguments(HoldOutArguments, TargetArguments, HeadArguments):
    """What to fit, and how to hold pictures out."""

    bank: str = field(metadata={"help": "Feature bank, or folder of banks, by `python -m train features`."})
    folds: int = field(
        default=DEFAULT_FOLDS,
        metadata={"help": "Groups of sources, or periods, to hold out in turn; 0 = one source at a time."},
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side in pixels of the square that the bank's tower must have seen; any by default."},
    )
    set_aside: int = field(
        default=0,
        metadata={
            "help": "Sources, half of each class, that no fit sees: the checkpoint carries the features of their "
            "pictures, by which `refit` judges a change of it. Those with the lowest SHA-256 of their names."
        },
    )
    head_output: str | None = field(
        default=None,
        metadata={
            "help": "Also write configuration, head, processor, known data, evaluation and card here, without the "
            "backbone."
        },
    )

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        super().__post_init__()
        self.check_folds(self.folds, DEFAULT_FOLDS)


@dataclass
class KnownDataArguments(SourceArguments):
    """Which data, and which checkpoint it belongs to."""

    bank: str = field(metadata={"help": "Feature bank that the head was fitted on; clean views are enough."})
    output: str = field(metadata={"help": "Checkpoint folder, or that of `fit --head_output`; its head stays."})


__all__ = ["FitArguments", "HeadArguments", "KnownDataArguments"]
