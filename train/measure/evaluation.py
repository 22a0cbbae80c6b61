"""What is true about a detector on labelled pictures: one dictionary, written as evaluation.json."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from modeling.files import write_json
from modeling.verdicts import CLASSES, GENERATED, REAL, UNCERTAIN, VERDICTS, verdicts

from .bias_audit import audit_bias
from .bootstrap import (
    Statistic,
    auc_difference,
    bootstrap_interval,
    mean_with_interval,
    weighted_mean,
    with_interval,
    with_intervals,
)
from .calibration import calibrate
from .duplicates import without_record_ids
from .groups import measure_groups, worst_groups
from .metrics import (
    RANKING,
    brier_score,
    expected_calibration_error,
    ranking,
    reliability,
    roc_auc,
    source_weights,
)
from .robustness import measure_robustness


def evaluate_scores(rows: pd.DataFrame, *, real_threshold: float, generated_threshold: float) -> dict:
    """Measure ranking, calibration and verdicts, overall, per source, generator and style.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated), source, generator, style, score (raw), probability.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.

    Returns:
        A JSON-ready dictionary. Intervals are 95 %: a bootstrap over sources; a share of one group has the wider of it
        and Wilson's over pictures; elsewhere an interval is `None` where a class has one source only. A figure that
        needs both classes is `None` where one is missing. `weighted` figures give every source of a class the same
        weight and each class half, as the calibration does; of the groups see `measure_groups`. From 20,000 rows on
        intervals are of scores rounded to quantiles, see `bootstrap_interval`.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    if rows.empty:
        raise ValueError("There is nothing to evaluate: no rows.")
    _check_finite(rows)
    rows = rows.assign(verdict=verdicts(rows["probability"], real_threshold, generated_threshold))
    groups = measure_groups(rows)
    return {
        "pictures": {name: int((rows.label == label).sum()) for label, name in enumerate(CLASSES)},
        "sources": {name: int(rows[rows.label == label].source.nunique()) for label, name in enumerate(CLASSES)},
        **with_intervals(RANKING, ranking, rows, rows["score"].to_numpy(dtype=float)),
        **_with_sources_weighted_equally(rows),
        "thresholds": {REAL: real_threshold, GENERATED: generated_threshold},
        "verdicts": _verdicts_by_class(rows),
        **groups,
        "worst": worst_groups(groups),
    }


def _with_sources_weighted_equally(rows: pd.DataFrame) -> dict:
    """Figures in which every source of a class weighs the same, and each class half."""
    equal = source_weights(rows["label"], rows["source"])
    answered = rows["verdict"] != UNCERTAIN
    flagged_rightly = (rows["verdict"] == GENERATED) == (rows["label"] == 1)
    right = rows["verdict"] == np.where(rows["label"] == 1, GENERATED, REAL)
    # Name, figure, what it is of, and whether it is defined for one class.
    asked: list[tuple[str, Statistic, pd.Series, bool]] = [
        ("auc_sources_weighted_equally", roc_auc, rows["score"], False),
        ("weighted_brier_score", brier_score, rows["probability"], False),
        ("weighted_share_answered", weighted_mean, answered, True),
        ("weighted_share_right_of_answered", weighted_mean, right.where(answered), True),
        ("weighted_balanced_accuracy_of_flagging", weighted_mean, flagged_rightly, False),
    ]
    figures: dict = {}
    for name, statistic, values, one_class in tqdm(asked, desc="figures", unit="figure", delay=1, leave=False):
        scores = values.to_numpy(dtype=float)
        figures[name] = with_interval(rows, statistic, equal, scores=scores, one_class=one_class)
    # It lies above the truth, and every resample above it: a bootstrap's interval would not cover the truth.
    figures["weighted_expected_calibration_error"] = None
    if rows["label"].nunique() == 2:
        error = expected_calibration_error(rows["label"], rows["probability"], equal)
        figures["weighted_expected_calibration_error"] = {"value": error, "interval": None}
    return figures | {"weighted_reliability": reliability(rows["label"], rows["probability"], equal)}


