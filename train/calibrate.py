"""`python -m train calibrate`: a copy of a checkpoint with the operating point for one's own photographs."""

import shutil
from pathlib import Path

from tqdm import tqdm

from modeling.checkpoints import resolve_checkpoint
from modeling.detector import Detection, Detector
from modeling.embedded import EXPECTED_SCORES
from modeling.files import new_folder
from modeling.hub import optional_file
from modeling.images import open_image

from .data.perceptual_hash import perceptual_hash
from .data.picture_folder import files_below
from .data.schema import LABEL_NAMES
from .measure.conformal import (
    OperatingPoint,
    as_field,
    conformal_operating_point,
    least_photographs,
    photographs_for,
)
from .measure.duplicates import first_of_each
from .options import CalibrateArguments

BATCH = 16


def run(arguments: CalibrateArguments) -> None:
    """Calibrate, and print what is promised and what was left out."""
    point, left_out = calibrate_checkpoint(arguments)
    print(describe(point), *(f"left out: {reason}" for reason in left_out), sep="\n")
    print(f"written: {arguments.output}")


def calibrate_checkpoint(arguments: CalibrateArguments) -> tuple[OperatingPoint, list[str]]:
    """Write a copy of a checkpoint whose threshold keeps the target on these photographs.

    Where pictures with and without a text have thresholds of their own, it is the one for those without.

    Returns:
        The operating point, and what was left out: files and folders that could not be read, and near-duplicates, of
        which only the first counts.

    Raises:
        ValueError: no folder, one with generated pictures, no readable photograph in it, `output` exists, or a setting
            out of range.
    """
    folder, output = Path(arguments.data), Path(arguments.output)
    if not folder.is_dir():
        raise ValueError(f"`data` must be a folder of photographs, got {arguments.data!r}.")
    if output.exists():
        raise ValueError(f"{output} exists: choose a new folder, so that no checkpoint is overwritten.")
    found, left_out = files_below(folder)
    files = [path for path in found if not path.name.startswith(".")]
    _refuse_generated(folder, files)
    detector = Detector.from_pretrained(arguments.checkpoint)
    detections, hashes = _judge(detector, files)
    named = list(zip(files, detections, strict=True))
    readable = [(file, detection.probability) for file, detection in named if detection.probability is not None]
    if not readable:
        raise ValueError(f"{folder} holds no readable photograph ({len(files)} files).")
    is_first = first_of_each(hashes)
    copies = [file for (file, _), first in zip(readable, is_first, strict=True) if not first]
    point = conformal_operating_point(
        [probability for (_, probability), first in zip(readable, is_first, strict=True) if first],
        arguments.target_fpr,
    )
    _write_copy(detector, point, output, optional_file(resolve_checkpoint(arguments.checkpoint), EXPECTED_SCORES))
    left_out += [f"{file}: {detection.error}" for file, detection in named if detection.error is not None]
    if copies:
        left_out.append(f"{len(copies)} near-duplicates of others, which count once; first {copies[0]}")
    return point, left_out


def _judge(detector: Detector, files: list[Path]) -> tuple[list[Detection], list[str]]:
    """Each file's answer, and the perceptual hashes of those that can be read."""
    detections: list[Detection] = []
    hashes: list[str] = []
    with tqdm(total=len(files), unit="photograph", desc="calibrate") as progress:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            judged = detector.detect_many(batch)
            readable = [file for file, detection in zip(batch, judged, strict=True) if detection.error is None]
            hashes += [perceptual_hash(open_image(file)) for file in readable]
            detections += judged
            progress.update(len(batch))
    return detections, hashes


def _refuse_generated(folder: Path, files: list[Path]) -> None:
    """A data set of both classes would give a threshold that lets nothing be called generated."""
    for file in files:
        for name in file.relative_to(folder).parts[:-1]:
            if LABEL_NAMES.get(name.lower()) == 1:
                raise ValueError(
                    f"`data` must hold real photographs only, got the folder {name!r} in {folder}: name the folder of "
                    "the real ones, or take the generated ones out."
                )


def _write_copy(detector: Detector, point: OperatingPoint, output: Path, expected: Path | None) -> None:
    """Save model, processor, tokenizer, known data and expected scores with the new threshold, all or nothing."""
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
        if expected is not None:
            shutil.copyfile(expected, folder / EXPECTED_SCORES)


def describe(point: OperatingPoint) -> str:
    """What can and what cannot be promised, for a person."""
    least = least_photographs(point.target_fpr)
    if point.photographs < least:
        return (
            f"{point.photographs} photographs cannot promise a false positive rate of {point.target_fpr:.2%}: at "
            f"least {least} are needed. The copy calls nothing generated."
        )
    few, twice = "", 2 * point.target_fpr
    if point.fpr_bound_95 > twice:
        enough = photographs_for(point.target_fpr, twice)
        few = (
            f"Few photographs: with {point.photographs} the rate of this threshold may be {point.fpr_bound_95:.2%} "
            f"and not {point.target_fpr:.2%}; {enough:,} bring it under {twice:.2%}.\n"
        )
    return few + (
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
