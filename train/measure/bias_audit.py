"""Can the classes of a data set be told apart without looking at the pictures?

A rule is a forest of random trees on facts of the files (format, size, aspect, bytes a pixel, JPEG quality,
metadata), scored on sources that it was not fitted on. Where a rule does well, a detector's figures on that data may
measure the files: the detector is measured again on pictures weighted so that both classes have the same facts.
Pictures that are nearly the same are found by a perceptual hash.
"""

from typing import Any, TypedDict

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from modeling.images import ImageError
from modeling.verdicts import CLASSES

from ..features.file_facts import open_record
from .bootstrap import with_interval
from .duplicates import find_duplicates
from .metrics import roc_auc
from .schema import BiasAudit, Figure, Matched
from .shapes import shape_of
from .sources import folds_of_sources, source_weights

FOLDS = 5
# A rule gives the classes away from this AUC on, if its interval also lies above chance.
GIVES_AWAY = 0.7
# Pictures of a class that a rule is fitted on at most: more take minutes and find no other rule on six facts.
MOST_FITTED = 10_000
# Beyond a square: steps of the longer side over the shorter.
STEP = 1.25


class Unreadable(TypedDict):
    """A picture that could not be read."""

    record_id: str
    error: str


def audit_records(records: datasets.Dataset) -> tuple[BiasAudit, list[Unreadable]]:
    """Audit the files of a data set, without a detector.

    Args:
        records: from `train.data.records.load_records`.

    Returns:
        As `audit_bias`, without the detector's figures; and the pictures that could not be read.

    Raises:
        ValueError: no picture can be read.
    """
    rows: list[dict] = []
    unreadable: list[Unreadable] = []
    for record in tqdm(records, desc="audit", unit="picture"):
        try:
            _, facts = open_record(record)
            rows.append({**record, **facts, "image": None})
        except ImageError as error:
            unreadable.append({"record_id": record["record_id"], "error": str(error)})
    if not rows:
        raise ValueError(f"None of the {len(unreadable)} pictures can be read.")
    pictures = pd.DataFrame(rows).astype({"jpeg_quality": float})
    return audit_bias(pictures.assign(score=np.nan)), unreadable


def audit_bias(
    pictures: pd.DataFrame, training: pd.DataFrame | None = None, *, most_fitted: int = MOST_FITTED
) -> BiasAudit:
    """Audit a data set and a detector's scores on it.

    Args:
        pictures: one row a picture: record_id, label, source, score (NaN without a detector) and the facts of its
            file.
        training: the same of the pictures that the detector was trained on, where known, to find those that are in
            both.
        most_fitted: pictures of a class that a rule is fitted on at most.

    Returns:
        Counts and medians of the facts by class, the rules' AUC with 95 % intervals, the names of those that give the
        classes away, the AUC of shape and size alone, the detector on matched pictures, and duplicates.
    """
    facts = _fact_columns(pictures)
    folds, protocol = rule_folds(pictures)
    rules: dict[str, Figure | None] = {}
    scores = np.full(len(pictures), np.nan)
    facts["all together"] = pd.concat(list(facts.values()), axis=1)
    for name, columns in tqdm(facts.items(), desc="rules", unit="rule", delay=1, leave=False):
        if folds:
            scores = _rule_scores(columns.to_numpy(), pictures, folds, most_fitted)
        rules[name] = with_interval(pictures.assign(score=scores), roc_auc) if folds else None
    shape_and_size = None
    if folds:
        null = _rule_scores(_shape_and_size(pictures), pictures, folds, most_fitted)
        shape_and_size = with_interval(pictures.assign(score=null), roc_auc)
    gives_away = [name for name, auc in rules.items() if _is_given_away(auc)]
    classes = {name: pictures[pictures["label"] == label] for label, name in enumerate(CLASSES)}
    return {
        "protocol": protocol,
        "counts": {
            fact: {name: _counts(part[fact]) for name, part in classes.items()} for fact in ("format", "metadata")
        },
        "medians": {
            fact: {name: _median(part[fact]) for name, part in classes.items()}
            for fact in ("width", "height", "file_bytes", "jpeg_quality")
        },
        "rules": [{"facts": name, "auc": auc} for name, auc in rules.items()],
        "shape_and_size": shape_and_size,
        "gives_away": gives_away,
        "warning": _warning(gives_away),
        "matched": _matched(pictures, scores),
        "duplicates": find_duplicates(pictures, training),
    }


def _is_given_away(auc: Figure | None) -> bool:
    return auc is not None and auc["value"] >= GIVES_AWAY and (auc["interval"] is None or auc["interval"][0] > 0.5)


def _warning(gives_away: list[str]) -> str | None:
    if not gives_away:
        return None
    return (
        f"A rule that never looks at the pictures tells the classes apart by: {', '.join(gives_away)}. Figures on "
        "this data may measure the files, not the pictures; compare those on the matched pictures."
    )


