"""What more data would be worth: fitted on a part of the sources, or on a part of every source's pictures.

    python experiments/more_data.py BANK [--merge_sources NAME=OTHER ...]

A logistic regression on the clean and random views of a feature bank; five groups of sources are held out in turn, as
in `python -m train compare`. Of the sources outside a group a random part is fitted on, the same share of each class,
or all of them with a part of the pictures of each. Means over draws, with the lowest and the highest.
"""

import argparse
import math

import numpy as np
import pandas as pd
import torch
from backbone_tuning import FOLDS, Probe, describe_data, weights_between
from numpy.typing import NDArray
from tqdm import tqdm

from train.features.bank import FeatureBank
from train.measure.metrics import roc_auc
from train.measure.sources import folds_of_sources, join_sources, source_weights
from train.report.markdown import table

SHARES = (0.25, 0.5, 0.75, 1.0)
DRAWS = 5


def part_of_sources(pictures: pd.DataFrame, share: float, rng: np.random.Generator) -> NDArray:
    """All pictures (N,) of a random share of each class's sources."""
    chosen = np.zeros(len(pictures), dtype=bool)
    for label, of_class in pictures.groupby("label"):
        names = rng.permutation(of_class["source"].unique())
        kept = names[: math.ceil(share * len(names))]
        chosen |= ((pictures["label"] == label) & pictures["source"].isin(kept)).to_numpy()
    return chosen


def part_of_pictures(pictures: pd.DataFrame, share: float, rng: np.random.Generator) -> NDArray:
    """A random share (N,) of every source's pictures, of each class."""
    place = pd.Series(rng.random(len(pictures)), pictures.index).groupby([pictures["source"], pictures["label"]])
    return (place.rank() <= np.ceil(share * place.transform("size"))).to_numpy()


PARTS = {"sources": part_of_sources, "pictures of every source": part_of_pictures}


def main() -> None:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank")
    parser.add_argument("--merge_sources", nargs="*", default=[])
    arguments = parser.parse_args()
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank.rows, arguments.merge_sources)
    pictures = bank.rows[bank.rows["view"] == 0].reset_index(drop=True)
    labels, sources = pictures["label"].to_numpy(), pictures["source"].to_numpy()
    weights = source_weights(labels, sources)
    groups = folds_of_sources(labels, sources, FOLDS)
    tasks = [(what, share, draw) for what in PARTS for share in SHARES for draw in range(DRAWS if share < 1 else 1)]
    found: dict[tuple[str, float], list[list[float]]] = {}
    for what, share, draw in tqdm(tasks, unit="draw"):
        chosen = PARTS[what](pictures, share, np.random.default_rng([draw, round(100 * share)]))
        scores = np.empty(len(pictures))
        for outside, inside in groups:
            fitted_on = pictures.iloc[outside[chosen[outside]]]
            scores[inside] = scores_of(bank, fitted_on, pictures["record_id"].iloc[inside])
        aucs = [roc_auc(labels, scores), roc_auc(labels, scores, weights)]
        found.setdefault((what, share), []).append([int(chosen.sum()), *aucs])
    lines = []
    for (what, share), draws in found.items():
        values = np.array(draws)
        mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        lines.append(
            [f"{100 * share:.0f} % of the {what}", f"{mean[0]:,.0f}"]
            + [f"{mean[column]:.3f} [{low[column]:.3f}, {high[column]:.3f}]" for column in (1, 2)]
        )
    print(describe_data(pictures))
    print(table(["of the sources outside a group", "pictures", "AUC", "source-weighted"], lines))


def scores_of(bank: FeatureBank, fitted_on: pd.DataFrame, held_out: pd.Series) -> NDArray:
    """Scores of held-out pictures (their record_id, in the bank's order) by a regression on others' views."""
    rows = np.flatnonzero(bank.rows["record_id"].isin(fitted_on["record_id"]) & (bank.rows["view"] >= 0))
    labels, sources = (bank.rows[name].to_numpy()[rows] for name in ("label", "source"))
    features = bank.image_embeds[torch.from_numpy(rows)]
    probe = Probe(features, torch.tensor(labels, dtype=torch.float32), weights_between(labels, sources))
    asked = np.flatnonzero(bank.rows["record_id"].isin(held_out) & (bank.rows["view"] == 0))
    with torch.inference_mode():
        return probe(bank.image_embeds[torch.from_numpy(asked)]).double().numpy()


if __name__ == "__main__":
    main()
