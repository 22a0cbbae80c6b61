"""Options of `python -m train features`."""

from dataclasses import dataclass, field


@dataclass
class FeatureArguments:
    """How to embed."""

    output: str = field(metadata={"help": "Folder of the bank; an interrupted run goes on where it stopped."})
    backbone: str = field(
        default="default",
        metadata={"help": "`default`, or by Hub id or folder: a CLIP, SigLIP, MetaCLIP 2, DINOv2 or DINOv3."},
    )
    image_layers: list[int] = field(
        default_factory=list,
        metadata={"help": "Blocks of the image tower whose tokens are stored beside the embedding, 1 the first."},
    )
    image_tokens: list[str] = field(
        default_factory=list, metadata={"help": "Which tokens: `class` (the default), `patch_mean`."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the square that the tower sees; the backbone's own by default. More pixels "
            "cost more time: 336 instead of 224, 2.4 times."
        },
    )
    views: int = field(default=4, metadata={"help": "Views a picture; the first is the picture as it is."})
    probed: int = field(
        default=0,
        metadata={
            "help": "Pictures, half of each class, that are embedded under every standard delivery too, the first of "
            "every source first. They are not trained on: `fit` and `evaluate` measure robustness by them."
        },
    )
    deliveries: list[str] = field(
        default_factory=list,
        metadata={"help": "Standard deliveries, such as web and hard, that every picture is embedded under too."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the random deliveries."})
    batch_size: int = field(default=16, metadata={"help": "Pictures a forward pass."})


__all__ = ["FeatureArguments"]
