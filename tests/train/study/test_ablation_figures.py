"""Figures, paired differences and sentences of an ablation, against independent computations."""

import numpy as np
import pandas as pd
import pytest

from train.measure.metrics import roc_auc
from train.measure.sources import source_weights
from train.study import figures as ablation_figures
from train.study.ablation_report import finding
from train.study.figures import HeldOut


def held_out(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=rows)
    sources = [f"s{label}{k}" for label, k in zip(labels, rng.integers(6, size=rows), strict=True)]
    frame = pd.DataFrame({"label": labels, "source": sources})
    return HeldOut(frame, rng.integers(3, size=rows)), labels + rng.normal(size=(2, rows)) @ np.eye(rows)


def test_figures_are_means_over_seeds_never_of_mean_scores(monkeypatch):
    monkeypatch.setattr(ablation_figures, "DRAWS", 50)
    rows, scores = held_out()
    scores = (scores * [[1.0], [1000.0]]).T
    labels = rows.rows["label"].to_numpy()
    figures = rows.measure(scores)["figures"]
    by_seed = [roc_auc(labels, column) for column in scores.T]
    assert figures["auc"]["by_seed"] == by_seed
    assert figures["auc"]["value"] == pytest.approx(np.mean(by_seed))
    assert figures["auc"]["seed_sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert figures["auc"]["interval"][0] < figures["auc"]["value"] < figures["auc"]["interval"][1]
    equal = [roc_auc(labels, column, source_weights(labels, rows.rows["source"])) for column in scores.T]
    assert figures["auc_sources_weighted_equally"]["value"] == pytest.approx(np.mean(equal))


def test_offsets_between_groups_change_the_pooled_auc_alone(monkeypatch):
    monkeypatch.setattr(ablation_figures, "DRAWS", 5)
    rows, scores = held_out()
    moved = scores.T + 10 * rows.folds[:, None]
    plain, offset = rows.measure(scores.T)["figures"], rows.measure(moved)["figures"]
    assert offset["auc"]["value"] < plain["auc"]["value"] - 0.05
    assert offset["auc_within_folds"]["value"] == pytest.approx(plain["auc_within_folds"]["value"])


def test_groups_of_one_class_are_left_out_of_the_auc_within_folds(monkeypatch):
    monkeypatch.setattr(ablation_figures, "DRAWS", 5)
    frame = pd.DataFrame({"label": [0, 1, 0, 0, 1], "source": list("abcde")})
    scores = np.array([[0.0], [1.0], [5.0], [6.0], [1.0]])
    figures = HeldOut(frame, np.array([0, 0, 1, 1, 0])).measure(scores)["figures"]
    assert figures["auc_within_folds"]["value"] == 1
    assert figures["auc"]["value"] == pytest.approx(1 / 3)
    assert figures["auc"]["seed_sd"] is None
    apart = HeldOut(frame, np.array([0, 1, 0, 0, 1])).measure(np.zeros((5, 1)))
    assert apart["figures"]["auc_within_folds"] is None
    assert apart["worst_source"] is None  # none has 20 pictures


def test_comparisons_are_paired_also_with_a_detector_without_seeds(monkeypatch):
    monkeypatch.setattr(ablation_figures, "DRAWS", 20)
    rows, scores = held_out()
    same = rows.compare(scores.T, 2 * scores.T + 1)
    assert all(difference == {"value": 0, "interval": [0, 0], "by_seed": [0, 0]} for difference in same.values())
    labels = rows.rows["label"].to_numpy()
    noise = np.random.default_rng(1).normal(size=(len(labels), 1))
    difference = rows.compare(scores.T, noise)["auc"]
    expected = np.mean([roc_auc(labels, column) for column in scores]) - roc_auc(labels, noise[:, 0])
    assert difference["value"] == pytest.approx(expected)
    assert np.mean(difference["by_seed"]) == pytest.approx(expected)


def test_the_worst_source_is_the_large_one_that_is_told_apart_worst():
    frame = pd.DataFrame({"label": [0] * 60 + [1] * 25, "source": ["a"] * 20 + ["b"] * 21 + ["c"] * 19 + ["d"] * 25})
    scores = np.concatenate([np.zeros(20), np.linspace(0.5, 1.5, 21), np.full(19, 9.0), np.ones(25)])[:, None]
    worst = HeldOut(frame, np.zeros(85)).worst_source(scores)
    assert (worst["source"], worst["class"], worst["pictures"]) == ("b", "real", 21)
    assert worst["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.001, 0.02], "SAM: **helps** in AUC +0.0100 [+0.0010, +0.0200] (2 of 3 seeds agree)."),
        ([-0.02, -0.001], "SAM: **hurts** in AUC +0.0100 [-0.0200, -0.0010] (1 of 3 seeds agree)."),
        (
            [-0.01, 0.02],
            "**no evidence** that it helps or hurts, the interval of the difference includes 0 in AUC",
        ),
        ([0.0, 0.0], "**no evidence**"),
    ],
)
def test_sentences_say_what_the_interval_says(interval, words):
    difference = {"value": 0.01, "interval": interval, "by_seed": [0.02, 0.01, -0.01]}
    assert words in finding("SAM", {"auc": difference, "tpr_at_1_percent_fpr": None})


def test_a_sentence_keeps_figures_that_disagree_apart():
    figures = {
        "auc": {"value": 0.01, "interval": [0.005, 0.02], "by_seed": [0.01]},
        "auc_within_folds": {"value": -0.01, "interval": [-0.02, -0.005], "by_seed": [-0.01]},
        "tpr_at_1_percent_fpr": {"value": 0.1, "interval": [-0.1, 0.3], "by_seed": [0.1]},
    }
    sentence = finding("SAM", figures)
    assert "**helps** in AUC +0.0100" in sentence
    assert "**hurts** in AUC within folds -0.0100" in sentence
    assert "includes 0 in TPR at 1 % FPR +0.1000" in sentence
    assert "no evidence" not in sentence
    assert finding("SAM", {"auc": None}) == "SAM: not defined on these pictures."
