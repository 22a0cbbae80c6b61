"""Backends answer as PyTorch does, or PyTorch answers; a graph is of the weights that it is used with."""

import json
import logging
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from modeling import RobustClipForImageClassification
from modeling.backends import GRAPH_FILE, graph_fingerprint, load_backend, make_graph, read_fingerprint
from modeling.backends.graph import FINGERPRINT
from modeling.backends.runtimes import PACKAGES, is_installed
from modeling.detector import Detector
from modeling.embedded import example_files
from modeling.examination import examine

pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("graph_cache")
PICTURES = example_files()


BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=f"no {name}")) for name in PACKAGES
]


@pytest.fixture(scope="module")
def torch_detector(tiny_text_folder):
    return Detector.from_pretrained(tiny_text_folder)


@pytest.fixture
def pixel_values():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32))


@pytest.fixture
def graph(torch_detector, graph_cache):
    return make_graph(torch_detector.model, 32)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_answers_as_torch_does(name, torch_detector, tiny_text_folder):
    detector = Detector.from_pretrained(tiny_text_folder, backend=name)
    captions = [None, "a cab", None, "bad", None]
    for answer, expected in zip(
        detector.detect_many(PICTURES, captions, batch_size=3),
        torch_detector.detect_many(PICTURES, captions, batch_size=3),
        strict=True,
    ):
        assert (answer.backend, expected.backend) == (name, "torch")
        assert answer.score == pytest.approx(expected.score, abs=1e-5)
        assert answer.probability == pytest.approx(expected.probability, abs=1e-6)
        assert answer.probability_without_caption == pytest.approx(expected.probability_without_caption, abs=1e-6)
        assert answer.verdict == expected.verdict


@pytest.mark.parametrize("name", BACKENDS)
def test_a_pictures_answer_does_not_depend_on_its_batch_or_thread(name, torch_detector, pixel_values):
    compute = load_backend(name, torch_detector.model, torch_detector.processor).compute
    together = compute(pixel_values)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(compute, pixel_values.split(1)))
    for field in ("logits", "score", "image_embeds"):
        found = torch.cat([getattr(one, field) for one in alone])
        torch.testing.assert_close(getattr(together, field), found, atol=1e-5, rtol=0)
    cosines = torch.cosine_similarity(together.image_embeds, torch_detector.compute(pixel_values).image_embeds)
    assert cosines.min() > 0.99999


@pytest.mark.parametrize("name", BACKENDS)
def test_explanation_and_stability_work_with_a_backend(name, torch_detector, tiny_text_folder):
    detector = Detector.from_pretrained(tiny_text_folder, backend=name)
    *_, answer = examine(detector, PICTURES[0])
    *_, expected = examine(torch_detector, PICTURES[0])
    assert answer.to_dict()["backend"] == name
    np.testing.assert_allclose(answer.explanation.regions, expected.explanation.regions, atol=1e-4)
    assert answer.stability.probabilities == pytest.approx(expected.stability.probabilities, abs=1e-6)


def spoil(source, target, fingerprint=None):
    """A graph that runs and computes something else."""
    model = onnx.load(source)
    tensor = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    values = np.random.default_rng(0).normal(size=tuple(tensor.dims)).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    if fingerprint is not None:
        onnx.helper.set_model_props(model, {FINGERPRINT: fingerprint})
    onnx.save(model, target)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_that_disagrees_leaves_the_answer_to_torch_and_says_so_once(
    name, graph, torch_detector, tiny_text_folder, tmp_path, caplog
):
    folder = shutil.copytree(tiny_text_folder, tmp_path / "checkpoint")
    spoil(graph, folder / GRAPH_FILE)
    with caplog.at_level(logging.INFO):
        detector = Detector.from_pretrained(folder, backend=name)
    (record,) = (record for record in caplog.records if record.name == "modeling.backends.choosing")
    assert record.getMessage().startswith(f"Backend {name} does not agree with PyTorch")
    answer = detector.detect(PICTURES[0])
    assert (answer.backend, answer.score) == ("torch", torch_detector.detect(PICTURES[0]).score)


def test_a_graph_of_other_weights_is_not_used(graph, tiny_text_folder, tmp_path, torch_detector):
    folder = shutil.copytree(tiny_text_folder, tmp_path / "checkpoint")
    spoil(graph, folder / GRAPH_FILE, fingerprint="of another model")
    detector = Detector.from_pretrained(folder, backend="onnx")
    assert detector.backend == "onnx"
    assert detector.detect(PICTURES[0]).score == pytest.approx(torch_detector.detect(PICTURES[0]).score, abs=1e-5)


def test_the_fingerprint_is_of_what_decides_the_answer(graph, torch_detector, tiny_text_folder, tmp_path):
    def fingerprint(change=None):
        model = RobustClipForImageClassification.from_pretrained(tiny_text_folder)
        if change is not None:
            change(model)
        return graph_fingerprint(model, 32)

    def change_a_weight(model):
        model.head.layers[-1].bias.data += 1e-6

    same = fingerprint()
    assert read_fingerprint(graph) == same
    assert fingerprint(lambda model: setattr(model.config, "real_threshold", 0.1)) == same
    assert fingerprint(change_a_weight) != same
    assert fingerprint(lambda model: setattr(model.config, "calibration_scale", 0.9)) != same
    assert fingerprint(lambda model: setattr(model.config.vision_config, "hidden_act", "gelu")) != same
    torch_detector.model.save_pretrained(tmp_path)
    assert graph_fingerprint(RobustClipForImageClassification.from_pretrained(tmp_path), 32) == same
    assert graph_fingerprint(torch_detector.model, 64) != same


def test_the_fastest_backend_is_measured_once(tiny_text_folder, graph_cache, caplog):
    def load():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            name = Detector.from_pretrained(tiny_text_folder, backend="auto").backend
        return name, [r.getMessage() for r in caplog.records if "Fastest" in r.getMessage()]

    chosen, lines = load()
    (file,) = graph_cache.glob("fastest-*/fastest.json")
    measured = json.loads(file.read_text())
    assert len(lines) == 1
    assert chosen == measured["backend"] == min(measured["milliseconds"], key=measured["milliseconds"].get)
    assert set(measured["milliseconds"]) == {
        "torch",
        *(name.values[0] for name in BACKENDS if is_installed(name.values[0])),
    }
    assert load() == (chosen, [])


def test_what_cannot_be_used_is_refused_before_anything_is_loaded(monkeypatch):
    with pytest.raises(ValueError, match="must be one of torch, onnx, openvino, auto, got 'abacus'"):
        Detector.from_pretrained("nowhere", backend="abacus")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"'onnx' needs onnxruntime: pip install .*\[onnx\]"):
        Detector.from_pretrained("nowhere", backend="onnx")
