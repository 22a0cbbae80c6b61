"""Which language a visitor reads."""

from types import SimpleNamespace

import pytest

from modeling.sentences import LANGUAGES
from space.language import interface_texts, language_of


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("es-MX,es;q=0.9,en;q=0.8", "es"),
        ("zh-CN", "zh"),
        ("fr-FR,zh;q=0.5,es;q=0.7", "es"),
        ("fr", "en"),
        ("", "en"),
        ("es;q=no,zh;q=0.1", "zh"),
        ("*;q=0.5", "en"),
    ],
)
def test_the_browsers_preference_is_followed(header, language):
    assert language_of(SimpleNamespace(headers={"accept-language": header})) == language


def test_programs_read_english():
    assert language_of(None) == "en"


def test_every_language_has_every_fixed_label(detector):
    tables = interface_texts(detector).translations_dict
    assert set(LANGUAGES) <= set(tables)
    assert tables["zh-CN"] == tables["zh"]
    assert all(table.keys() == tables["en"].keys() for table in tables.values())
