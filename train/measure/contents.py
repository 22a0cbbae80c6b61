"""What is true of pictures by what they show and how they were made: family, kind, shape, and newer photographs."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd

from modeling.verdicts import CLASSES, GENERATED, REAL, VERDICTS

from .bootstrap import share_with_interval
from .groups import SHARE_OF
from .metrics import roc_auc
from .schema import ContentGroup, Contents
from .shapes import SHAPES, shape_of

# Real pictures of this month or later are younger than the first generators of photographs that anybody could use, and
# photographs of today's telephones rather than of earlier cameras.
NEWER = "2022-07"


def measure_contents(rows: pd.DataFrame) -> Contents:
    """Rows by family of generators, kind of content and shape, and of newer photographs.

    Args:
        rows: one row a picture: label, source, generator, score, verdict; and where the data has them family, kind,
            kind_by, date, width and height.

    Returns:
        The largest group first, shapes in their order. A list is empty where nothing of it is known: families also
        where they are no more than the generators' names.
    """
    nothing: dict[str, Any] = {"family": "", "kind": "", "kind_by": "", "date": "", "width": np.nan, "height": np.nan}
    rows = rows.assign(**{name: value for name, value in nothing.items() if name not in rows})
    rows = rows.assign(shape=shape_of(rows["width"], rows["height"]))
    generated = rows[rows["label"] == 1]
    has_families = (generated["family"] != "").any() and (generated["family"] != generated["generator"]).any()
    newer = rows[(rows["label"] == 0) & (rows["date"] >= NEWER)]
    shapes = _groups(rows[rows["shape"] != ""], "shape", rows)
    return {
        "by_family": _groups(generated, "family", rows) if has_families else [],
        "by_kind": _groups(rows, "kind", rows) if (rows["kind"] != "").any() else [],
        "by_shape": sorted(shapes, key=lambda row: (CLASSES.index(row["class"]), SHAPES.index(row["name"]))),
        "newer_telephones": None if newer.empty else _row(f"{NEWER} or later", newer, rows),
    }


def _groups(pictures: pd.DataFrame, column: str, rows: pd.DataFrame) -> list[ContentGroup]:
    groups: Iterable[tuple[tuple, pd.DataFrame]] = pictures.groupby([column, "label"], sort=False)
    found = [_row(str(name), group, rows) for (name, _), group in groups]
    return sorted(found, key=lambda row: (CLASSES.index(row["class"]), -row["pictures"], row["name"]))


def _row(name: str, group: pd.DataFrame, rows: pd.DataFrame) -> ContentGroup:
    """Figures of one class's pictures; the AUC is against all pictures of the other class."""
    label = int(group["label"].iloc[0])
    both = pd.concat([rows[rows["label"] != label], group])
    auc = roc_auc(both["label"], both["score"])
    shares = {verdict: share_with_interval(group, group["verdict"] == verdict) for verdict in VERDICTS}
    row = {
        "name": name,
        "class": CLASSES[label],
        "pictures": len(group),
        "sources": int(group["source"].nunique()),
        "kinds_predicted": int((group["kind_by"] == "predicted").sum()),
        **{SHARE_OF[verdict]: share for verdict, (share, _) in shares.items()},
        "called_real_interval": shares[REAL][1],
        "called_generated_interval": shares[GENERATED][1],
        "auc": None if np.isnan(auc) else auc,
    }
    return cast(ContentGroup, row)


__all__ = ["NEWER", "measure_contents"]
