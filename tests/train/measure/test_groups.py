"""Figures of sources, generators and styles against scikit-learn, counts by hand, and where there is none."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from modeling.verdicts import verdicts
from train.measure.groups import CALIBRATION_PICTURES, measure_groups, worst_groups
from train.measure.metrics import RANKING, expected_calibration_error, ranking, tpr_at_fpr


def pictures(seed=0, number=400):
    """Generators A (well found, three sources) and B (missed, one source), some real sources, two styles."""
    rng = np.random.default_rng(seed)
    label = np.arange(number) % 2
    generator = np.where(label == 1, np.where(np.arange(number) % 4 == 1, "A", "B"), "")
    source = [f"{name or 'real'}-{0 if name == 'B' else i // 4 % 3}" for i, name in enumerate(generator)]
    score = rng.normal(size=number) + 2.5 * (generator == "A") - 0.5
    rows = pd.DataFrame({"label": label, "generator": generator, "source": source, "score": score})
    rows["style"] = np.where(np.arange(number) % 3 == 0, "drawn", "photoreal")
    rows["probability"] = 1 / (1 + np.exp(-rows["score"]))
    return rows.assign(verdict=verdicts(rows["probability"], 0.3, 0.7))


def half_each(labels):
    return np.where(labels == 1, 1 / (labels == 1).sum(), 1 / (labels == 0).sum())


@pytest.mark.parametrize("kind", ["generator", "style", "source"])
def test_a_group_stands_against_all_pictures_of_the_other_class(kind):
    rows = pictures()
    for group in measure_groups(rows)[f"by_{kind}"]:
        label = int(group["class"] == "generated")
        own = rows[(rows[kind] == group[kind]) & (rows["label"] == label)]
        both = pd.concat([rows[rows["label"] != label], own])
        labels, scores = both["label"].to_numpy(), both["score"].to_numpy()
        flagged = (both["verdict"] == "generated").to_numpy()
        probability, weights = both["probability"].to_numpy(), half_each(labels)
        answered = own[own["verdict"] != "uncertain"]
        wrong = "real" if label else "generated"
        expected = {
            "auc": roc_auc_score(labels, scores),
            "balanced_average_precision": average_precision_score(labels, scores, sample_weight=weights),
            "tpr_at_1_percent_fpr": tpr_at_fpr(labels, scores, fpr=0.01),
            "tpr_at_5_percent_fpr": tpr_at_fpr(labels, scores, fpr=0.05),
            "equal_error_rate": dict(zip(RANKING, ranking(labels, scores), strict=True))["equal_error_rate"],
            "balanced_accuracy": (flagged[labels == 1].mean() + 1 - flagged[labels == 0].mean()) / 2,
            "brier_score": brier_score_loss(own["label"], own["probability"], pos_label=1),
            "balanced_expected_calibration_error": expected_calibration_error(labels, probability, weights),
            "answered": len(answered) / len(own),
            "wrong_of_answered": (answered["verdict"] == wrong).mean(),
        }
        found = {name: group[name] for name in expected}
        found = {name: value["value"] if isinstance(value, dict) else value for name, value in found.items()}
        assert found == pytest.approx(expected), group[kind]
        assert group["undefined"] is None
        for name in ("answered", "wrong_of_answered"):
            low, high = group[f"{name}_interval"]
            assert 0 <= low <= group[name] <= high <= 1


def test_intervals_are_over_sources_and_need_two_of_each_class():
    groups = {row["generator"]: row for row in measure_groups(pictures())["by_generator"]}
    for name in ("balanced_average_precision", "equal_error_rate", "balanced_accuracy"):
        figure = groups["A"][name]
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
        assert groups["B"][name]["interval"] is None
    assert groups["A"]["brier_score"]["interval"] is not None
    assert groups["B"]["brier_score"]["interval"] is None


def test_the_reliability_of_a_group_adds_up_to_its_calibration_error():
    for group in measure_groups(pictures())["by_generator"]:
        tenths = group["balanced_reliability"]
        error = sum(t["weight"] * abs(t["mean_probability"] - t["share_generated"]) for t in tenths)
        assert error == pytest.approx(group["balanced_expected_calibration_error"])
        assert sum(t["weight"] for t in tenths) == pytest.approx(1)


def test_a_group_without_the_other_class_says_what_it_lacks():
    rows = pictures().query("label == 1")
    groups = measure_groups(rows)
    for row in groups["by_source"] + groups["by_generator"] + groups["by_style"]:
        assert row["undefined"] == "no pictures of the other class"
        for name in ("auc", "balanced_average_precision", "balanced_expected_calibration_error"):
            assert row[name] is None
        assert row["balanced_accuracy"] is None
        assert row["brier_score"] is not None
    assert worst_groups(groups)["calibration"] is None


def test_a_group_of_few_pictures_has_no_ranking_but_its_auc():
    rows = pictures()
    rows = pd.concat([rows[rows["generator"] != "B"], rows[rows["generator"] == "B"].head(9)])
    groups = measure_groups(rows)
    small = [row for row in groups["by_generator"] if row["generator"] == "B"]
    small += [row for row in groups["by_source"] if row["source"] == "B-0"]
    assert len(small) == 2
    for row in small:
        assert row["undefined"] == "fewer than 10 pictures"
        assert row["auc"] is not None
        assert row["equal_error_rate"] is None
        assert row["balanced_expected_calibration_error"] is None
        assert row["balanced_accuracy"] is not None


def test_a_generator_of_few_pictures_has_a_bootstrap_of_its_own_pictures_alone():
    rows = pictures()
    rows = pd.concat([rows[rows["label"] == 0], rows[rows["generator"] == "A"].head(9)])
    (row,) = measure_groups(rows)["by_generator"]
    assert row["sources"] == 3
    assert row["auc"] == {"value": pytest.approx(roc_auc_score(rows["label"], rows["score"])), "interval": None}
    flagged = rows["verdict"] == "generated"
    right = (flagged[rows["label"] == 1].mean() + 1 - flagged[rows["label"] == 0].mean()) / 2
    assert row["balanced_accuracy"] == {"value": pytest.approx(right), "interval": None}
    assert row["brier_score"]["interval"] is not None
    low, high = row["called_generated_interval"]
    assert low < row["called_generated"] <= high


def test_a_group_that_is_never_answered_is_not_wrong():
    rows = pictures()
    never = rows["source"] == "B-0"
    rows = rows.assign(verdict=rows["verdict"].mask(never, "uncertain"))
    groups = measure_groups(rows)
    for row in (groups["by_generator"][1], next(row for row in groups["by_source"] if row["source"] == "B-0")):
        assert row["answered"] == 0
        assert row["wrong_of_answered"] is None
        assert row["wrong_of_answered_interval"] is None


def test_a_small_group_is_never_the_worst_calibrated():
    rows = pictures()
    tiny = rows["generator"].eq("B") & (rows.groupby("generator").cumcount() < 20)
    rows.loc[tiny, ["generator", "source", "probability", "style"]] = ["C", "C-0", 0.001, "tiny"]
    groups = measure_groups(rows)
    errors = {row["generator"]: row["balanced_expected_calibration_error"] for row in groups["by_generator"]}
    assert errors["C"] == max(errors.values())
    worst = worst_groups(groups)["calibration"]
    assert worst["pictures"] >= CALIBRATION_PICTURES
    assert worst["name"] != "C"
    ranked = [row for kind in ("generator", "style", "source") for row in groups[f"by_{kind}"]]
    largest = max(row["balanced_expected_calibration_error"] for row in ranked if row["pictures"] >= 100)
    assert worst["balanced_expected_calibration_error"] == largest


@pytest.mark.parametrize(("number", "expected"), [(10, 0.13), (100, 0.04)])
def test_the_calibration_error_of_a_few_true_probabilities_is_what_the_report_says(number, expected):
    """As said for `CALIBRATION_PICTURES`: probabilities as the default head's held-out ones, and all of them true."""
    rng = np.random.default_rng(0)
    shares = [0.223, 0.107, 0.076, 0.052, 0.064, 0.035, 0.041, 0.055, 0.097, 0.25]  # of the tenths

    def draw(label, count):
        said = np.clip((rng.choice(10, size=20 * count, p=shares) + rng.random(20 * count)) / 10, 0.001, 0.999)
        return said[(rng.random(20 * count) < said) == label][:count]

    real, errors = draw(0, 1657), []
    for _ in range(100):
        said = np.concatenate([draw(1, number), real])
        labels = np.repeat([1, 0], [number, len(real)])
        errors.append(expected_calibration_error(labels, said, half_each(labels)))
    assert np.mean(errors) == pytest.approx(expected, rel=0.2)
