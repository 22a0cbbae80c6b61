"""What computes scores and embeddings: PyTorch, or the checkpoint's graph in ONNX Runtime or OpenVINO.

A backend is chosen by name, or by measurement ("auto"). Its graph is made once and kept in the cache folder. Whenever
one is loaded, its answers to the example pictures are compared with those of PyTorch in float32, because a graph may
run without complaint and be wrong: int8 products saturate on processors without VNNI. Where they disagree PyTorch
answers, and one line of the log says so. Explanations and whatever else needs gradients always use PyTorch.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import RobustClipForImageClassification, RobustClipImageProcessor
from ..checkpoints import build_once
from ..embedded import example_files
from ..hub import optional_file
from ..images import open_image
from .graph import (
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    OUTPUTS,
    export_graph,
    graph_fingerprint,
    quantise_graph,
    read_fingerprint,
)

logger = logging.getLogger(__name__)

TORCH, AUTO = "torch", "auto"
# Backend -> the package that runs it.
PACKAGES = {"onnx": "onnxruntime", "onnx-int8": "onnxruntime", "openvino": "openvino"}
BACKENDS = (TORCH, *PACKAGES, AUTO)
# "auto" chooses among those that compute in float32: the others move scores.
EXACT = ("onnx", "openvino")
MEASUREMENTS = 5


@dataclass(frozen=True)
class Outputs:
    """Answers to a batch of pictures without captions.

    Args:
        logits: (B, 2), calibrated, [real, generated].
        score: (B,) raw, higher is more likely generated.
        image_embeds: (B, D_image), what the head reads.
    """

    logits: Tensor
    score: Tensor
    image_embeds: Tensor


Compute = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class Limits:
    """How far a backend may be from PyTorch on an example picture.

    Args:
        cosine: of the embeddings, at least.
        probability: difference, at most.
    """

    cosine: float
    probability: float


# bfloat16 keeps a cosine of 0.9999; int8 that saturates has 0.5.
FLOAT32_LIMITS = Limits(cosine=0.999, probability=1e-3)
LIMITS = {"onnx": FLOAT32_LIMITS, "openvino": FLOAT32_LIMITS, "onnx-int8": Limits(cosine=0.98, probability=0.1)}


@dataclass(frozen=True)
class Backend:
    """A loaded graph.

    Args:
        name: one of `PACKAGES`.
        compute: `pixel_values` float32 [B, 3, S, S] to `logits`, `score` and `image_embeds`; safe between threads.
    """

    name: str
    compute: Compute


def check_backend(name: str) -> None:
    """Refuse a backend that is not known or not installed.

    Raises:
        ValueError: it is not one of `BACKENDS`.
        ModuleNotFoundError: its package is not installed.
    """
    if name not in BACKENDS:
        raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}, got {name!r}.")
    package = PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        extra = "openvino" if package == "openvino" else "onnx"
        raise ModuleNotFoundError(
            f"Backend {name!r} needs {package}: pip install 'robust-clip-detector[{extra}]'.", name=package
        )


def load_backend(
    name: str,
    model: RobustClipForImageClassification,
    processor: RobustClipImageProcessor,
    checkpoint: str | os.PathLike | None = None,
) -> Backend | None:
    """Load a backend for a model and check it against the model.

    Args:
        name: one of `BACKENDS`.
        model: in evaluation mode, float32, on the CPU.
        processor: the checkpoint's.
        checkpoint: folder or Hub id where a published graph may lie; it is used if it is of these weights.

    Returns:
        `None` where PyTorch is to answer: it was asked for, it is the fastest, or the backend does not agree with it.

    Raises:
        ValueError: `name` is not one of `BACKENDS`.
        ModuleNotFoundError: its package, or onnxscript where a graph has to be made, is not installed.
    """
    check_backend(name)
    if name == TORCH:
        return None
    graphs = _Graphs(model, processor, checkpoint)
    if name == AUTO:
        name = _fastest(graphs)
        if name == TORCH:
            return None
    backend = graphs.load(name)
    return backend if graphs.agrees(backend) else None


def make_graph(model: RobustClipForImageClassification, size: int, *, int8: bool = False) -> Path:
    """Return the ONNX graph of a model from the cache folder, exported on first use (a minute).

    Args:
        model: in evaluation mode, float32, on the CPU.
        size: side of the pictures, in pixels: the processor's.
        int8: with 8-bit linear layers.

    Raises:
        ModuleNotFoundError: onnxscript is not installed.
    """

    def build(folder: Path) -> None:
        if int8:
            quantise_graph(make_graph(model, size), folder / name)
        else:
            export_graph(model, size, folder / name)

    name = INT8_GRAPH_FILE if int8 else GRAPH_FILE
    return build_once(f"{Path(name).stem}-{graph_fingerprint(model, size)}", build) / name


class _Graphs:
    """The graphs of one model, and what the model itself says about the example pictures."""

    def __init__(
        self,
        model: RobustClipForImageClassification,
        processor: RobustClipImageProcessor,
        checkpoint: str | os.PathLike | None,
    ) -> None:
        self.model = model
        self.checkpoint = checkpoint
        self.size = processor.size
        self.fingerprint = graph_fingerprint(model, self.size)
        pictures = [open_image(path) for path in example_files()]
        self.pixel_values = processor(images=pictures, return_tensors="pt")["pixel_values"]

    def load(self, name: str) -> Backend:
        """Load one of `PACKAGES`."""
        path = self._find_graph(int8=name == "onnx-int8")
        return Backend(name, _openvino(path) if name == "openvino" else _onnx_runtime(path))

    def _find_graph(self, int8: bool) -> Path:
        published = self.checkpoint and optional_file(self.checkpoint, INT8_GRAPH_FILE if int8 else GRAPH_FILE)
        if published and read_fingerprint(published) == self.fingerprint:
            return published
        return make_graph(self.model, self.size, int8=int8)

    def agrees(self, backend: Backend) -> bool:
        """Compare a backend with PyTorch on the example pictures, in one batch; log a disagreement."""
        expected, found = self._expected(), backend.compute(self.pixel_values)
        # Of the tower's own embeddings; what else the head may read shows in the probability.
        dim = self.model.config.embedding_dim
        cosine = torch.cosine_similarity(found.image_embeds[:, :dim], expected.image_embeds[:, :dim]).min().item()
        difference = (found.logits.softmax(-1) - expected.logits.softmax(-1)).abs().max().item()
        limits = LIMITS[backend.name]
        # NaN fails both.
        if cosine >= limits.cosine and difference <= limits.probability:
            return True
        logger.warning(
            "Backend %s does not agree with PyTorch on the example pictures (lowest cosine of embeddings %.4f, needed "
            "%s; largest difference of probabilities %.4f, allowed %s): PyTorch answers instead.",
            backend.name,
            cosine,
            limits.cosine,
            difference,
            limits.probability,
        )
        return False

    def _expected(self) -> Outputs:
        """PyTorch's outputs for the example pictures, computed once for a model and these pixels."""

        def build(folder: Path) -> None:
            save_file(vars(compute_with_torch(self.model, self.pixel_values)), folder / "expected.safetensors")

        pixels = sha256(self.pixel_values.numpy().tobytes()).hexdigest()[:8]
        folder = build_once(f"expected-{self.fingerprint}-{pixels}", build)
        return Outputs(**load_file(folder / "expected.safetensors"))


