"""No text that a stranger wrote is a formula in a table that we write."""

import csv
import io

import pytest

from modeling.spreadsheets import unlike_formula
from train.report.tables import csv_text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-2", "'-2"),
        ("\t=1", "'\t'=1"),
        ("\rx", "'\rx"),
        (";=1+1", ";'=1+1"),
        ("a;=1+1;b; +2", "a;'=1+1;b;' +2"),
        ("a\n=1", "a\n'=1"),
        ("\uff1d1+1", "'\uff1d1+1"),  # full width
        ("\uff20x", "'\uff20x"),
        ("a;\ufe66", "a;'\ufe66"),  # small
        ("  =1", "'  =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\u200b=1", "'\u200b=1"),
        ("a=1+1.png", "a=1+1.png"),
        ("IMG-2024; final.jpg", "IMG-2024; final.jpg"),
        ("照片 - 2.jpg", "照片 - 2.jpg"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_run_is_a_text(text, written):
    assert unlike_formula(text) == written


def test_numbers_stay_numbers():
    assert [unlike_formula(value) for value in (-1.5, None, True)] == [-1.5, None, True]


def test_the_tables_of_a_report_are_guarded_too():
    rows = list(csv.reader(io.StringIO(csv_text(["record_id", "score"], [("=1+1", -2.0), (";=1", 1.0)]))))
    assert rows == [["record_id", "score"], ["'=1+1", "-2.0"], [";'=1", "1.0"]]
