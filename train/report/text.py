"""The part of a report about texts: what they give away, and verdicts with and without one."""

from modeling.verdicts import GENERATED, REAL

from ..measure.schema import Evaluation, InputFigures, TextFigures
from .markdown import cell, number, share, table
from .verdicts import VERDICT_HEADER, verdict_rows

TITLE = "## Text"


def text_section(evaluation: Evaluation) -> str:
    """Shares with a text, AUC by what is seen, and each input by its own thresholds."""
    if (text := evaluation["text"]) is None:
        return f"{TITLE}\n\nThe detector reads no text, or the pictures have none."
    shares = {name: "-" if value is None else share(value) for name, value in text["pictures_with_text"].items()}
    return "\n\n".join(
        [
            TITLE,
            f"{shares[REAL]} of real and {shares[GENERATED]} of generated pictures have a text. Where a classifier of "
            "the texts alone, or having one at all, tells the classes apart, text gives the label away.",
            table(("what is seen", "ROC AUC"), [(name, number(auc)) for name, auc in text["auc"].items()]),
            by_input(text),
        ]
    )


def by_input(text: TextFigures) -> str:
    """Thresholds and verdicts of pictures with a text and without one."""
    rows = []
    for figures in _inputs(text):
        rows += verdict_rows(figures["verdicts"], f"{figures['on']}, shipped thresholds")
        if figures["verdicts_of_other_folds"] is not None:
            rows += verdict_rows(figures["verdicts_of_other_folds"], f"{figures['on']}, thresholds of the other folds")
    sentences = "\n".join(f"- {_sentence(figures)}" for figures in _inputs(text))
    return f"{sentences}\n\n{table(VERDICT_HEADER, rows)}"


def input_lines(text: TextFigures) -> list[str]:
    """The same for a console, a line an input: by thresholds of the other folds, where there are folds."""
    lines = []
    for figures in _inputs(text):
        verdicts = figures["verdicts_of_other_folds"] or figures["verdicts"]
        called = [
            f"{name} pictures called generated {100 * shares[GENERATED]['value']:.1f} %"
            for name, shares in verdicts.items()
            if shares is not None
        ]
        lines.append(f"{figures['on']}: ROC AUC {number(figures['auc'])}, {', '.join(called)}")
    return lines


def _inputs(text: TextFigures) -> list[InputFigures]:
    return [figures for figures in (text["with_text"], text["without_text"]) if any(figures["pictures"].values())]


def _sentence(figures: InputFigures) -> str:
    pictures, thresholds = figures["pictures"], figures["thresholds"]
    return (
        f"{cell(figures['on'])}: {pictures[REAL]:,} real and {pictures[GENERATED]:,} generated, ROC AUC "
        f'{number(figures["auc"])}; "generated" from probability {thresholds[GENERATED]:.3f}, "real" up to '
        f"{thresholds[REAL]:.3f}."
    )


__all__ = ["by_input", "input_lines", "text_section"]
