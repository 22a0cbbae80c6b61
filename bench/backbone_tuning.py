"""Whether tuning the tower's last blocks helps on sources never seen: LayerNorms alone, and LoRA, against it frozen.

    python bench/backbone_tuning.py 'dev/*.parquet' --output FOLDER [--merge_sources NAME=OTHER ...] [--arms ARM ...]

Five groups of sources are held out in turn, as in `python -m train compare`. In each group all arms start from one
logistic regression on the frozen tower's features (a fine-tuning that starts from a random head distorts features,
arXiv 2202.10054) and differ in what is trained then. The blocks that stay frozen are computed once a picture. Several
processes that are given the same output share the work; an interrupted run goes on where it stopped.
"""

import argparse
import copy
import hashlib
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from tqdm import tqdm

from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES, random_delivery
from modeling.modeling_robust_clip import RobustClipModel
from train.bootstrap import auc_difference, with_interval
from train.data import DataArguments, load_records
from train.embedder import open_record
from train.feature_bank import load_backbone
from train.files import claim_folder, write_json
from train.folds import folds_of_sources
from train.held_out import join_sources
from train.made_by import git_commit
from train.markdown import number, share, table
from train.metrics import roc_auc, source_weights, tpr_at_fpr
from train.shared_work import share_work

VIEWS = ("clean", "random", "hard")  # the first two are fitted on, the first and the last are scored
FITTED, SCORED = (0, 1), (0, 2)
FROZEN_BLOCKS = 8
LAYERS = (6, 7, 8, 9, 10, 11, 12)  # whose class tokens the shipped head reads, beside the embedding
FROZEN_LAYERS = sum(layer <= FROZEN_BLOCKS for layer in LAYERS)
FOLDS = 5
CHUNK = 16  # pictures of one file of activations
BATCH = 16
EPOCHS = 3  # each sees every picture once, under one of its views
# Of the logistic regression. Ten times less regularised it is as good (AUC .913 both, 2026-11-25), and its loss on the
# pictures it was fitted on is .02 instead of .09: nothing would be left to tune a tower by.
INVERSE_PENALTY = 0.001
LEARNING_RATE = {"probe": 1e-5, "LayerNorms": 1e-3, "LoRA": 5e-4}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]}


class Tail(nn.Module):
    """The blocks that may be tuned, and a linear probe on standardised features.

    Args:
        tower: a CLIP image tower.
    """

    def __init__(self, tower: nn.Module) -> None:
        """Copy what is behind the frozen blocks."""
        super().__init__()
        vision = tower.vision_model
        self.blocks = copy.deepcopy(vision.encoder.layers[FROZEN_BLOCKS:])
        self.norm = copy.deepcopy(vision.post_layernorm)
        self.projection = copy.deepcopy(tower.visual_projection)
        hidden = vision.config.hidden_size
        self.frozen_width = hidden * FROZEN_LAYERS
        width = hidden * len(LAYERS) + vision.config.projection_dim
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.probe = nn.Linear(width, 1)

    def features(self, tokens: Tensor, frozen: Tensor) -> Tensor:
        """What the probe reads, (B, D).

        Args:
            tokens: (B, T, H) behind the frozen blocks.
            frozen: (B, D) the frozen tower's features, of which those of the frozen blocks are taken.
        """
        found = [frozen[:, : self.frozen_width]]
        for block in self.blocks[:-1]:
            tokens = block(tokens, None)
            found.append(tokens[:, 0])
        last = class_token(self.blocks[-1], tokens)
        return torch.cat([*found, last, self.projection(self.norm(last))], dim=1)

    def forward(self, data: dict[str, Tensor], numbers: Tensor, views: Tensor | int) -> Tensor:
        """Scores (B,) of pictures, each under one view; while no block is trained, from the features as they are."""
        features = data["features"][numbers, views]
        if any(parameter.requires_grad for parameter in self.blocks.parameters()):
            features = self.features(data["tokens"][numbers, views].float(), features)
        return self.probe((features - self.mean) / self.deviation).squeeze(1)


