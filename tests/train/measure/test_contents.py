"""Rows by family, kind, shape and date against counts by hand, and no rows where the data says nothing."""

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from train.measure.contents import measure_contents

R, U, G = "real", "uncertain", "generated"
NAMES = ("label", "source", "generator", "family", "kind", "kind_by", "date", "width", "height", "score", "verdict")
ROWS = pd.DataFrame(
    [
        (0, "a", "", "", "people", "seen", "2021", 8, 8, -1.0, R),
        (0, "a", "", "", "people", "predicted", "2022-06", 9, 8, 0.5, U),
        (0, "b", "", "", "food", "style", "2022-07", 8, 9, 2.0, G),
        (0, "b", "", "", "people", "predicted", "2024-01-31", 8, 9, -2.0, R),
        (0, "b", "", "", "", "", "2022", 8, 9, -3.0, R),
        (1, "c", "SD 1.5", "SD 1", "people", "predicted", "2024-12", 8, 8, 3.0, G),
        (1, "c", "SD 1.4", "SD 1", "people", "seen", "", 8, 8, -1.5, R),
        (1, "d", "Flux", "FLUX.1", "food", "seen", "", 8, 8, 1.0, G),
    ],
    columns=NAMES,
)
COLUMNS = ("class", "name", "pictures", "sources", "kinds_predicted", "called_real", "uncertain", "called_generated")


def found(rows):
    return [tuple(row[name] for name in COLUMNS) for row in rows]


def test_rows_are_counted_by_family_kind_and_shape():
    contents = measure_contents(ROWS)
    assert found(contents["by_family"]) == [(G, "SD 1", 2, 1, 1, 0.5, 0, 0.5), (G, "FLUX.1", 1, 1, 0, 0, 0, 1)]
    third = pytest.approx(1 / 3)
    assert found(contents["by_kind"]) == [
        (R, "people", 3, 2, 2, pytest.approx(2 / 3), third, 0),
        (R, "", 1, 1, 0, 1, 0, 0),
        (R, "food", 1, 1, 0, 0, 0, 1),
        (G, "people", 2, 1, 1, 0.5, 0, 0.5),
        (G, "food", 1, 1, 0, 0, 0, 1),
    ]
    assert found(contents["by_shape"]) == [
        (R, "square", 1, 1, 0, 1, 0, 0),
        (R, "wide", 1, 1, 1, 0, 1, 0),
        (R, "tall", 3, 1, 1, pytest.approx(2 / 3), 0, third),
        (G, "square", 3, 2, 1, third, 0, pytest.approx(2 / 3)),
    ]


def test_newer_photographs_are_real_and_dated_in_or_after_july_2022():
    newer = measure_contents(ROWS)["newer_telephones"]
    assert found([newer]) == [(R, "2022-07 or later", 2, 1, 1, 0.5, 0, 0.5)]
    labels, scores = [0, 0, 1, 1, 1], [2.0, -2.0, 3.0, -1.5, 1.0]
    assert newer["auc"] == pytest.approx(roc_auc_score(labels, scores))
    low, high = newer["called_generated_interval"]
    assert low < 0.5 < high


def test_what_the_data_does_not_say_has_no_rows():
    bare = ROWS.drop(columns=["family", "kind", "kind_by", "date", "width", "height"])
    nothing = {"by_family": [], "by_kind": [], "by_shape": [], "newer_telephones": None}
    assert measure_contents(bare) == nothing
    # Where the data has no families a record's is the generator's name: those have rows of their own already.
    assert measure_contents(bare.assign(family=bare["generator"], kind="", date="", width=None, height=4)) == nothing


def test_one_class_alone_has_shares_and_no_auc():
    contents = measure_contents(ROWS[ROWS["label"] == 1])
    assert [row["auc"] for row in contents["by_family"]] == [None, None]
    assert contents["newer_telephones"] is None
