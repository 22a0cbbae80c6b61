"""A checkpoint proves itself before it answers: example pictures get the scores that they got when it was made.

Weights may be whole and finite and still be others, and a wrong mean or size of the pictures changes every score
without an error. `fit` therefore writes scores of the example pictures beside the weights. They are computed again
once for each state of the files, which is remembered in the cache folder: after that a start reads no file for it.
"""

import hashlib
import json
import logging
import math
import os
from importlib.metadata import version
from pathlib import Path

import torch

from . import RobustClipForImageClassification, RobustClipImageProcessor
from .checkpoints import CODE_FILES, cache_folder, load_model, load_processor
from .embedded import EXAMPLES, EXPECTED_SCORES, ROOT, CheckpointError, example_files
from .files import write_json
from .hub import optional_file
from .images import open_image

logger = logging.getLogger(__name__)

# Scores are stored by arithmetic, then by picture. Of the embedded default float32 gives them to 1e-5, bfloat16 to
# 0.23; red and blue exchanged in the mean move them by up to 0.43, the mean of another normalisation by 1 to 7.
BACKEND = "torch-fp32"
TOLERANCE, TOLERANCE_16_BIT = 1e-3, 0.5
# What decides an answer beside a checkpoint's own files.
PACKAGES = ("torch", "transformers", "pillow")
MADE_OF = (".safetensors", ".bin", ".json")
# Of the file of the cache folder that says what was proved, and how many of its entries are kept.
PROVED, MOST_PROVED = "proved.json", 400
DECODED_OTHERWISE = "these files are decoded otherwise here. Look at Pillow and its codecs."


def load_checkpoint(
    checkpoint: str | os.PathLike,
) -> tuple[RobustClipForImageClassification, RobustClipImageProcessor]:
    """Load a checkpoint's model and image processor, and see that together they give the scores they should.

    One that has no stored scores is loaded with a warning.

    Args:
        checkpoint: a folder or Hub id.

    Raises:
        CheckpointError: it is not whole, its weights are not finite, or it gives other scores than are stored with it.
        ValueError: its configuration or that of its processor is not valid.
    """
    model, processor = load_model(checkpoint), load_processor(checkpoint)
    expected = optional_file(checkpoint, EXPECTED_SCORES)
    if expected is None:
        logger.warning(
            "%s holds no %s: whether it gives the scores that it gave when it was made is not proved, so that other "
            "weights, or another mean, standard deviation or size of the pictures, would not be noticed. `python -m "
            "train fit` writes that file.",
            checkpoint,
            EXPECTED_SCORES,
        )
        return model, processor
    state = _state_of(expected.parent)
    if not _is_remembered(state):
        content = _content_of(expected.parent)
        if not _is_remembered(content):
            _compare(str(checkpoint), read_expected(expected), example_scores(model, processor), model.dtype)
        _remember([state, content])
    return model, processor


def example_scores(
    model: RobustClipForImageClassification, processor: RobustClipImageProcessor, folder: Path = EXAMPLES
) -> dict[str, float]:
    """Raw scores of the example pictures, by file name.

    Args:
        model: in evaluation mode.
        processor: the checkpoint's.
        folder: of the pictures.
    """
    files = example_files(folder)
    pixel_values = processor(images=[open_image(path) for path in files], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        # One at a time, as a single picture is judged: the last bits of a batch are others.
        scores = [model(pixel_values=one[None].to(model.device, model.dtype)).score.item() for one in pixel_values]
    return {path.name: score for path, score in zip(files, scores, strict=True)}


def write_expected(model: RobustClipForImageClassification, processor: RobustClipImageProcessor, folder: Path) -> None:
    """Write the scores of the example pictures into a checkpoint's folder, as those that are to be expected.

    Args:
        model: in evaluation mode, float32, on the CPU.
        processor: the checkpoint's.
        folder: the checkpoint's; scores of other arithmetic that it holds are kept.

    Raises:
        ValueError: a score is not finite.
    """
    path = folder / EXPECTED_SCORES
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    stored[BACKEND] = {name: round(score, 6) for name, score in example_scores(model, processor).items()}
    write_json(path, stored)


def read_expected(path: Path) -> dict[str, float]:
    """The stored scores, by picture.

    Raises:
        CheckpointError: the file is damaged or holds none.
    """
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))[BACKEND]
        return {str(name): float(score) for name, score in scores.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} must hold scores of the example pictures under {BACKEND!r}, as `python -m train fit` writes them "
            f"({type(error).__name__}: {error}). Fetch or save the checkpoint again."
        ) from error


