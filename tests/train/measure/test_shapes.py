"""Shapes of pictures, and the weights under which each class has the same share of every one."""

import numpy as np
import pandas as pd
import pytest

from train.measure.shapes import balance_by_shape, number_shapes, shape_of, unbalanced


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [
        (512, 512, "square"),
        (525, 500, "square"),
        (500, 525, "square"),
        (526, 500, "wide"),
        (500, 526, "tall"),
        (1920, 1080, "wide"),
        (3, 4, "tall"),
    ],
)
def test_a_square_may_be_five_percent_longer_one_way(width, height, shape):
    assert shape_of(width, height) == shape
    assert shape_of([width, 7], [height, 7]).tolist() == [shape, "square"]


def test_a_size_that_is_not_known_has_no_shape():
    assert shape_of([None, 4.0, np.nan], [3, np.nan, 3]).tolist() == ["", "", ""]
    rows = pd.DataFrame({"width": [5, None], "height": [9, 9]})
    with pytest.raises(ValueError, match="needs the width and height of every picture, 1 rows of the bank have none"):
        number_shapes(rows)
    assert number_shapes(rows.head(1)).tolist() == [2]


def test_each_shape_gets_a_third_of_either_class():
    # Real: one square, two wide, three tall. Generated: four square, one wide, one tall.
    labels, shapes = [0] * 6 + [1] * 6, list("swwttt") + list("sssswt")
    weights = [1, 1, 1, 1, 1, 2] + [1] * 6
    found = balance_by_shape(labels, shapes, weights)
    assert found[:6] == pytest.approx([7 / 3, 7 / 6, 7 / 6, 7 / 12, 7 / 12, 7 / 6])  # a third of 7, by weight within
    assert found[6:] == pytest.approx([0.5] * 4 + [2, 2])


def test_a_shape_of_one_class_has_no_weight_and_the_common_ones_share():
    labels, shapes = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 0, 1]
    assert balance_by_shape(labels, shapes, np.ones(6)).tolist() == [1.5, 1.5, 0, 0.75, 0.75, 1.5]
    assert unbalanced(labels, shapes) == (
        "Not every shape is one of both classes: with `balance_shapes` square, wide weigh the same, and pictures of "
        "the others are not fitted on (real square, wide, tall; generated square, wide)."
    )


def test_classes_without_a_common_shape_keep_their_weights():
    labels, shapes = [0, 0, 1], [1, 2, 0]
    assert balance_by_shape(labels, shapes, [1, 2, 3]).tolist() == [1, 2, 3]
    assert unbalanced(labels, shapes) == (
        "No shape is one of both classes (real wide, tall; generated square): `balance_shapes` does nothing, and "
        "shape tells them apart."
    )


def test_nothing_is_said_where_every_shape_is_one_of_both_classes():
    assert unbalanced([0, 0, 0, 1, 1, 1], [0, 1, 2, 2, 1, 0]) == ""
