"""What more data would be worth: fitted on a part of the sources, or on a part of every source's pictures.

    python bench/more_data.py 'dev/*.parquet' --output FOLDER [--merge_sources NAME=OTHER ...]

A logistic regression on the pictures as they are and one random delivery of each, features, pictures and groups as in
bench/tower_input.py, whose output folder may be given. Groups are held out as there; of the sources outside a group a
random part is fitted on, of each class alike, or all of them with a part of the pictures of each. Means over draws,
with the lowest and the highest.
"""

import math

import numpy as np
import pandas as pd
from backbone_tuning import told_data
from numpy.typing import NDArray
from tower_input import ATTEMPTS, embedded, joined, parsed, scores
from tqdm import tqdm

from train.files import write_json
from train.markdown import table
from train.metrics import roc_auc, source_weights

SHARES = (0.25, 0.5, 0.75, 1.0)
DRAWS = 5
FITTED = "clean and one random delivery"


def part_of_sources(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> NDArray:
    """All pictures (N,) of a random share of each class's sources."""
    chosen = np.zeros(len(rows), dtype=bool)
    for label, of_class in rows.groupby("label"):
        names = rng.permutation(of_class["source"].unique())
        kept = names[: math.ceil(share * len(names))]
        chosen |= ((rows["label"] == label) & rows["source"].isin(kept)).to_numpy()
    return chosen


def part_of_pictures(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> NDArray:
    """A random share (N,) of every source's pictures, of each class."""
    place = pd.Series(rng.random(len(rows)), rows.index).groupby([rows["source"], rows["label"]])
    return (place.rank() <= np.ceil(share * place.transform("size"))).to_numpy()


PARTS = {"sources": part_of_sources, "pictures of every source": part_of_pictures}


def main() -> None:
    """Fit, measure and print."""
    arguments = parsed(__doc__)
    rows, fold, paths = embedded(arguments, ["clean", "random"])
    features = {view: joined(files, "features") for view, files in paths.items()}
    attempt = ATTEMPTS[FITTED]._replace(hard=[])
    weights = source_weights(rows["label"], rows["source"])
    tasks = [(what, share, draw) for what in PARTS for share in SHARES for draw in range(DRAWS if share < 1 else 1)]
    found: dict[tuple[str, float], list[list[float]]] = {}
    for what, share, draw in tqdm(tasks, unit="draw"):
        chosen = PARTS[what](rows, share, np.random.default_rng([draw, round(100 * share)]))
        clean = scores(attempt, features, rows, fold, chosen)["clean"]
        aucs = [roc_auc(rows["label"], clean), roc_auc(rows["label"], clean, weights)]
        found.setdefault((what, share), []).append([int(chosen.sum()), *aucs])
    lines, figures = [], []
    for (what, share), draws in found.items():
        values = np.array(draws)
        mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        lines.append(
            [f"{100 * share:.0f} % of the {what}", f"{mean[0]:,.0f}"]
            + [f"{mean[column]:.3f} [{low[column]:.3f}, {high[column]:.3f}]" for column in (1, 2)]
        )
        figures.append({"part": what, "share": share, "pictures_auc_and_sources_alike": draws})
    print(told_data(rows))
    print(table(["of the sources outside a group", "pictures", "AUC", "sources alike"], lines))
    write_json(arguments.output / "more_data.json", {"figures": figures})


if __name__ == "__main__":
    main()
