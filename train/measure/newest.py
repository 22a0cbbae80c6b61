"""How new the generated pictures of a data set are: what a release can know."""

import pandas as pd

from .schema import Newest


def newest_generated(rows: pd.DataFrame) -> Newest | None:
    """The date of the newest generated picture, and the family of generators that came last; `None` without dates.

    Args:
        rows: one row a picture: label, date (ISO, or its beginning; "" where unknown), family.
    """
    dated = rows[(rows["label"] == 1) & (rows["date"] != "")]
    if dated.empty:
        return None
    first = dated[dated["family"] != ""].groupby("family")["date"].min().sort_values(kind="stable")
    return {
        "date": dated["date"].max(),
        "family": None if first.empty else first.index[-1],
        "family_since": None if first.empty else first.iloc[-1],
    }


__all__ = ["newest_generated"]
