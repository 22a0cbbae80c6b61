"""Verdicts and worst groups in words, the same in reports and cards."""

from modeling.verdicts import OPPOSITE, VERDICTS

from ..measure.schema import Families, Verdicts, Worst
from .markdown import cell, percent, share, share_and_interval

VERDICT_HEADER = ("pictures", "called real", "uncertain", "called generated")


def verdict_rows(verdicts: Verdicts, threshold: str = "") -> list[list[str]]:
    """A row for each class that has pictures: the share of each verdict.

    Args:
        verdicts: of an evaluation.
        threshold: said behind the class, where a table has verdicts at several.
    """
    return [
        [f"{name}, {threshold}" if threshold else name, *(percent(shares[verdict]) for verdict in VERDICTS)]
        for name, shares in verdicts.items()
        if shares is not None
    ]


NOT_CALIBRATED = (
    "Not calibrated: held-out scores do not rise from real to generated, so there are no thresholds and every verdict "
    "is uncertain."
)


def families_sentences(families: Families | None) -> list[str]:
    """How much of generators that no fit had seen is found, and of which least."""
    if families is None:
        return []
    worst, count = families["by_family"][0], len(families["by_family"])
    return [
        f"Found at {share(families['false_alarms'])} false alarms, mean of {count} families that no fit had seen: "
        f"{share(families['mean'])}; least of {cell(worst['family'])} ({worst['pictures']} pictures), "
        f"{share_and_interval(worst['found'], worst['interval'])}."
    ]


def worst_sentences(worst: Worst) -> list[str]:
    """A sentence for each of the worst groups that is known."""
    sentences = []
    if source := worst["real_source"]:
        flagged = share_and_interval(source["called_generated"], source["interval"])
        sentences.append(
            f"Worst real source: {cell(source['source'])} ({source['pictures']} pictures), {flagged} called generated."
        )
    if generator := worst["generator"]:
        found = share_and_interval(generator["called_generated"], generator["interval"])
        sentences.append(
            f"Worst generator: {cell(generator['generator']) or 'not named'} ({generator['pictures']} pictures), "
            f"{found} called generated, {share(generator['called_real'])} called real."
        )
    if style := worst["style"]:
        wrong = share_and_interval(style["wrong"], style["interval"])
        sentences.append(
            f"Worst style: {style['class']} pictures of style {cell(style['style']) or 'not known'} "
            f"({style['pictures']} pictures), {wrong} called {OPPOSITE[style['class']]}."
        )
    if group := worst["calibration"]:
        sentences.append(
            f"Worst calibrated: {group['class']} pictures of {group['kind']} {cell(group['name']) or 'not named'} "
            f"({group['pictures']} pictures), expected calibration error "
            f"{group['balanced_expected_calibration_error']:.3f} against all pictures of the other class."
        )
    return sentences


__all__ = ["NOT_CALIBRATED", "VERDICT_HEADER", "families_sentences", "verdict_rows", "worst_sentences"]
