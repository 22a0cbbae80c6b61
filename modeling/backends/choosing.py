"""Which backend answers: PyTorch, or the checkpoint's graph in ONNX Runtime or OpenVINO, by name or by measurement.

Whenever a graph is loaded, its answers to the example pictures are compared with those of PyTorch, because a graph may
run without complaint and be wrong: a published int8 graph of the default backbone has embeddings with a cosine of 0.5
to the right ones on processors without VNNI. Where they disagree PyTorch answers, and one line of the log says so.
Captions, explanations and whatever else needs gradients always use PyTorch.
"""

import json
import logging
import os
import platform
import time
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import RobustClipForImageClassification, RobustClipImageProcessor
from ..checkpoints import build_once
from ..embedded import example_files
from ..hub import optional_file
from ..images import open_image
from .graph import GRAPH_FILE, graph_fingerprint, make_graph, read_fingerprint
from .runtimes import PACKAGES, TORCH, Compute, Outputs, compute_with_torch, is_installed, load_graph

logger = logging.getLogger(__name__)

AUTO = "auto"
BACKENDS = (TORCH, *PACKAGES, AUTO)
# Of a backend's answers to the example pictures, beside PyTorch's: of the embeddings at least, of the probabilities at
# most. bfloat16 keeps a cosine of 0.9999; int8 that saturates has 0.5.
MIN_COSINE, MAX_DIFFERENCE = 0.999, 1e-3
MEASUREMENTS = 5


@dataclass(frozen=True)
class Backend:
    """A loaded graph.

    Args:
        name: one of `PACKAGES`.
        compute: what runs it.
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
    if name in PACKAGES and not is_installed(name):
        package = PACKAGES[name]
        raise ModuleNotFoundError(
            f"Backend {name!r} needs {package}: pip install 'robust-clip-detector[{name}]'.", name=package
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


class _Graphs:
    """The graph of one model in each runtime, and what the model itself says about the example pictures."""

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
        published = self.checkpoint and optional_file(self.checkpoint, GRAPH_FILE)
        if published and read_fingerprint(published) == self.fingerprint:
            return Backend(name, load_graph(name, published))
        return Backend(name, load_graph(name, make_graph(self.model, self.size)))

    def agrees(self, backend: Backend) -> bool:
        """Compare a backend with PyTorch on the example pictures, in one batch; log a disagreement."""
        expected, found = self._expected(), backend.compute(self.pixel_values)
        # Of the tower's own embeddings; what else the head may read shows in the probability.
        dim = self.model.config.embedding_dim
        cosine = torch.cosine_similarity(found.image_embeds[:, :dim], expected.image_embeds[:, :dim]).min().item()
        difference = (found.logits.softmax(-1) - expected.logits.softmax(-1)).abs().max().item()
        # NaN fails both.
        if cosine >= MIN_COSINE and difference <= MAX_DIFFERENCE:
            return True
        logger.warning(
            "Backend %s does not agree with PyTorch on the example pictures (lowest cosine of embeddings %.4f, needed "
            "%s; largest difference of probabilities %.4f, allowed %s): PyTorch answers instead.",
            backend.name,
            cosine,
            MIN_COSINE,
            difference,
            MAX_DIFFERENCE,
        )
        return False

    def _expected(self) -> Outputs:
        """PyTorch's outputs for the example pictures, computed once for a model and these pixels."""

        def build(folder: Path) -> None:
            save_file(vars(compute_with_torch(self.model, self.pixel_values)), folder / "expected.safetensors")

        pixels = sha256(self.pixel_values.numpy().tobytes()).hexdigest()[:8]
        folder = build_once(f"expected-{self.fingerprint}-{pixels}", build)
        return Outputs(**load_file(folder / "expected.safetensors"))


def _fastest(graphs: _Graphs) -> str:
    """Measure PyTorch and the installed backends on one picture, once for a model, a machine and versions."""
    installed = [name for name in PACKAGES if is_installed(name)]
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


__all__ = ["BACKENDS", "Backend", "check_backend", "load_backend"]
