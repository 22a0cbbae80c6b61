"""The shape of a picture (square, wide or tall), and weights under which shape does not tell the classes apart.

Generators make squares more often than cameras do. A fit that can use this learns it, and flags square photographs.
"""

from typing import overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modeling.verdicts import CLASSES

SHAPES = ("square", "wide", "tall")
# A picture is square up to this many percent of its short side.
SQUARE_PERCENT = 105


@overload
def shape_of(width: int, height: int) -> str: ...
@overload
def shape_of(width: ArrayLike, height: ArrayLike) -> NDArray[np.str_]: ...
def shape_of(width: ArrayLike, height: ArrayLike) -> str | NDArray[np.str_]:
    """Name of a picture's shape, or of each one's (N,): one of `SHAPES`, "" where the size is not known.

    Args:
        width: in pixels, one or (N,).
        height: as `width`.
    """
    wide, tall = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    known = np.isfinite(wide) & np.isfinite(tall)
    square = 100 * np.maximum(wide, tall) <= SQUARE_PERCENT * np.minimum(wide, tall)
    shapes = np.select([~known, square, wide > tall], ["", *SHAPES[:2]], SHAPES[2])
    return shapes if shapes.ndim else str(shapes)


def number_shapes(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Number of each row's shape in `SHAPES`, (N,).

    Args:
        rows: of a bank: width and height.

    Raises:
        ValueError: a size is not known.
    """
    shapes = shape_of(rows["width"], rows["height"])
    if unknown := int((shapes == "").sum()):
        raise ValueError(
            f"`balance_shapes` needs the width and height of every picture, {unknown} rows of the bank have none."
        )
    return np.select([shapes == name for name in SHAPES], range(len(SHAPES)))


def balance_by_shape(labels: ArrayLike, shapes: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Scale weights (N,) so that square, wide and tall rows have a third each of the weight of either class.

    Within a class and shape weights keep their proportions, and each class keeps its total. A shape that only one
    class has would give it away and gets no weight; the shapes of both classes share equally. Where no shape is one of
    both classes the weights stay as they are: nothing can be balanced.

    Args:
        labels: (N,) of 0 and 1.
        shapes: (N,) names or numbers.
        weights: (N,) above 0.
    """
    labels, shapes, weights = np.asarray(labels), np.asarray(shapes), np.asarray(weights, dtype=np.float64)
    common = _common(labels, shapes)
    if not common:
        return weights
    balanced = np.zeros(len(weights))
    for label in np.unique(labels):
        of_class = labels == label
        for shape in common:
            rows = of_class & (shapes == shape)
            balanced[rows] = weights[rows] * (weights[of_class].sum() / len(common) / weights[rows].sum())
    return balanced


def unbalanced(labels: ArrayLike, shapes: ArrayLike) -> str:
    """What `balance_by_shape` cannot do with these rows, in a sentence; "" where it gives a third to each shape.

    Args:
        labels: (N,) of 0 and 1.
        shapes: (N,) numbers in `SHAPES`.
    """
    labels, shapes = np.asarray(labels), np.asarray(shapes)
    common = _common(labels, shapes)
    if len(common) == len(SHAPES):
        return ""
    found = "; ".join(
        f"{name} {', '.join(SHAPES[shape] for shape in np.unique(shapes[labels == label]))}"
        for label, name in enumerate(CLASSES)
    )
    if not common:
        return f"No shape is one of both classes ({found}): `balance_shapes` does nothing, and shape tells them apart."
    left_out = sorted(set(shapes.tolist()) - set(common))
    weighed = f"{', '.join(SHAPES[shape] for shape in common)} weigh the same"
    ignored = f", and pictures of the others are not fitted on ({found})" if left_out else ""
    return f"Not every shape is one of both classes: with `balance_shapes` {weighed}{ignored}."


def _common(labels: NDArray, shapes: NDArray) -> list:
    """Shapes that every class has."""
    return sorted(set.intersection(*(set(shapes[labels == label].tolist()) for label in np.unique(labels))))


__all__ = ["SHAPES", "balance_by_shape", "number_shapes", "shape_of", "unbalanced"]
