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


WITHOUT = {"calibration_scale": 2.0, "calibration_bias": 24.0, "real_threshold": 0.2, "generated_threshold": 0.8}


@pytest.fixture
def shifted_detector(reading_detector):
    """Scores near 4 with a caption and near -10 alone, of pictures that are all generated."""
    model = reading_detector.model
    layer = torch.nn.Linear(model.config.feature_dim, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, -1] = 14.0
        layer.bias.fill_(4.0)
        model.backbone.no_text_embed.zero_()
        model.backbone.no_text_embed[-1] = -1.0
        model.backbone.text_tower.text_projection.weight[-1].zero_()  # captions leave this axis alone
    model.head.layers = torch.nn.Sequential(layer)
    return reading_detector


def test_pictures_alone_are_judged_by_the_part_without_text(shifted_detector):
    shifted_detector.model.config.without_text = dict(WITHOUT)
    captions = ["a b", None, "c", ""]
    answers = shifted_detector.detect_many(PICTURES, captions)
    assert [answer.verdict for answer in answers] == ["generated"] * 4
    for answer, picture, caption in zip(answers, PICTURES, captions, strict=True):
        scale, bias, thresholds = (1, 0, (0.5, 0.5)) if caption else (2, 24, (0.2, 0.8))
        expected = torch.sigmoid(torch.tensor(scale * answer.score + bias)).item()
        assert answer.probability == pytest.approx(expected, abs=1e-6)
        assert (answer.real_threshold, answer.generated_threshold) == thresholds
        assert answer.probability == pytest.approx(shifted_detector.detect(picture, caption).probability, abs=1e-6)
        if caption:
            alone = shifted_detector.detect(picture)
            assert answer.probability_without_caption == pytest.approx(alone.probability, abs=1e-6)


def test_a_checkpoint_of_one_part_judges_pictures_alone_by_it(shifted_detector):
    before = shifted_detector.version
    (answer,) = shifted_detector.detect_many(PICTURES[:1])
    assert answer.verdict == "real"
    assert (answer.real_threshold, answer.generated_threshold) == (0.5, 0.5)
    del shifted_detector.version  # it is computed once
    shifted_detector.model.config.without_text = dict(WITHOUT)
    assert shifted_detector.version != before
