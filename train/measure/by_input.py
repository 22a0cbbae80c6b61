"""Two inputs, two calibrations: pictures with their text, and pictures without one."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling import RobustClipConfig
from modeling.verdicts import CLASSES, GENERATED, REAL, UNCERTAIN

from .bootstrap import with_interval
from .calibration import UNCALIBRATED, Calibration, NotCalibratedError, calibrate, judge_held_out
from .evaluation import verdicts_by_class
from .metrics import roc_auc
from .schema import InputFigures

logger = logging.getLogger(__name__)

WITH_TEXT, WITHOUT_TEXT = "pictures with a text", "all pictures, without their text"
AS_THEY_COME = "all pictures, with a text where there is one"
# For pictures without a text where their scores cannot be calibrated: every one is uncertain.
NO_ANSWER = Calibration(1e-6, 0.0, 0.0, 1.01)


@dataclass(frozen=True)
class Calibrations:
    """What belongs to each input.

    Args:
        with_text: of pictures with a text; of every picture where no text is read.
        without_text: of pictures without one; `None` for the same.
    """

    with_text: Calibration
    without_text: Calibration | None = None

    @classmethod
    def of_config(cls, config: RobustClipConfig) -> "Calibrations":
        """Those of a checkpoint."""
        with_text, without = (Calibration(*config.decision(with_text=given)) for given in (True, False))
        return cls(with_text, None if config.without_text is None else without)

    def judge(self, rows: pd.DataFrame, written: NDArray[np.bool_]) -> pd.DataFrame:
        """Add `probability` and `verdict` to rows that have a `score`, by what belongs to each row's input.

        Args:
            rows: with the score of the row's own input.
            written: (N,) whether a row has a text.
        """
        judged = self.with_text.judge(rows)
        return judged if self.without_text is None else _join(judged, self.without_text.judge(rows), written)


@dataclass(frozen=True)
class Inputs:
    """Held-out scores of the same pictures as they come, and without their text.

    Args:
        pictures: one row a picture: what `calibrate` reads; the score is that of the picture as it comes.
        written: (N,) whether a picture has a text.
        alone: (N,) scores without text; `None` where no text is read.
        fold: (N,) number of each picture's fold.
        targets: what `calibrate` aims at.
    """

    pictures: pd.DataFrame
    written: NDArray[np.bool_]
    alone: NDArray[np.float64] | None
    fold: NDArray[np.int64]
    targets: dict[str, Any]

    @property
    def calibrated_on(self) -> str:
        """What the calibration of pictures with a text is fitted on: all, where a class has too few with one."""
        labels = self.pictures["label"].to_numpy()
        others = (labels[self.written & (self.fold != number)] for number in np.unique(self.fold))
        return WITH_TEXT if self.alone is None or all(len(set(left)) == 2 for left in others) else AS_THEY_COME

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """(N,) which pictures that is."""
        text_alone = self.alone is not None and self.calibrated_on == WITH_TEXT
        return self.written if text_alone else np.ones(len(self.written), dtype=bool)

    def calibrate(self) -> Calibrations:
        """On all held-out scores: what ships."""
        try:
            with_text = calibrate(self.pictures[self.fitted], **self.targets)
        except NotCalibratedError as error:
            logger.warning("%s Figures and head are written, and every verdict is uncertain.", error)
            with_text = UNCALIBRATED
        if self.alone is None:
            return Calibrations(with_text)
        if self.calibrated_on == AS_THEY_COME:
            logger.warning("Too few pictures of a class have a text: those with one are judged by thresholds of all.")
        try:
            return Calibrations(with_text, calibrate(self.without_text(), **self.targets))
        except ValueError as error:
            logger.warning("Pictures without a text get no answer, all are uncertain: %s", error)
            return Calibrations(with_text, NO_ANSWER)

    def judge_held_out(self) -> "HeldOut":
        """By calibrations of the other folds: what to expect of a new source."""
        fitted = self.fitted
        with_text = judge_held_out(self.pictures[fitted], self.fold[fitted], **self.targets)
        if self.alone is None:
            return HeldOut(with_text, with_text, None)
        without = self.without_text()
        try:
            without = judge_held_out(without, self.fold, **self.targets)
        except ValueError:  # as above
            without = without.assign(probability=0.5, verdict=UNCERTAIN, third=2)
        as_they_come = _join(with_text.reindex(self.pictures.index), without, self.written)
        return HeldOut(as_they_come.assign(score=self.pictures["score"]), with_text, without)

    def without_text(self) -> pd.DataFrame:
        """All pictures with their scores without text."""
        return self.pictures.assign(score=self.alone)


@dataclass(frozen=True)
class HeldOut:
    """Rows as `judge_held_out` gives them: each picture as it comes, those with a text, and all without theirs."""

    as_they_come: pd.DataFrame
    with_text: pd.DataFrame
    without_text: pd.DataFrame | None


def measure_input(
    rows: pd.DataFrame, calibration: Calibration, calibrated_on: str, held_out: pd.DataFrame | None = None
) -> InputFigures:
    """Ranking and verdicts of one input.

    Args:
        rows: one row a picture: label, source, score.
        calibration: that of the input.
        calibrated_on: which pictures these are.
        held_out: the same judged by calibrations of the other folds, where there are folds.
    """
    return {
        "on": calibrated_on,
        "pictures": {name: int((rows["label"] == label).sum()) for label, name in enumerate(CLASSES)},
        "auc": with_interval(rows, roc_auc) if rows["label"].nunique() == 2 else None,
        "calibration": {"scale": calibration.scale, "bias": calibration.bias},
        "thresholds": {REAL: calibration.real_threshold, GENERATED: calibration.generated_threshold},
        "verdicts": verdicts_by_class(calibration.judge(rows)),
        "verdicts_of_other_folds": None if held_out is None else verdicts_by_class(held_out),
    }


def _join(with_text: pd.DataFrame, without_text: pd.DataFrame, written: NDArray[np.bool_]) -> pd.DataFrame:
    """The rows of the first where there is a text, of the second elsewhere; both have the same index."""
    answers = [name for name in ("probability", "verdict", "third") if name in without_text]
    chosen = {name: with_text[name].where(written, without_text[name]) for name in answers}
    return without_text.assign(**chosen)


__all__ = ["WITHOUT_TEXT", "WITH_TEXT", "Calibrations", "HeldOut", "Inputs", "measure_input"]
