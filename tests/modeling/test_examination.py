"""The whole answer about one picture, part by part."""

import io

import numpy as np
import pytest
from PIL import Image

from modeling import RobustClipImageProcessor
from modeling.examination import examine


@pytest.fixture
def picture_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_verdict_comes_first_and_every_part_stays(tiny_detector, picture_bytes):
    answers = list(examine(tiny_detector, picture_bytes))
    parts = [("provenance", "stability", "explanation")[:number] for number in range(4)]
    for answer, there in zip(answers, parts, strict=True):
        named = {name for name in parts[-1] if getattr(answer, name) is not None}
        assert named == set(there)
        assert answer.detection == answers[0].detection == tiny_detector.detect(picture_bytes)
        assert answer.complete == (answer is answers[-1])
    assert list(answers[-1].milliseconds) == ["open", "score", "file", "stability", "explanation"]
    assert (answers[0].file_format, answers[0].file_bytes) == ("PNG", len(picture_bytes))


@pytest.mark.parametrize(("size", "small"), [(32, False), (300, False), (336, True)])
def test_a_small_picture_is_told_from_the_size_that_the_checkpoint_sees(tiny_config, picture_bytes, size, small):
    from modeling import RobustClipForImageClassification
    from modeling.detector import Detector

    config = tiny_config(text=False)
    config.vision_config.image_size, config.vision_config.patch_size = size, size // 2
    model = RobustClipForImageClassification(config)
    detector = Detector(model, RobustClipImageProcessor(size=size))
    *_, answer = examine(detector, picture_bytes)
    found = [caution for caution in answer.cautions if caution.code == "small"]
    assert [caution.values["side"] for caution in found] == ([size] if small else [])
    if small:
        assert f"enlarged to {size} pixels" in found[0].sentence()