def _fact_columns(pictures: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Numbers for a forest, by the name of the fact; NaN where a file has none."""
    width, height = pictures["width"], pictures["height"]
    values: dict[str, dict[str, Any]] = {
        "format": {"format": pictures["format"].astype("category").cat.codes},
        "size": {"pixels": width * height, "long_side": np.maximum(width, height)},
        "aspect": {"aspect": width / height},
        "bytes a pixel": {"bytes_a_pixel": pictures["file_bytes"] / (width * height)},
        "JPEG quality": {"jpeg_quality": pictures["jpeg_quality"]},
        "metadata": {"metadata": pictures["metadata"].astype("category").cat.codes},
    }
    return {name: pd.DataFrame(columns, dtype=float) for name, columns in values.items()}


def rule_folds(pictures: pd.DataFrame) -> tuple[list[tuple[NDArray, NDArray]], str]:
    """(rows fitted on, rows scored) of every fold, and the protocol in words; by source wherever possible."""
    labels, sources = pictures["label"].to_numpy(), pictures["source"].to_numpy()
    if len(np.unique(labels)) < 2:
        return [], "no rule was fitted: one class is missing"
    by_class = [len(np.unique(sources[labels == label])) for label in (0, 1)]
    if (number := min(FOLDS, *by_class)) >= 2:
        folds = folds_of_sources(labels, sources, number)
        if all(len(np.unique(labels[fitted])) == 2 for fitted, _ in folds):
            return folds, f"each rule is held out by source, in {number} folds"
    if (number := min(FOLDS, *np.bincount(labels))) < 2:
        return [], "no rule was fitted: a class has one picture only"
    stratified = StratifiedKFold(n_splits=number, shuffle=True, random_state=0)
    return list(stratified.split(labels, labels)), (
        f"each rule is held out by picture, in {number} folds, which may share a source: a class has too few "
        "sources to hold them out"
    )


def _shape_and_size(pictures: pd.DataFrame) -> NDArray[np.float64]:
    """Width, height and the short side over the long one, (N, 3)."""
    sides = pictures[["width", "height"]].to_numpy(dtype=float)
    return np.column_stack([sides, sides.min(axis=1) / sides.max(axis=1)])


def _rule_scores(
    facts: NDArray, pictures: pd.DataFrame, folds: list[tuple[NDArray, NDArray]], most_fitted: int
) -> NDArray[np.float64]:
    """P(generated) (N,) by source-weighted forests that did not see the row.

    Of a class with more than `most_fitted` pictures outside the fold a random part is fitted on.
    """
    labels, sources = pictures["label"].to_numpy(), pictures["source"].to_numpy()
    # A fact that no file of a data set has (JPEG quality among PNG files) is a constant; -1 stands for "none".
    facts = np.nan_to_num(facts, nan=-1)
    if (facts == facts[0]).all():
        return np.full(len(pictures), 0.5)  # what a forest says that has nothing to split by, each class weighing half
    scores = np.empty(len(pictures))
    for outside, scored in folds:
        fitted = _at_most(outside, labels, most_fitted)
        # Without resampling, so that a fact that all files share gives every row the same score: AUC 0.5.
        leaf = max(1, min(5, len(fitted) // 20))
        forest = ExtraTreesClassifier(n_estimators=100, max_depth=6, min_samples_leaf=leaf, random_state=0)
        weights = source_weights(labels[fitted], sources[fitted]) * len(fitted)
        scores[scored] = forest.fit(facts[fitted], labels[fitted], weights).predict_proba(facts[scored])[:, 1]
    return scores.round(9)


def _at_most(rows: NDArray[np.int64], labels: NDArray, most: int) -> NDArray[np.int64]:
    """The rows, or `most` of each class that has more, in order."""
    rng = np.random.default_rng(0)
    of_class = [rows[labels[rows] == label] for label in (0, 1)]
    if max(map(len, of_class)) <= most:
        return rows
    kept = [part if len(part) <= most else rng.choice(part, most, replace=False) for part in of_class]
    return np.sort(np.concatenate(kept))


def _matched(pictures: pd.DataFrame, rule_scores: NDArray) -> Matched:
    """The detector where both classes have the same facts: coarsened exact matching.

    Pictures fall into cells of equal facts. A cell without one of the classes is left out; in the others each class
    weighs as much as the smaller one has pictures (Iacus, King & Porro, "Causal Inference without Balance Checking:
    Coarsened Exact Matching", 2012).
    """
    sides = np.maximum(pictures["width"], pictures["height"]) / np.minimum(pictures["width"], pictures["height"])
    shapes = shape_of(pictures["width"], pictures["height"])
    cells = pd.DataFrame(
        {
            "format": pictures["format"],
            "metadata": pictures["metadata"],
            "pixels": np.rint(np.log2(pictures["width"] * pictures["height"])),
            "aspect": np.where(shapes == "square", -1, np.floor(np.log(sides) / np.log(STEP))),
            "landscape": shapes == "wide",
            "quality": np.floor(pictures["jpeg_quality"].fillna(-10) / 10),
        }
    )
    cell = cells.groupby(list(cells.columns), dropna=False).ngroup()
    counts = pd.crosstab(cell, pictures["label"]).reindex(columns=[0, 1], fill_value=0)
    smaller = counts.min(axis=1)
    of_class = np.where(pictures["label"] == 1, cell.map(counts[1]), cell.map(counts[0]))
    weights: NDArray = (cell.map(smaller) / of_class).to_numpy()
    kept = weights > 0
    table, weights = pictures[kept], weights[kept]
    scored = not pictures["score"].isna().any()
    return {
        "on": "format, metadata, size (factor 2), aspect (steps of 25 %), orientation, JPEG quality (steps of 10)",
        "pictures": {name: int((table["label"] == label).sum()) for label, name in enumerate(CLASSES)},
        "auc": with_interval(table, roc_auc, weights) if scored else None,
        "auc_before": with_interval(pictures, roc_auc) if scored else None,
        "rule_auc": None
        if np.isnan(rule_scores).any()
        else with_interval(table.assign(score=rule_scores[kept]), roc_auc, weights),
    }


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().items()}


def _median(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None


__all__ = ["GIVES_AWAY", "Unreadable", "audit_bias", "audit_records", "rule_folds"]
