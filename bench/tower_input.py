"""Whether the frozen tower tells more when it is shown, or asked, something else.

Other deliveries to fit on, a mirrored second look, 336 pixels, how much its patch tokens differ:

    python bench/tower_input.py 'dev/*.parquet' --output FOLDER [--merge_sources NAME=OTHER ...]

A logistic regression on the class tokens of blocks 6 to 12 and the embedding stands for the head: heads of unlike
build end within a hundredth of each other on these features. Five groups of sources are held out in turn; pictures and
groups are those of bench/backbone_tuning.py. Several processes that are given the same output share the work; an
interrupted run goes on where it stopped.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pandas as pd
import torch
from backbone_tuning import FOLDS, HEADER, INVERSE_PENALTY, LAYERS, cells, choose, measure, told_data
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES, noise, random_delivery
from modeling.modeling_robust_clip import RobustClipModel
from train.data import DataArguments, load_records
from train.embedder import open_record
from train.feature_bank import load_backbone
from train.files import write_json
from train.markdown import table
from train.metrics import source_weights
from train.shared_work import share_work

CHUNK = 64  # pictures of one file
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def edit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What photographs go through before they are published: tone, colour, a vignette, sharpening, smoothing."""
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    values = np.asarray(image, dtype=np.float32) / 255
    balance = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    values = values * balance * np.exp(rng.normal(0, 0.15))
    values = np.clip(values, 0, 1) ** np.exp(rng.normal(0, 0.2))
    mean = values.mean()
    values = np.clip((values - mean) * np.exp(rng.normal(0, 0.25)) + mean, 0, 1)
    grey = (values @ LUMA)[..., None]
    saturation = 0 if rng.random() < 0.08 else np.exp(rng.normal(0, 0.4))
    values = np.clip(grey + (values - grey) * saturation, 0, 1)
    if rng.random() < 0.25:  # an S-curve, or faded
        values = values * values * (3 - 2 * values) if rng.random() < 0.5 else 0.08 + 0.84 * values
    if rng.random() < 0.3:
        height, width = values.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        values = values * (1 - rng.uniform(0.1, 0.5) * np.clip((x * x + y * y) / 2, 0, 1))[..., None]
    image = Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))
    kind, unit = rng.random(), min(image.size) / 400
    if kind < 0.25:  # local contrast
        return image.filter(ImageFilter.UnsharpMask(rng.uniform(1, 12) * unit, int(rng.uniform(30, 120)), 0))
    if kind < 0.45:  # smooth skin
        smooth = image.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(1.5 * unit))
        return Image.blend(image, smooth, rng.uniform(0.3, 0.8))
    return noise(image, rng.uniform(3, 12), rng) if kind < 0.6 else image


def delivered(image: Image.Image, *seed: int) -> Image.Image:
    """On a random way."""
    return random_delivery(image, np.random.default_rng(seed))[0]


# What the tower is shown of a picture in a row of the data.
VIEWS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "clean": lambda image, row: image,
    "random": lambda image, row: delivered(image, row),
    "edited": lambda image, row: delivered(edit(image, np.random.default_rng([row, 11])), row, 12),
    "hard": lambda image, row: STANDARD_DELIVERIES["hard"](image, np.random.default_rng([row])),
    "twice": lambda image, row: delivered(delivered(image, row), row, 1),
    "mirrored": lambda image, row: ImageOps.mirror(image),
    "336": lambda image, row: image,
}


class Attempt(NamedTuple):
    """Which views give a picture's rows to fit on and to score; features of several in one row stand side by side."""

    fitted: list[tuple[str, ...]]
    clean: list[tuple[str, ...]]  # scores of several rows are averaged
    hard: list[tuple[str, ...]]
    compared_with: str | None
    passes: float  # of the tower, a verdict


ATTEMPTS = {
    "clean": Attempt([("clean",)], [("clean",)], [("hard",)], None, 1),
    "clean and one random delivery": Attempt([("clean",), ("random",)], [("clean",)], [("hard",)], "clean", 1),
    "delivered twice over": Attempt(
        [("clean",), ("twice",)], [("clean",)], [("hard",)], "clean and one random delivery", 1
    ),
    "edited, then delivered": Attempt(
        [("clean",), ("edited",)], [("clean",)], [("hard",)], "clean and one random delivery", 1
    ),
    "that beside a random delivery": Attempt(
        [("clean",), ("random",), ("edited",)], [("clean",)], [("hard",)], "clean and one random delivery", 1
    ),
    "patch tokens' spread beside": Attempt([("clean", "spread")], [("clean", "spread")], [], "clean", 1),
    "mirrored too, mean of both scores": Attempt(
        [("clean",), ("mirrored",)], [("clean",), ("mirrored",)], [], "clean", 2
    ),
    "mean with the score after hard delivery": Attempt(
        [("clean",), ("random",)], [("clean",), ("hard",)], [], "clean and one random delivery", 2
    ),
    "336 pixels": Attempt([("336",)], [("336",)], [], "clean", 2.3),
}