def evaluate_views(
    rows: pd.DataFrame,
    *,
    real_threshold: float,
    generated_threshold: float,
    training: pd.DataFrame | None = None,
) -> dict:
    """Everything that is measured of a detector on the rows of a feature bank.

    Args:
        rows: one row a view: the columns of a bank, score (raw), probability and verdict.
        real_threshold: as for `evaluate_scores`.
        generated_threshold: as for `evaluate_scores`.
        training: rows of the bank that the detector was trained on, where known, to find pictures that are in both.

    Returns:
        A JSON-ready dictionary: `evaluate_scores` of the pictures as they are; AUC and verdicts on random deliveries,
        where the bank has them; `robustness` under the standard deliveries (`None` without them); `bias_audit`.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    _check_finite(rows)
    clean, random = rows[rows["view"] == 0], rows[rows["view"] > 0]
    evaluation = evaluate_scores(clean, real_threshold=real_threshold, generated_threshold=generated_threshold)
    if not random.empty:
        evaluation["random_deliveries"] = {
            "views": {name: int((random["label"] == label).sum()) for label, name in enumerate(CLASSES)},
            "auc": with_interval(random, roc_auc),
            "verdicts": _verdicts_by_class(random),
        }
    evaluation["robustness"] = measure_robustness(rows)
    if training is not None:
        training = training[training["view"] == 0]
    evaluation["bias_audit"] = audit_bias(clean, training)
    return evaluation


def write_evaluation(folder: str | os.PathLike, evaluation: dict) -> None:
    """Write evaluation.json into a folder: floats rounded to six digits after the point, no picture named."""
    write_json(Path(folder) / "evaluation.json", rounded(without_record_ids(evaluation)))


def compare_scores(rows: pd.DataFrame, baseline: NDArray) -> dict:
    """Ranking figures of another detector's scores on the same pictures, and ours minus its.

    Args:
        rows: one row a picture: label, source, score (ours).
        baseline: (N,) scores of the other.

    Returns:
        Its AUC and its AUC with sources weighted equally, and for each the paired difference with its interval: a
        resample of sources is the same for both detectors.
    """
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    both = np.stack([rows["score"].to_numpy(), baseline], axis=1)
    figures: dict = {}
    equal = source_weights(labels, sources)
    for name, weights in (("auc", np.ones(len(rows))), ("auc_sources_weighted_equally", equal)):
        figures[name] = roc_auc(labels, baseline, weights)
        figures[f"{name}_head_minus_baseline"] = {
            "value": auc_difference(labels, both, weights),
            "interval": bootstrap_interval(auc_difference, labels, both, sources, weights=weights),
        }
    return figures


def verdicts_by_other_sources(rows: pd.DataFrame, fold: NDArray, **targets: Any) -> dict:
    """Verdict shares of each class where calibration and thresholds never saw the picture's source either.

    The shipped thresholds are set on all held-out scores, so that the shares at them are those that were aimed at.
    Here each fold gets the thresholds that the scores of the other folds give: what to expect of a new source.

    Args:
        rows: one row a picture: label, source, score (from a fit without its fold).
        fold: (N,) number of each picture's fold; sources lie in one fold each.
        **targets: what `calibrate` aims at.
    """
    found = np.empty(len(rows), dtype=object)
    for number in np.unique(fold):
        held_out = fold == number
        others = rows[~held_out]
        calibration = calibrate(others["label"], others["score"], others["source"], **targets)
        found[held_out] = calibration.judge(rows[held_out])["verdict"]
    return _verdicts_by_class(rows.assign(verdict=found))


def _check_finite(rows: pd.DataFrame) -> None:
    if not np.isfinite(rows["score"]).all():
        raise ValueError(f"{(~np.isfinite(rows['score'])).sum()} scores are not finite.")


def _verdicts_by_class(rows: pd.DataFrame) -> dict[str, dict | None]:
    return {name: _verdict_shares(rows[rows.label == label]) for label, name in enumerate(CLASSES)}


def _verdict_shares(rows: pd.DataFrame) -> dict | None:
    """Share of each verdict among rows of one class, with intervals; also with every source weighing the same."""
    if rows.empty:
        return None
    shares = {}
    for verdict in VERDICTS:
        hit = (rows["verdict"] == verdict).astype(float)
        by_source = float(rows.assign(hit=hit).groupby("source")["hit"].mean().mean())
        shares[verdict] = {"sources_weighted_equally": by_source} | cast(dict, mean_with_interval(rows, hit))
    return shares


def rounded(value: Any) -> Any:
    """Floats rounded to six digits after the point, as in evaluation.json, however deep they lie."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


__all__ = [
    "compare_scores",
    "evaluate_scores",
    "evaluate_views",
    "rounded",
    "verdicts_by_other_sources",
    "write_evaluation",
]