def class_token(block: nn.Module, tokens: Tensor) -> Tensor:
    """Class token (B, H) behind a CLIP block: in the last one nobody reads the other queries."""
    attention, normed = block.self_attn, block.layer_norm1(tokens)
    query, key, value = (
        part.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for part in (attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed))
    )
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    token = tokens[:, :1] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return (token + block.mlp(block.layer_norm2(token))).squeeze(1)


def train_nothing(tail: Tail) -> list[dict]:
    """The logistic regression as it is."""
    tail.requires_grad_(False)
    return []


def train_probe(tail: Tail) -> list[dict]:
    """The probe alone, for as long as the others are trained."""
    tail.requires_grad_(False)
    tail.probe.requires_grad_(True)
    return [{"params": list(tail.probe.parameters()), "lr": LEARNING_RATE["probe"]}]


def train_norms(tail: Tail) -> list[dict]:
    """The probe and every LayerNorm's scale and shift."""
    groups = train_probe(tail)
    norms = [p for module in tail.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()]
    for parameter in norms:
        parameter.requires_grad_(True)
    return [*groups, {"params": norms, "lr": LEARNING_RATE["LayerNorms"]}]


def train_lora(tail: Tail) -> list[dict]:
    """The probe and low-rank changes of every product in the blocks (arXiv 2106.09685)."""
    inject_adapter_in_model(LoraConfig(**LORA), tail)
    groups = train_probe(tail)
    added = [parameter for name, parameter in tail.named_parameters() if "lora_" in name]
    for parameter in added:
        parameter.requires_grad_(True)
    return [*groups, {"params": added, "lr": LEARNING_RATE["LoRA"]}]


ARMS: dict[str, Callable[[Tail], list[dict]]] = {
    "frozen": train_nothing,
    "frozen, probe trained on": train_probe,
    "LoRA": train_lora,
    "LayerNorms": train_norms,
}


def main() -> None:
    """Embed, train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--merge_sources", nargs="*", default=[])
    parser.add_argument("--per_source", type=int, default=32, help="Pictures of each source and class, at most.")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    records = load_records(DataArguments(data=arguments.data))
    rows, fold = choose(records, arguments.merge_sources, arguments.per_source)
    arguments.output.mkdir(parents=True, exist_ok=True)
    named = hashlib.sha256("\n".join(rows["record_id"] + rows["source"]).encode()).hexdigest()
    claim_folder(arguments.output / "settings.json", {"records_sha256": named})
    tower = load_backbone(str(default_backbone()), LAYERS, ["class"])
    paths = [arguments.output / f"activations-{chunk:04d}.safetensors" for chunk in range(-(-len(rows) // CHUNK))]
    share_work(
        {path: partial(embed, tower, records, rows, chunk) for chunk, path in enumerate(paths)}, "tower", "file"
    )
    parts = [load_file(path) for path in paths]
    data = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # (N, VIEWS, ...)
    del parts
    fits = {
        fit_path(arguments.output, arm, group): partial(fit, tower, data, rows, fold, arm, group)
        for group, arm in product(range(FOLDS), arguments.arms)
    }
    share_work(fits, "fits", "fit")
    report(arguments, rows, fold)


def choose(records: datasets.Dataset, merge_sources: list[str], per_source: int) -> tuple[pd.DataFrame, NDArray]:
    """The pictures (record_id, label, source and row in the data), and the group of each.

    The groups are those of all pictures; of each source and class the first by the hash of their names are taken.
    """
    rows = records.select_columns(["record_id", "label", "source"]).to_pandas().reset_index(names="row")
    join_sources(rows, merge_sources)
    rows["group"] = -1
    for group, (_, inside) in enumerate(folds_of_sources(rows["label"].to_numpy(), rows["source"].to_numpy(), FOLDS)):
        rows.loc[inside, "group"] = group
    rows["hash"] = [hashlib.sha256(name.encode()).hexdigest() for name in rows["record_id"]]
    rows = rows.sort_values("hash").groupby(["source", "label"]).head(per_source).sort_values("row")
    return rows.reset_index(drop=True), rows["group"].to_numpy()


def embed(model: RobustClipModel, records: datasets.Dataset, rows: pd.DataFrame, chunk: int) -> dict[str, Tensor]:
    """What is computed once of a chunk's pictures: tokens behind the frozen blocks (N, VIEWS, T, H), and features."""
    processor = load_processor(default_backbone())
    found: dict[str, list[Tensor]] = {"tokens": [], "features": []}
    for row in rows["row"][chunk * CHUNK : (chunk + 1) * CHUNK]:
        picture, _ = open_record(records[int(row)])
        rng = np.random.default_rng([int(row)])
        views = [picture, random_delivery(picture, rng)[0], STANDARD_DELIVERIES["hard"](picture, rng)]
        pixels = torch.cat([processor(images=view, return_tensors="pt")["pixel_values"] for view in views])
        with torch.inference_mode():
            output = model.vision_tower(pixel_values=pixels, output_hidden_states=True)
        classes = torch.stack([output.hidden_states[layer][:, 0] for layer in LAYERS], dim=1)
        found["tokens"].append(output.hidden_states[FROZEN_BLOCKS].half())  # at most 90, of 65,504
        found["features"].append(torch.cat([classes.flatten(1), output.image_embeds], dim=1))
    return {name: torch.stack(values) for name, values in found.items()}


