"""The newest generated pictures, by hand."""

import pandas as pd

from train.measure.newest import newest_generated


def rows(*lines):
    return pd.DataFrame(lines, columns=["label", "family", "date"])


def test_the_newest_family_is_the_one_whose_first_picture_is_last():
    pictures = rows((1, "old", "2022-09"), (1, "old", "2026-08"), (1, "new", "2025-11-02"), (0, "", "2026-09"))
    assert newest_generated(pictures) == {"date": "2026-08", "family": "new", "family_since": "2025-11-02"}


def test_what_has_no_date_or_no_family_says_nothing():
    assert newest_generated(rows((1, "old", ""), (0, "", "2026-09"))) is None
    assert newest_generated(rows((1, "", "2024-01"))) == {"date": "2024-01", "family": None, "family_since": None}
