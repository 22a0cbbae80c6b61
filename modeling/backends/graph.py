"""A checkpoint as an ONNX graph: `pixel_values` in; `logits`, `score` and `image_embeds` out, any number of pictures.

The calibration is in the graph, so that ONNX Runtime and a published folder are enough for the same probabilities.
Captions are not: where a checkpoint reads them, the graph answers for the picture alone, calibrated as such. A graph
says which weights it was made from, so that a changed head never meets an old graph.

Exporting needs onnxscript, of the extra `onnx`.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import RobustClipForImageClassification
from ..checkpoints import build_once

logger = logging.getLogger(__name__)

GRAPH_FILE = "model.onnx"
OUTPUTS = ("logits", "score", "image_embeds")
FINGERPRINT = "robust_clip_fingerprint"
# Part of every fingerprint: raise it when graphs of the same weights change.
FORMAT = 1
# What an answer does not depend on, anywhere in a config, or what the weights themselves say (their dtype).
NOT_COMPUTED_WITH = {"real_threshold", "generated_threshold", "operating_point", "backbone_name", "backbone_revision"}
NOT_COMPUTED_WITH |= {"_name_or_path", "transformers_version", "architectures", "auto_map", "dtype", "torch_dtype"}


class _PicturesOnly(nn.Module):
    """The model with one input, and its outputs in the graph's order."""

    def __init__(self, model: RobustClipForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        output = self.model(pixel_values=pixel_values)
        return tuple(output[name] for name in OUTPUTS)


def graph_fingerprint(model: RobustClipForImageClassification, size: int) -> str:
    """Sixteen hex digits over everything that a graph of this model is made from: weights, calibration, architecture.

    Thresholds are not: they only name what the probability is called.

    Args:
        model: loaded.
        size: side of the pictures, in pixels.
    """
    config = _computed_with(model.config.to_dict())
    digest = hashlib.sha256(json.dumps([FORMAT, size, config], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        # Bytes as they are; numpy has no bfloat16.
        digest.update(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _computed_with(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that decides an answer; graphs made before there was `without_text` keep their name."""
    return {
        name: _computed_with(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in NOT_COMPUTED_WITH and (name, value) != ("without_text", None)
    }


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Hold back what the exporter logs: thousands of lines about its passes, and operators that are not used here."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [other.level for other in loggers]
    for other in loggers:
        other.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for other, level in zip(loggers, levels, strict=True):
            other.setLevel(level)


def export_graph(model: RobustClipForImageClassification, size: int, path: Path) -> None:
    """Write a model as an ONNX graph.

    Args:
        model: in evaluation mode, float32, on the CPU.
        size: side of the pictures, in pixels: the processor's.
        path: of the file; it holds the weights too.

    Raises:
        ModuleNotFoundError: onnxscript is not installed.
    """
    if find_spec("onnxscript") is None:
        raise ModuleNotFoundError("Exporting needs onnxscript: pip install 'robust-clip-detector[onnx]'.")
    import onnx

    logger.info("Exporting the ONNX graph (a minute, once) ...")
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        # torch 2.13 copies its own tree specifications in a way that it has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            _PicturesOnly(model).eval(),
            # Two pictures: torch takes a batch of one for a constant.
            (torch.zeros(2, 3, size, size),),
            input_names=["pixel_values"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    graph = cast("torch.onnx.ONNXProgram", program).model_proto  # it is None only with `dynamo=False`
    onnx.helper.set_model_props(graph, {FINGERPRINT: graph_fingerprint(model, size)})
    onnx.save(graph, path)


def read_fingerprint(path: Path) -> str | None:
    """Fingerprint of the model that a graph was made from; `None` where it does not say."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    return next((entry.value for entry in graph.metadata_props if entry.key == FINGERPRINT), None)


def make_graph(model: RobustClipForImageClassification, size: int) -> Path:
    """Return the ONNX graph of a model from the cache folder, exported on first use (a minute).

    Args:
        model: in evaluation mode, float32, on the CPU.
        size: side of the pictures, in pixels: the processor's.

    Raises:
        ModuleNotFoundError: onnxscript is not installed.
    """
    name = f"{Path(GRAPH_FILE).stem}-{graph_fingerprint(model, size)}"
    return build_once(name, lambda folder: export_graph(model, size, folder / GRAPH_FILE)) / GRAPH_FILE


__all__ = ["GRAPH_FILE", "OUTPUTS", "export_graph", "graph_fingerprint", "make_graph", "read_fingerprint"]
