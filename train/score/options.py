"""Options of `python -m train score`."""

from dataclasses import dataclass, field


@dataclass
class PictureArguments:
    """Where the pictures are."""

    data: str = field(
        metadata={
            "help": "Folder of pictures, of any depth; tar archives (WebDataset) by name, glob, NAME-{000..119}.tar, "
            "folder or URL (https://, hf://); Parquet files by name, glob, folder or URL; a data set that "
            "`save_to_disk` wrote; OWNER/NAME of a data set on the Hub. Labels are not needed."
        }
    )
    config_name: str | None = field(default=None, metadata={"help": "Configuration of a data set on the Hub."})
    split: str = field(default="train", metadata={"help": "Split of a data set on the Hub or of `save_to_disk`."})
    revision: str | None = field(
        default=None,
        metadata={"help": "Commit, branch or tag of a data set on the Hub; by default the newest."},
    )
    image_column: str = field(default="image", metadata={"help": "Column of encoded pictures in a table."})
    id_column: str = field(default="id", metadata={"help": "Column of a table that becomes the key."})


@dataclass
class ScoreArguments:
    """What judges the pictures, and where to."""

    output: str = field(metadata={"help": "Folder of the results; an interrupted run goes on there."})
    model: str = field(default="default", metadata={"help": "Checkpoint by folder or Hub id; the embedded default."})
    batch_size: int = field(default=16, metadata={"help": "Pictures a forward pass."})
    part_size: int = field(
        default=2048,
        metadata={"help": "Pictures of a result file: what a killed process loses at most. A multiple of batch_size."},
    )
    decoders: int | None = field(
        default=None,
        metadata={"help": "Threads that open pictures; by default as many as a process has cores."},
    )


__all__ = ["PictureArguments", "ScoreArguments"]
