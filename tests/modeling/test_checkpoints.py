"""A checkpoint is loaded whole, or refused in one sentence."""

import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from modeling import RobustClipImageProcessor
from modeling.checkpoints import CheckpointError, build_once, load_model
from modeling.detector import Detector
from modeling.hub import HubError
from tests.backbones import save_backbone


@pytest.fixture
def folder(tiny_config, tmp_path):
    from modeling import RobustClipForImageClassification

    RobustClipForImageClassification(tiny_config(text=False)).save_pretrained(tmp_path)
    RobustClipImageProcessor(size=32).save_pretrained(tmp_path)
    return tmp_path


def test_a_backbone_without_a_head_is_no_detector(tmp_path):
    save_backbone("clip", tmp_path)
    with pytest.raises(
        CheckpointError, match="must be a detector of this project .* got 'clip'. To make one"
    ) as refused:
        Detector.from_pretrained(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("renamed", ["head.layers.0.weight", "backbone.vision_tower.visual_projection.weight"])
def test_weights_of_another_configuration_are_refused(folder, renamed):
    assert Detector.from_pretrained(folder).name == folder.name
    weights = load_file(folder / "model.safetensors")
    weights[f"{renamed}.of_before"] = weights.pop(renamed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=f"2 are missing, not known or of another shape, such as {renamed}. Save or fetch"
    ) as refused:
        Detector.from_pretrained(folder)
    assert "\n" not in str(refused.value)


def test_a_hub_id_that_cannot_be_had_is_refused_in_our_words():
    with pytest.raises(HubError, match=r"nobody/nothing needs the Hub, but HF_HUB_OFFLINE is set"):
        load_model("nobody/nothing")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_CLIP_CACHE", str(tmp_path))
    return tmp_path


def build(folder):
    (folder / "in").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "in" / "weights").write_bytes(bytes(100))


def must_not_build(folder):
    raise AssertionError


@pytest.mark.parametrize("damage", ["gone", "cut", "sizes"])
def test_a_damaged_folder_of_the_cache_is_made_again(cache, damage, caplog):
    folder = build_once("made", build)
    assert build_once("made", must_not_build) == folder
    if damage == "gone":
        (folder / "config.json").unlink()
    elif damage == "cut":
        (folder / "in" / "weights").write_bytes(bytes(99))
    else:
        (cache / ".made.sizes.json").write_text('{"conf')
    (folder / "more").touch()
    build_once("made", build)
    assert sorted(path.name for path in folder.rglob("*")) == ["config.json", "in", "weights"]
    assert (folder / "in" / "weights").stat().st_size == 100
    assert f"{folder} lost a file, or a part of one: it is made again." in caplog.text


def test_what_a_killed_assembly_left_is_removed_and_what_another_is_at_is_not(cache):
    for left in (".made-abcdefgh", ".of-before-12345678", ".at-work-12345678"):
        (cache / left / "made").mkdir(parents=True)
        (cache / left / "made" / "weights").write_bytes(bytes(10))
    (cache / ".proofs.json").touch()
    with FileLock(cache / ".at-work.lock"):
        build_once("made", build)
    left = {path.name for path in cache.iterdir()}
    assert {"made", ".at-work-12345678", ".proofs.json"} <= left
    assert not {".made-abcdefgh", ".of-before-12345678"} & left


def test_an_interrupted_build_leaves_nothing_and_is_made_the_next_time(cache):
    def fail(folder):
        build(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build_once("made", fail)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert (build_once("made", build) / "config.json").is_file()
