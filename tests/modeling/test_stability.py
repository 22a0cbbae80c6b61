"""The picture scored again as delivered: what counts as a flip, and that nothing else moves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling.deliveries import STANDARD_DELIVERIES
from modeling.detector import Detection
from modeling.images import open_image
from modeling.sentences import LANGUAGES
from modeling.stability import STABILITY_DELIVERIES, Stability, measure_stability, shrink_for_copies

EXAMPLES = Path(__file__).parents[2] / "examples"


def noise_picture(width=60, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_each_probability_is_that_of_the_delivered_picture(detector):
    picture = open_image(EXAMPLES / "china.jpg")
    stability = measure_stability(detector, picture, detector.detect(picture))
    assert tuple(stability.probabilities) == ("clean", *STABILITY_DELIVERIES)
    assert stability.probabilities["clean"] == detector.detect(picture).probability
    for name in STABILITY_DELIVERIES:
        alone = detector.detect(STANDARD_DELIVERIES[name](picture, np.random.default_rng(0)))
        assert stability.probabilities[name] == pytest.approx(alone.probability, abs=1e-5)
        assert stability.verdicts[name] == alone.verdict


def test_the_same_picture_gets_the_same_numbers_without_another_clean_pass(detector, monkeypatch):
    picture = open_image(EXAMPLES / "stable_diffusion_1_5.webp")
    detection = detector.detect(picture)
    batches = []
    forward = detector.model.forward
    monkeypatch.setattr(
        detector.model, "forward", lambda **inputs: batches.append(len(inputs["pixel_values"])) or forward(**inputs)
    )
    first = measure_stability(detector, picture, detection)
    assert batches == [len(STABILITY_DELIVERIES)]
    assert measure_stability(detector, picture, detection) == first


@pytest.fixture
def thresholds(tiny_detector):
    """Set the thresholds of a tiny detector around the probabilities of a picture and its delivered copies."""
    picture = noise_picture()
    stability = measure_stability(tiny_detector, picture, tiny_detector.detect(picture))
    lowest, *_, highest = sorted(stability.probabilities.values())
    assert lowest < highest

    def judge(real, generated):
        tiny_detector.model.config.real_threshold = lowest + real * (highest - lowest)
        tiny_detector.model.config.generated_threshold = lowest + generated * (highest - lowest)
        return measure_stability(tiny_detector, picture, tiny_detector.detect(picture))

    return judge


def test_the_opposite_verdict_makes_the_answer_uncertain_and_is_named(thresholds):
    stability = thresholds(0.0001, 0.0002)  # every probability but the lowest is "generated"
    assert set(stability.verdicts.values()) == {"real", "generated"}
    clean = stability.verdicts["clean"]
    assert stability.flipped == tuple(name for name, verdict in stability.verdicts.items() if verdict != clean)
    assert stability.verdict == "uncertain"
    assert "uncertain" in stability.sentence()


def test_a_verdict_that_only_becomes_uncertain_has_not_flipped(thresholds):
    stability = thresholds(-1, 1)  # only the highest is "generated", no other is "real"
    assert set(stability.verdicts.values()) == {"uncertain", "generated"}
    assert stability.flipped == ()
    assert stability.verdict == stability.verdicts["clean"]


def test_a_caption_goes_with_every_delivered_copy(tiny_detector):
    picture = noise_picture()
    if not tiny_detector.reads_captions:
        with pytest.raises(ValueError, match="no text tower"):
            measure_stability(tiny_detector, picture, tiny_detector.detect(picture), "a b")
        return
    detection = tiny_detector.detect(picture, "a b")
    stability = measure_stability(tiny_detector, picture, detection, "a b")
    without = measure_stability(tiny_detector, picture, tiny_detector.detect(picture))
    for name in STABILITY_DELIVERIES:
        delivered = STANDARD_DELIVERIES[name](picture, np.random.default_rng(0))
        alone = tiny_detector.detect(delivered, "a b")
        assert stability.probabilities[name] == pytest.approx(alone.probability, abs=1e-6)
        assert without.probabilities[name] == pytest.approx(alone.probability_without_caption, abs=1e-6)
        assert alone.probability != pytest.approx(alone.probability_without_caption, abs=1e-6)


def test_a_strip_and_the_smallest_picture_can_be_delivered(tiny_detector):
    for picture in (Image.new("RGB", (32, 32), "red"), Image.new("RGB", (3000, 32), "blue")):
        stability = measure_stability(tiny_detector, picture, tiny_detector.detect(picture))
        assert len(stability.probabilities) == 1 + len(STABILITY_DELIVERIES)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1536, 1024), (1536, 1024)),
        ((4000, 3000), (2000, 1500)),
        ((8000, 400), (8000, 400)),
        ((9000, 600), (4500, 300)),
    ],
)
def test_only_large_pictures_shrink_and_never_below_what_the_model_sees(size, expected):
    assert shrink_for_copies(Image.new("RGB", size, "red")).size == expected


def test_an_error_has_no_stability(tiny_detector):
    with pytest.raises(ValueError, match="must hold an answer, got the error 'damaged'"):
        measure_stability(tiny_detector, noise_picture(), Detection(error="damaged"))


SAME = dict.fromkeys(("clean", *STABILITY_DELIVERIES), "real")
CASES = {
    "holds": SAME,
    "weakens": {**SAME, "web": "uncertain"},
    "flips": {**SAME, "web": "generated", "screenshot": "uncertain"},
    "starts_uncertain": {**SAME, "clean": "uncertain"},
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_case_has_a_sentence_of_its_own_that_names_its_deliveries(language):
    sentences = {}
    for case, verdicts in CASES.items():
        flipped = ("web",) if case == "flips" else ()
        stability = Stability(dict.fromkeys(SAME, 0.1), verdicts, flipped, "real")
        sentences[case] = stability.sentence(language)
        assert "{" not in sentences[case]
    assert len(set(sentences.values())) == len(CASES)
    if language == "en":
        assert "a smaller, compressed copy" in sentences["flips"]
        assert "screenshot" not in sentences["flips"]
        assert "a cropped copy" in sentences["holds"]


def test_the_fields_are_ready_for_json():
    stability = Stability(dict.fromkeys(SAME, 0.1), CASES["flips"], ("web",), "uncertain")
    fields = json.loads(json.dumps(stability.to_dict()))
    assert fields == {
        "probabilities": dict.fromkeys(SAME, 0.1),
        "verdicts": CASES["flips"],
        "flipped": ["web"],
        "verdict": "uncertain",
        "sentence": stability.sentence(),
    }
    assert replace(stability, flipped=()).to_dict()["flipped"] == []
