"""Export a checkpoint for those who serve it without PyTorch: an ONNX graph, or OpenVINO's files."""

import shutil
from pathlib import Path

from modeling.backends import check_backend, make_graph
from modeling.checkpoints import resolve_checkpoint
from modeling.files import staged
from modeling.hub import hub_errors
from modeling.proof import load_checkpoint

from .options import ExportArguments

FORMATS = ("onnx", "openvino")


def export_checkpoint(arguments: ExportArguments) -> list[Path]:
    """Write the files of one format.

    Returns:
        What was written.

    Raises:
        ValueError: there is no such format.
        CheckpointError: there is no such checkpoint.
        ModuleNotFoundError: a package of the extra `onnx` or `openvino` is not installed.
    """
    if arguments.format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {arguments.format!r}.")
    check_backend(arguments.format)
    checkpoint = resolve_checkpoint(arguments.checkpoint)
    with hub_errors(checkpoint):
        model, processor = load_checkpoint(checkpoint)
    graph = make_graph(model, processor.size)
    output = Path(arguments.output)
    with staged(output) as staging:
        if arguments.format == "openvino":
            import openvino

            openvino.save_model(openvino.Core().read_model(graph), staging / "model.xml", compress_to_fp16=False)
        else:
            shutil.copyfile(graph, staging / graph.name)
        names = sorted(file.name for file in staging.iterdir())
    return [output / name for name in names]


__all__ = ["FORMATS", "export_checkpoint"]
