"""What is true about a detector on labelled pictures: one dictionary, written as evaluation.json."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeling import RobustClipForImageClassification
from modeling.checkpoints import resolve_checkpoint

from .feature_bank import FeatureBank, weights_fingerprint
from .metrics import Statistic, bootstrap_interval, roc_auc, source_weights, tpr_at_fpr, wilson_interval
from .trainer import score_embeddings

DRAWS = 1000
_CLASSES = ("real", "generated")


def _weighted_auc(labels: NDArray, scores: NDArray, sources: NDArray) -> float:
    return roc_auc(labels, scores, source_weights(labels, sources))


STATISTICS: dict[str, Statistic] = {
    "auc": lambda labels, scores, sources: roc_auc(labels, scores),
    "auc_sources_weighted_equally": _weighted_auc,
    "tpr_at_1_percent_fpr": lambda labels, scores, sources: tpr_at_fpr(labels, scores, 0.01),
    "tpr_at_5_percent_fpr": lambda labels, scores, sources: tpr_at_fpr(labels, scores, 0.05),
}


def evaluate_scores(rows: pd.DataFrame, *, real_threshold: float, generated_threshold: float) -> dict:
    """Measure ranking and verdicts, overall, per source and per generator.

    Args:
        rows: one row a picture: label (0 = real, 1 = generated), source, generator, score (raw) and probability.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.

    Returns:
        A JSON-ready dictionary. Intervals are 95 %: a bootstrap over sources for whole sets, Wilson's for one
        source. A figure that needs both classes is `None` where one is missing.

    Raises:
        ValueError: no rows, or scores that are not finite.
    """
    if rows.empty:
        raise ValueError("There is nothing to evaluate: no rows.")
    if not np.isfinite(rows["score"]).all():
        raise ValueError(f"{(~np.isfinite(rows['score'])).sum()} scores are not finite.")
    verdicts = _verdicts(rows["probability"].to_numpy(), real_threshold, generated_threshold)
    rows = rows.assign(verdict=verdicts)
    return {
        "pictures": {"real": int((rows.label == 0).sum()), "generated": int((rows.label == 1).sum())},
        "sources": {name: int(rows[rows.label == label].source.nunique()) for label, name in enumerate(_CLASSES)},
        **{name: _with_interval(rows, statistic) for name, statistic in STATISTICS.items()},
        "thresholds": {"real": real_threshold, "generated": generated_threshold},
        "verdicts": {name: _verdict_shares(rows[rows.label == label]) for label, name in enumerate(_CLASSES)},
        "by_source": _by_source(rows),
        "by_generator": _by_generator(rows),
    }


def evaluate_checkpoint(checkpoint: str | os.PathLike | None, bank: FeatureBank) -> dict:
    """Evaluate a checkpoint on the pictures of a bank, as they are (view 0).

    Args:
        checkpoint: a folder, a Hub id, or "default".
        bank: made with the checkpoint's own backbone.

    Raises:
        ValueError: the bank was made with another backbone.
    """
    model = RobustClipForImageClassification.from_pretrained(resolve_checkpoint(checkpoint)).eval()
    if weights_fingerprint(model.backbone) != bank.info["backbone_sha256"]:
        raise ValueError(
            f"The bank was made with another backbone ({bank.info['backbone']}) than the checkpoint's "
            f"({model.config.backbone_name}): make a bank with the checkpoint's."
        )
    clean = (bank.rows["view"] == 0).to_numpy(copy=True)
    text = None if bank.text_embeds is None else bank.text_embeds[clean]
    scores = score_embeddings(model, bank.image_embeds[clean], text)
    config = model.config
    z = config.calibration_scale * scores.astype(np.float64) + config.calibration_bias
    rows = bank.rows[clean].assign(score=scores, probability=1 / (1 + np.exp(-z)))
    return evaluate_scores(rows, real_threshold=config.real_threshold, generated_threshold=config.generated_threshold)


def write_json(path: str | os.PathLike, content: dict) -> None:
    """Write JSON all or nothing, floats rounded to six digits after the point."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(_rounded(content), indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def _with_interval(rows: pd.DataFrame, statistic: Statistic) -> dict | None:
    """Value and bootstrap interval, or `None` where it is not defined."""
    labels, scores, sources = (rows[name].to_numpy() for name in ("label", "score", "source"))
    value = statistic(labels, scores, sources)
    if np.isnan(value):
        return None
    return {"value": value, "interval": bootstrap_interval(statistic, labels, scores, sources, draws=DRAWS)}


def _verdicts(probability: NDArray, real_threshold: float, generated_threshold: float) -> NDArray:
    """Verdict for each probability."""
    return np.select(
        [probability >= generated_threshold, probability <= real_threshold], ["generated", "real"], "uncertain"
    )


def _verdict_shares(rows: pd.DataFrame) -> dict | None:
    """Share of each verdict among rows of one class, with intervals; also with every source weighing the same."""
    if rows.empty:
        return None
    shares = {}
    labels, sources = rows["label"].to_numpy(), rows["source"].to_numpy()
    for verdict in ("real", "uncertain", "generated"):
        is_verdict = (rows["verdict"] == verdict).to_numpy().astype(float)

        def share(_labels: NDArray, values: NDArray, _sources: NDArray) -> float:
            return float(values.mean())

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
                "auc": _with_interval(both, STATISTICS["auc"]),
                "found": found / len(group),
                "found_interval": wilson_interval(found, len(group)),
                "called_real": float((group["verdict"] == "real").mean()),
            }
        )
    return sorted(table, key=lambda row: -row["pictures"])


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


__all__ = ["STATISTICS", "evaluate_checkpoint", "evaluate_scores", "write_json"]
