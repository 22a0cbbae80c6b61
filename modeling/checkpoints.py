"""Find, fetch, verify and assemble a checkpoint: the embedded default, a local folder, or a Hub id.

The repository holds only what we trained (configuration, head, processor: a few MB). The default checkpoint is that
plus a backbone (see `default_backbone`), written once as a complete `save_pretrained` folder into the user's cache.
The folder's name contains a fingerprint of everything that made it, so that a changed head never meets an old folder.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import nn

from . import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
from .cautions.known_data import KNOWN_DATA_FILE
from .default_backbone import WHEEL_SHA256, load_default_tower
from .embedded import CARD_FILE, DEFAULT_SOURCE, EXPECTED_SCORES, MODEL_CARD, ROOT, CheckpointError
from .files import new_folder, write_json
from .hub import hub_errors
from .modeling_robust_clip import patches_a_side, resize_positions

logger = logging.getLogger(__name__)

HEAD_FILE = "head.safetensors"
# Features of pictures that no fit saw (`train.measure.set_aside`).
SET_ASIDE_FILE = "set_aside.safetensors"
# Copied beside the weights: what was measured, what an installation must compute, how far is far, and what can judge
# a change of the head.
COMPANIONS = ("evaluation.json", EXPECTED_SCORES, "expected_embeddings.json", KNOWN_DATA_FILE, SET_ASIDE_FILE)
CODE_FILES = (
    "configuration_robust_clip.py",
    "modeling_robust_clip.py",
    "image_processing_robust_clip.py",
    "colour_robust_clip.py",
    "srgb_robust_clip.py",
)


def cache_folder() -> Path:
    """Folder for downloaded and assembled files: ROBUST_CLIP_CACHE, else `robust-clip` in the user's cache folder."""
    if folder := os.environ.get("ROBUST_CLIP_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robust-clip"


def default_checkpoint() -> Path:
    """Return the default checkpoint's folder, assembling it on first use (a minute and 80 MB of network).

    Two processes may call this at once: one assembles, the other waits. An interrupted call leaves no half folder;
    what was downloaded is kept.

    Returns:
        A folder that `from_pretrained` and `pipeline` load.

    Raises:
        CheckpointError: the backbone cannot be had, or the committed head does not fit it.
    """
    if not (DEFAULT_SOURCE / HEAD_FILE).is_file():
        raise CheckpointError(f"There is no trained head in {DEFAULT_SOURCE}: expected {HEAD_FILE}. Fit one first.")
    return build_once(f"default-{_fingerprint()}", _assemble_default)


def default_backbone() -> Path:
    """Return a folder with the default backbone alone (image tower and processor), for making features.

    Raises:
        CheckpointError: the backbone cannot be had.
    """
    return build_once(f"clip-vit-b16-image-{WHEEL_SHA256[:12]}", _assemble_backbone)


def resolve_checkpoint(model: str | os.PathLike | None = None) -> str:
    """Turn what a user named into something `from_pretrained` takes.

    Args:
        model: `None` or "default" for the embedded default, a folder, or a Hub id "owner/name".

    Raises:
        CheckpointError: a folder that is no checkpoint, or a name that is neither.
    """
    if model is None or str(model) in ("", "default"):
        return str(default_checkpoint())
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{path} is not a checkpoint: it has no config.json.")
        return str(path)
    if path.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") != 1:
        raise CheckpointError(f"There is no checkpoint {str(model)!r}: expected a folder, or a Hub id 'owner/name'.")
    return str(model)


def load_model(checkpoint: str | os.PathLike) -> RobustClipForImageClassification:
    """Load a checkpoint's model, all of it, in evaluation mode.

    transformers would make up what is missing at random, and only log it: a backbone without a head would answer.

    Args:
        checkpoint: a folder or Hub id.

    Raises:
        CheckpointError: the Hub does not give it, it is a checkpoint of another kind of model, its weights are not
            those of its config.json, or not finite.
    """
    with hub_errors(str(checkpoint)):
        fields, _ = RobustClipConfig.get_config_dict(str(checkpoint))
    if (kind := fields.get("model_type")) != RobustClipConfig.model_type:
        raise CheckpointError(
            f"{checkpoint} must be a detector of this project (model_type {RobustClipConfig.model_type!r}), got "
            f"{kind!r}. To make one of a backbone, fit a head on it: `python -m train features`, then `fit`."
        )
    with hub_errors(str(checkpoint)):
        model, info = RobustClipForImageClassification.from_pretrained(
            checkpoint, output_loading_info=True, ignore_mismatched_sizes=True
        )
    check_whole(checkpoint, info)
    check_finite(checkpoint, model)
    return model.eval()


def check_whole(checkpoint: str | os.PathLike, info: dict) -> None:
    """Refuse weights that are not those of their config.json, which transformers only logs.

    Args:
        checkpoint: what was loaded.
        info: what `from_pretrained` gives with `output_loading_info`.

    Raises:
        CheckpointError: a tensor is missing, not known or of another shape.
    """
    names = {*info["missing_keys"], *info["unexpected_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if wrong := sorted(names):
        raise CheckpointError(
            f"The weights of {checkpoint} are not those of its config.json: {len(wrong)} are missing, not known or of "
            f"another shape, such as {wrong[0]}. Save or fetch the checkpoint again."
        )


def check_finite(checkpoint: str | os.PathLike, model: nn.Module) -> None:
    """Refuse weights with which every answer would be NaN.

    Raises:
        CheckpointError: a tensor holds NaN or infinity.
    """
    for name, tensor in model.state_dict().items():
        # The smallest and the largest value are NaN where any is, and need no copy of the tensor.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise CheckpointError(
                f"The weights of {checkpoint} are not finite: {name} holds NaN or infinity. Fetch it again, or fit it "
                "anew."
            )


def load_processor(checkpoint: str | os.PathLike, image_size: int | None = None) -> RobustClipImageProcessor:
    """Make the image processor of a checkpoint or backbone: its size, mean and standard deviation.

    How the picture becomes a square is ours whatever the backbone: never stretched, as SigLIP's own processor does.

    Args:
        checkpoint: a folder or Hub id with a preprocessor_config.json.
        image_size: side of the square in pixels, in place of the file's.

    Raises:
        ValueError: it lacks one of the three.
    """
    fields, _ = RobustClipImageProcessor.get_image_processor_dict(str(checkpoint))
    if missing := [name for name in ("size", "image_mean", "image_std") if name not in fields]:
        raise ValueError(f"preprocessor_config.json of {checkpoint} must hold size, mean and std, it lacks {missing}.")
    names = ("size", "crop_size", "do_center_crop", "image_mean", "image_std")
    processor = RobustClipImageProcessor(**{name: fields[name] for name in names if name in fields})
    processor.size = image_size or processor.size
    return processor


def _fingerprint() -> str:
    """Sixteen hex digits over everything that the default checkpoint is made of."""
    digest = hashlib.sha256(WHEEL_SHA256.encode())
    files = [DEFAULT_SOURCE / name for name in ("config.json", HEAD_FILE, "preprocessor_config.json", *COMPANIONS)]
    files += [MODEL_CARD]
    files += [ROOT / "modeling" / name for name in CODE_FILES]
    for path in files:
        digest.update(path.name.encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Let `build` fill a new folder `cache/name` unless it is there; one process at a time, all or nothing.

    A folder that lost a file or a part of one is made again; what killed processes left half-made is removed.
    """
    cache = cache_folder()
    target, sizes = cache / name, cache / f".{name}.sizes.json"
    if _is_whole(target, sizes):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        if _is_whole(target, sizes):  # another process was faster
            return target
        _remove_half_made(cache, name)
        if target.exists():
            logger.warning("%s lost a file, or a part of one: it is made again.", target)
            shutil.rmtree(target)
        with new_folder(target) as folder:
            build(folder)
            write_json(sizes, _sizes(folder))
    logger.info("Ready: %s", target)
    return target


def _sizes(folder: Path) -> dict[str, int]:
    """The size of each file below a folder."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _is_whole(folder: Path, sizes: Path) -> bool:
    """Whether every file is there in its size; what is there besides does not matter."""
    if not sizes.is_file():  # put there by hand, or by an earlier version
        return folder.is_dir()
    try:
        wanted = json.loads(sizes.read_text())
    except ValueError:
        return False
    return folder.is_dir() and wanted.items() <= _sizes(folder).items()


def _remove_half_made(cache: Path, mine: str) -> None:
    """Remove the folders in which a build was killed; what another process is at is left to it.

    Args:
        cache: the folder.
        mine: the name whose lock the caller holds.
    """
    for staging in cache.glob(f".*-{'?' * 8}"):  # as `new_folder` names them
        name = staging.name[1:-9]
        if not staging.is_dir():
            continue
        with suppress(Timeout), nullcontext() if name == mine else FileLock(cache / f".{name}.lock", timeout=0):
            shutil.rmtree(staging)


def _assemble_default(folder: Path) -> None:
    """Write backbone + committed head as one checkpoint."""
    config = RobustClipConfig.from_pretrained(DEFAULT_SOURCE)
    tower = load_default_tower(cache_folder())
    model = RobustClipForImageClassification(config)
    seen = model.backbone.vision_tower.config
    state = resize_positions(tower.state_dict(), patches_a_side(seen.image_size, seen.patch_size))
    model.backbone.vision_tower.load_state_dict(state)
    head = load_file(DEFAULT_SOURCE / HEAD_FILE)
    try:
        model.head.load_state_dict(head)
    except RuntimeError as error:
        raise CheckpointError(f"{DEFAULT_SOURCE / HEAD_FILE} does not fit config.json beside it: {error}") from error
    model.eval().save_pretrained(folder)
    load_processor(DEFAULT_SOURCE).save_pretrained(folder)
    companions = {name: DEFAULT_SOURCE / name for name in COMPANIONS} | {CARD_FILE: MODEL_CARD}
    for name, source in companions.items():
        if source.is_file():
            shutil.copyfile(source, folder / name)


def _assemble_backbone(folder: Path) -> None:
    """Write the image tower and its processor."""
    load_default_tower(cache_folder()).save_pretrained(folder)
    RobustClipImageProcessor().save_pretrained(folder)


__all__ = [
    "cache_folder",
    "check_finite",
    "check_whole",
    "default_backbone",
    "default_checkpoint",
    "load_model",
    "load_processor",
    "resolve_checkpoint",
]
