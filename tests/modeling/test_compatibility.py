"""What other code does with a published checkpoint. Each test is a row of docs/compatibility.md.

In this process our classes stand in for the published code; the last but one runs that, where they are not.
"""

import base64
import json
import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator, dispatch_model
from packaging.requirements import Requirement
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModel, AutoModelForImageClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling import RobustClipConfig, RobustClipForImageClassification
from modeling.checkpoints import load_processor
from modeling.embedded import ROOT
from tests.backbones import FAMILIES, save_backbone
from tests.hub_server import checkpoint_folder
from tests.tiny import TEXT, VISION

LORA = {"target_modules": r"backbone\.vision_tower\..*\.(q_proj|v_proj)", "modules_to_save": ["head"], "r": 4}


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> a checkpoint with tiny random towers: an image tower alone, both of CLIP, SigLIP, DINOv3."""
    folder = tmp_path_factory.mktemp("checkpoints")
    fields = {"head_depth": 1, "calibration_scale": 0.7, "calibration_bias": 0.3}
    checkpoint_folder(folder / "clip", RobustClipConfig(vision_config=dict(VISION), **fields))
    checkpoint_folder(folder / "text", RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT), **fields))
    for family in ("siglip", "dinov3_vit"):
        save_backbone(family, folder / "backbone" / family)
        torch.manual_seed(0)
        model = RobustClipForImageClassification.from_backbone(folder / "backbone" / family, **fields)
        model.save_pretrained(folder / family)
        load_processor(folder / "backbone" / family).save_pretrained(folder / family)
    return {path.name: path for path in folder.iterdir() if path.name != "backbone"}


@pytest.fixture(scope="module")
def folder(folders):
    return folders["clip"]


@pytest.fixture(scope="module")
def pixel_values(folder):
    return load_processor(folder)(images=[noise(seed) for seed in range(4)], return_tensors="pt")["pixel_values"]


def load(folder, **settings):
    return AutoModelForImageClassification.from_pretrained(folder, **settings).eval()


def scores(model, pixel_values):
    with torch.no_grad():
        return model(pixel_values=pixel_values).score.float().cpu()


@pytest.fixture(scope="module")
def expected(folders, pixel_values):
    """Name -> scores of the four pictures, loaded without any setting."""
    return {name: scores(load(folder), pixel_values) for name, folder in folders.items()}


def test_auto_model_gives_features(folder, pixel_values):
    embeds = AutoModel.from_pretrained(folder)(pixel_values=pixel_values).image_embeds
    assert embeds.shape == (4, VISION["projection_dim"])
    assert torch.equal(embeds, load(folder)(pixel_values=pixel_values).image_embeds)


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_map(folder, pixel_values, expected, device_map):
    torch.testing.assert_close(scores(load(folder, device_map=device_map), pixel_values), expected["clip"])


# accelerate names the no-text embedding, a parameter of the backbone itself, and says that it is no submodule.
@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules:UserWarning")
# Not SigLIP's tower: torch's MultiheadAttention reads the weights of its output layer past accelerate's hook.
@pytest.mark.parametrize("name", ["text", "dinov3_vit"])
def test_device_map_auto_with_layers_on_disk(folders, pixel_values, expected, name, tmp_path):
    memory = {"cpu": load(folders[name]).get_memory_footprint() * 9 // 10}
    model = load(folders[name], device_map="auto", max_memory=memory, offload_folder=str(tmp_path))
    assert {"cpu", "disk"} <= set(model.hf_device_map.values())
    torch.testing.assert_close(scores(model, pixel_values), expected[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["clip", "text", "siglip", "dinov3_vit"])
def test_dtype(folders, pixel_values, expected, name, dtype):
    model = load(folders[name], dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    with torch.no_grad():
        output = model(pixel_values=pixel_values)
        stored = model(image_embeds=output.image_embeds.float())  # a bank of float32 embeddings
    assert torch.isfinite(output.logits).all()
    torch.testing.assert_close(output.score.float(), expected[name], atol=0.05, rtol=0.05)
    torch.testing.assert_close(stored.score, output.score)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["text", "siglip", "dinov3_vit"])
def test_attn_implementation(folders, pixel_values, expected, name, attention):
    model = load(folders[name], attn_implementation=attention)
    towers = [tower for tower in (model.backbone.vision_tower, model.backbone.text_tower) if tower is not None]
    assert {tower.config._attn_implementation for tower in towers} == {attention}
    torch.testing.assert_close(scores(model, pixel_values), expected[name])


def test_save_pretrained_again(folder, pixel_values, expected, tmp_path):
    load(folder).save_pretrained(tmp_path)
    load_processor(folder).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}
    assert torch.equal(scores(load(tmp_path), pixel_values), expected["clip"])


@pytest.fixture(scope="module")
def classifier(folder):
    return pipeline("image-classification", model=str(folder), trust_remote_code=False)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """Address of a server on the loopback interface with one picture."""
    files = tmp_path_factory.mktemp("web")
    noise(0).save(files / "picture.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=files))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/picture.png", files / "picture.png"
    server.shutdown()
    thread.join()
    server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def generated(answers):
    """P(generated) of a pipeline's answers to several pictures."""
    return [{answer["label"]: answer["score"] for answer in answer_to_one}["generated"] for answer_to_one in answers]


