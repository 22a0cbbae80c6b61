"""What is true about a detector on labelled pictures: one dictionary, written as evaluation.json."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling import RobustClipForImageClassification
from modeling.checkpoints import load_processor, resolve_checkpoint

from .calibration import calibrate
from .feature_bank import FeatureBank, processor_settings, weights_fingerprint
from .files import write_json
from .metrics import (
    Statistic,
    average_precision,
    bootstrap_interval,
    brier_score,
    equal_error_rate,
    expected_calibration_error,
    reliability,
    roc_auc,
    source_weights,
    tpr_at_fpr,
    wilson_interval,
)
from .trainer import score_embeddings

DRAWS = 1000
_CLASSES = ("real", "generated")


def evaluate_scores(rows: pd.DataFrame, *, real_threshold: float, generated_threshold: float) -> dict:
    """Measure ranking, calibration and verdicts, overall, per source, generator and style.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated), source, generator, style, score (raw), probability.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.

    Returns:
        A JSON-ready dictionary. Intervals are 95 %: a bootstrap over sources for whole sets, Wilson's for one
        source; an interval is `None` where a class has one source only. A figure that needs both classes is `None`
        where one is missing. `weighted` figures give every source of a class the same weight and each class half, as
        the calibration does.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    if rows.empty:
        raise ValueError("There is nothing to evaluate: no rows.")
    if not np.isfinite(rows["score"]).all():
        raise ValueError(f"{(~np.isfinite(rows['score'])).sum()} scores are not finite.")
    verdicts = _verdicts(rows["probability"].to_numpy(), real_threshold, generated_threshold)
    rows = rows.assign(verdict=verdicts)
    equal = source_weights(rows["label"], rows["source"])
    answered = rows["verdict"] != "uncertain"
    right = rows["verdict"] == np.where(rows["label"] == 1, "generated", "real")
    return {
        "pictures": {"real": int((rows.label == 0).sum()), "generated": int((rows.label == 1).sum())},
        "sources": {name: int(rows[rows.label == label].source.nunique()) for label, name in enumerate(_CLASSES)},
        "auc": _with_interval(rows, roc_auc),
        "auc_sources_weighted_equally": _with_interval(rows, roc_auc, equal),
        "average_precision": _with_interval(rows, average_precision),
        "tpr_at_1_percent_fpr": _with_interval(rows, partial(tpr_at_fpr, fpr=0.01)),
        "tpr_at_5_percent_fpr": _with_interval(rows, partial(tpr_at_fpr, fpr=0.05)),
        "oracle_equal_error_rate": _with_interval(rows, equal_error_rate),
        "weighted_brier_score": _with_interval(rows, brier_score, equal, column="probability"),
        "weighted_expected_calibration_error": _with_interval(
            rows, expected_calibration_error, equal, column="probability"
        ),
        "weighted_reliability": reliability(rows["label"], rows["probability"], equal),
        "thresholds": {"real": real_threshold, "generated": generated_threshold},
        "weighted_share_answered": _with_interval(rows.assign(value=answered), _mean, equal, column="value"),
        "weighted_share_right_of_answered": _with_interval(
            rows.assign(value=right.where(answered)), _mean, equal, column="value"
        ),
        "weighted_balanced_accuracy_of_flagging": _with_interval(
            rows.assign(value=(rows["verdict"] == "generated") == (rows["label"] == 1)), _mean, equal, column="value"
        ),
        "verdicts": {name: _verdict_shares(rows[rows.label == label]) for label, name in enumerate(_CLASSES)},
        "by_source": _by_source(rows),
        "by_generator": _by_generator(rows),
        "by_style": _by_style(rows),
    }


def evaluate_checkpoint(checkpoint: str | os.PathLike | None, bank: FeatureBank) -> dict:
    """Evaluate a checkpoint on the pictures of a bank, as they are (view 0).

    Args:
        checkpoint: a folder, a Hub id, or "default".
        bank: made with the checkpoint's own backbone.

    Raises:
        ValueError: the bank was made with another backbone or image processor.
    """
    checkpoint = resolve_checkpoint(checkpoint)
    model = RobustClipForImageClassification.from_pretrained(checkpoint).eval()
    if weights_fingerprint(model.backbone) != bank.info["backbone_sha256"]:
        raise ValueError(
            f"The bank was made with another backbone ({bank.info['backbone']}) than the checkpoint's "
            f"({model.config.backbone_name}): make a bank with the checkpoint's."
        )
    if (settings := processor_settings(load_processor(checkpoint))) != bank.info["processor"]:
        raise ValueError(
            f"The bank's pictures were prepared with {bank.info['processor']}, the checkpoint's are with {settings}: "
            "make a bank with the checkpoint's."
        )
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    text = None if bank.text_embeds is None else bank.text_embeds[clean]
    scores = score_embeddings(model, bank.image_embeds[clean], text)
    config = model.config
    z = config.calibration_scale * scores.astype(np.float64) + config.calibration_bias
    rows = bank.rows[clean].assign(score=scores, probability=1 / (1 + np.exp(-z)))
    return evaluate_scores(rows, real_threshold=config.real_threshold, generated_threshold=config.generated_threshold)


def write_evaluation(folder: str | os.PathLike, evaluation: dict) -> None:
    """Write evaluation.json into a folder, floats rounded to six digits after the point."""
    write_json(Path(folder) / "evaluation.json", _rounded(evaluation))


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

    def difference(labels: NDArray, scores: NDArray, weights: NDArray) -> float:
        return roc_auc(labels, scores[:, 0], weights) - roc_auc(labels, scores[:, 1], weights)

    figures: dict = {}
    equal = source_weights(labels, sources)
    for name, weights in (("auc", np.ones(len(rows))), ("auc_sources_weighted_equally", equal)):
        figures[name] = roc_auc(labels, baseline, weights)
        figures[f"{name}_head_minus_baseline"] = {
            "value": difference(labels, both, weights),
            "interval": bootstrap_interval(difference, labels, both, sources, weights=weights, draws=DRAWS),
        }
    return figures


