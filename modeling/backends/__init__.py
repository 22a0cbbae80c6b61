"""What computes scores and embeddings: PyTorch, ONNX Runtime or OpenVINO, chosen by name or by measurement."""

from .choosing import (
    BACKENDS,
    Backend,
    Outputs,
    check_backend,
    compute_with_torch,
    load_backend,
    make_graph,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "Outputs",
    "check_backend",
    "compute_with_torch",
    "load_backend",
    "make_graph",
]
