"""`python -m train export` writes graphs that compute what the checkpoint computes."""

import numpy as np
import onnx
import pytest
import torch

from modeling.backends.graph import GRAPH_FILE, OUTPUTS
from modeling.detector import Detector
from train.publish.graph import ExportArguments, export_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("graph_cache")


@pytest.fixture
def pixel_values():
    return np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def expected(tiny_text_folder, pixel_values):
    return Detector.from_pretrained(tiny_text_folder).compute(torch.from_numpy(pixel_values))


def test_onnx_runtime_alone_reads_what_is_written(tiny_text_folder, expected, pixel_values, tmp_path):
    path = tmp_path / GRAPH_FILE
    assert export_checkpoint(ExportArguments(str(tiny_text_folder), str(tmp_path), "onnx")) == [path]
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert (entry.name, entry.shape) == ("pixel_values", ["batch", 3, 32, 32])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    for count in (1, 3):
        outputs = session.run(None, {"pixel_values": pixel_values[:count]})
        for output, field in zip(outputs, OUTPUTS, strict=True):
            np.testing.assert_allclose(output, getattr(expected, field)[:count], atol=1e-5, rtol=0)


def test_openvino_reads_what_is_written(tiny_text_folder, expected, pixel_values, tmp_path):
    openvino = pytest.importorskip("openvino")
    written = export_checkpoint(ExportArguments(str(tiny_text_folder), str(tmp_path), "openvino"))
    assert [path.name for path in written] == ["model.bin", "model.xml"]
    compiled = openvino.Core().compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled({"pixel_values": pixel_values})
    for field in OUTPUTS:
        np.testing.assert_allclose(outputs[field], getattr(expected, field), atol=1e-5, rtol=0)


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of onnx, openvino, got 'tensorrt'"):
        export_checkpoint(ExportArguments("nowhere", str(tmp_path), "tensorrt"))
