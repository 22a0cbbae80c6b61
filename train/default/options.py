"""Options of `python -m train default`."""

from dataclasses import dataclass, field


@dataclass
class DefaultArguments:
    """Which pictures, and where to."""

    data: str = field(
        metadata={
            "help": "Folder of Parquet files of labelled pictures, with pictures.csv: what else is known of each."
        }
    )
    cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the banks, of the fits and of what is done; `default` in the project's cache folder, "
            "else. A run that was interrupted goes on there."
        },
    )
    recipe: str | None = field(
        default=None, metadata={"help": "Settings of `fit` (YAML); checkpoints/default/fit.yaml, else."}
    )
    backbone: str = field(
        default="default", metadata={"help": "As that of `features`; another than `default` needs an --output."}
    )
    output: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a detector of your own, with its card and its report. Without it the embedded default "
            "is made: checkpoints/default, and every page of the project that shows its figures."
        },
    )


__all__ = ["DefaultArguments"]
