"""`modeling.check` notices what really goes wrong in installations, and says which it probably is."""

import contextlib
import copy
import dataclasses
import json
import zipfile

import pytest
import torch
from PIL import Image
from torch.ao.quantization import quantize_dynamic

from modeling import check
from modeling.check import compare, embed_examples, example_files, likely_reason
from modeling.checkpoints import cache_folder
from modeling.default_backbone import KNOWN_EMBEDDING, WHEEL, WHEEL_MEMBER
from modeling.detector import Detector
from modeling.images import open_image


@contextlib.contextmanager
def replaced(owner, name, value):
    """The session's detector with a part exchanged for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@pytest.fixture(scope="module")
def compared(detector):
    return compare(detector)


def test_this_installation_is_right(compared):
    assert [picture.name for picture in compared] == [path.name for path in example_files()]
    assert len(compared) == 5
    assert all(picture.is_right for picture in compared)
    assert likely_reason(compared) is None


def test_the_stored_embedding_is_that_of_an_independent_conversion():
    independent = torch.tensor(json.loads(KNOWN_EMBEDDING.read_text())["embeddings"]["china.jpg"])
    stored = torch.tensor(json.loads(check.EXPECTED_EMBEDDINGS.read_text())["china.jpg"])
    assert torch.cosine_similarity(independent, stored, dim=0) > 0.9999


def test_scores_are_stored_by_backend(detector):
    assert set(json.loads(check.EXPECTED.read_text())) >= {"torch-fp32"}
    with pytest.raises(ValueError, match="holds scores of torch-fp32.*, not of 'abacus'"):
        compare(detector, backend="abacus")


@pytest.mark.long
# torch names successors of both; the arithmetic is what matters here.
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_tower_of_dynamic_int8_is_noticed(detector):
    quantised = quantize_dynamic(copy.deepcopy(detector.model.backbone), {torch.nn.Linear}, torch.qint8)
    with replaced(detector.model, "backbone", quantised):
        compared = compare(detector)
    assert not any(picture.is_right for picture in compared)
    assert max(picture.cosine for picture in compared) < 0.95
    assert "int8 products that saturate" in likely_reason(compared)


@pytest.mark.long
def test_the_packages_int8_graph_is_noticed(detector):
    """The graph that the backbone's weights come from, run as it is: what this check must not let pass."""
    onnxruntime = pytest.importorskip("onnxruntime")
    wheel = cache_folder() / WHEEL
    if not wheel.is_file():
        pytest.skip("the backbone came from the Hub: there is no graph")
    with zipfile.ZipFile(wheel) as archive:
        session = onnxruntime.InferenceSession(archive.read(WHEEL_MEMBER), providers=["CPUExecutionProvider"])

    class Graph(torch.nn.Module):
        def forward(self, pixel_values):
            return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: pixel_values.numpy()})[0])

    files = example_files()
    pixels = detector.processor(images=[open_image(path) for path in files], return_tensors="pt")["pixel_values"]
    embeddings = torch.cat([Graph()(pixels[i : i + 1]) for i in range(len(files))])
    expected = torch.stack(list(embed_examples(detector).values()))
    cosines = torch.cosine_similarity(embeddings, expected)
    assert cosines.max() < check.MIN_COSINE


def test_arithmetic_of_fewer_bits_is_noticed(detector):
    rounded = copy.deepcopy(detector.model.backbone).to(torch.bfloat16).float()
    with replaced(detector.model, "backbone", rounded):
        compared = compare(detector)
    assert any(not picture.is_right for picture in compared)
    reason = likely_reason(compared)
    assert "fewer bits than float32" in reason


def test_pictures_that_are_decoded_otherwise_are_named(detector, tmp_path):
    for path in example_files():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for path in tmp_path.glob("*.webp"):
        with Image.open(path) as image:
            image.convert("RGB").save(path, quality=5)
    compared = compare(detector, tmp_path)
    assert [picture.is_right for picture in compared] == [path.suffix == ".jpg" for path in example_files()]
    reason = likely_reason(compared)
    assert reason.startswith("Only flux_dev.webp, stable_diffusion_1_5.webp, z_image_turbo.webp came out wrong")
    assert "decoded otherwise" in reason


def test_another_head_is_told_from_another_backbone(detector):
    head = copy.deepcopy(detector.model.head)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(1.05)
    with replaced(detector.model, "head", head):
        compared = compare(detector)
    assert "the head or its settings are of another checkpoint" in likely_reason(compared)


def test_what_is_not_finite_is_said_first(compared):
    broken = [dataclasses.replace(compared[0], score=float("nan")), *compared[1:]]
    assert broken[0].difference == float("inf")
    assert "not finite" in likely_reason(broken)
    assert "not finite" in likely_reason([dataclasses.replace(compared[0], cosine=float("nan"))])


def test_the_command_prints_every_picture_and_its_verdict(detector, compared, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["modeling.check"])
    monkeypatch.setattr(Detector, "from_pretrained", classmethod(lambda cls: detector))
    assert check.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"china.jpg: score {compared[0].score:.3f}")
    assert lines[-1].endswith("OK")
    far = [dataclasses.replace(picture, cosine=0.52) for picture in compared]
    monkeypatch.setattr(check, "compare", lambda _: far)
    assert check.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert "cosine 0.52 to 0.52" in lines[-2]
    assert lines[-1].endswith("WRONG")