def compute_with_torch(model: RobustClipForImageClassification, pixel_values: Tensor) -> Outputs:
    """What the model itself says, in float32."""
    with torch.inference_mode():
        output = model(pixel_values=pixel_values.to(model.device))
    return Outputs(*(output[name].float() for name in OUTPUTS))


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


def _fastest(graphs: _Graphs) -> str:
    """Measure PyTorch and the installed float32 backends on one picture, once for a model, a machine and versions."""
    installed = [name for name in EXACT if find_spec(PACKAGES[name]) is not None]
    packages = ["torch", *(PACKAGES[name] for name in installed)]
    conditions = [platform.node(), platform.machine(), os.cpu_count(), torch.get_num_threads()]
    conditions += [f"{package} {version(package)}" for package in packages]
    key = sha256(repr([graphs.fingerprint, conditions]).encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        candidates: dict[str, Compute] = {TORCH: partial(compute_with_torch, graphs.model)}
        for backend in map(graphs.load, installed):
            if graphs.agrees(backend):
                candidates[backend.name] = backend.compute
        times = measure_milliseconds(candidates, graphs.pixel_values[:1])
        chosen = min(times, key=lambda name: times[name])
        logger.info("Fastest for one picture: %s, of %s.", chosen, {name: round(ms) for name, ms in times.items()})
        (folder / "fastest.json").write_text(json.dumps({"backend": chosen, "milliseconds": times}))

    return json.loads((build_once(f"fastest-{key}", build) / "fastest.json").read_text())["backend"]


def measure_milliseconds(candidates: dict[str, Compute], pixel_values: Tensor) -> dict[str, float]:
    """Shortest wall time of each, taking turns after one call to warm up, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(MEASUREMENTS + 1):
        for name, compute in candidates.items():
            start = time.perf_counter()
            compute(pixel_values)
            if turn > 0:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: min(values) for name, values in times.items()}


__all__ = [
    "BACKENDS",
    "Backend",
    "Outputs",
    "check_backend",
    "compute_with_torch",
    "load_backend",
    "make_graph",
]
