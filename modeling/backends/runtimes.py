"""What runs the model on prepared pictures: PyTorch itself, or the checkpoint's graph in ONNX Runtime or OpenVINO.

Every runtime computes in float32 and gives the same three outputs. The packages of the last two are extras, imported
where a graph is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import RobustClipForImageClassification
from .graph import OUTPUTS

TORCH = "torch"
# What runs a graph -> the package that it needs, and the extra that installs it.
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Outputs:
    """Answers to a batch of pictures without captions.

    Args:
        logits: (B, 2), calibrated, of real and generated.
        score: (B,) raw, higher is more likely generated.
        image_embeds: (B, D_image), what the head reads.
    """

    logits: Tensor
    score: Tensor
    image_embeds: Tensor


# From `pixel_values`, float32 [B, 3, S, S]; safe between threads.
Compute = Callable[[Tensor], Outputs]


def is_installed(name: str) -> bool:
    """Whether the package of one of `PACKAGES` is there."""
    return find_spec(PACKAGES[name]) is not None


def compute_with_torch(model: RobustClipForImageClassification, pixel_values: Tensor) -> Outputs:
    """What the model itself says, in float32."""
    with torch.inference_mode():
        output = model(pixel_values=pixel_values.to(model.device))
    return Outputs(*(output[name].float() for name in OUTPUTS))


def load_graph(name: str, path: Path) -> Compute:
    """Load a graph into one of `PACKAGES`.

    Args:
        name: of the runtime.
        path: the ONNX file.
    """
    return _openvino(path) if name == "openvino" else _onnx_runtime(path)


def _onnx_runtime(path: Path) -> Compute:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its threads would wait for the next picture at full speed, and take the cores from whoever computes meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def compute(pixel_values: Tensor) -> Outputs:
        outputs = session.run(list(OUTPUTS), {"pixel_values": pixel_values.numpy()})
        return Outputs(*map(torch.from_numpy, outputs))

    return compute


def _openvino(path: Path) -> Compute:
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def compute(pixel_values: Tensor) -> Outputs:
        # A request of its own for each call: one cannot be shared between threads.
        outputs = compiled.create_infer_request().infer({"pixel_values": pixel_values.numpy()})
        return Outputs(*(torch.from_numpy(outputs[name].copy()) for name in OUTPUTS))

    return compute


__all__ = ["PACKAGES", "TORCH", "Compute", "Outputs", "compute_with_torch", "is_installed", "load_graph"]
