"""Figures and paired differences of a case, against independent computations."""

import numpy as np
import pandas as pd
import pytest

from train.measure.metrics import roc_auc
from train.measure.sources import source_weights
from train.study.figures import FIGURES, HeldOut


def held_out(rows=300, seed=0, draws=20):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=rows)
    sources = [f"s{label}{k}" for label, k in zip(labels, rng.integers(6, size=rows), strict=True)]
    frame = pd.DataFrame({"label": labels, "source": sources})
    return HeldOut(frame, rng.integers(3, size=rows), draws), (labels + rng.normal(size=(2, rows))).T


def test_figures_are_means_over_seeds_never_of_mean_scores():
    rows, scores = held_out(draws=50)
    scores = scores * [1.0, 1000.0]
    labels = rows.rows["label"].to_numpy()
    figures = rows.measure(scores)
    assert list(figures) == list(FIGURES)
    by_seed = [roc_auc(labels, column) for column in scores.T]
    assert figures["auc"]["by_seed"] == pytest.approx(by_seed)
    assert figures["auc"]["value"] == pytest.approx(np.mean(by_seed))
    assert figures["auc"]["seed_sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert figures["auc"]["interval"][0] < figures["auc"]["value"] < figures["auc"]["interval"][1]
    equal = [roc_auc(labels, column, source_weights(labels, rows.rows["source"])) for column in scores.T]
    assert figures["source_weighted_auc"]["value"] == pytest.approx(np.mean(equal))


def test_offsets_between_groups_change_the_pooled_auc_alone():
    rows, scores = held_out()
    plain, offset = rows.measure(scores), rows.measure(scores + 10 * rows.groups[:, None])
    assert offset["auc"]["value"] < plain["auc"]["value"] - 0.05
    assert offset["auc_within_groups"]["value"] == pytest.approx(plain["auc_within_groups"]["value"])


def test_groups_of_one_class_are_left_out_of_the_auc_within_groups():
    frame = pd.DataFrame({"label": [0, 1, 0, 0, 1], "source": list("abcde")})
    scores = np.array([[0.0], [1.0], [5.0], [6.0], [1.0]])
    figures = HeldOut(frame, np.array([0, 0, 1, 1, 0]), 5).measure(scores)
    assert figures["auc_within_groups"]["value"] == 1
    assert figures["auc"]["value"] == pytest.approx(1 / 3)
    assert figures["auc"]["seed_sd"] is None
    apart = HeldOut(frame, np.array([0, 1, 0, 0, 1]), 5)
    assert apart.measure(np.zeros((5, 1)))["auc_within_groups"] is None
    assert apart.worst_source(np.zeros((5, 1))) is None  # none has 20 pictures


def test_comparisons_are_paired_also_with_a_case_of_fewer_seeds():
    rows, scores = held_out()
    same = rows.compare(scores, 2 * scores + 1)
    assert all(figure["value"] == 0 and figure["interval"] == [0, 0] for figure in same.values())
    labels = rows.rows["label"].to_numpy()
    noise = np.random.default_rng(1).normal(size=(len(labels), 1))
    difference = rows.compare(scores, noise)["auc"]
    expected = np.mean([roc_auc(labels, column) for column in scores.T]) - roc_auc(labels, noise[:, 0])
    assert difference["value"] == pytest.approx(expected)
    assert np.mean(difference["by_seed"]) == pytest.approx(expected)
    three = np.concatenate([scores, noise], axis=1)
    assert rows.compare(three, scores)["auc"]["by_seed"] == [0, 0]


def test_the_worst_source_is_the_large_one_that_is_ranked_worst():
    frame = pd.DataFrame({"label": [0] * 60 + [1] * 25, "source": ["a"] * 20 + ["b"] * 21 + ["c"] * 19 + ["d"] * 25})
    scores = np.concatenate([np.zeros(20), np.linspace(0.5, 1.5, 21), np.full(19, 9.0), np.ones(25)])[:, None]
    worst = HeldOut(frame, np.zeros(85)).worst_source(scores)
    assert (worst["source"], worst["class"], worst["pictures"]) == ("b", "real", 21)
    assert worst["value"] == pytest.approx(0.5)
