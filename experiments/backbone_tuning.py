"""Whether another input or a tuned tower helps on sources never seen, beside the frozen tower as it is.

    python experiments/backbone_tuning.py 'dev/*.parquet' --output FOLDER [--merge_sources A=B ...] [--arms ARM ...]

Five groups of sources are held out in turn, as in `python -m train compare`, on all pictures. Every arm starts from
one logistic regression on the frozen tower's class tokens of blocks 6 to 12 and its embedding (a fine-tuning that
starts from a random head distorts features, arXiv 2202.10054); arms differ in what the tower is shown and in what of
it is trained then. Half of the tuning is measured too: parameters half way between the frozen and the tuned tower
(WiSE-FT, arXiv 2109.01903). Made for an accelerator, where an arm takes half a minute; an interrupted run goes on
where it stopped.
"""

import argparse
import copy
import hashlib
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection

from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES, random_delivery
from modeling.files import claim_folder, replacing, write_json
from train.data.records import DataArguments, load_records
from train.features.file_facts import open_record
from train.jobs.commit import git_commit
from train.jobs.processes import cores_of_a_process
from train.jobs.shared_work import share_work
from train.measure.bootstrap import auc_difference, with_interval
from train.measure.metrics import roc_auc, tpr_at_fpr
from train.measure.sources import folds_of_sources, join_sources, source_weights
from train.report.markdown import number, share, table

