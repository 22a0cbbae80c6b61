"""Made-up scores of pictures."""

import numpy as np
import pandas as pd

from modeling.verdicts import verdicts
from train.features.bank import STANDARD_VIEW
from train.features.file_facts import HASH_SIDE
from train.measure.evaluation import evaluate_views
from train.measure.schema import VERSION


def scored(rows=400, shift=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=rows)
    sources = np.array([f"s{label}{k}" for label, k in zip(labels, rng.integers(8, size=rows), strict=True)])
    return labels, rng.normal(size=rows) + shift * labels, sources


THRESHOLDS = {"real_threshold": 0.3, "generated_threshold": 0.7}


def views(shift=0.0, number=48, seed=0):
    """Clean pictures and one standard delivery of every second one, whose scores are `shift` lower."""
    rng = np.random.default_rng(seed)
    label = np.arange(number) % 2
    clean = pd.DataFrame(
        {
            "record_id": [f"p{i}" for i in range(number)],
            "label": label,
            "source": [f"s{label}-{i // 2 % 4}" for i, label in enumerate(label)],
            "generator": np.where(label == 1, np.where(np.arange(number) % 4 == 1, "A", "B"), ""),
            "style": "photoreal",
            "family": np.where(label == 1, np.where(np.arange(number) % 4 == 1, "A", "B"), ""),
            "kind": np.where(np.arange(number) % 3, "people", "animal"),
            "kind_by": "seen",
            "date": "",
            "view": 0,
            "delivery": "clean",
            "score": rng.normal(size=number) + 2 * label - 1,
            "format": "JPEG",
            "width": 640,
            "height": 480,
            "file_bytes": 50_000,
            "jpeg_quality": 90.0,
            "metadata": "",
            "perceptual_hash": [rng.bytes(HASH_SIDE**2 // 8).hex() for _ in range(number)],
        }
    )
    probed = clean.iloc[: number // 2].assign(view=STANDARD_VIEW, delivery="hard")
    probed["score"] = rng.permuted(probed["score"]) if shift is None else probed["score"] - shift
    # The order of a bank's rows must not matter.
    rows = pd.concat([clean, probed]).sample(frac=1, random_state=seed, ignore_index=True)
    rows["probability"] = 1 / (1 + np.exp(-rows["score"]))
    return rows.assign(verdict=verdicts(rows["probability"], **THRESHOLDS))


MADE_BY = {
    "backbone": "owner/clip",
    "backbone_sha256": "0" * 64,
    "bank": {
        "records": 48,
        "records_sha256": "0123456789abcdef",
        "views": 1,
        "probed": 24,
        "deliveries": [],
        "seed": 0,
        "fingerprint": "fedcba9876543210",
    },
    "standard_views": 24,
    "unreadable_pictures": 2,
    "versions": {"torch": "2.13.0"},
    "python": "3.11.7",
    "git_commit": "abcdef0123456789",
    "date": "2026-11-24",
}


def evaluated(rows, **changes):
    """The evaluation of a checkpoint called "mine" on these rows, and its pictures."""
    checkpoint = {"name": "mine", "weights_sha256": "1" * 64, "in_sample": None}
    evaluation = {"version": VERSION, **evaluate_views(rows, **THRESHOLDS), "text": None, "fit": None, "nested": None}
    evaluation |= {"checkpoint": checkpoint, "made_by": MADE_BY} | changes
    return evaluation, rows[rows["view"] == 0]


def input_figures(on, real, generated):
    """One input, as `fit` measures it."""
    shares = dict.fromkeys(
        ("real", "uncertain", "generated"), {"source_weighted": 0.3, "value": 0.4, "interval": None}
    )
    verdicts = {"real": None, "generated": shares}
    return {
        "on": on,
        "pictures": {"real": 0, "generated": 5},
        "auc": None,
        "calibration": {"scale": 1.0, "bias": 0.0},
        "thresholds": {"real": real, "generated": generated},
        "verdicts": verdicts,
        "verdicts_of_other_folds": verdicts,
    }
