"""Texts for CSV that no spreadsheet runs as a formula: names of files and what they say come from strangers."""

import re
from typing import Any

# Where a cell begins: also after what some spreadsheets take for its end, whatever quotes say. Full-width signs are
# the same to a spreadsheet of East Asia; white space and characters without width before a sign do not disarm it.
_BEGINNING = re.compile(
    r"(^|[;\t\r\n])(?=[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    r"\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}\N{SMALL EQUALS SIGN}\N{SMALL PLUS SIGN}"
    r"\N{SMALL HYPHEN-MINUS}\N{SMALL COMMERCIAL AT}])|^(?=[\t\r])"
)


def unlike_formula(value: Any) -> Any:
    """The value; a text with an apostrophe wherever a spreadsheet would begin to compute."""
    return _BEGINNING.sub(r"\1'", value) if isinstance(value, str) else value


__all__ = ["unlike_formula"]
