"""Metrics and evaluation against independent computations."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from tests.train.scored_pictures import scored
from train.measure.bootstrap import bootstrap_interval, wilson_interval
from train.measure.evaluation import compare_scores, evaluate_scores
from train.measure.metrics import (
    RANKING,
    average_precision,
    brier_score,
    expected_calibration_error,
    ranking,
    reliability,
    roc_auc,
    tpr_at_fpr,
)


def test_auc_equals_the_mann_whitney_statistic():
    labels, scores, _ = scored()
    positive, negative = scores[labels == 1], scores[labels == 0]
    expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert roc_auc(labels, scores) == pytest.approx(expected)
    assert roc_auc(1 - labels, scores) == pytest.approx(1 - expected)


@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with few
@pytest.mark.parametrize("weighted", [False, True])
def test_roc_figures_equal_scikit_learns(decimals, weighted):
    labels, scores, _ = scored()
    scores = scores.round(decimals)
    weights = np.random.default_rng(1).integers(3, size=len(labels)) if weighted else None
    assert roc_auc(labels, scores, weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert average_precision(labels, scores, weights) == pytest.approx(expected)
    flagged, found, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for fpr in (0.0, 0.01, 0.05, 0.3, 1.0):
        assert tpr_at_fpr(labels, scores, weights, fpr=fpr) == pytest.approx(found[flagged <= fpr].max())


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_metrics_of_one_class_are_not_defined(labels):
    assert np.isnan(roc_auc(labels, [0.2, 0.3]))
    assert np.isnan(tpr_at_fpr(labels, [0.2, 0.3], fpr=0.1))
    assert np.isnan(average_precision(labels, [0.2, 0.3]))
    assert np.isnan(ranking(labels, [0.2, 0.3])).all()


def test_a_class_that_weighs_nothing_is_missing():
    assert np.isnan(roc_auc([0, 1], [0.2, 0.3], [0, 1]))
    assert np.isnan(tpr_at_fpr([0, 1], [0.2, 0.3], [1, 0], fpr=0.1))


def test_tpr_at_fpr_counts_by_hand():
    labels = [0] * 10 + [1] * 4
    scores = [*range(10), 5.5, 8.5, 9.5, 10]
    assert tpr_at_fpr(labels, scores, fpr=0.0) == 0.5  # above 9: two of four
    assert tpr_at_fpr(labels, scores, fpr=0.1) == 0.75  # one real flagged: above 8
    assert tpr_at_fpr(labels, scores, fpr=0.09) == 0.5


def test_the_equal_error_rate_lies_where_both_errors_meet():
    def equal_error_rate(labels, scores):
        return dict(zip(RANKING, ranking(labels, scores), strict=True))["equal_error_rate"]

    labels, scores, _ = scored(rows=4000)
    rate = equal_error_rate(labels, scores)
    threshold = np.quantile(scores[labels == 0], 1 - rate)
    assert (scores[labels == 1] < threshold).mean() == pytest.approx(rate, abs=2e-3)
    assert equal_error_rate(1 - labels, scores) == pytest.approx(1 - rate, abs=2e-3)
    assert equal_error_rate([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]) == 0
    assert equal_error_rate([0, 1], [1.0, 1.0]) == 0.5


def test_the_brier_score_equals_scikit_learns():
    rng = np.random.default_rng(0)
    labels, probabilities, weights = rng.integers(2, size=50), rng.random(50), rng.random(50)
    expected = brier_score_loss(labels, probabilities, sample_weight=weights)
    assert brier_score(labels, probabilities, weights) == pytest.approx(expected)


def test_calibration_error_counts_by_hand():
    labels, probabilities = [0, 1, 1, 1, 0, 1], [0.12, 0.18, 1.0, 0.95, 0.9, 0.55]
    table = reliability(labels, probabilities)
    assert [row["pictures"] for row in table] == [2, 1, 3]
    assert table[0]["mean_probability"] == pytest.approx(0.15)
    assert table[0]["share_generated"] == 0.5
    expected = (2 * abs(0.15 - 0.5) + abs(0.55 - 1) + 3 * abs(0.95 - 2 / 3)) / 6
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)
    doubled = expected_calibration_error(labels * 2, probabilities * 2)
    assert expected_calibration_error(labels, probabilities, [2] * 6) == pytest.approx(doubled)
    rng = np.random.default_rng(0)
    said = rng.random(100_000)
    assert expected_calibration_error((rng.random(100_000) < said).astype(int), said) < 0.01


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for draw in range(60):
        centres = rng.normal(size=30)
        values = np.repeat(centres, 5) + 0.3 * rng.normal(size=150)
        low, high = bootstrap_interval(
            lambda labels, scores, weights: np.average(scores, weights=weights),
            np.zeros(150, int),
            values,
            np.repeat(np.arange(30), 5),
            draws=200,
            seed=draw,
        )
        covered += low <= 0 <= high
    assert 50 <= covered <= 60


def test_a_bootstrap_draw_takes_whole_sources_of_each_class():
    labels = np.array([0, 0, 0, 1, 1, 1])
    sources = np.array(["a", "a", "b", "a", "c", "c"])
    seen = []

    def record(labels, scores, weights):
        seen.append(weights)
        return 0.0

    bootstrap_interval(record, labels, np.zeros(6), sources, weights=[1, 1, 2, 2, 1, 1], draws=50)
    drawn = np.array(seen)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # the rows of a source come together
    assert (drawn[:, 4] == drawn[:, 5]).all()
    assert (drawn[:, 0] + drawn[:, 2] / 2 == 2).all()  # two draws for the two real sources
    assert (drawn[:, 3] / 2 + drawn[:, 4] == 2).all()
    assert {0.0, 1.0, 2.0} == set(drawn[:, 0])
    assert (drawn[:, 0] != drawn[:, 3] / 2).any()  # "a" is drawn for each class on its own


def test_one_source_gives_no_interval():
    labels, scores, sources = scored()
    sources = np.where(labels == 1, "one", sources)
    report = evaluate_scores(frame(labels, scores, sources), real_threshold=0.2, generated_threshold=0.8)
    assert report["auc"]["interval"] is None
    assert report["verdicts"]["generated"]["generated"]["interval"] is None
    assert report["verdicts"]["real"]["generated"]["interval"] is not None
    assert report["by_generator"][0]["auc"]["interval"] is None


def test_comparison_of_scores_is_paired():
    labels, scores, sources = scored()
    rows = frame(labels, scores, sources)
    same = compare_scores(rows, 3 * scores + 1)  # the same order of pictures
    assert same["auc"] == pytest.approx(roc_auc(labels, scores))
    assert same["auc_difference"] == {"value": 0.0, "interval": [0.0, 0.0]}
    noise = compare_scores(rows, np.random.default_rng(5).normal(size=len(rows)))
    difference = noise["auc_source_weighted_difference"]
    assert 0.2 < difference["interval"][0] < difference["value"] < difference["interval"][1]


def test_wilson_interval_equals_published_numbers():
    assert wilson_interval(0, 10) == pytest.approx([0, 0.2775], abs=1e-4)
    assert wilson_interval(5, 10) == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert wilson_interval(0, 0) == [0.0, 1.0]


def frame(labels, scores, sources):
    generator = np.where(labels == 1, "G", "")
    probability = 1 / (1 + np.exp(-scores))
    return pd.DataFrame(
        {
            "label": labels,
            "score": scores,
            "source": sources,
            "generator": generator,
            "style": "photoreal",
            "probability": probability,
        }
    )


def test_evaluation_counts_verdicts_by_class_source_and_generator():
    """Real source a has ten pictures (five right, five uncertain), b five (wrong): both weigh five."""
    scores = np.array([-3.0] * 5 + [0.0] * 5 + [3.0] * 5 + [3.0, 0.0])
    rows = frame(np.array([0] * 15 + [1] * 2), scores, np.array([*"aaaaaaaaaabbbbbcc"]))
    report = evaluate_scores(rows, real_threshold=0.2, generated_threshold=0.8)
    assert report["pictures"] == {"real": 15, "generated": 2}
    assert report["verdicts"]["real"]["generated"]["value"] == pytest.approx(1 / 3)
    assert report["verdicts"]["real"]["generated"]["source_weighted"] == pytest.approx(1 / 2)
    assert report["verdicts"]["generated"]["uncertain"]["value"] == 0.5
    assert [row["source"] for row in report["by_source"]] == ["c", "a", "b"]
    assert report["by_generator"][0]["called_generated"] == 0.5
    assert report["auc"]["value"] == pytest.approx(4 / 6)
    assert [(row["class"], row["uncertain"]) for row in report["by_style"]] == [("generated", 0.5), ("real", 1 / 3)]
    plain, weighted = report["plain"], report["source_weighted"]
    # Of real pictures two thirds are answered, half of these rightly; each class weighs half.
    assert plain["share_answered"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert plain["accuracy_of_answered"]["value"] == pytest.approx((1 / 3 + 1 / 2) / (2 / 3 + 1 / 2))
    assert plain["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert weighted["share_answered"]["value"] == pytest.approx((0.5 * 0.5 + 0.5 * 1 + 0.5) / 2)
    assert weighted["accuracy_of_answered"]["value"] == pytest.approx((0.25 + 0.5) / (0.25 + 0.5 + 0.5))
    assert weighted["balanced_accuracy"]["value"] == pytest.approx((0.5 + 0.5) / 2)


def test_evaluation_of_one_class_says_none():
    labels, scores, sources = scored()
    report = evaluate_scores(
        frame(labels, scores, sources).query("label == 0"), real_threshold=0.2, generated_threshold=0.8
    )
    assert report["auc"] is None
    assert report["source_weighted"]["brier_score"] is None
    assert report["verdicts"]["generated"] is None


def test_evaluation_refuses_nothing_and_nan():
    labels, scores, sources = scored()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate_scores(frame(labels, scores, sources).head(0), real_threshold=0.2, generated_threshold=0.8)
    scores[0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        evaluate_scores(frame(labels, scores, sources), real_threshold=0.2, generated_threshold=0.8)
