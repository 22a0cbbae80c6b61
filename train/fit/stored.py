"""Fits that are kept on disk: a name that says everything that decides them, and strict loading.

Both `fit`, for its held-out scores, and studies keep what a fit gave as a safetensors file and take it again instead
of fitting. The file's name is a digest, so that a fit of other data, settings, code or versions is never taken.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig

from modeling.embedded import ROOT
from modeling.files import replacing

from ..arguments import RobustTrainingArguments
from ..features.bank import FeatureBank
from ..jobs.processes import world_size

# The project's code that a fit's scores come from, given a bank.
CODE = (
    "modeling/configuration_robust_clip.py",
    "modeling/modeling_robust_clip.py",
    "train/embedding_dataset.py",
    "train/features/bank.py",
    "train/fit/baselines.py",
    "train/fit/components.py",
    "train/fit/head.py",
    "train/fit/held_out.py",
    "train/jobs/processes.py",
    "train/losses.py",
    "train/measure/shapes.py",
    "train/measure/sources.py",
    "train/measure/text_leak.py",
    "train/sam.py",
    "train/sampling.py",
    "train/study/fits.py",
    "train/trainer.py",
)
PACKAGES = ("torch", "transformers", "accelerate", "scikit-learn", "scipy", "numpy")
# Training arguments that decide nothing of a fit, by how their names begin.
_REPORTING = (
    "output_dir",
    "run_name",
    "project",
    "logging",
    "report_to",
    "disable_tqdm",
    "hub",
    "push_to_hub",
    "save",
)


def fit_key(
    bank: FeatureBank,
    fitted: NDArray,
    scored: NDArray,
    config: PreTrainedConfig,
    method: RobustTrainingArguments | str,
    inputs: str = "",
) -> str:
    """Name of a fit: a digest of all that decides what is kept of it.

    Args:
        bank: the data, with its sources as the fit sees them.
        fitted: rows of the bank that it is fitted on.
        scored: rows whose scores are kept.
        config: of the model: what its head reads, and how it is built.
        method: the recipe of a head, with its seed; or the name of a baseline.
        inputs: what else decides, such as a part of the inputs that is taken out, or more that is kept.
    """
    head = {name: value for name, value in config.to_dict().items() if name.startswith(("head_", "image_"))}
    decides = {
        "bank": bank.info["fingerprint"],
        "fitted": _digest(fitted.tobytes(), "\n".join(bank.rows["source"].to_numpy()[fitted]).encode()),
        "scored": _digest(scored.tobytes()),
        "text": bank.text_embeds is not None,
        "inputs": inputs,
        "head": head,
        "method": method if isinstance(method, str) else _deciding(method),
        "processes": world_size(),
        "versions": _versions(),
        "code": _code(),
    }
    return _digest(json.dumps(decides, sort_keys=True, default=str).encode())[:32]


def store_fit(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write what is kept of a fit, all or nothing."""
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_fit(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Read what is kept of a fit.

    Args:
        path: the file.
        shapes: of the tensors that it must hold, by name; it may hold no others.

    Raises:
        ValueError: the file is damaged, or holds other tensors.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it is made again.") from error
    expected = {name: tuple(shape) for name, shape in shapes.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"{path} must hold {wrong[0]!r} of shape {expected.get(wrong[0], 'none at all')}, got "
            f"{found.get(wrong[0], 'none')}: delete it, and it is made again."
        )
    return tensors


def _deciding(training: RobustTrainingArguments) -> dict:
    return {name: value for name, value in training.to_dict().items() if not name.startswith(_REPORTING)}


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@cache
def _code() -> str:
    return _digest(*((ROOT / name).read_bytes() for name in CODE))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


__all__ = ["CODE", "fit_key", "load_fit", "store_fit"]