def main() -> None:
    """Embed, fit, measure and print."""
    arguments = parsed(__doc__)
    rows, fold, paths = embedded(arguments, list(VIEWS))
    features = {view: joined(files, "features") for view, files in paths.items()}
    features["spread"] = joined(paths["clean"], "spread")
    report(arguments.output, rows, {name: scores(attempt, features, rows, fold) for name, attempt in ATTEMPTS.items()})


def parsed(description: str | None) -> argparse.Namespace:
    """What is to be measured on, and where features are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--merge_sources", nargs="*", default=[])
    parser.add_argument("--per_source", type=int, default=32, help="Pictures of each source and class, at most.")
    return parser.parse_args()


def embedded(arguments: argparse.Namespace, views: list[str]) -> tuple[pd.DataFrame, NDArray, dict[str, list[Path]]]:
    """The pictures, the group of each, and for each view the files of its features, made where they are not there."""
    records = load_records(DataArguments(data=arguments.data))
    rows, fold = choose(records, arguments.merge_sources, arguments.per_source)
    arguments.output.mkdir(parents=True, exist_ok=True)
    tower = load_backbone(str(default_backbone()), LAYERS, ["class"])
    chunks = range(-(-len(rows) // CHUNK))
    paths = {view: [arguments.output / f"{view}-{chunk:03d}.safetensors" for chunk in chunks] for view in views}
    for view, files in paths.items():
        share_work({path: partial(embed, tower, records, rows, view, n) for n, path in enumerate(files)}, view, "file")
    return rows, fold, paths


def joined(files: list[Path], name: str) -> NDArray:
    """Features (N, D) of all chunks."""
    return torch.cat([load_file(path)[name] for path in files]).numpy()


def embed(
    model: RobustClipModel, records: datasets.Dataset, rows: pd.DataFrame, view: str, chunk: int
) -> dict[str, Tensor]:
    """Features (n, D) of a chunk's pictures under a view: class tokens of LAYERS, then the embedding.

    Also, of the pictures as they are, the standard deviation of LAYERS' patch tokens within a picture.
    """
    processor = load_processor(default_backbone())
    if view == "336":
        processor.size = 336
    found: dict[str, list[Tensor]] = {"features": [], "spread": []}
    for row in rows["row"][chunk * CHUNK : (chunk + 1) * CHUNK]:
        image = VIEWS[view](open_record(records[int(row)])[0], int(row))
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = model.vision_tower(
                pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=view == "336"
            )
        tokens = [output.hidden_states[layer][0] for layer in LAYERS]
        found["features"].append(torch.cat([*(of_layer[0] for of_layer in tokens), output.image_embeds[0]]))
        if view == "clean":
            found["spread"].append(torch.cat([of_layer[1:].std(dim=0) for of_layer in tokens]))
    return {name: torch.stack(values) for name, values in found.items() if values}


def scores(
    attempt: Attempt, features: dict[str, NDArray], rows: pd.DataFrame, fold: NDArray, chosen: NDArray | None = None
) -> dict[str, NDArray]:
    """Scores (N,) of pictures as they are and after hard delivery, each by a regression without its group.

    With `chosen`, (N,) of bool, only these pictures are fitted on.
    """

    def beside(views: tuple[str, ...]) -> NDArray:
        return np.concatenate([features[view] for view in views], axis=1)

    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    times, tried = len(attempt.fitted), {"clean": attempt.clean, "hard": attempt.hard}
    found = {name: np.zeros(len(rows)) for name, shown in tried.items() if shown}
    for group in range(FOLDS):
        outside, inside = fold != group, fold == group
        if chosen is not None:
            outside = outside & chosen
        weights = np.sqrt(source_weights(labels[outside], sources[outside]))
        fitted = np.concatenate([beside(views)[outside] for views in attempt.fitted])
        mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
        # The penalty of a sample does not change with how many views a picture has.
        probe = LogisticRegression(C=2 * INVERSE_PENALTY / times, max_iter=2000)
        probe.fit(
            (fitted - mean) / deviation,
            np.tile(labels[outside], times),
            sample_weight=np.tile(weights / weights.mean(), times),
        )
        for name in found:
            for views in tried[name]:
                given = (beside(views)[inside] - mean) / deviation
                found[name][inside] += probe.decision_function(given) / len(tried[name])
    return found


def report(output: Path, rows: pd.DataFrame, found: dict[str, dict[str, NDArray]]) -> None:
    """Print a table, each attempt beside the one that it changes, paired by picture; write it to results.json."""
    figures, lines = {}, []
    for name, of_attempt in found.items():
        other = ATTEMPTS[name].compared_with
        told = measure(rows, of_attempt["clean"], of_attempt.get("hard"), found[other or name]["clean"])
        figures[name] = told | {"compared_with": other, "passes": ATTEMPTS[name].passes}
        *values, difference, alike = cells(told)
        compared = ["", ""] if other is None else [f"{other}: {difference}", alike]
        lines.append([name, *values, *compared, ATTEMPTS[name].passes])
    print(told_data(rows))
    print(table(["fitted on, or shown", *HEADER, "AUC minus", "sources alike minus", "passes"], lines))
    write_json(output / "results.json", figures)


if __name__ == "__main__":
    main()
