"""The words and values of the tab for many pictures."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest

from modeling.detector import Detection
from modeling.sentences import LANGUAGES, sentence
from space.batch import Row
from space.batch_view import COLUMNS, downloads, labels, progress_bar, table_value

ENGLISH = partial(sentence, "batch")
ROW = Row("<b>x</b>.jpg", Detection(verdict="generated", probability=0.98765, width=30, height=40), b"jpeg")


def test_what_a_list_is_worth_comes_with_the_checkpoints_rate(detector):
    words = labels(detector)["caution"]
    rate = 100 * detector.model.config.operating_point["false_positive_rate"]["value"]
    assert f"called about {rate:.0f} of 100 real pictures generated" in words
    assert "no evidence against anyone" in words


def test_without_a_measured_rate_none_is_claimed(detector, monkeypatch):
    monkeypatch.setattr(detector.model.config, "operating_point", None)
    words = labels(detector)["caution"]
    assert "of 100 real" not in words
    assert "false alarms" in words


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_limits_are_said_in_every_language(detector, language):
    words = labels(detector, language)["limits"]
    assert all(number in words for number in ("1000", "50 MB", "1024 MB", "8", "20"))


def test_only_the_thumbnail_is_html():
    line = dict(zip(COLUMNS, table_value([ROW], ENGLISH)["data"][0], strict=True))
    assert line["picture"].startswith('<img src="data:image/jpeg;base64,anBlZw=="')
    assert line["name"] == "<b>x</b>.jpg"
    assert line["probability"] == 98.8
    assert line["size"] == "30 × 40"


def test_an_unreadable_file_has_its_reason_and_no_number():
    row = Row("a.txt", Detection(error="This file is empty."))
    line = dict(zip(COLUMNS, table_value([row], ENGLISH)["data"][0], strict=True))
    assert line == {
        "picture": "",
        "outcome": "Could not be read",
        "probability": None,
        "name": "a.txt",
        "size": "",
        "note": "This file is empty.",
    }


@pytest.mark.parametrize(("done", "total", "words"), [(37, 200, "37 of 200"), (0, 0, "Reading the files")])
def test_the_bar_says_how_far_it_is(done, total, words):
    assert words in progress_bar(done, total, ENGLISH)


def test_downloads_hold_all_rows(tmp_path):
    table, objects = downloads([ROW, dataclasses.replace(ROW, name="é.jpg")], str(tmp_path))
    assert Path(table).read_bytes().startswith(b"\xef\xbb\xbf")  # the mark by which spreadsheets know UTF-8
    assert [row["name"] for row in json.loads(Path(objects).read_text(encoding="utf-8"))] == ["<b>x</b>.jpg", "é.jpg"]
