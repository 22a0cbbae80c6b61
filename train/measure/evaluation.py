"""What is true about a detector on labelled pictures: the figures of evaluation.json."""

from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

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
from .contents import measure_contents
from .groups import measure_groups, worst_groups
from .metrics import RANKING, brier_score, expected_calibration_error, ranking, reliability, roc_auc
from .newest import newest_generated
from .robustness import measure_robustness
from .schema import (
    ByClass,
    ByVerdict,
    Comparison,
    Figure,
    Judged,
    RandomDeliveries,
    ScoreFigures,
    Share,
    Verdicts,
    ViewFigures,
)
from .sources import source_weights


def evaluate_scores(rows: pd.DataFrame, *, real_threshold: float, generated_threshold: float) -> ScoreFigures:
    """Measure ranking, calibration and verdicts, overall, per source, generator and style.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated), source, generator, style, score (raw), probability;
            what `measure_contents` can use; and verdict, where thresholds differ by picture.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.

    Returns:
        Intervals are 95 %: a bootstrap over sources; a share of one group has the wider of it and Wilson's over
        pictures; elsewhere an interval is `None` where a class has one source only. A figure that needs both classes
        is `None` where one is missing. Weights are those of `source_weights`; of the groups see `measure_groups`.
        From 20,000 rows on intervals are of scores rounded to quantiles, see `bootstrap_interval`.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    if rows.empty:
        raise ValueError("There is nothing to evaluate: no rows.")
    _check_finite(rows)
    if "verdict" not in rows:
        rows = rows.assign(verdict=verdicts(rows["probability"], real_threshold, generated_threshold))
    groups = measure_groups(rows)
    figures: dict[str, Any] = {
        "pictures": _count_by_class(rows),
        "sources": {name: int(rows[rows["label"] == label]["source"].nunique()) for label, name in enumerate(CLASSES)},
        **with_intervals(RANKING, ranking, rows, rows["score"].to_numpy(dtype=float)),
        **_plain_and_source_weighted(rows),
        "thresholds": {REAL: real_threshold, GENERATED: generated_threshold},
        "verdicts": verdicts_by_class(rows),
        **groups,
        **measure_contents(rows),
        "worst": worst_groups(groups),
    }
    return cast(ScoreFigures, figures)


def _count_by_class(rows: pd.DataFrame) -> ByClass[int]:
    return {name: int((rows["label"] == label).sum()) for label, name in enumerate(CLASSES)}


def _plain_and_source_weighted(rows: pd.DataFrame) -> dict[str, Any]:
    """`plain` and `source_weighted` of an evaluation."""
    labels, weights = rows["label"].to_numpy(), source_weights(rows["label"], rows["source"])
    alike = source_weights(labels, np.arange(len(rows)))  # as if each picture were a source
    auc = with_interval(rows, roc_auc, weights)
    return {"plain": _judged(rows, alike), "source_weighted": {"auc": auc, **_judged(rows, weights)}}


def _judged(rows: pd.DataFrame, weights: NDArray) -> Judged:
    """Figures of probabilities and verdicts with these weights (N,)."""
    answered = rows["verdict"] != UNCERTAIN
    flagged_rightly = (rows["verdict"] == GENERATED) == (rows["label"] == 1)
    right = rows["verdict"] == np.where(rows["label"] == 1, GENERATED, REAL)
    # Name, figure, what it is of, and whether it is defined for one class.
    asked: list[tuple[str, Statistic, pd.Series, bool]] = [
        ("brier_score", brier_score, rows["probability"], False),
        ("share_answered", weighted_mean, answered, True),
        ("accuracy_of_answered", weighted_mean, right.where(answered), True),
        ("balanced_accuracy", weighted_mean, flagged_rightly, False),
    ]
    figures: dict[str, Any] = {}
    for name, statistic, values, one_class in tqdm(asked, desc="figures", unit="figure", delay=1, leave=False):
        scores = values.to_numpy(dtype=float)
        figures[name] = with_interval(rows, statistic, weights, scores=scores, one_class=one_class)
    # It lies above the truth, and every resample above it: a bootstrap's interval would not cover the truth.
    figures["expected_calibration_error"] = None
    if rows["label"].nunique() == 2:
        error = expected_calibration_error(rows["label"], rows["probability"], weights)
        figures["expected_calibration_error"] = {"value": error, "interval": None}
    figures["reliability"] = reliability(rows["label"], rows["probability"], weights)
    return cast(Judged, figures)


def evaluate_views(
    rows: pd.DataFrame,
    *,
    real_threshold: float,
    generated_threshold: float,
    training: pd.DataFrame | None = None,
) -> ViewFigures:
    """Everything that is measured of a detector on the rows of a feature bank.

    Args:
        rows: one row a view: the columns of a bank, score (raw), probability and verdict.
        real_threshold: as for `evaluate_scores`.
        generated_threshold: as for `evaluate_scores`.
        training: rows of the bank that the detector was trained on, where known, to find pictures that are in both.

    Returns:
        `evaluate_scores` of the pictures as they are, and beside it random deliveries and standard ones, each `None`
        where the bank has none, and the bias audit.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    _check_finite(rows)
    clean, random = rows[rows["view"] == 0], rows[rows["view"] > 0]
    if training is not None:
        training = training[training["view"] == 0]
    return {
        **evaluate_scores(clean, real_threshold=real_threshold, generated_threshold=generated_threshold),
        "random_deliveries": None if random.empty else _random_deliveries(random),
        "robustness": measure_robustness(rows),
        "bias_audit": audit_bias(clean, training),
        "newest_generated": newest_generated(clean),
    }


