"""What was published comes back: in a fresh process without our package, by name, by revision, and offline."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from modeling import RobustClipConfig
from modeling.detector import Detector
from modeling.embedded import ROOT, example_files
from tests.backbones import save_backbone
from tests.colour_profiles import matrix_profile
from tests.hub_server import checkpoint_folder
from train.features.bank import FeatureBank

NAME = "ann/detector"
PICTURE = ROOT / "examples" / "china.jpg"

# Runs outside the repository; argv: name, picture, revisions. Prints revision -> what every door says.
LOAD = """
import json, sys
sys.modules["modeling"] = sys.modules["train"] = None  # not even where it is installed
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoProcessor, pipeline

name, picture, *revisions = sys.argv[1:]
image, answers = Image.open(picture).convert("RGB"), {}
for revision in revisions or [None]:
    chosen = {"trust_remote_code": True} | ({"revision": revision} if revision else {})
    model = AutoModelForImageClassification.from_pretrained(name, **chosen)
    inputs = AutoImageProcessor.from_pretrained(name, **chosen)(images=image, return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], AutoProcessor.from_pretrained(name, **chosen)(
        images=image, return_tensors="pt")["pixel_values"])
    with torch.inference_mode():
        output = model(**inputs)
        embeds = AutoModel.from_pretrained(name, **chosen)(**inputs).image_embeds
    assert torch.allclose(embeds, output.image_embeds)
    classify = pipeline("image-classification", model=name, **chosen)
    answers[revision or "main"] = {
        "score": output.score.item(),
        "logits": output.logits.softmax(-1)[0, 1].item(),
        "pipeline": {answer["label"]: answer["score"] for answer in classify(image)}["generated"],
    }
