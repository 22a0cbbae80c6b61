"""The study of text pages: a planted line is found in sources that were held out, and pages are drawn as told."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import page_ways  # noqa: E402
import rendered_pages  # noqa: E402
import text_pages  # noqa: E402


def planted(strength):
    """Of 60 sources ten are pages, which lie `strength` beside the others; a fifth of the others are generated."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(60), 8)
    what = np.where(source < 10, "page", "other")
    rows = pd.DataFrame(
        {
            "record_id": [f"p{number}" for number in range(len(source))],
            "source": source.astype(str),
            "what": what,
            "label": np.where(source >= 50, 1, 0),
            "view": 0,
            "way": "as in the set",
        }
    )
    embeds = rng.normal(size=(len(source), 16))
    embeds[:, 0] += strength * (what == "page")
    return rows, embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def test_pages_of_sources_that_were_held_out_are_found_where_a_line_parts_them():
    rows, embeds = planted(12)
    flagged, pages = text_pages.held_out(rows, embeds), (rows["what"] == "page").to_numpy()
    assert flagged[pages].mean() > 0.95
    assert flagged[~pages].mean() < 0.02


def test_few_others_are_called_pages_where_no_line_parts_them():
    rows, embeds = planted(0)
    flagged = text_pages.held_out(rows, embeds)
    assert flagged[rows["what"] == "other"].mean() < 0.05


def test_generated_pictures_and_those_for_judgement_alone_move_nothing():
    rows, embeds = planted(2)
    rows.loc[rows.index[::7], "view"] = -1
    weights, threshold = text_pages.fit(embeds, rows)
    rng = np.random.default_rng(1)
    unused = ((rows["label"] == 1) | (rows["view"] < 0)).to_numpy()
    embeds[unused] = rng.normal(size=(unused.sum(), 16))
    again, same = text_pages.fit(embeds, rows)
    assert np.array_equal(weights, again)
    assert threshold == same


@pytest.mark.parametrize("kind", ["page of columns", "form", "surface chart"])
def test_a_kind_is_drawn_the_same_again_and_photographed(kind):
    make = rendered_pages.KINDS[kind]
    first, second = (make(np.random.default_rng(3)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    shot = page_ways.photographed(first, np.random.default_rng(0))
    assert shot.mode == "RGB"
    assert max(shot.size) <= 900 * 1.4


def test_a_perspective_takes_every_corner_where_it_came_from():
    seen, wanted = [(10, 5), (0, 90), (80, 100), (95, 0)], [(0, 0), (0, 100), (100, 100), (100, 0)]
    a, b, c, d, e, f, g, h = page_ways.perspective(seen, wanted)
    for (x, y), corner in zip(seen, wanted, strict=True):
        below = g * x + h * y + 1
        assert ((a * x + b * y + c) / below, (d * x + e * y + f) / below) == pytest.approx(corner, abs=1e-6)
