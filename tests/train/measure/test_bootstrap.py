"""The bootstrap over sources: equal to a plain loop on few rows, close to it on many, whatever is asked of it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.train.scored_pictures import scored
from train.measure.bootstrap import (
    bootstrap_interval,
    bootstrap_intervals,
    share_with_interval,
    weighted_mean,
    wilson_interval,
    with_intervals,
)
from train.measure.metrics import RANKING, average_precision, brier_score, ranking, roc_auc, tpr_at_fpr
from train.measure.sources import number_sources


def naive_interval(statistic, labels, scores, sources, weights=None, draws=1000, seed=0):
    """As it was written first: names sorted, rows in falling order of score, one draw after the other."""
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    labels, scores, sources, weights = labels[order], scores[order], sources[order], weights[order]
    names = [(label, name) for label in np.unique(labels) for name in np.unique(sources[labels == label])]
    number_of = {name: number for number, name in enumerate(names)}
    source_of_row = np.array([number_of[key] for key in zip(labels, sources, strict=True)])
    per_class = [len(np.unique(sources[labels == label])) for label in np.unique(labels)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        times = np.concatenate([np.bincount(rng.integers(n, size=n), minlength=n) for n in per_class])
        values.append(statistic(labels, scores, weights * times[source_of_row]))
    return [float(value) for value in np.nanpercentile(values, [2.5, 97.5])]


STATISTICS = [
    roc_auc,
    average_precision,
    partial(tpr_at_fpr, fpr=0.01),
    weighted_mean,
]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_few_rows_give_the_very_numbers_of_the_plain_loop(statistic):
    labels, scores, sources = scored()
    weights = np.random.default_rng(2).random(len(labels))
    expected = naive_interval(statistic, labels, scores, sources, weights, draws=100)
    assert bootstrap_interval(statistic, labels, scores, sources, weights=weights, draws=100) == expected


@pytest.mark.parametrize("statistic", STATISTICS)
def test_few_sources_give_the_very_numbers_of_the_plain_loop_with_fewer_measurements(statistic):
    labels, scores, _ = scored(rows=60)
    sources, calls = np.where(np.arange(60) % 5 == 0, "a", np.where(np.arange(60) % 3 == 0, "b", "c")), []

    def counted(*arguments):
        calls.append(1)
        return statistic(*arguments)

    expected = naive_interval(statistic, labels, scores, sources)
    assert bootstrap_interval(counted, labels, scores, sources) == expected
    assert len(calls) <= 100  # ten ways to draw three of three, in each class


@pytest.mark.parametrize("kind", ["normal", "few values", "few values and nan", "probability"])
def test_many_rows_give_nearly_the_plain_loop(kind):
    """Rounding to bins moves an end by far less than the interval is wide, and not at all where values are few."""
    labels, scores, sources = scored(rows=30_000)
    sources = np.char.add(sources, (np.arange(len(sources)) % 5).astype(str))
    scores = scores + np.random.default_rng(1).normal(size=100)[np.unique(sources, return_inverse=True)[1] % 100]
    statistics = STATISTICS
    if kind == "probability":
        scores, statistics = 1 / (1 + np.exp(-scores)), [brier_score, weighted_mean]
    if kind.startswith("few"):
        scores, statistics = np.round(scores), [roc_auc, average_precision, weighted_mean]
    if kind.endswith("nan"):
        scores, statistics = np.where(scores > 3, np.nan, scores), [weighted_mean]
    for statistic in statistics:
        settings = {"draws": 60, "seed": 3}
        binned = bootstrap_interval(statistic, labels, scores, sources, **settings)
        exact = bootstrap_interval(statistic, labels, scores, sources, **settings, many_rows=10**9)
        allowed = 1e-9 if kind.startswith("few") else 0.02 * (exact[1] - exact[0])
        assert binned == pytest.approx(exact, abs=allowed), statistic


def test_scores_of_several_detectors_get_fewer_draws_where_rows_are_many():
    labels, scores, sources = scored(rows=50)
    drawn = []

    def count(labels, scores, weights):
        drawn.append(len(labels))
        return 0.0

    both = np.stack([scores, -scores], axis=1)
    bootstrap_interval(count, labels, both, sources)
    bootstrap_interval(count, labels, both, sources, many_rows=40)
    assert drawn == [50] * 1200


def test_several_figures_of_one_curve_equal_each_on_its_own():
    labels, scores, sources = scored()
    alone = {
        "auc": roc_auc,
        "average_precision": average_precision,
        "tpr_at_1_percent_fpr": partial(tpr_at_fpr, fpr=0.01),
        "tpr_at_5_percent_fpr": partial(tpr_at_fpr, fpr=0.05),
    }
    together = with_intervals(RANKING, ranking, pd.DataFrame({"label": labels, "source": sources}), scores)
    for name, statistic in alone.items():
        assert together[name]["value"] == statistic(labels, scores)
        assert together[name]["interval"] == bootstrap_interval(statistic, labels, scores, sources)
    each_half = np.where(labels == 1, 1 / (labels == 1).sum(), 1 / (labels == 0).sum())
    balanced = average_precision(labels, scores, each_half)
    assert together["balanced_average_precision"]["value"] == pytest.approx(balanced)


def test_one_source_of_a_class_gives_figures_without_intervals():
    labels, scores, sources = scored()
    sources = np.where(labels == 1, "one", sources)
    rows = pd.DataFrame({"label": labels, "source": sources})
    assert bootstrap_intervals(ranking, labels, scores, sources) is None
    assert with_intervals(RANKING, ranking, rows, scores)["auc"] == {
        "value": roc_auc(labels, scores),
        "interval": None,
    }
    real = labels == 0
    assert with_intervals(RANKING, ranking, rows[real], scores[real]) == dict.fromkeys(RANKING)


def test_sources_are_numbered_by_name_within_each_class():
    labels, sources = np.array([1, 0, 1, 0, 1]), np.array(["b", "z", "a", "b", "b"])
    numbers, counts = number_sources(labels, sources)
    assert numbers.tolist() == [3, 1, 2, 0, 3]
    assert counts == [2, 2]


def test_a_share_of_one_source_has_wilsons_interval_and_of_many_the_wider_ends():
    rows = pd.DataFrame({"label": 1, "source": ["a"] * 10})
    hit = np.arange(10) < 3
    assert share_with_interval(rows, hit) == (0.3, wilson_interval(3, 10))
    apart = pd.DataFrame({"label": 1, "source": np.repeat(["a", "b"], 50)})
    share, (low, high) = share_with_interval(apart, np.arange(100) < 50)  # all of one source, none of the other
    assert (share, low, high) == (0.5, 0.0, 1.0)
