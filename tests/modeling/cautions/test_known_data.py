"""Distances by hand, and a file that is optional and never used with another backbone."""

import json
import math

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from modeling import RobustClipConfig
from modeling.cautions.known_data import KNOWN_DATA_FILE, KnownData
from modeling.embedded import DEFAULT_SOURCE, ROOT
from modeling.images import open_image
from tests.tiny import VISION

CONFIG = RobustClipConfig(vision_config=dict(VISION), backbone_name="owner/clip", backbone_revision="abc")


def known_data(**fields):
    size = VISION["projection_dim"]
    values = {
        "mean": torch.arange(size, dtype=torch.float32),
        "whitener": torch.diag(torch.linspace(0.5, 2, size)),
        "quantiles": torch.tensor([1.0, 2.0, 4.0]),
        "backbone": ("owner/clip", "abc"),
        "made_from": {"pictures": "3"},
    }
    return KnownData(**(values | fields))


def test_the_distance_is_the_length_after_whitening():
    known = known_data(mean=torch.tensor([1.0, 0.0]), whitener=torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    assert known.distance(torch.tensor([2.0, 3.0])) == pytest.approx(math.sqrt(2**2 + 3**2))
    assert known.distance(torch.tensor([[1.0, 0.0]])) == 0
    with pytest.raises(ValueError, match=r"must hold 2 numbers, got shape \(3,\)"):
        known.distance(torch.zeros(3))


@pytest.mark.parametrize(
    ("distance", "share"), [(0.5, 0.0), (1.0, 0.0), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0), (9, 1.0)]
)
def test_the_percentile_is_the_share_of_held_out_pictures_that_are_nearer(distance, share):
    known = known_data(mean=torch.zeros(2), whitener=torch.eye(2))
    assert known.percentile(torch.tensor([0.0, distance])) == share


def test_a_saved_file_is_read_back(tmp_path):
    known_data().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [KNOWN_DATA_FILE]
    assert (tmp_path / KNOWN_DATA_FILE).stat().st_mode & 0o777 == 0o644
    again = KnownData.load(tmp_path, CONFIG)
    assert again.made_from == {"pictures": "3"}
    assert again.backbone == ("owner/clip", "abc")
    embedding = torch.ones(VISION["projection_dim"])
    assert again.distance(embedding) == pytest.approx(known_data().distance(embedding), rel=1e-3)


def test_a_checkpoint_without_the_file_has_none_and_nothing_is_said(tmp_path, caplog):
    assert KnownData.load(tmp_path, CONFIG) is None
    assert not caplog.records


def test_a_file_of_another_backbone_or_a_damaged_one_is_left_aside_with_a_warning(tmp_path, caplog):
    known_data(backbone=("owner/other", "")).save(tmp_path)
    assert KnownData.load(tmp_path, CONFIG) is None
    known_data(mean=torch.zeros(3)).save(tmp_path)
    assert KnownData.load(tmp_path, CONFIG) is None
    (tmp_path / KNOWN_DATA_FILE).write_bytes(b"no safetensors")
    assert KnownData.load(tmp_path, CONFIG) is None
    assert ["left aside" in record.message for record in caplog.records] == [True] * 3


SCRIPT = """
from modeling import RobustClipConfig
from modeling.cautions.known_data import KnownData
from tests.tiny import VISION

config = RobustClipConfig(vision_config=VISION, backbone_name="owner/clip", backbone_revision="abc")
print(KnownData.load("owner/with", config).made_from["pictures"], KnownData.load("owner/without", config))
"""


def test_it_is_fetched_from_the_hub_where_it_is_there(hub, python, tmp_path):
    known_data().save(tmp_path)
    hub.add_model("owner/with", {KNOWN_DATA_FILE: tmp_path / KNOWN_DATA_FILE})
    hub.add_model("owner/without", {"README.md": b""})
    result = python.run("-c", SCRIPT, HF_HOME=tmp_path / "home")
    assert result.stdout.split() == ["3", "None"], result.stderr[-2000:]
    assert "left aside" not in result.stderr


def test_the_default_checkpoint_finds_photographs_nearer_than_a_page_of_text(detector):
    page = Image.new("RGB", (800, 1100), "white")
    font = ImageFont.load_default(20)
    for top in range(60, 1000, 32):
        ImageDraw.Draw(page).text((60, top), "letters and words of a page that is no photograph", "black", font)

    def percentile(picture):
        with torch.inference_mode():
            embeds = detector.model(**detector.processor(images=[picture], return_tensors="pt")).image_embeds
        return detector.known_data.percentile(embeds[:, : detector.model.config.embedding_dim])

    pictures = json.loads((DEFAULT_SOURCE / "evaluation.json").read_text())["pictures"]
    assert detector.known_data.made_from["pictures"] == str(sum(pictures.values()))
    for path in (ROOT / "examples").glob("*.jpg"):
        assert percentile(open_image(path)) < min(0.95, percentile(page)), path.name
