"""A page of text or a chart is recognised by the backbone's embedding; a photograph is not."""

import io
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from modeling.cautions import pages
from modeling.cautions.finding import find_cautions
from modeling.cautions.known_data import KnownData
from modeling.cautions.pages import PageProbe, probe_for, stored_probe
from modeling.deliveries import STANDARD_DELIVERIES
from modeling.embedded import EXAMPLES
from modeling.examination import examine
from modeling.images import open_image

PROBE = PageProbe(torch.tensor([1.0, 0.0]), 0.5, ("tower", "1"), 224, {})


def text_page():
    page = Image.new("RGB", (800, 1000), "#fbf8f0")
    draw = ImageDraw.Draw(page)
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif.ttf", 20)
    for top in range(60, 930, 32):
        draw.text((60, top), "The ferry left at noon and reached the island before it grew dark.", "#222222", font)
    return page


def chart():
    figure = Figure(figsize=(6, 5))
    axes = figure.add_subplot()
    axes.bar(range(7), [3, 5, 2, 8, 6, 7, 4], label="tons")
    axes.plot(range(7), [2, 4, 4, 5, 6, 5, 3], "r-o", label="mean")
    axes.set_title("Fish by month")
    axes.legend()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def photographed(page):
    """On a table, turned, dark at one side, with noise."""
    table = Image.new("RGB", (1000, 1200), "#6b4a2f")
    turned = page.convert("RGBA").rotate(7, Image.Resampling.BICUBIC, expand=True)
    table.paste(turned, (40, 40), turned)
    light = np.linspace(0.55, 0.95, table.width)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 5, (table.height, table.width, 3))
    return Image.fromarray(np.clip(np.asarray(table) * light + noise, 0, 255).astype(np.uint8))


def called_pages(detector, pictures):
    prepared = detector.processor(images=pictures, return_tensors="pt")["pixel_values"]
    embeds = detector.compute(prepared).image_embeds[:, : detector.model.config.embedding_dim]
    return [detector.pages.is_page(row) for row in embeds]


def test_pages_and_charts_are_recognised_however_they_come(detector):
    shown = [text_page(), chart(), photographed(text_page()), photographed(chart())]
    rng = np.random.default_rng(0)
    shown += [STANDARD_DELIVERIES["hard"](shown[0], rng), STANDARD_DELIVERIES["reposted"](shown[1], rng)]
    assert called_pages(detector, shown) == [True] * len(shown)


def test_pictures_among_the_examples_are_no_pages(detector):
    shown = [open_image(path) for path in sorted(EXAMPLES.glob("*.*p*g"))]
    shown += [photographed(shown[0])]  # a print on a table
    assert called_pages(detector, shown) == [False] * len(shown)


def test_the_answer_about_a_page_says_so_and_keeps_its_verdict(detector):
    buffer = io.BytesIO()
    text_page().save(buffer, "PNG")
    steps = examine(detector, buffer.getvalue())
    first, second = next(steps), next(steps)
    assert [caution.code for caution in second.cautions] == ["document"]
    assert second.verdict == first.verdict == detector.detect(buffer.getvalue()).verdict


def test_a_page_is_not_called_flat_or_far_too():
    drawing = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(drawing).rectangle((50, 50, 200, 200), fill="navy")
    known = KnownData(torch.zeros(2), torch.eye(2), torch.linspace(0, 10, 1001), ("", ""), {})

    def codes(*embedding):
        found = find_cautions(
            None, drawing, model_side=300, embedding=torch.tensor(embedding), known_data=known, pages=PROBE
        )
        return [caution.code for caution in found]

    assert codes(500.0, 0.0) == ["document"]
    assert codes(0.0, 500.0) == ["drawing", "far"]
    assert [caution.code for caution in find_cautions(None, drawing, model_side=301, pages=PROBE)] == [
        "drawing",
        "small",
    ]


@pytest.mark.parametrize(
    ("embedding", "page"),
    [
        ((0.51, 0.86), True),
        ((5.1, 8.6), True),
        ((0.49, 0.872), False),
        ((0.0, 0.0), False),
        ((float("nan"), 0), False),
    ],
)
def test_only_the_direction_of_an_embedding_counts(embedding, page):
    assert PROBE.is_page(torch.tensor([embedding])) is page


def test_a_probe_serves_its_own_backbone_at_its_own_size_only(tiny_detector):
    stored = stored_probe()
    name, revision = stored.backbone
    for given, size, fits in (
        ((name, revision), stored.size, True),
        ((name, revision), stored.size + 112, False),
        ((name, "other"), stored.size, False),
        ((None, None), stored.size, False),
    ):
        config = SimpleNamespace(backbone_name=given[0], backbone_revision=given[1])
        assert (probe_for(config, size) is not None) == fits
    assert tiny_detector.pages is None


def test_what_is_saved_is_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGES_FILE", tmp_path / "pages.json")
    PROBE.save()
    stored = stored_probe.__wrapped__()
    assert torch.equal(stored.weights, PROBE.weights)
    assert (stored.threshold, stored.backbone, stored.size) == (PROBE.threshold, PROBE.backbone, PROBE.size)
