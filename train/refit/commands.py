"""`python -m train refit`."""

from pathlib import Path

from ..data.options import DataArguments
from .copying import describe, write_copy
from .options import RefitArguments
from .refitting import refit_checkpoint


def refit(arguments: RefitArguments, data: DataArguments) -> None:
    """Correct a checkpoint, print what was found, and write the copy where it is better or asked for.

    Raises:
        ValueError: it is not better, and why; or what `refit_checkpoint` raises.
    """
    output = Path(arguments.output)
    if output.exists():
        raise ValueError(f"{output} exists: choose a new folder, so that no checkpoint is overwritten.")
    detector, correction, judged = refit_checkpoint(arguments, data)
    print(describe(correction))
    if judged.why_not and not arguments.anyway:
        raise ValueError(
            f"Not better. {' '.join(judged.why_not)} Nothing was written: give more pictures of more sources, or "
            "--anyway to write the copy all the same."
        )
    write_copy(detector, correction, judged, output)
    print(f"Not better. {' '.join(judged.why_not)}" if judged.why_not else "Better by all that was measured.")
    print(f"written: {output}")