print(json.dumps(answers))
"""

DETECT = """
import json, sys
from modeling.detector import Detector
print(json.dumps(Detector.from_pretrained(sys.argv[1]).detect(sys.argv[2]).to_dict()))
"""


@pytest.fixture
def answer(python):
    """What a program prints in its last line."""

    def answer(code, *arguments, **settings):
        result = python.run("-c", code, *arguments, **settings)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return answer


def test_by_name_by_revision_and_offline(hub, train, answer, tiny_config, tmp_path):
    config = {"text": False, "calibration_scale": 0.7, "calibration_bias": 0.3}
    folders = [checkpoint_folder(tmp_path / f"{seed}", tiny_config(**config), seed) for seed in (0, 1)]
    expected = [Detector.from_pretrained(folder).detect(PICTURE) for folder in folders]
    assert expected[0].score != pytest.approx(expected[1].score, abs=1e-3)
    for folder in folders:
        assert train("publish", folder, NAME).returncode == 0
    first, second = (commit.oid for commit in hub.models[NAME].commits[1:])

    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    online = answer(LOAD, NAME, PICTURE, "main", second, first, cwd=outside, HF_HOME=home)
    with hub.unreachable():
        offline = answer(LOAD, NAME, PICTURE, "main", first, cwd=outside, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert offline["main"] == online["main"] == online[second]
    assert offline[first] == online[first]
    for revision, detection in ((first, expected[0]), ("main", expected[1])):
        assert online[revision]["score"] == pytest.approx(detection.score, abs=1e-6)
        assert online[revision]["logits"] == pytest.approx(detection.probability, abs=1e-6)
        assert online[revision]["pipeline"] == pytest.approx(detection.probability, abs=1e-6)

    inside = answer(DETECT, NAME, PICTURE, HF_HOME=tmp_path / "another home")
    assert inside["score"] == pytest.approx(expected[1].score, abs=1e-6)
    assert inside["model"] == NAME


def test_the_cards_own_words_work(hub, train, answer, tiny_config, tmp_path):
    folder = checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False))
    assert train("publish", folder, NAME, "--public").returncode == 0
    card = hub.models[NAME].files["README.md"].decode()
    snippet = card.split("```python\n")[1].split("```")[0]
    (tmp_path / "picture.jpg").write_bytes(PICTURE.read_bytes())
    run_it = "import sys; sys.modules['modeling'] = None\n" + snippet.replace(
        "print(", "import json; print(json.dumps("
    )
    found = answer(run_it.rstrip() + ")", cwd=tmp_path, HF_HOME=tmp_path / "home", HF_TOKEN="")
    assert found["generated"] == pytest.approx(Detector.from_pretrained(folder).detect(PICTURE).probability, abs=1e-6)


@pytest.mark.long
def test_the_embedded_default_goes_there_and_back(hub, train, answer, detector, tmp_path):
    """Once with the real weights, 348 MB."""
    result = train("publish", "default", NAME)
    assert result.returncode == 0, result.stderr
    published = hub.models[NAME].files
    data = ModelCard(published["README.md"].decode()).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "image-classification", "mit")
    assert data.base_model == "openai/clip-vit-base-patch16"
    assert {result.metric_type for result in data.eval_results} >= {"roc_auc", "recall", "false_positive_rate"}
    assert f'model="{NAME}"' in published["README.md"].decode()
    expected = detector.detect(PICTURE)
    found = answer(LOAD, NAME, PICTURE, cwd=tmp_path, HF_HOME=tmp_path / "home")["main"]
    assert found["score"] == pytest.approx(expected.score, abs=1e-5)
    assert found["pipeline"] == pytest.approx(expected.probability, abs=1e-6)


def test_a_backbone_comes_by_its_name_on_the_hub_and_a_gated_one_says_so(parquet, hub, train, tmp_path):
    save_backbone("dinov3_vit", tmp_path / "backbone")
    files = {path.name: path for path in (tmp_path / "backbone").iterdir()}
    hub.add_model("bob/open", files)
    hub.add_model("bob/gated", files, gated=True)
    result = train(
        "features", "--data", parquet, "--backbone", "bob/open", "--views", "1", "--output", tmp_path / "bank"
    )
    assert result.returncode == 0, result.stderr
    assert FeatureBank.load(tmp_path / "bank").image_embeds.shape == (23, 16)
    result = train("features", "--data", parquet, "--backbone", "bob/gated", "--output", tmp_path / "other")
    assert result.returncode == 1
    assert "bob/gated is gated" in result.stderr


def test_others_get_the_same_verdicts_from_the_published_folder_alone(
    hub, python, train, tiny_text_folder, graph_cache, tmp_path
):
    pytest.importorskip("onnxscript")
    folder = shutil.copytree(tiny_text_folder, tmp_path / "checkpoint")
    alone = {"calibration_scale": 2.0, "calibration_bias": 0.5, "real_threshold": 0.45, "generated_threshold": 0.55}
    with_text = {"calibration_scale": 0.5, "real_threshold": 0.01, "generated_threshold": 0.02}
    config = json.loads((folder / "config.json").read_text()) | with_text | {"without_text": alone}
    (folder / "config.json").write_text(json.dumps(config))
    cache = {"ROBUST_CLIP_CACHE": str(graph_cache)}
    assert train("export", folder, folder, **cache).returncode == 0
    result = train("publish", folder, NAME, **cache)
    assert result.returncode == 0, result.stderr
    assert "model.onnx" in result.stdout
    assert "`generated_threshold` in `without_text` of config.json" in hub.models[NAME].files["README.md"].decode()

    elsewhere = tmp_path / "elsewhere"
    for name, content in hub.models[NAME].files.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes(content)
    shutil.copy(ROOT / "examples" / "third_party.py", tmp_path)
    wide = tmp_path / "wide.png"  # its profile counts by every door
    with Image.open(PICTURE) as image:
        image.save(wide, icc_profile=matrix_profile("prophoto"))
    pictures = [*example_files(), wide]
    # Our package cannot be imported, not even where it is installed.
    hide = "import runpy, sys; sys.modules['modeling'] = sys.modules['train'] = None; "
    run_it = hide + "runpy.run_path('third_party.py', run_name='__main__')"
    settings = {"HF_HOME": tmp_path / "home", "HF_HUB_OFFLINE": "1"}
    result = python.run("-c", run_it, elsewhere, *pictures, cwd=tmp_path, **settings)
    assert result.returncode == 0, result.stderr
    detector = Detector.from_pretrained(folder)
    assert detector.detect(wide).score != pytest.approx(detector.detect(PICTURE).score, rel=1e-2)
    for line, expected in zip(result.stdout.splitlines(), detector.detect_many(pictures), strict=True):
        answer = json.loads(line)
        assert set(answer["verdicts"].values()) == {expected.verdict}
        assert len(answer["probabilities"]) == 3
        for probability in answer["probabilities"].values():
            assert probability == pytest.approx(expected.probability, abs=1e-5)


def test_a_graph_is_published_when_asked_and_refused_when_it_is_of_other_weights(
    hub, train, tiny_text_folder, graph_cache, tmp_path
):
    pytest.importorskip("onnxscript")
    cache = {"ROBUST_CLIP_CACHE": str(graph_cache)}
    assert train("publish", tiny_text_folder, NAME, **cache).returncode == 0
    assert "model.onnx" not in hub.models[NAME].files
    assert train("publish", tiny_text_folder, NAME, "--onnx", **cache).returncode == 0
    graph = hub.models[NAME].files["model.onnx"]

    changed = checkpoint_folder(tmp_path / "changed", RobustClipConfig.from_pretrained(tiny_text_folder), seed=1)
    (changed / "model.onnx").write_bytes(graph)
    result = train("publish", changed, NAME, **cache)
    assert result.returncode == 1
    assert "model.onnx was not exported from these weights" in result.stderr
