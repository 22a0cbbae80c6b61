"""What computes scores and embeddings: PyTorch, ONNX Runtime or OpenVINO, chosen by name or by measurement."""

from .choosing import BACKENDS, Backend, check_backend, load_backend
from .graph import GRAPH_FILE, graph_fingerprint, make_graph, read_fingerprint
from .runtimes import TORCH, Compute, Outputs, compute_with_torch

__all__ = [
    "BACKENDS",
    "GRAPH_FILE",
    "TORCH",
    "Backend",
    "Compute",
    "Outputs",
    "check_backend",
    "compute_with_torch",
    "graph_fingerprint",
    "load_backend",
    "make_graph",
    "read_fingerprint",
]
