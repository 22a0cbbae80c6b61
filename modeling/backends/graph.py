"""A checkpoint as an ONNX graph: `pixel_values` in; `logits`, `score` and `image_embeds` out, any number of pictures.

The calibration is in the graph, so that ONNX Runtime and a published folder are enough for the same probabilities.
Captions are not: where a checkpoint reads them, the graph answers for the picture alone. A graph says which weights
it was made from, so that a changed head never meets an old graph.

Needs the extra `onnx`: onnxscript to export, onnxruntime to quantise.
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

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from .. import RobustClipForImageClassification

logger = logging.getLogger(__name__)

GRAPH_FILE, INT8_GRAPH_FILE = "model.onnx", "model_int8.onnx"
OUTPUTS = ("logits", "score", "image_embeds")
FINGERPRINT = "robust_clip_fingerprint"
# Part of every fingerprint: raise it when graphs of the same weights change.
FORMAT = 1
# Of a 7-bit weight: 2 x 255 x 63 stays below 2**15.
MAX_WEIGHT = 63
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
    """The part of a config that decides an answer."""
    return {
        name: _computed_with(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in NOT_COMPUTED_WITH
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
    graph = onnx.load(path, load_external_data=False)
    return next((entry.value for entry in graph.metadata_props if entry.key == FINGERPRINT), None)


def quantise_graph(source: Path, target: Path) -> None:
    """Write a graph whose linear layers of the tower compute with 8-bit whole numbers.

    Weights have one scale a column, activations one scale a token, found while the graph runs. (ONNX Runtime's own
    dynamic quantisation has one scale for all tokens of a batch: embeddings of CLIP ViT-B/16 come to a cosine of 0.94
    to 0.98 instead of 0.99, and depend on the other pictures of the batch.) Weights have 7 bits, so that no sum of two
    products leaves 16 bits: processors without VNNI would saturate it. The head stays as it is.

    Args:
        source: from `export_graph`.
        target: of the file.
    """
    model = onnx.load(source)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants: dict[str, np.ndarray] = {
        "int8_levels": np.array(127, np.float32),
        "int8_smallest": np.array(1e-12, np.float32),  # a token of zeros has a scale too
        "int8_middle": np.array(128, np.uint8),
        "int8_flat": np.array([-1], np.int64),
    }
    nodes: list[onnx.NodeProto] = []
    quantised: set[str] = set()  # activations that are there as whole numbers
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in tensors or len(tensors[node.input[1]].dims) != 2:
            nodes.append(node)
            continue
        (activation, weight), (output,) = node.input, node.output
        if activation not in quantised:  # one for query, key and value
            quantised.add(activation)
            nodes += _quantise_tokens(activation)
        if f"{weight}_int8" not in constants:
            values = numpy_helper.to_array(tensors[weight])  # (in, out)
            scale = np.maximum(np.abs(values).max(axis=0), 1e-12) / MAX_WEIGHT
            constants[f"{weight}_int8"] = np.rint(values / scale).astype(np.int8)
            constants[f"{weight}_scale"] = scale.astype(np.float32)
        factors = [f"{activation}_int8", f"{weight}_int8", "int8_middle"]
        nodes += [
            helper.make_node("MatMulInteger", factors, [f"{output}_int32"]),
            helper.make_node("Cast", [f"{output}_int32"], [f"{output}_whole"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{output}_whole", f"{activation}_scale"], [f"{output}_rows"]),
            helper.make_node("Mul", [f"{output}_rows", f"{weight}_scale"], [output]),
        ]
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for tensor in tensors.values() if tensor.name in used)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, target)


def _quantise_tokens(name: str) -> list[onnx.NodeProto]:
    """Nodes that turn an activation (B, tokens, D) into unsigned whole numbers around 128, one scale a token."""
    return [
        helper.make_node("Abs", [name], [f"{name}_abs"]),
        helper.make_node("ReduceMax", [f"{name}_abs", "int8_flat"], [f"{name}_largest"], keepdims=1),
        helper.make_node("Max", [f"{name}_largest", "int8_smallest"], [f"{name}_positive"]),
        helper.make_node("Div", [f"{name}_positive", "int8_levels"], [f"{name}_scale"]),
        # QuantizeLinear takes one scale a row of a matrix.
        helper.make_node("Flatten", [name], [f"{name}_matrix"], axis=-1),
        helper.make_node("Reshape", [f"{name}_scale", "int8_flat"], [f"{name}_row_scale"]),
        helper.make_node("Shape", [f"{name}_row_scale"], [f"{name}_rows"]),
        helper.make_node("Expand", ["int8_middle", f"{name}_rows"], [f"{name}_middles"]),
        helper.make_node(
            "QuantizeLinear",
            [f"{name}_matrix", f"{name}_row_scale", f"{name}_middles"],
            [f"{name}_int8_matrix"],
            axis=0,
        ),
        helper.make_node("Shape", [name], [f"{name}_shape"]),
        helper.make_node("Reshape", [f"{name}_int8_matrix", f"{name}_shape"], [f"{name}_int8"]),
    ]


__all__ = [
    "GRAPH_FILE",
    "INT8_GRAPH_FILE",
    "OUTPUTS",
    "export_graph",
    "graph_fingerprint",
    "quantise_graph",
    "read_fingerprint",
]