def _compare(checkpoint: str, expected: dict[str, float], found: dict[str, float], dtype: torch.dtype) -> None:
    """Refuse a checkpoint of which a picture has another score; warn where only the files of one format have."""
    if not (both := sorted(expected.keys() & found.keys())):
        raise CheckpointError(
            f"{EXPECTED_SCORES} of {checkpoint} must hold scores of pictures in {EXAMPLES.name}/, such as "
            f"{min(found)}; it names {', '.join(sorted(expected)) or 'none'}."
        )
    tolerance = TOLERANCE if dtype == torch.float32 else TOLERANCE_16_BIT
    wrong = [
        name for name in both if not math.isclose(found[name], expected[name], rel_tol=TOLERANCE, abs_tol=tolerance)
    ]
    if not wrong:
        return
    right = set(both) - set(wrong)
    names, formats = ", ".join(wrong), {Path(name).suffix for name in wrong}
    if right and formats.isdisjoint(Path(name).suffix for name in right):
        logger.warning("%s gives other scores than expected for %s alone: %s", checkpoint, names, DECODED_OTHERWISE)
        return
    worst = max(wrong, key=lambda name: abs(found[name] - expected[name]))
    raise CheckpointError(
        f"{checkpoint} does not give the scores that it gave when it was made: of {len(both)} example pictures "
        f"{len(wrong)} have others, such as {worst} with {found[worst]:.3f} where {expected[worst]:.3f} is expected. "
        f"Its weights, config.json or preprocessor_config.json are others by now. {_remedy(checkpoint)}"
    )


def _remedy(checkpoint: str) -> str:
    """What to do about a checkpoint that is not right."""
    if Path(checkpoint).parent == cache_folder():
        return f"Delete the folder {checkpoint}: it is made again at the next start."
    return "Fetch or save the checkpoint again."


def _state_of(folder: Path) -> str:
    """A digest of what the system says of a checkpoint's files, and of what else decides its scores; no file is read.

    Also a file that was put in place with its old time has another inode or another time of change.
    """
    files = [(path.name, path.stat()) for path in _files(folder)]
    facts = [(name, of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino) for name, of in files]
    return _digest([str(folder.resolve()), facts])


def _content_of(folder: Path) -> str:
    """A digest of a checkpoint's files, wherever they are, and of what else decides its scores."""
    facts = []
    for path in _files(folder):
        with path.open("rb") as file:
            facts.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return _digest(facts)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in MADE_OF and path.is_file())


def _digest(facts: list) -> str:
    digest = hashlib.sha256(repr([facts, [version(package) for package in PACKAGES]]).encode())
    for name in CODE_FILES:
        digest.update((ROOT / "modeling" / name).read_bytes())
    return digest.hexdigest()


def _is_remembered(key: str) -> bool:
    return key in _proved()


def _remember(keys: list[str]) -> None:
    """Add to what was proved; of two processes at once one may be forgotten, which costs another look."""
    kept = [key for key in _proved() if key not in keys]
    try:
        write_json(cache_folder() / PROVED, [*kept, *keys][-MOST_PROVED:])
    except OSError as error:  # a cache that cannot be written: a start is a moment slower
        logger.debug("What was proved cannot be remembered: %s", error)


def _proved() -> list[str]:
    try:
        return list(json.loads((cache_folder() / PROVED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return []


__all__ = ["example_scores", "load_checkpoint", "read_expected", "write_expected"]
