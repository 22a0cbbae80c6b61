"""One thing that a file says about where its picture comes from, in a form that is safe to show.

What stands in a file was written by whoever made it, so it is cut, cleaned and shown as a quotation, never obeyed.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

from ..sentences import sentence

PointsTo = Literal["generated", "camera", "edited", "nothing"]
Strength = Literal["strong", "moderate", "weak"]
MAX_SHOWN = 80
# Characters with a meaning in HTML or Markdown: a name needs none of them, a forged link does.
_MARKUP = str.maketrans(dict.fromkeys("<>[]{}`|\\", " "))


@dataclass(frozen=True)
class Evidence:
    """One finding.

    Attributes:
        code: the sentence's code in the topic "provenance".
        values: the sentence's fields, already cleaned by `clean`.
        points_to: "generated", "camera", "edited" or "nothing".
        strength: "strong" only for a valid signature of an issuer on a trust list; "moderate" for what is easily
            forged but seldom is; "weak" otherwise.
    """

    code: str
    values: dict[str, str] = field(default_factory=dict)
    points_to: PointsTo = "nothing"
    strength: Strength = "weak"

    @property
    def short(self) -> str:
        """The finding in a table's cell: its code and what it names, such as "generator (ComfyUI)"."""
        return f"{self.code} ({', '.join(self.values.values())})" if self.values else self.code

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without words."""
        return {
            "code": self.code,
            "values": dict(self.values),
            "points_to": self.points_to,
            "strength": self.strength,
        }

    def sentence(self, language: str = "en") -> str:
        """The finding in words, in one of `modeling.sentences.LANGUAGES`."""
        return sentence("provenance", self.code, language, **self.values)


def clean(text: object, limit: int = MAX_SHOWN) -> str:
    """A string from a file made safe to show: one line, no control, direction or markup characters, short.

    Args:
        text: anything; what is no string gives "".
        limit: the longest result in characters; what is longer ends in an ellipsis.
    """
    if not isinstance(text, str):
        return ""
    # Ten times the limit leaves enough to find the limit's worth of characters in, and bounds the work.
    kept = "".join(
        " " if character.isspace() else character
        for character in text[: limit * 10].translate(_MARKUP)
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


__all__ = ["MAX_SHOWN", "Evidence", "PointsTo", "Strength", "clean"]
