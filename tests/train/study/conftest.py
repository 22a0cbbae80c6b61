"""Tiny banks, and studies of them."""

import gc

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from modeling import RobustClipImageProcessor
from tests.tiny import TEXT, VISION
from tests.train.tiny_bank import WIDTH, write_bank


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """Trainer collects garbage after every fit: walking through all of torch's objects would take longer than it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def banks(tmp_path_factory):
    """Folders of a bank without text, with deliveries, and of one with text."""
    folder = tmp_path_factory.mktemp("banks")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder / "vision")
    RobustClipImageProcessor(size=32).save_pretrained(folder / "vision")
    config = CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=WIDTH)
    CLIPModel(config).save_pretrained(folder / "clip")
    return {
        "image": write_bank(folder / "image", folder / "vision", text=False, deliveries=("web", "hard", "blur_1")),
        "text": write_bank(folder / "text", folder / "clip", text=True),
    }
