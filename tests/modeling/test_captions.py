"""Captions on the one way to every score."""

import numpy as np
import pytest
import torch
from PIL import Image

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.detector import Detector


@pytest.fixture
def reading_detector(tiny_config, tiny_tokenizer):
    torch.manual_seed(0)
    model = RobustClipForImageClassification(tiny_config())
    return Detector(model, RobustClipImageProcessor(size=32), tiny_tokenizer, "tiny")


@pytest.fixture
def embedded(reading_detector):
    """How many captions each pass of the text tower read."""
    rows = []

    def count(module, arguments, fields):
        rows.append(len(fields["input_ids"]))

    reading_detector.model.backbone.text_tower.register_forward_pre_hook(count, with_kwargs=True)
    return rows


PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)) for seed in range(4)
]


def test_a_caption_of_several_pictures_is_embedded_once(reading_detector, embedded):
    answers = reading_detector.detect_many(PICTURES, ["a b", None, "c", "a b"])
    assert embedded == [2]
    for answer, picture, caption in zip(answers, PICTURES, ["a b", None, "c", "a b"], strict=True):
        alone = reading_detector.detect(picture, caption)
        assert answer.probability == pytest.approx(alone.probability, abs=1e-6)
        assert (answer.probability_without_caption is None) == (caption is None)


def test_without_captions_the_text_tower_is_not_run(reading_detector, embedded):
    prepared = reading_detector.processor(images=PICTURES, return_tensors="pt")["pixel_values"]
    for captions in (None, [None] * 4, ["", None, "", None]):
        answers = reading_detector.detect_prepared(prepared, captions)
        assert [answer.probability_without_caption for answer in answers] == [None] * 4
    assert embedded == []


def test_embeddings_are_zeros_where_there_is_no_caption(reading_detector):
    embeds = reading_detector.embed_captions([None, "a b", ""])
    assert not embeds[[0, 2]].any()
    assert torch.equal(embeds[1], reading_detector.embed_captions(["a b"])[0])
    assert reading_detector.embed_captions([None, ""]) is None
