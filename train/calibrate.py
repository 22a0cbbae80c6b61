"""`python -m train calibrate`: a copy of a checkpoint with the operating point for one's own photographs."""

from pathlib import Path

from tqdm import tqdm

from modeling.detector import Detection, Detector
from modeling.files import new_folder

from .measure.conformal import OperatingPoint, as_field, conformal_operating_point, least_photographs
from .options import CalibrateArguments

BATCH = 16


def run(arguments: CalibrateArguments) -> None:
    """Calibrate, and print what is promised and what could not be read."""
    point, unreadable = calibrate_checkpoint(arguments)
    print(describe(point), *(f"left out: {detection.error}" for detection in unreadable), sep="\n")
    print(f"written: {arguments.output}")


def calibrate_checkpoint(arguments: CalibrateArguments) -> tuple[OperatingPoint, list[Detection]]:
    """Write a copy of a checkpoint whose threshold keeps the target on these photographs.

    Where pictures with and without a text have thresholds of their own, it is the one for those without.

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
    if config.without_text is None:
        config.generated_threshold = point.threshold
        config.real_threshold = min(config.real_threshold, point.threshold)
        config.operating_point = as_field(point)
    else:  # the photographs have no text, and say nothing of pictures that have one
        real = min(config.without_text["real_threshold"], point.threshold)
        config.without_text = config.without_text | {"real_threshold": real, "generated_threshold": point.threshold}
        config.operating_point = (config.operating_point or {}) | {"without_text": as_field(point)}
    with new_folder(output) as folder:
        detector.model.save_pretrained(folder)
        detector.processor.save_pretrained(folder)
        if detector.tokenizer is not None:
            detector.tokenizer.save_pretrained(folder)
        if detector.known_data is not None:
            detector.known_data.save(folder)


def describe(point: OperatingPoint) -> str:
    """What can and what cannot be promised, for a person."""
    least = least_photographs(point.target_fpr)
    if point.photographs < least:
        return (
            f"{point.photographs} photographs cannot promise a false positive rate of {point.target_fpr:.2%}: at "
            f"least {least} are needed. The copy calls nothing generated."
        )
    return (
        f'"generated" from probability {point.threshold:.4f}: {point.flagged} of your {point.photographs} photographs '
        "are flagged.\n"
        f"Promised: of new photographs like these, {point.expected_fpr:.2%} are flagged on average over draws of "
        f"{point.photographs} photographs (at most {point.target_fpr:.2%}).\n"
        f"For this one threshold the false positive rate is at most {point.fpr_bound_95:.2%} with 95 % confidence; "
        "more photographs bring it closer to the target.\n"
        "Assumed: new photographs come from where these came from (cameras, editors, ways of arriving). Nothing is "
        "promised for others, nor about how many generated pictures are found."
    )


__all__ = ["calibrate_checkpoint", "describe"]