FOLDS = 5
LAYERS = (6, 7, 8, 9, 10, 11, 12)  # whose class tokens the shipped head reads, beside the embedding
VIEWS = ("clean", "hard", "random 1", "random 2", "random 3")
FITTED = [0, 2, 3, 4]
SCORED = [0, 1]
# Of the logistic regression. Ten times less regularised it is as good (AUC .913 both, 2026-11-25), and its loss on the
# pictures it was fitted on is .02 instead of .09: nothing would be left to tune a tower by.
INVERSE_PENALTY = 0.001
EPOCHS = 4  # each sees every picture once, under one of the fitted views, half of them mirrored
BATCH = 128
PROBE_RATE = 1e-5
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1}
LORA |= {"target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]}


class Arm(NamedTuple):
    """What the tower is shown, and what is trained of it."""

    size: int = 224  # pixels
    fitted: list[int] = FITTED  # of VIEWS, by the regression
    trained: str | None = None  # a part of the tower's parameters' names; "" = all, "lora_" adds LoRA first
    learning_rate: float = 0.0
    mirrored: bool = False  # the mean of a picture's and its mirror image's score


ARMS = {
    "frozen": Arm(),
    "frozen, fitted on pictures as they are": Arm(fitted=[0]),
    "frozen, mirrored too": Arm(mirrored=True),
    "frozen, 336 pixels": Arm(size=336),
    "LayerNorms": Arm(trained="norm", learning_rate=1e-3),
    "LoRA": Arm(trained="lora_", learning_rate=2e-4),
    "all weights": Arm(trained="", learning_rate=1e-5),
    "all weights, faster": Arm(trained="", learning_rate=3e-5),
    "all weights, 336 pixels": Arm(size=336, trained="", learning_rate=1e-5),
}


class Probe(nn.Module):
    """A logistic regression on standardised features.

    Args:
        features: (N, D) to fit on.
        labels: (N,) of 0 and 1.
        weights: (N,) of mean 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fit it."""
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("deviation", features.std(0))
        self.linear = regression((features - self.mean) / self.deviation, labels, weights)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (...) of features (..., D)."""
        return self.linear((features - self.mean) / self.deviation).squeeze(-1)


def weights_between(labels: NDArray, sources: NDArray) -> Tensor:
    """Weights (N,) of mean 1, between equal rows and equal sources: two pictures must not weigh as 300 do."""
    weights = np.sqrt(source_weights(labels, sources))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def regression(features: Tensor, labels: Tensor, weights: Tensor) -> nn.Linear:
    """Logistic regression on standardised features (N, D): the optimum of scikit-learn's objective, by L-BFGS."""
    probe = nn.Linear(features.shape[1], 1, device=features.device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=200, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def loss() -> float:
        optimizer.zero_grad()
        scores = probe(features).squeeze(1)
        value = (weights * nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")).mean()
        value = value + probe.weight.square().sum() / (2 * INVERSE_PENALTY * len(features))
        value.backward()
        return value.item()

    optimizer.step(loss)
    return probe


def features_of(tower: CLIPVisionModelWithProjection, pixel_values: Tensor) -> Tensor:
    """Embedding and class tokens of LAYERS (B, D), float32."""
    output = tower(pixel_values=pixel_values, output_hidden_states=True, interpolate_pos_encoding=True)
    tokens = [output.hidden_states[layer][:, 0] for layer in LAYERS]
    return torch.cat([output.image_embeds, *tokens], dim=1).float()


class Prepared:
    """Every view of every picture as 8-bit pixels, on the device.

    Args:
        records: from `load_records`.
        folder: keeps the pixels.
        processor: prepares pictures; its mean and deviation, (3,), are applied on the device.
        device: where the tower is.
    """

    def __init__(self, records: datasets.Dataset, folder: Path, processor: Any, device: torch.device) -> None:
        """Prepare what is not there."""
        self.device, self.pixels = device, {}
        self.mean, self.deviation = (
            torch.tensor(values, device=device)[:, None, None] * 255
            for values in (processor.image_mean, processor.image_std)
        )
        for size in sorted({arm.size for arm in ARMS.values()}):
            path = folder / f"views-{size}.npy"
            if not path.is_file():
                with replacing(path) as partial_path:
                    shape = (len(records), len(VIEWS), 3, size, size)
                    np.lib.format.open_memmap(partial_path, "w+", dtype=np.uint8, shape=shape).flush()
                    work = (records, partial_path, size)
                    with get_context("fork").Pool(cores_of_a_process(), _WORK.extend, (work,)) as pool:
                        prepared = pool.imap_unordered(_prepare, range(len(records)), 8)
                        list(tqdm(prepared, f"{size} pixels", len(records)))
            self.pixels[size] = torch.from_numpy(np.load(path)).to(device)

    def __call__(self, size: int, rows: Tensor, views: Tensor | int) -> Tensor:
        """Prepared pictures (B, 3, S, S) of these rows (B,), each under one view."""
        return (self.pixels[size][rows, views].float() - self.mean) / self.deviation


_WORK: list[Any] = []  # of a process that prepares pictures: records, the file of pixels, the size


def _prepare(row: int) -> None:
    """Write a picture's views."""
    torch.set_num_threads(1)
    records, path, size = _WORK
    processor = load_processor(default_backbone())
    processor.size = size
    picture, _ = open_record(records[row])
    shown = [picture, STANDARD_DELIVERIES["hard"](picture, np.random.default_rng([row]))]
    shown += [random_delivery(picture, np.random.default_rng([row, view]))[0] for view in range(2, len(VIEWS))]
    values = torch.cat([processor(images=view, return_tensors="pt")["pixel_values"] for view in shown])
    mean, deviation = (torch.tensor(of)[:, None, None] for of in (processor.image_mean, processor.image_std))
    pixels = ((values * deviation + mean) * 255).round().clamp(0, 255)  # the 8-bit values that it started from
    np.load(path, mmap_mode="r+")[row] = pixels.numpy().astype(np.uint8)


def main() -> None:
    """Prepare, train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--merge_sources", nargs="*", default=[])
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    records = load_records(DataArguments(data=arguments.data))
    rows = records.select_columns(["record_id", "label", "source"]).to_pandas()
    join_sources(rows, arguments.merge_sources)
    fold = np.full(len(rows), -1)
    for group, (_, inside) in enumerate(folds_of_sources(rows["label"].to_numpy(), rows["source"].to_numpy(), FOLDS)):
        fold[inside] = group
    arguments.output.mkdir(parents=True, exist_ok=True)
    named = hashlib.sha256("\n".join([*rows["record_id"], *rows["source"]]).encode()).hexdigest()
    claim_folder(arguments.output / "settings.json", {"records_sha256": named})
    paths = {(arm, group): fit_path(arguments.output, arm, group) for arm in arguments.arms for group in range(FOLDS)}
    if not all(path.is_file() for path in paths.values()):
        backbone = default_backbone()
        prepared = Prepared(records, arguments.output, load_processor(backbone), device)
        tower = CLIPVisionModelWithProjection.from_pretrained(backbone).to(device).eval()
        frozen = {size: embed(tower, prepared, size) for size in prepared.pixels}
        share_work(
            {
                paths[arm, group]: partial(fit, tower, prepared, frozen, rows, fold, ARMS[arm], group)
                for arm, group in product(arguments.arms, range(FOLDS))
            },
            "fits",
            "fit",
        )
    report(arguments.output, rows, fold, arguments.arms)


@torch.inference_mode()
def embed(
    tower: CLIPVisionModelWithProjection,
    prepared: Prepared,
    size: int,
    rows: Tensor | None = None,
    views: list[int] | None = None,
    mirrored: bool = False,
) -> Tensor:
    """Features (N, V, D) of these rows (all by default) under these views (all); 16-bit products on an accelerator."""
    rows = torch.arange(len(prepared.pixels[size]), device=prepared.device) if rows is None else rows
    found = []
    with torch.autocast(prepared.device.type, torch.float16, enabled=prepared.device.type != "cpu"):
        for view in range(len(VIEWS)) if views is None else views:
            pixels = (prepared(size, batch, view) for batch in rows.split(2 * BATCH))
            found.append(torch.cat([features_of(tower, batch.flip(-1) if mirrored else batch) for batch in pixels]))
    return torch.stack(found, dim=1)


def fit(
    tower: CLIPVisionModelWithProjection,
    prepared: Prepared,
    frozen: dict[int, Tensor],
    rows: pd.DataFrame,
    fold: NDArray,
    arm: Arm,
    group: int,
) -> dict[str, Tensor]:
    """Train an arm on all groups but one: scores (n, SCORED) of that group, also half way, and each epoch's loss."""
    torch.manual_seed(group)
    begin, device = time.perf_counter(), prepared.device
    outside, inside = (torch.from_numpy(np.flatnonzero(where)).to(device) for where in (fold != group, fold == group))
    labels = torch.tensor(rows["label"].to_numpy(), dtype=torch.float32, device=device)
    chosen = outside.cpu().numpy()
    weights = weights_between(rows["label"].to_numpy()[chosen], rows["source"].to_numpy()[chosen]).to(device)
    weights = torch.zeros(len(rows), device=device).index_copy(0, outside, weights)
    features, times = frozen[arm.size][outside][:, arm.fitted].flatten(0, 1), len(arm.fitted)
    probe = Probe(features, labels[outside].repeat_interleave(times), weights[outside].repeat_interleave(times))
    losses: list[float] = []
    if arm.trained is None:
        scores = {"scores": probe(frozen[arm.size][inside][:, SCORED])}
        if arm.mirrored:
            found = embed(tower, prepared, arm.size, inside, SCORED, mirrored=True)
            scores["scores"] = (scores["scores"] + probe(found)) / 2
    else:
        tower = copy.deepcopy(tower)
        trained = list(train_part(tower, arm.trained, device))
        before = [parameter.detach().clone() for parameter in trained]
        losses = train(tower, probe, trained, prepared, outside, labels, weights, arm)
        scores = {}
        for name, part in (("scores", 1.0), ("scores_half_way", 0.5)):
            with torch.no_grad():
                for parameter, start in zip(trained, before, strict=True):
                    parameter.copy_(start + part * (parameter - start))
            scores[name] = probe(embed(tower, prepared, arm.size, inside, SCORED))
    return {name: values.detach().float().cpu() for name, values in scores.items()} | {
        "losses": torch.tensor(losses),
        "seconds": torch.tensor(time.perf_counter() - begin),
    }


def train_part(tower: CLIPVisionModelWithProjection, name: str, device: torch.device) -> Iterator[nn.Parameter]:
    """Have the parameters trained whose name holds this, and no others."""
    if name == "lora_":
        inject_adapter_in_model(LoraConfig(**LORA), tower)
        tower.to(device)
    for of_parameter, parameter in tower.named_parameters():
        parameter.requires_grad_(name in of_parameter)
        if parameter.requires_grad:
            yield parameter


def train(
    tower: CLIPVisionModelWithProjection,
    probe: Probe,
    trained: list[nn.Parameter],
    prepared: Prepared,
    rows: Tensor,
    labels: Tensor,
    weights: Tensor,
    arm: Arm,
) -> list[float]:
    """Mean loss of every epoch."""
    groups = [{"params": probe.parameters(), "lr": PROBE_RATE}, {"params": trained, "lr": arm.learning_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [of["lr"] for of in groups],
        total_steps=EPOCHS * math.ceil(len(rows) / BATCH),
        pct_start=0.1,
    )
    device, fitted, losses = prepared.device, torch.tensor(FITTED, device=prepared.device), []
    tower.train()
    for _ in range(EPOCHS):
        loss_sum = torch.zeros((), device=device)
        for batch in rows[torch.randperm(len(rows), device=device)].split(BATCH):
            views = fitted[torch.randint(len(fitted), (len(batch),), device=device)]
            pixels = prepared(arm.size, batch, views)
            mirror = torch.rand(len(batch), 1, 1, 1, device=device) < 0.5
            pixels = torch.where(mirror, pixels.flip(-1), pixels)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
                features = features_of(tower, pixels)
            loss = nn.functional.binary_cross_entropy_with_logits(probe(features), labels[batch], weights[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.detach() * len(batch)
        losses.append((loss_sum / len(rows)).item())
    tower.eval()
    return losses


def fit_path(output: Path, arm: str, group: int) -> Path:
    """Where the scores of a fit are kept."""
    return output / f"fit-{arm.replace(', ', '-').replace(' ', '_')}-{group}.safetensors"


def report(output: Path, rows: pd.DataFrame, fold: NDArray, arms: list[str]) -> None:
    """Print a table, each arm beside the frozen tower, paired by picture; write it with every loss to results.json."""
    figures: dict[str, Any] = {}
    lines: list[list[str]] = []
    first: NDArray | None = None
    for arm in arms:
        found = [load_file(fit_path(output, arm, group)) for group in range(FOLDS)]
        for name in ("scores", "scores_half_way"):
            if name not in found[0]:
                continue
            scores = np.full((len(rows), len(SCORED)), np.nan)
            for group, of_fit in enumerate(found):
                scores[fold == group] = of_fit[name].numpy()
            first = scores[:, 0] if first is None else first
            measured = measure(rows, *scores.T, first)
            label = arm if name == "scores" else f"{arm}, half way"
            last = np.mean([of_fit["losses"][-1].item() for of_fit in found]) if len(found[0]["losses"]) else None
            figures[label] = measured | {"last_loss": last, "seconds": [of_fit["seconds"].item() for of_fit in found]}
            lines.append([label, *cells(measured), "" if last is None else f"{last:.3f}"])
    print(describe_data(rows))
    print(table(["arm", *HEADER, f"AUC minus {arms[0]}", "source-weighted", "loss"], lines))
    write_json(output / "results.json", figures)


HEADER = ("AUC", "source-weighted", "source-weighted, hard", "TPR at 1 % / 5 % FPR (in-sample)")


def measure(rows: pd.DataFrame, clean: NDArray, hard: NDArray, first: NDArray) -> dict[str, Any]:
    """Figures of scores (N,) of pictures as they are and after hard delivery, beside those of another way, paired."""
    weights = source_weights(rows["label"], rows["source"])
    pair = np.stack([clean, first], axis=1)
    return {
        "auc": with_interval(rows, roc_auc, scores=clean),
        "auc_source_weighted": with_interval(rows, roc_auc, weights, scores=clean),
        "auc_source_weighted_hard": with_interval(rows, roc_auc, weights, scores=hard),
        "tpr_at_1_percent_fpr": tpr_at_fpr(rows["label"], clean, fpr=0.01),
        "tpr_at_5_percent_fpr": tpr_at_fpr(rows["label"], clean, fpr=0.05),
        "difference": with_interval(rows, auc_difference, scores=pair),
        "difference_source_weighted": with_interval(rows, auc_difference, weights, scores=pair),
    }


def cells(measured: dict[str, Any]) -> list[str]:
    """What `measure` found, for the columns of HEADER and the two differences."""
    return [
        *(number(measured[name]) for name in ("auc", "auc_source_weighted", "auc_source_weighted_hard")),
        f"{share(measured['tpr_at_1_percent_fpr'])} / {share(measured['tpr_at_5_percent_fpr'])}",
        *(number(measured[name]) for name in ("difference", "difference_source_weighted")),
    ]


def describe_data(rows: pd.DataFrame) -> str:
    """What was measured on, by which code."""
    counts = rows["label"].value_counts()
    sources = rows["source"].nunique()
    return f"{counts[0]} real and {counts[1]} generated pictures of {sources} sources, {git_commit()}\n"


if __name__ == "__main__":
    main()
