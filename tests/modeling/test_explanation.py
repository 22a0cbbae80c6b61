"""The map of what moved the score: shape, place, meaning, and that it leaves the model alone."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from PIL import Image, ImageFilter

from modeling.explanation import (
    Explanation,
    affordable_steps,
    attribute_regions,
    average_patches,
    draw,
    explain,
    first_block,
    integrated_gradients,
    score_from,
    tokens_before,
)
from modeling.image_processing_robust_clip import RobustClipImageProcessor, central_square
from modeling.images import open_image
from tests.tiny import VISION

EXAMPLES = Path(__file__).parents[2] / "examples"


def noise_picture(width=60, height=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prepare(detector, picture):
    return detector.processor(images=picture, return_tensors="pt")["pixel_values"]


def examples():
    return [open_image(path) for path in sorted(EXAMPLES.iterdir()) if path.suffix in (".jpg", ".webp")]


@pytest.mark.long
def test_leaving_out_the_strongest_regions_moves_the_score_more_than_leaving_out_random_ones(detector):
    rng, strongest, random = np.random.default_rng(0), [], []
    for picture in examples():
        regions = explain(detector, picture).regions.ravel()
        tokens = tokens_before(detector.model, prepare(detector, picture), 0)
        score = score_from(detector.model, 0, None)
        first = torch.zeros(1, dtype=torch.int64)
        orders = [np.argsort(np.abs(regions))[:-39]]  # all but the strongest 20 % of 196
        orders += [rng.permutation(196)[:-39] for _ in range(3)]
        kept = torch.cat([tokens[:, torch.cat([first, 1 + torch.from_numpy(order)])] for order in orders])
        with torch.no_grad():
            moves = (score(kept) - score(tokens)).abs()
        strongest.append(moves[0].item())
        random.append(moves[1:].mean().item())
    assert np.mean(strongest) > 1.5 * np.mean(random)


def test_blurring_orange_regions_lowers_the_score_beside_blurring_blue_ones(detector):
    lower = []
    for picture in examples():
        explanation = explain(detector, picture)
        seen = picture.crop(explanation.box).resize((224, 224), Image.Resampling.BICUBIC)
        blurred = seen.filter(ImageFilter.GaussianBlur(10))
        scores = []
        for regions in (explanation.regions, -explanation.regions):
            strongest = regions >= np.sort(regions, axis=None)[-39]
            mask = Image.fromarray(strongest).resize((224, 224), Image.Resampling.NEAREST)
            scores.append(detector.detect(Image.composite(blurred, seen, mask)).score)
        lower.append(scores[1] - scores[0])
    assert np.mean(lower) > 0


def test_the_map_covers_the_patches_and_its_strongest_region_is_one(tiny_detector):
    explanation = explain(tiny_detector, noise_picture())
    assert explanation.regions.shape == (2, 2)
    assert explanation.regions.dtype == np.float32
    assert np.abs(explanation.regions).max() == 1
    assert explanation.method.startswith("integrated gradients")


def test_the_parts_are_those_of_the_model_that_scores(tiny_detector):
    model = tiny_detector.model
    pixel_values = prepare(tiny_detector, noise_picture())
    text_embeds = tiny_detector.embed_captions(["a b" if tiny_detector.reads_captions else None])
    with torch.no_grad():
        expected = model(pixel_values=pixel_values, text_embeds=text_embeds).score
        for block in range(model.config.vision_config.num_hidden_layers + 1):
            tokens = tokens_before(model, pixel_values, block)
            torch.testing.assert_close(score_from(model, block, text_embeds)(tokens), expected)


@pytest.mark.parametrize(("layers", "block", "steps"), [(None, 8, 3), ([10], 8, 3), ([6, 12], 6, 2), ([1], 1, 1)])
def test_the_later_blocks_are_run_as_often_as_one_pass_of_the_tower_costs(layers, block, steps):
    from modeling import RobustClipConfig, RobustClipForImageClassification

    config = RobustClipConfig(vision_config=VISION | {"num_hidden_layers": 12}, image_layers=layers)
    model = RobustClipForImageClassification(config)
    assert (first_block(model), affordable_steps(model)) == (block, steps)


def test_with_many_steps_the_parts_add_up_to_the_difference_from_the_baseline(tiny_detector):
    picture = noise_picture()
    caption = "a b" if tiny_detector.reads_captions else None
    model = tiny_detector.model
    tokens = tokens_before(model, prepare(tiny_detector, picture), first_block(model))
    score = score_from(model, first_block(model), tiny_detector.embed_captions([caption]))
    with torch.no_grad():
        difference = (score(tokens) - score(average_patches(tokens))).item()
    total = attribute_regions(tiny_detector, picture, caption, steps=200).sum().item()
    assert abs(difference) > 1e-4
    assert total == pytest.approx(difference, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_captum_gives_the_same_numbers(tiny_detector, steps):
    model = tiny_detector.model
    tokens = tokens_before(model, prepare(tiny_detector, noise_picture()), 1)
    baseline = average_patches(tokens)
    caption = "a b" if tiny_detector.reads_captions else None
    score = score_from(model, 1, tiny_detector.embed_captions([caption]))
    expected = IntegratedGradients(score).attribute(tokens, baseline, n_steps=steps, method="gausslegendre")
    assert torch.equal(integrated_gradients(score, tokens, baseline, steps), expected)
    assert expected.abs().max() > 0


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_region_that_alone_decides_is_found(tiny_config, place, sign):
    """One marked patch on grey, no positions, and a head along what the mark adds to the embedding."""
    from modeling import RobustClipForImageClassification
    from modeling.detector import Detector

    torch.manual_seed(0)
    model = RobustClipForImageClassification(tiny_config(text=False, head_depth=0)).eval()
    processor = RobustClipImageProcessor(size=32)
    marked = np.full((32, 32, 3), 127, dtype=np.uint8)
    pictures = [Image.fromarray(marked)]
    top, left = 16 * (place // 2), 16 * (place % 2)
    marked[top : top + 16, left : left + 16] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    pictures.append(Image.fromarray(marked))
    with torch.no_grad():
        # Grey patches are then all alike, and the marked one is the only thing to find.
        model.backbone.vision_tower.vision_model.embeddings.position_embedding.weight.zero_()
        embeds = model.backbone(**processor(images=pictures, return_tensors="pt")).image_embeds
        difference = embeds[1] - embeds[0]
        model.head.layers[-1].weight.copy_(sign * difference / difference.norm() ** 2)
        model.head.layers[-1].bias.zero_()
    regions = explain(Detector(model, processor), pictures[1]).regions.ravel()
    assert np.abs(regions).argmax() == place
    assert regions[place] == sign
    assert np.abs(np.delete(regions, place)).max() < 0.2


def test_a_caption_changes_the_map_only_where_the_checkpoint_reads_it(tiny_detector):
    picture = noise_picture()
    if tiny_detector.reads_captions:
        one, other = (attribute_regions(tiny_detector, picture, caption) for caption in ("a b", "j i"))
        assert not torch.equal(one, other)
    else:
        with pytest.raises(ValueError, match="no text tower"):
            explain(tiny_detector, picture, "a b")


def test_nothing_is_left_behind_and_an_outer_inference_mode_does_no_harm(tiny_detector):
    before = {name: value.clone() for name, value in tiny_detector.model.state_dict().items()}
    needs_gradient = [parameter.requires_grad for parameter in tiny_detector.model.parameters()]
    expected = explain(tiny_detector, noise_picture()).regions
    with torch.inference_mode():
        np.testing.assert_array_equal(explain(tiny_detector, noise_picture()).regions, expected)
    assert all(parameter.grad is None for parameter in tiny_detector.model.parameters())
    assert [parameter.requires_grad for parameter in tiny_detector.model.parameters()] == needs_gradient
    assert all(torch.equal(before[name], value) for name, value in tiny_detector.model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in tiny_detector.model.modules())


def test_threads_get_the_maps_of_their_own_pictures(tiny_detector):
    pictures = [noise_picture(seed=seed) for seed in range(4)]
    expected = [explain(tiny_detector, picture).regions for picture in pictures]
    found = {}

    def work(number):
        for _ in range(10):
            found[number] = explain(tiny_detector, pictures[number]).regions

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, regions in enumerate(expected):
        np.testing.assert_allclose(found[number], regions, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((640, 480), (80, 0, 560, 480)),
        ((480, 640), (0, 80, 480, 560)),
        ((300, 300), (0, 0, 300, 300)),
        ((3200, 32), (1584, 0, 1616, 32)),
    ],
)
def test_the_box_is_the_square_that_the_model_saw(tiny_detector, size, box):
    found = explain(tiny_detector, Image.new("RGB", size, "red")).box
    # The processor cuts whole pixels of the small picture: up to half of one, in large pixels.
    assert found == pytest.approx(box, abs=min(size) / 32 / 2)
    assert all(isinstance(side, int) for side in found)


@pytest.mark.parametrize("size", [(640, 427), (400, 549), (1500, 224)])
def test_the_processor_reads_nothing_outside_of_the_box(size):
    picture = noise_picture(*size)
    left, top, right, bottom = (round(side) for side in central_square(*size, 224))
    inside = Image.new("RGB", size, "red")
    margin = 2 * min(size) // 224 + 2  # the filter reads a little beyond
    box = (max(0, left - margin), max(0, top - margin), right + margin, bottom + margin)
    inside.paste(picture.crop(box), box[:2])
    whole, cut = (RobustClipImageProcessor()(images=image)["pixel_values"] for image in (picture, inside))
    np.testing.assert_array_equal(whole, cut)
    inside.paste("red", (left + margin, top, right, bottom))  # while the inside matters
    assert (RobustClipImageProcessor()(images=inside)["pixel_values"] != whole).mean() > 0.5


def test_the_fields_are_ready_for_json():
    explanation = Explanation(np.array([[1, -0.123456], [0, 0]], dtype=np.float32), (0, 1, 2, 3), "by hand")
    fields = json.loads(json.dumps(explanation.to_dict()))
    assert fields == {"regions": [[1, -0.1235], [0, 0]], "box": [0, 1, 2, 3], "method": "by hand"}


def test_the_drawing_shows_each_side_in_its_colour_and_dims_what_was_not_seen():
    picture = Image.new("RGB", (400, 200), (128, 128, 128))
    drawn = draw(picture, Explanation(np.array([[1, 0], [0, -1]], dtype=np.float32), (100, 0, 300, 200), ""), 200)
    assert (drawn.size, drawn.mode) == ((200, 100), "RGB")
    pixels = np.asarray(drawn).astype(int)
    red, _, blue = pixels[5, 55]
    assert red > 180 > 60 > blue  # orange: generated
    red, _, blue = pixels[95, 145]
    assert blue > 150 > 60 > red  # blue: real
    assert pixels[95, 55].tolist() == [128, 128, 128]  # no push
    assert pixels[50, 20].max() < 60  # outside
    assert draw(picture, Explanation(np.zeros((2, 2), np.float32), (100, 0, 300, 200), "")).size == (400, 200)


def test_a_flat_map_stays_zero(tiny_detector):
    with torch.no_grad():
        tiny_detector.model.head.layers[-1].weight.zero_()
    assert not explain(tiny_detector, noise_picture()).regions.any()
