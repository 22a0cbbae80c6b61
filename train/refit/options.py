"""Options of `python -m train refit`."""

from dataclasses import dataclass, field

from ..options import SourceArguments


@dataclass
class RefitArguments(SourceArguments):
    """Which checkpoint to correct, and where to."""

    output: str = field(metadata={"help": "New folder for the corrected copy of the checkpoint."})
    checkpoint: str = field(default="default", metadata={"help": "Folder or Hub id; the embedded default otherwise."})
    anyway: bool = field(default=False, metadata={"help": "Write the copy even where it was not found better."})


__all__ = ["RefitArguments"]
