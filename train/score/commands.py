"""`python -m train score`."""

from pathlib import Path

from .options import PictureArguments, ScoreArguments
from .parts import PARTS_FOLDER
from .scoring import score


def score_pictures(pictures: PictureArguments, arguments: ScoreArguments) -> None:
    """Judge this process's share of the pictures, and print the totals if it was the last."""
    info = score(pictures, arguments)
    if info is None:
        print("this share is done, others are not yet; if a process was killed, run the same command again")
        return
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in info["verdicts"].items())
    print(f"{info['pictures']:,} pictures: {verdicts}, {info['unreadable']:,} unreadable")
    print(f"written: {Path(arguments.output) / PARTS_FOLDER}, one row a picture (pandas.read_parquet)")