def _random_deliveries(rows: pd.DataFrame) -> RandomDeliveries:
    return {
        "views": _count_by_class(rows),
        "auc": with_interval(rows, roc_auc),
        "verdicts": verdicts_by_class(rows),
    }


def compare_scores(rows: pd.DataFrame, baseline: NDArray) -> Comparison:
    """Ranking figures of another detector's scores on the same pictures, and ours minus its.

    Args:
        rows: one row a picture: label, source, score (ours).
        baseline: (N,) scores of the other.

    Returns:
        Its AUC and its source-weighted AUC, and for each the paired difference with its interval: a resample of
        sources is the same for both detectors.
    """
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    both = np.stack([rows["score"].to_numpy(), baseline], axis=1)

    def difference(weights: NDArray) -> Figure:
        return {
            "value": auc_difference(labels, both, weights),
            "interval": bootstrap_interval(auc_difference, labels, both, sources, weights=weights),
        }

    pooled, source_weighted = np.ones(len(rows)), source_weights(labels, sources)
    return {
        "auc": roc_auc(labels, baseline),
        "auc_difference": difference(pooled),
        "auc_source_weighted": roc_auc(labels, baseline, source_weighted),
        "auc_source_weighted_difference": difference(source_weighted),
    }


def _check_finite(rows: pd.DataFrame) -> None:
    if not np.isfinite(rows["score"]).all():
        raise ValueError(f"{(~np.isfinite(rows['score'])).sum()} scores are not finite.")


def verdicts_by_class(rows: pd.DataFrame) -> Verdicts:
    """Share of each verdict in each class, of rows with label, source and verdict."""
    return {name: _verdict_shares(rows[rows["label"] == label]) for label, name in enumerate(CLASSES)}


def _verdict_shares(rows: pd.DataFrame) -> ByVerdict[Share] | None:
    """Share of each verdict among rows of one class."""
    if rows.empty:
        return None
    weights = source_weights(rows["label"], rows["source"])
    shares: ByVerdict[Share] = {}
    for verdict in VERDICTS:
        hit = (rows["verdict"] == verdict).astype(float)
        source_weighted = float(np.average(hit, weights=weights))
        shares[verdict] = {"source_weighted": source_weighted, **cast(Figure, mean_with_interval(rows, hit))}
    return shares


__all__ = ["compare_scores", "evaluate_scores", "evaluate_views", "verdicts_by_class"]