@pytest.fixture(scope="module")
def probabilities(expected):
    return pytest.approx(torch.sigmoid(0.7 * expected["clip"] + 0.3).tolist(), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("kind", ["list", "generator", "KeyDataset"])
def test_pipeline_over_many(classifier, probabilities, kind, batch_size):
    pictures = [noise(seed) for seed in range(4)]
    if kind == "generator":
        pictures = (noise(seed) for seed in range(4))
    if kind == "KeyDataset":
        rows = datasets.Dataset.from_dict({"image": pictures}, features=datasets.Features({"image": datasets.Image()}))
        pictures = KeyDataset(rows, "image")
    assert generated(classifier(pictures, batch_size=batch_size)) == probabilities


@pytest.mark.parametrize("kind", ["PIL", "path", "url", "base64", "numpy", "tensor"])
def test_pipeline_input(classifier, probabilities, web, kind):
    url, path = web
    pictures = {
        "PIL": noise(0),
        "path": str(path),
        "url": url,
        "base64": base64.b64encode(path.read_bytes()).decode(),
        "numpy": np.asarray(noise(0)),
        "tensor": torch.from_numpy(np.array(noise(0))).permute(2, 0, 1),
    }
    assert generated([classifier(pictures[kind])])[0] == pytest.approx(probabilities.expected[0], abs=1e-6)


def test_pipeline_in_half_precision(folder, probabilities):
    classifier = pipeline("image-classification", model=str(folder), trust_remote_code=False, dtype=torch.bfloat16)
    answers = generated(classifier([noise(seed) for seed in range(4)]))
    assert answers == pytest.approx(probabilities.expected, abs=0.02)


def test_accelerate_prepare(folder, pixel_values):
    accelerator = Accelerator(cpu=True)
    model = load(folder)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    loader = DataLoader(TensorDataset(pixel_values, torch.tensor([0, 1, 0, 1])), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    model.train()
    for pixels, labels in loader:
        accelerator.backward(model(pixel_values=pixels, labels=labels).loss)
        optimizer.step()
    after = dict(accelerator.unwrap_model(model).named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("head.")}


def test_accelerate_dispatch(folder, pixel_values, expected, tmp_path):
    model = dispatch_model(load(folder), {"backbone": "disk", "head": "cpu"}, main_device="cpu", offload_dir=tmp_path)
    torch.testing.assert_close(scores(model, pixel_values), expected["clip"])


# peft 0.21.2 asks a model for this on transformers 5.24.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_lora_trains_saves_loads_and_merges(folder, pixel_values, expected, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = peft.get_peft_model(load(folder), peft.LoraConfig(**LORA))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=1.0)
    for _ in range(2):  # the first step moves only one factor of each product, which starts at zero
        model.train()
        model(pixel_values=pixel_values, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        optimizer.step()
    model.eval()
    assert all(parameter.grad is not None for parameter in trainable)
    trained = scores(model, pixel_values)
    assert not torch.allclose(trained, expected["clip"], atol=1e-3)

    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(folder), tmp_path / "adapter").eval()
    torch.testing.assert_close(scores(again, pixel_values), trained)

    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(scores(load(tmp_path / "merged"), pixel_values), trained, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        moved = merged.backbone(pixel_values).image_embeds - load(folder).backbone(pixel_values).image_embeds
    assert moved.abs().max() > 1e-3  # not the head alone


def test_torch_compile_as_one_graph(folders, pixel_values, expected):
    compiled = torch.compile(load(folders["text"]), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(scores(compiled, pixel_values), expected["text"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["text", "siglip", "dinov3_vit"])
def test_torch_export_with_any_batch_size(folders, pixel_values, expected, name):
    batch = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(load(folders[name]), (), {"pixel_values": pixel_values[:2]}, dynamic_shapes=batch)
    output = program.module()(pixel_values=pixel_values)
    torch.testing.assert_close(output.score, expected[name], atol=1e-5, rtol=1e-4)


# Runs where our package cannot be imported; argv: a picture as .npy, folders. Prints folder -> what every door says,
# and what the first one says after it was pushed to a Hub.
LOAD = """
import json, sys
sys.modules["modeling"] = sys.modules["train"] = None
import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

def classify(name):
    return pipeline("image-classification", model=name, trust_remote_code=True)(picture)

file, *folders = sys.argv[1:]
picture, answers = Image.fromarray(np.load(file)), {}
for folder in folders:
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "robust_clip"
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    inputs = processor(images=picture, return_tensors="pt")
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        score = model(**inputs).score.item()
        embeds = AutoModel.from_pretrained(folder, trust_remote_code=True)(**inputs).image_embeds[0].tolist()
    if not answers:
        model.push_to_hub("ann/again")
        processor.push_to_hub("ann/again")
    answers[folder] = {"score": score, "embeds": embeds, "pipeline": classify(folder)}
print(json.dumps([answers, classify("ann/again")]))
"""


def test_every_auto_class_loads_every_family_where_this_project_is_not_and_pushes_it_again(hub, python, tmp_path):
    np.save(tmp_path / "picture.npy", np.asarray(noise(0)))
    expected = {}
    for family in FAMILIES:
        save_backbone(family, tmp_path / "backbone" / family)
        model = RobustClipForImageClassification.from_backbone(tmp_path / "backbone" / family, head_depth=1).eval()
        model.save_pretrained(tmp_path / family)
        processor = load_processor(tmp_path / "backbone" / family)
        processor.save_pretrained(tmp_path / family)
        with torch.no_grad():
            expected[str(tmp_path / family)] = model(**processor(images=noise(0), return_tensors="pt"))
    first = next(iter(expected))
    result = python.run("-c", LOAD, tmp_path / "picture.npy", *expected, cwd=tmp_path, HF_HOME=tmp_path / "home")
    assert result.returncode == 0, result.stderr
    pushed = set(hub.models["ann/again"].files)
    assert pushed - {".gitattributes", "README.md"} == {path.name for path in Path(first).iterdir()}
    answers, again = json.loads(result.stdout.splitlines()[-1])
    for folder, output in expected.items():
        assert answers[folder]["score"] == pytest.approx(output.score.item(), abs=1e-6)
        assert answers[folder]["embeds"] == pytest.approx(output.image_embeds[0].tolist(), abs=1e-5)
        probability = pytest.approx(output.logits.softmax(-1)[0, 1].item(), abs=1e-6)
        assert generated([answers[folder]["pipeline"]]) == [probability]
    assert again == answers[first]["pipeline"]


def test_the_document_has_one_row_for_each_test_and_the_floor_of_requirements():
    text = (ROOT / "docs" / "compatibility.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named == {name for name in globals() if name.startswith("test_")} - {sys._getframe().f_code.co_name}
    line = next(
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("transformers")
    )
    allowed = Requirement(line).specifier
    assert version("transformers") in allowed
    assert next(f"transformers {bound.version}" for bound in allowed if bound.operator == ">=") in text