def fit(
    model: RobustClipModel, data: dict[str, Tensor], rows: pd.DataFrame, fold: NDArray, arm: str, group: int
) -> dict[str, Tensor]:
    """Train an arm on all groups but one: scores (n, SCORED) of that group, and the mean loss of every epoch."""
    torch.manual_seed(group)
    begin = time.perf_counter()
    outside, inside = (torch.from_numpy(np.flatnonzero(where)) for where in (fold != group, fold == group))
    labels = torch.tensor(rows["label"].to_numpy())
    # Between every picture and every source alike: a source of two pictures must not weigh as much as one of 32.
    weights = torch.from_numpy(np.sqrt(source_weights(labels[outside], rows["source"].to_numpy()[outside.numpy()])))
    weights = torch.zeros(len(rows)).index_copy(0, outside, (weights / weights.mean()).float())
    tail = Tail(model.vision_tower)
    start_from_regression(tail, data["features"][outside][:, FITTED], labels[outside], weights[outside])
    groups = ARMS[arm](tail)
    losses = []
    if groups:
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = EPOCHS * -(-len(outside) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [group["lr"] for group in groups], total_steps=steps, pct_start=0.1
        )
        for _ in range(EPOCHS):
            loss_sum = 0.0
            for batch in outside[torch.randperm(len(outside))].split(BATCH):
                view = torch.tensor(FITTED)[torch.randint(len(FITTED), (len(batch),))]
                scores = tail(data, batch, view)
                loss = nn.functional.binary_cross_entropy_with_logits(scores, labels[batch].float(), weights[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                loss_sum += loss.item() * len(batch)
            losses.append(loss_sum / len(outside))
            tqdm.write(f"{arm}, group {group}: loss {losses[-1]:.4f}, {time.perf_counter() - begin:.0f} s")
    with torch.inference_mode():
        scores = [torch.cat([tail(data, batch, view) for batch in inside.split(BATCH)]) for view in SCORED]
    return {
        "scores": torch.stack(scores, dim=1),
        "losses": torch.tensor(losses),
        "seconds": torch.tensor(time.perf_counter() - begin),
    }


def start_from_regression(tail: Tail, features: Tensor, labels: Tensor, weights: Tensor) -> None:
    """Set the probe to a logistic regression on the frozen tower's features (N, VIEWS, D)."""
    views = features.shape[1]
    flat = features.flatten(0, 1)
    tail.mean.copy_(flat.mean(0))
    tail.deviation.copy_(flat.std(0))
    probe = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000)
    probe.fit(
        ((flat - tail.mean) / tail.deviation).numpy(),
        labels.repeat_interleave(views).numpy(),
        sample_weight=weights.repeat_interleave(views).numpy(),
    )
    with torch.no_grad():
        tail.probe.weight.copy_(torch.from_numpy(probe.coef_))
        tail.probe.bias.copy_(torch.from_numpy(probe.intercept_))


def fit_path(output: Path, arm: str, group: int) -> Path:
    """Where the scores of a fit are kept."""
    return output / f"fit-{arm.replace(', ', '-').replace(' ', '_')}-{group}.safetensors"


def report(arguments: argparse.Namespace, rows: pd.DataFrame, fold: NDArray) -> None:
    """Print a table, each arm beside the frozen tower, paired by picture; write it with every loss to results.json."""
    scores, losses, seconds = {}, {}, {}
    for arm in arguments.arms:
        found = [load_file(fit_path(arguments.output, arm, group)) for group in range(FOLDS)]
        scores[arm] = np.full((len(rows), len(SCORED)), np.nan)
        for group, of_fit in enumerate(found):
            scores[arm][fold == group] = of_fit["scores"].numpy()
        losses[arm] = [of_fit["losses"].tolist() for of_fit in found]
        seconds[arm] = float(np.mean([of_fit["seconds"].item() for of_fit in found]))
    first, _ = scores[arguments.arms[0]].T
    figures, lines = {}, []
    for arm, of_arm in scores.items():
        told = measure(rows, *of_arm.T, first)
        figures[arm] = told | {"losses": losses[arm], "seconds_per_fit": seconds[arm]}
        lines.append([arm, *cells(told), f"{seconds[arm]:.0f}"])
    print(told_data(rows))
    print(table(["arm", *HEADER, "AUC minus frozen", "sources alike minus frozen", "s a fit"], lines))
    write_json(arguments.output / "results.json", figures)


HEADER = ("AUC", "sources alike", "sources alike, hard", "found at 1 % / 5 % (oracle)")


def measure(rows: pd.DataFrame, clean: NDArray, hard: NDArray | None, first: NDArray) -> dict[str, Any]:
    """Figures of scores (N,) of pictures as they are and after hard delivery, beside those of another way, paired."""
    weights = source_weights(rows["label"], rows["source"])
    pair = np.stack([clean, first], axis=1)
    return {
        "auc": with_interval(rows, roc_auc, scores=clean),
        "auc_sources_alike": with_interval(rows, roc_auc, weights, scores=clean),
        "auc_sources_alike_hard": None if hard is None else with_interval(rows, roc_auc, weights, scores=hard),
        "tpr_at_1_percent_fpr": tpr_at_fpr(rows["label"], clean, fpr=0.01),
        "tpr_at_5_percent_fpr": tpr_at_fpr(rows["label"], clean, fpr=0.05),
        "difference": with_interval(rows, auc_difference, scores=pair),
        "difference_sources_alike": with_interval(rows, auc_difference, weights, scores=pair),
    }


def cells(told: dict[str, Any]) -> list[str]:
    """What `measure` found, for the columns of HEADER and the two differences."""
    hard = told["auc_sources_alike_hard"]
    return [
        *(number(told[name]) for name in ("auc", "auc_sources_alike")),
        "" if hard is None else number(hard),
        f"{share(told['tpr_at_1_percent_fpr'])} / {share(told['tpr_at_5_percent_fpr'])}",
        *(number(told[name]) for name in ("difference", "difference_sources_alike")),
    ]


def told_data(rows: pd.DataFrame) -> str:
    """What was measured on, by which code."""
    counts = rows["label"].value_counts()
    sources = rows["source"].nunique()
    return f"{counts[0]} real and {counts[1]} generated pictures of {sources} sources, {git_commit()}\n"


if __name__ == "__main__":
    main()
