"""Does the map point at what moves the score? A deletion test of several of Captum's methods, and their costs.

    python bench/explanation.py "data/*.parquet"

For 50 real and 50 generated pictures drawn over sources, each method's strongest 20 % of regions by size are removed,
and so are random 20 %, three times. Three ways to remove: leaving the patches out of the tower's input, blurring them,
painting them in the mean colour. The latter two leave edges that move the score by themselves, wherever they are.
Printed: the move of the raw score minus that of random regions, paired, with a 95 % interval by a bootstrap over
sources; and how far the score is apart when the strongest regions toward real or those toward generated are left out,
which is above 0 where the sign of the map is right. FeatureAblation, on 49 groups of regions, is the expensive
reference. DeepLift is not among them: its rules do not know CLIP's activation and attention, and it hooks the modules.
The default head was trained on the project's development set: there the figures compare methods, on scores that are
surer than those of new pictures.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from captum.attr import FeatureAblation, InputXGradient, IntegratedGradients, LayerGradCam
from PIL import Image, ImageFilter
from sample import sample_pictures
from torch import Tensor, nn

from modeling.detector import Detector
from modeling.explanation import average_patches, draw, explain, score_from, tokens_before
from modeling.image_processing_robust_clip import central_square
from modeling.images import open_image
from train.measure.bootstrap import mean_with_interval

PER_CLASS = 50
REMOVED = 0.2
RANDOM_DRAWS = 3
BLUR = 10  # pixels of the 224 that the model sees
GROUP = 2  # regions a side of FeatureAblation's groups


class GridModel(nn.Module):
    """The score as a function of a grid (1, D, rows, columns) of patch tokens: what LayerGradCam takes."""

    def __init__(self, score: Callable[[Tensor], Tensor], class_token: Tensor) -> None:
        super().__init__()
        self.grid, self.score, self.class_token = nn.Identity(), score, class_token

    def forward(self, grid: Tensor) -> Tensor:
        """(1,) score."""
        patches = self.grid(grid).flatten(2).transpose(1, 2)
        return self.score(torch.cat([self.class_token, patches], dim=1))


def integrated_gradients(detector: Detector, pixel_values: Tensor, block: int, steps: int) -> Tensor:
    """Against the average patch, as `modeling.explanation`."""
    tokens = tokens_before(detector.model, pixel_values, block)
    method = IntegratedGradients(score_from(detector.model, block, None))
    return method.attribute(tokens, baselines=average_patches(tokens), n_steps=steps, method="gausslegendre")[
        0, 1:
    ].sum(-1)


def input_x_gradient(detector: Detector, pixel_values: Tensor, block: int) -> Tensor:
    """Gradient times token."""
    tokens = tokens_before(detector.model, pixel_values, block).requires_grad_()
    return InputXGradient(score_from(detector.model, block, None)).attribute(tokens)[0, 1:].sum(-1)


def grad_cam(detector: Detector, pixel_values: Tensor, block: int) -> Tensor:
    """Tokens weighted by their features' mean gradient."""
    tokens = tokens_before(detector.model, pixel_values, block)
    side = round((tokens.shape[1] - 1) ** 0.5)
    grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side)).contiguous().requires_grad_()
    model = GridModel(score_from(detector.model, block, None), tokens[:, :1])
    return LayerGradCam(model, model.grid).attribute(grid).flatten()


def feature_ablation(detector: Detector, pixel_values: Tensor, block: int) -> Tensor:
    """Groups of 2 x 2 regions, each replaced by the average patch."""
    tokens = tokens_before(detector.model, pixel_values, block)
    side = round((tokens.shape[1] - 1) ** 0.5)
    places = torch.arange(side) // GROUP
    groups = (places[:, None] * len(places.unique()) + places).flatten()
    mask = torch.cat([groups.max()[None] + 1, groups])[None, :, None].expand_as(tokens)
    with torch.no_grad():
        method = FeatureAblation(score_from(detector.model, block, None))
        parts = method.attribute(
            tokens, baselines=average_patches(tokens), feature_mask=mask, perturbations_per_eval=10
        )
    return parts[0, 1:, 0]


# None starts behind block 6, the first that the default's head reads.
METHODS: dict[str, Callable[[Detector, Tensor], Tensor]] = {
    "IntegratedGradients, block 6, 2 steps (chosen)": lambda d, x: integrated_gradients(d, x, 6, 2),
    "IntegratedGradients, block 6, 4 steps": lambda d, x: integrated_gradients(d, x, 6, 4),
    "IntegratedGradients, block 3, 1 step": lambda d, x: integrated_gradients(d, x, 3, 1),
    "InputXGradient, block 6": lambda d, x: input_x_gradient(d, x, 6),
    "LayerGradCam, block 6": lambda d, x: grad_cam(d, x, 6),
    "FeatureAblation, block 6 (reference)": lambda d, x: feature_ablation(d, x, 6),
}


def strongest(values: Tensor) -> Tensor:
    """Mask (N,) of the largest 20 %."""
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[values.argsort(descending=True)[: round(REMOVED * len(values))]] = True
    return mask


