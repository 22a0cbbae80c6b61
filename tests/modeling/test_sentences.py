"""The words of the answers: every language says the same things."""

import string

import pytest

from modeling.sentences import LANGUAGES, all_sentences, sentence


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_sentence_with_the_same_fields(language):
    english, other = all_sentences("en"), all_sentences(language)
    assert {topic: sorted(codes) for topic, codes in other.items()} == {
        topic: sorted(codes) for topic, codes in english.items()
    }
    for topic, codes in english.items():
        for code, text in codes.items():
            assert fields(other[topic][code]) == fields(text), f"{language}: {topic}.{code}"
            assert other[topic][code].strip()


def test_an_unknown_language_is_named():
    with pytest.raises(ValueError, match="must be one of en, es, zh, got 'xx'"):
        sentence("page", "title", "xx")
