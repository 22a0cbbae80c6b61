"""Real files with a tiny CLIP: what the tests of bank, fit and commands start from."""

from functools import partial

import datasets
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from modeling import RobustClipImageProcessor
from tests.pictures import picture
from tests.tiny import VISION


@pytest.fixture
def parquet(tmp_path):
    rows = [(f"p{i}", i % 2, f"s{i % 6}", "G" if i % 2 else "") for i in range(24)]
    contents = [picture(i, label) for i, (_, label, _, _) in enumerate(rows)]
    contents[5] = b"not a picture"
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": content, "path": None} for content in contents],
            "id": [row[0] for row in rows],
            "label": [row[1] for row in rows],
            "source": [row[2] for row in rows],
            "generator": [row[3] for row in rows],
        }
    ).cast_column("image", datasets.Image(decode=False))
    table.to_parquet(tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


@pytest.fixture
def backbone(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def train(python):
    """`train("publish", folder, "ann/name")` runs that command of `python -m train`."""
    return partial(python.run, "-m", "train")