def _mean(_labels: NDArray, values: NDArray, weights: NDArray) -> float:
    """Weighted mean of the values that are not NaN."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if weights[known].any() else float("nan")


def _with_interval(
    rows: pd.DataFrame, statistic: Statistic, weights: NDArray | None = None, column: str = "score"
) -> dict | None:
    """Value and bootstrap interval, or `None` where it is not defined or a class is missing."""
    if rows["label"].nunique() < 2:
        return None
    labels, sources, scores = rows["label"].to_numpy(), rows["source"].to_numpy(), rows[column].to_numpy(dtype=float)
    weights = np.ones(len(rows)) if weights is None else weights
    value = statistic(labels, scores, weights)
    if np.isnan(value):
        return None
    interval = bootstrap_interval(statistic, labels, scores, sources, weights=weights, draws=DRAWS)
    return {"value": value, "interval": interval}


def _verdicts(probability: NDArray, real_threshold: float, generated_threshold: float) -> NDArray:
    """Verdict for each probability."""
    return np.select(
        [probability >= generated_threshold, probability <= real_threshold], ["generated", "real"], "uncertain"
    )


def verdicts_by_other_sources(rows: pd.DataFrame, fold: NDArray, *, target_fpr: float, target_fnr: float) -> dict:
    """Verdict shares of each class where calibration and thresholds never saw the picture's source either.

    The shipped thresholds are set on all held-out scores, so that the shares at them are those that were aimed at.
    Here each fold gets the thresholds that the scores of the other folds give: what to expect of a new source.

    Args:
        rows: one row a picture: label, source, score (from a fit without its fold).
        fold: (N,) number of each picture's fold; sources lie in one fold each.
        target_fpr: as for `calibrate`.
        target_fnr: as for `calibrate`.
    """
    verdicts = np.empty(len(rows), dtype=object)
    for number in np.unique(fold):
        held_out = fold == number
        others = rows[~held_out]
        calibration = calibrate(
            others["label"], others["score"], others["source"], target_fpr=target_fpr, target_fnr=target_fnr
        )
        probability = calibration.probability(rows[held_out]["score"])
        verdicts[held_out] = _verdicts(probability, calibration.real_threshold, calibration.generated_threshold)
    rows = rows.assign(verdict=verdicts)
    return {name: _verdict_shares(rows[rows.label == label]) for label, name in enumerate(_CLASSES)}


def _verdict_shares(rows: pd.DataFrame) -> dict | None:
    """Share of each verdict among rows of one class, with intervals; also with every source weighing the same."""
    if rows.empty:
        return None
    shares = {}
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    for verdict in ("real", "uncertain", "generated"):
        is_verdict = (rows["verdict"] == verdict).to_numpy().astype(float)

        def share(_labels: NDArray, values: NDArray, weights: NDArray) -> float:
            return float(np.average(values, weights=weights))

        shares[verdict] = {
            "value": float(is_verdict.mean()),
            "sources_weighted_equally": float(rows.assign(hit=is_verdict).groupby("source")["hit"].mean().mean()),
            "interval": bootstrap_interval(share, labels, is_verdict, sources, draws=DRAWS),
        }
    return shares


def _by_source(rows: pd.DataFrame) -> list[dict]:
    """Verdict shares of every source and class, largest first; the wrong verdict with Wilson's interval."""
    table = []
    for source, label in rows[["source", "label"]].drop_duplicates().itertuples(index=False):
        group = rows[(rows.source == source) & (rows.label == label)]
        wrong = int((group["verdict"] == _CLASSES[1 - label]).sum())
        table.append(
            {
                "source": source,
                "class": _CLASSES[label],
                "pictures": len(group),
                **{verdict: float((group["verdict"] == verdict).mean()) for verdict in (*_CLASSES, "uncertain")},
                "wrong_interval": wilson_interval(wrong, len(group)),
                "mean_probability": float(group["probability"].mean()),
            }
        )
    return sorted(table, key=lambda row: (row["class"], -row["pictures"], row["source"]))


def _by_generator(rows: pd.DataFrame) -> list[dict]:
    """AUC of each generator's pictures against all real ones, and the share found."""
    real = rows[rows.label == 0]
    table = []
    for generator, group in rows[rows.label == 1].groupby("generator"):
        found = int((group["verdict"] == "generated").sum())
        both = pd.concat([real, group])
        table.append(
            {
                "generator": generator,
                "pictures": len(group),
                "sources": int(group["source"].nunique()),
                "auc": _with_interval(both, roc_auc),
                "found": found / len(group),
                "found_interval": wilson_interval(found, len(group)),
                "called_real": float((group["verdict"] == "real").mean()),
            }
        )
    return sorted(table, key=lambda row: -row["pictures"])


def _by_style(rows: pd.DataFrame) -> list[dict]:
    """Verdict shares of every style and class, largest first."""
    table = []
    for style, label in rows[["style", "label"]].drop_duplicates().itertuples(index=False):
        group = rows[(rows["style"] == style) & (rows["label"] == label)]
        shares = {verdict: float((group["verdict"] == verdict).mean()) for verdict in (*_CLASSES, "uncertain")}
        table.append({"style": style, "class": _CLASSES[label], "pictures": len(group), **shares})
    return sorted(table, key=lambda row: (row["class"], -row["pictures"], row["style"]))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


__all__ = ["compare_scores", "evaluate_checkpoint", "evaluate_scores", "verdicts_by_other_sources", "write_evaluation"]
