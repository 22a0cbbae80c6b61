"""Figures and tables as Markdown, the same in reports and cards."""

import re
from collections.abc import Iterable, Sequence

from ..measure.schema import Figure

UNDEFINED = "not defined here"
_FIGURE = r"[-+.,\d %]*(\[[-.,\d ]+\])?"


def number(figure: Figure | None) -> str:
    """A figure with three digits and its interval, or why there is none."""
    return UNDEFINED if figure is None else f"{figure['value']:.3f} {interval(figure['interval'])}"


def percent(figure: Figure | None) -> str:
    """A share in percent with one digit and its interval, or why there is none."""
    return UNDEFINED if figure is None else f"{share(figure['value'])} {interval(figure['interval'], percent=True)}"


def share(value: float | None) -> str:
    """A share in percent with one digit."""
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def share_and_interval(value: float | None, ends: Sequence[float] | None) -> str:
    """A share in percent with its interval, or why there is none."""
    return UNDEFINED if value is None else f"{share(value)} {interval(ends, percent=True)}"


def interval(ends: Sequence[float] | None, *, percent: bool = False) -> str:
    """[low, high], or that there is none."""
    if not ends:
        return "(no interval)"
    factor, digits = (100, 1) if percent else (1, 3)
    return f"[{', '.join(f'{factor * end:.{digits}f}' for end in ends)}]"


def cell(name: object) -> str:
    """A name from the data as plain text: it can neither end a table's cell nor be read as markup."""
    return re.sub(r"([\\`*_|<>\[\]~#&])", r"\\\1", " ".join(str(name).split()))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain text; the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *([_plain(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: object) -> str:
    """Intervals, also several after semicolons, keep their brackets: nothing follows them that would make a link."""
    text = str(value)
    return text if re.fullmatch(f"{_FIGURE}(; {_FIGURE})*", text) else cell(text)


__all__ = ["UNDEFINED", "cell", "interval", "number", "percent", "share", "share_and_interval", "table"]
