"""A picture that shows nothing is "uncertain" whatever its score, with a code of its own; others are left alone."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
from modeling.cautions.content import has_content, measure_content
from modeling.detector import Detector
from modeling.embedded import example_files
from modeling.examination import examine
from modeling.images import open_image
from space.batch import judge as judge_batch
from tests.pictures import encoded
from tests.tiny import VISION
from train.score.options import PictureArguments, ScoreArguments
from train.score.scoring import score

RNG = np.random.default_rng(0)
PROCESSOR = RobustClipImageProcessor()


def noise(*shape, low=0, high=256):
    return Image.fromarray(RNG.integers(low, high, size=shape, dtype=np.uint8)).convert("RGB")


def gradient(width=600, height=400, spread=0):
    values = np.tile(np.linspace(20, 230, width), (height, 1)) + RNG.normal(0, spread or 1e-9, (height, width))
    return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")


EMPTY = {
    "black": encoded(Image.new("RGB", (640, 480))),
    "white": encoded(Image.new("L", (300, 300), 255)),
    "grey JPEG": encoded(Image.new("RGB", (640, 480), "grey"), "JPEG", quality=40),
    "red WebP": encoded(Image.new("RGB", (640, 480), "red"), "WEBP"),
    "transparent": encoded(Image.new("RGBA", (400, 400), (200, 30, 90, 0))),
    "transparent noise": encoded(
        Image.fromarray(RNG.integers(256, size=(300, 300, 4), dtype=np.uint8) * np.uint8([1, 1, 1, 0]))
    ),
    "noise": encoded(noise(512, 640, 3)),
    "grey noise": encoded(noise(300, 300)),
    "small noise": encoded(noise(130, 160, 3)),
    "large noise": encoded(noise(1500, 1200, 3)),
    "noise JPEG": encoded(noise(512, 512, 3), "JPEG", quality=30),
    "covered lens": encoded(noise(480, 640, 3, low=0, high=9), "JPEG", quality=85),
    "gradient": encoded(gradient()),
    "gradient JPEG": encoded(gradient(), "JPEG", quality=60),
    "gradient with noise": encoded(gradient(spread=8)),
}


def sees(data, processor=PROCESSOR):
    pixel_values = processor(images=open_image(data), return_tensors="pt")["pixel_values"]
    return has_content(pixel_values, processor.image_std)[0]


@pytest.mark.parametrize("size", [224, 336])
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_picture_has_no_content_at_any_size_of_the_model(name, size):
    assert not sees(EMPTY[name], RobustClipImageProcessor(size=size))


@pytest.mark.parametrize("path", example_files(), ids=lambda path: path.name)
def test_the_example_pictures_are_far_from_having_none(path):
    left, correlation = measure_content(PROCESSOR(open_image(path), return_tensors="pt")["pixel_values"], [0.27] * 3)
    assert left.item() > 20
    assert correlation.item() > 0.5


def test_a_faint_or_noisy_photograph_and_a_few_words_have_content():
    photograph = np.asarray(open_image(example_files()[0])).astype(float)
    words = Image.new("RGB", (800, 600), "white")
    ImageDraw.Draw(words).text((300, 280), "a few words, not many", fill="black", font_size=30)
    faint = Image.fromarray((120 + 0.05 * photograph).astype(np.uint8))
    noisy = Image.fromarray((photograph + RNG.normal(0, 60, photograph.shape)).clip(0, 255).astype(np.uint8))
    dark = Image.fromarray((0.05 * photograph).astype(np.uint8))
    assert all(sees(encoded(picture)) for picture in (words, faint, noisy, dark))


def test_a_batch_is_measured_picture_by_picture():
    both = torch.cat(
        [PROCESSOR(open_image(d), return_tensors="pt")["pixel_values"] for d in list(EMPTY.values())[5:9]]
    )
    alone = [measure_content(one[None], PROCESSOR.image_std) for one in both]
    for together, apart in zip(measure_content(both, PROCESSOR.image_std), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that calls everything "real", with squares of 224 pixels."""
    torch.manual_seed(0)
    config = RobustClipConfig(vision_config=VISION | {"image_size": 224}, real_threshold=1.0, generated_threshold=1.1)
    folder = tmp_path_factory.mktemp("checkpoint")
    RobustClipForImageClassification(config).save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


class File:
    """An uploaded file."""

    def __init__(self, name, data):
        self.name, self.data = name, data

    def read(self):
        return self.data


def test_every_way_to_ask_gives_the_same_verdict_and_code(folder, tmp_path):
    detector, data = Detector.from_pretrained(folder), EMPTY["noise"]
    picture = example_files()[0].read_bytes()
    (tmp_path / "pictures").mkdir()
    for name, content in (("a.png", data), ("b.jpg", picture)):
        (tmp_path / "pictures" / name).write_bytes(content)
    answer, other = detector.detect(data), detector.detect(picture)
    assert (answer.verdict, answer.reason, other.verdict, other.reason) == ("uncertain", "no_content", "real", None)
    assert [found.reason for found in detector.detect_many([data, picture])] == ["no_content", None]
    *_, examined = examine(detector, data)
    assert (examined.verdict, examined.cautions[0].code) == ("uncertain", "no_content")
    assert examined.to_dict()["reason"] == "no_content"
    assert examined.stability.verdict == "uncertain"
    rows = [row for batch in judge_batch(detector, [File("a", data), File("b", picture)]) for row in batch]
    assert [(row.outcome, row.detection.reason) for row in rows] == [("uncertain", "no_content"), ("real", None)]
    assert rows[0].note == examined.cautions[0].sentence("en")
    score(PictureArguments(data=str(tmp_path / "pictures")), ScoreArguments(str(tmp_path / "scores"), str(folder)))
    import pandas as pd

    table = pd.read_parquet(tmp_path / "scores" / "parts").sort_values("key")
    assert list(table["verdict"]) == ["uncertain", "real"]
    assert list(table["reason"].fillna("")) == ["no_content", ""]


def test_the_logits_stay_as_they_are(folder):
    detector, data = Detector.from_pretrained(folder), EMPTY["black"]
    pixel_values = PROCESSOR(open_image(data), return_tensors="pt")["pixel_values"]
    assert detector.detect(data).score == pytest.approx(detector.compute(pixel_values).score.item())
