"""Every sentence that an answer can contain, by code, in each language of the page.

What the modules of this folder find is a code with values ("too_small", {"width": 90}); the words are in
languages/LANGUAGE.json, by topic. English is complete by definition; a test holds the others to it.
"""

import json
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "languages"
LANGUAGES = ("en", "es", "zh")


@cache
def all_sentences(language: str = "en") -> dict[str, dict[str, str]]:
    """Topic to code to sentence, a format string.

    Raises:
        ValueError: a language that is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}.")
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def sentence(topic: str, code: str, language: str = "en", **values: object) -> str:
    """The words for one code.

    Args:
        topic: a key of the language's file, such as "provenance".
        code: a key of the topic.
        language: one of `LANGUAGES`.
        **values: what the sentence's fields stand for.

    Raises:
        KeyError: an unknown topic or code, or a missing value.
        ValueError: an unknown language.
    """
    return all_sentences(language)[topic][code].format(**values)


__all__ = ["LANGUAGES", "all_sentences", "sentence"]
