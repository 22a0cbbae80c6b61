"""Fix the false-alarm rate on one's own photographs: a threshold with a finite-sample guarantee.

Split conformal prediction: of n real photographs the k-th smallest probability with k = ceil((n + 1)(1 - target)) is
the threshold. A new photograph that is exchangeable with them (same camera, editors, ways of arriving) lies above it
with probability target or less, whatever the detector and whatever n, on average over the draws of the n photographs.
Given these n, the rate itself is Beta(n + 1 - k, k) distributed where scores have no ties, smaller where they have.

References:
    Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Vovk, "Conditional Validity of Inductive
    Conformal Predictors", 2012.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta
from tqdm import tqdm

from modeling.detector import Detection, Detector
from modeling.files import new_folder

from .options import CalibrateArguments

BATCH = 16


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it promises.

    Args:
        threshold: "generated" at or above this probability; above 1 where n is too small to promise anything.
        target_fpr: the promised bound.
        photographs: n.
        flagged: how many of the n are at or above it.
        expected_fpr: mean false-alarm rate over draws of n photographs, at most `target_fpr`.
        fpr_bound_95: the rate of this very threshold is at most this with 95 % confidence.
    """

    threshold: float
    target_fpr: float
    photographs: int
    flagged: int
    expected_fpr: float
    fpr_bound_95: float


def conformal_operating_point(probabilities: ArrayLike, target_fpr: float) -> OperatingPoint:
    """Choose the threshold for the probabilities of real photographs.

    Args:
        probabilities: (n,) P(generated) of real photographs, each in [0, 1].
        target_fpr: in (0, 1). Under 1 / (n + 1) nothing can be promised but to flag nothing.

    Raises:
        ValueError: no photographs, a probability out of range, or `target_fpr` out of range.
    """
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64))
    if not 0 < target_fpr < 1:
        raise ValueError(f"`target_fpr` must be in (0, 1), got {target_fpr}.")
    if ordered.ndim != 1 or not len(ordered) or not ((ordered >= 0) & (ordered <= 1)).all():
        raise ValueError(f"`probabilities` must be one or more numbers in [0, 1], got {len(ordered)} to choose from.")
    n = len(ordered)
    # Rounded first: 1 - 0.05 is a little under 0.95, and a rank too high would flag nothing.
    rank = math.ceil(round((n + 1) * (1 - target_fpr), 9))
    if rank > n:
        return OperatingPoint(math.nextafter(1, 2), target_fpr, n, 0, 0.0, 0.0)
    # Above the k-th smallest: a verdict is "generated" at the threshold itself.
    threshold = math.nextafter(float(ordered[rank - 1]), 2)
    return OperatingPoint(
        threshold=threshold,
        target_fpr=target_fpr,
        photographs=n,
        flagged=int((ordered >= threshold).sum()),
        expected_fpr=(n + 1 - rank) / (n + 1),
        fpr_bound_95=float(beta.ppf(0.95, n + 1 - rank, rank)),
    )


def calibrate_checkpoint(arguments: CalibrateArguments) -> tuple[OperatingPoint, list[Detection]]:
    """Write a copy of a checkpoint whose threshold keeps the target on these photographs.

    Returns:
        The operating point, and one detection for each file that could not be read.

    Raises:
        ValueError: no folder, no readable photograph in it, `output` exists, or a setting out of range.
    """
    folder, output = Path(arguments.data), Path(arguments.output)
    if not folder.is_dir():
        raise ValueError(f"`data` must be a folder of photographs, got {arguments.data!r}.")
    if output.exists():
        raise ValueError(f"{output} exists: choose a new folder, so that no checkpoint is overwritten.")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    detector = Detector.from_pretrained(arguments.checkpoint)
    detections: list[Detection] = []
    with tqdm(total=len(files), unit="photograph", desc="calibrate") as progress:
        for start in range(0, len(files), BATCH):
            detections += detector.detect_many(files[start : start + BATCH])
            progress.update(len(detections) - start)
    probabilities = [detection.probability for detection in detections if detection.probability is not None]
    if not probabilities:
        raise ValueError(f"{folder} holds no readable photograph ({len(files)} files).")
    point = conformal_operating_point(probabilities, arguments.target_fpr)
    _write_copy(detector, point, output)
    named = zip(files, detections, strict=True)
    return point, [_with_name(file, detection) for file, detection in named if detection.error is not None]


def _with_name(file: Path, detection: Detection) -> Detection:
    return Detection(error=f"{file}: {detection.error}", model=detection.model)


def _write_copy(detector: Detector, point: OperatingPoint, output: Path) -> None:
    """Save model, processor, tokenizer and known data with the new threshold, all or nothing."""
    config = detector.model.config
    config.generated_threshold = point.threshold
    config.real_threshold = min(config.real_threshold, point.threshold)
    config.operating_point = as_field(point)
    with new_folder(output) as folder:
        detector.model.save_pretrained(folder)
        detector.processor.save_pretrained(folder)
        if detector.tokenizer is not None:
            detector.tokenizer.save_pretrained(folder)
        if detector.known_data is not None:
            detector.known_data.save(folder)


def as_field(point: OperatingPoint) -> dict:
    """What the configuration's `operating_point` says of it."""
    return {
        "target_fpr": point.target_fpr,
        "measured_on": f"{point.photographs} photographs of the user's own",
        "expected_false_positive_rate": point.expected_fpr,
        "false_positive_rate_bound_95": point.fpr_bound_95,
    }


def describe(point: OperatingPoint) -> str:
    """What can and what cannot be promised, for a person."""
    least = math.ceil(round(1 / point.target_fpr, 9)) - 1
    if point.photographs < least:
        return (
            f"{point.photographs} photographs cannot promise {point.target_fpr:.2%} false alarms: at least {least} "
            "are needed. The copy calls nothing generated."
        )
    return (
        f'"generated" from probability {point.threshold:.4f}: {point.flagged} of your {point.photographs} photographs '
        "are flagged.\n"
        f"Promised: of new photographs like these, {point.expected_fpr:.2%} are flagged on average over draws of "
        f"{point.photographs} photographs (at most {point.target_fpr:.2%}).\n"
        f"For this one threshold the rate is at most {point.fpr_bound_95:.2%} with 95 % confidence; more photographs "
        "bring it closer to the target.\n"
        "Assumed: new photographs come from where these came from (cameras, editors, ways of arriving). Nothing is "
        "promised for others, nor about how many generated pictures are found."
    )


__all__ = [
    "OperatingPoint",
    "as_field",
    "calibrate_checkpoint",
    "conformal_operating_point",
    "describe",
]