@torch.no_grad()
def left_out(detector: Detector, pixel_values: Tensor, masks: list[Tensor]) -> Tensor:
    """Scores (M,) without the patches of each mask; all masks remove as many."""
    tokens = tokens_before(detector.model, pixel_values, 0)
    kept = [torch.cat([tokens[:, :1], tokens[:, 1:][:, ~mask]], dim=1) for mask in masks]
    return score_from(detector.model, 0, None)(torch.cat(kept))


@torch.no_grad()
def painted(detector: Detector, pixel_values: Tensor, masks: list[Tensor], filling: Tensor) -> Tensor:
    """Scores (M,) with the pixels of each mask replaced by those of `filling`."""
    side = round(len(masks[0]) ** 0.5)
    patch = pixel_values.shape[-1] // side
    squares = torch.stack(masks).reshape(-1, 1, side, side)
    squares = squares.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return detector.model(pixel_values=torch.where(squares, filling, pixel_values)).score


def test_picture(detector: Detector, data: bytes, rng: np.random.Generator) -> dict[tuple[str, str], float]:
    """(method, column) to figure, for one picture."""
    picture = open_image(data)
    maps, figures = make_maps(detector, picture)
    pixel_values = prepare(detector, picture)
    size = detector.processor.size
    square = picture.resize((size, size), Image.Resampling.BICUBIC, box=central_square(*picture.size, size))
    masks = [strongest(values.abs()) for values in maps.values()]
    masks += [masks[0][torch.from_numpy(rng.permutation(len(masks[0])))] for _ in range(RANDOM_DRAWS)]
    signed = [strongest(sign * values) for values in maps.values() for sign in (-1, 1)]
    with torch.inference_mode():
        score = detector.model(pixel_values=pixel_values).score
    out = left_out(detector, pixel_values, masks + signed)
    moves = {
        "left out": out[: len(masks)],
        "blurred": painted(
            detector, pixel_values, masks, prepare(detector, square.filter(ImageFilter.GaussianBlur(BLUR)))
        ),
        "mean colour": painted(detector, pixel_values, masks, pixel_values.mean(dim=(2, 3), keepdim=True)),
    }
    for way, scores in moves.items():
        sizes = (scores - score).abs()
        figures["random regions", way] = random = sizes[len(maps) :].mean().item()
        for name, size_of_move in zip(maps, sizes.tolist(), strict=False):
            figures[name, way] = size_of_move - random
    without_real, without_generated = out[len(masks) :].reshape(-1, 2).T
    for name, apart in zip(maps, (without_real - without_generated).tolist(), strict=True):
        figures[name, "sign"] = apart
    return figures


def prepare(detector: Detector, picture: Image.Image) -> Tensor:
    """Pixel values (1, 3, S, S)."""
    return detector.processor(images=picture, return_tensors="pt")["pixel_values"]


def make_maps(detector: Detector, picture: Image.Image) -> tuple[dict[str, Tensor], dict[tuple[str, str], float]]:
    """Each method's map (N,), and each one's time as a multiple of the bare backbone's."""
    pixel_values = prepare(detector, picture)

    start = time.perf_counter()
    with torch.inference_mode():
        detector.model.backbone.vision_tower(pixel_values=pixel_values)
    backbone = time.perf_counter() - start
    maps, times = {}, {}
    for name, method in METHODS.items():
        start = time.perf_counter()
        maps[name] = method(detector, pixel_values).detach()
        times[name, "cost"] = (time.perf_counter() - start) / backbone
    start = time.perf_counter()
    draw(picture, explain(detector, picture))
    times["explain() and draw()", "cost"] = (time.perf_counter() - start) / backbone
    return maps, times


def print_table(sources: pd.DataFrame, table: pd.DataFrame) -> None:
    """One line a method: means over the pictures with their intervals."""
    ways = ("left out", "blurred", "mean colour", "sign")
    print("Move of the score by removing the strongest 20 %, minus that of random 20 %; sign; cost in backbone passes")
    print(f"{'':<48}" + "".join(f"{way:>22}" for way in ways) + f"{'cost':>8}")
    for name in dict.fromkeys(name for name, _ in table.columns):
        line = f"{name:<48}"
        for way in ways:
            cell = mean_with_interval(sources, table[name, way]) if (name, way) in table.columns else None
            line += f"{format_cell(cell):>22}"
        if (name, "cost") in table.columns:
            line += f"{table[name, 'cost'].median():>8.2f}"
        print(line)


def format_cell(cell: dict | None) -> str:
    """A mean and its interval, where there is one."""
    if cell is None:
        return ""
    interval = "" if cell["interval"] is None else " [{:.2f}, {:.2f}]".format(*cell["interval"])
    return f"{cell['value']:.2f}{interval}"


def main() -> None:
    """Measure and print."""
    detector = Detector.from_pretrained()
    rng = np.random.default_rng(0)
    pictures = sample_pictures(sys.argv[1], PER_CLASS)
    rows = []
    for number, data in enumerate(pictures["data"]):
        rows.append(test_picture(detector, data, rng))
        print(f"{number + 1} of {len(pictures)} pictures", file=sys.stderr, flush=True)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {len(pictures)} pictures")
    print_table(pictures[["label", "source"]], pd.DataFrame(rows))


if __name__ == "__main__":
    main()
