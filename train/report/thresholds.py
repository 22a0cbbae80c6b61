"""The thresholds in words: the rules that chose them, what they leave open, and what an answer is worth."""

from modeling.verdicts import CLASSES, GENERATED, REAL, UNCERTAIN

from ..measure.rules import KIND_PICTURES, KIND_SHARE, SOURCE_PICTURES, SOURCE_SHARE
from ..measure.schema import Answer, ByClass, FitFacts, ThresholdRule, Verdicts
from .markdown import UNDEFINED, cell, interval, share, table

_THIRDS = {1: "lowest", 2: "middle", 3: "highest"}


def uncertain_sentence(verdicts: Verdicts, pictures: ByClass[int], thresholds: str) -> str:
    """How many pictures of each class are left without an answer.

    Args:
        verdicts: of an evaluation.
        pictures: of it.
        thresholds: which ones, as "at the shipped thresholds".
    """
    parts = []
    for name in CLASSES:
        if (shares := verdicts[name]) is not None:
            value = shares[UNCERTAIN]["value"]
            parts.append(f"{round(value * pictures[name]):,} of {pictures[name]:,} {name} pictures ({share(value)})")
    return f"Uncertain {thresholds}: {' and '.join(parts)}."


def rules_text(fit: FitFacts, pictures: ByClass[int]) -> str:
    """How the thresholds were chosen: the rules, what each has, and which of them decided; "" without thresholds."""
    if fit["calibration"] is None:
        return ""
    fpr, fnr = share(fit["targets"]["fpr"]), share(fit["targets"]["fnr"])
    if (rules := fit["rules"]) is None:
        return (
            f"The thresholds aim at {fpr} of real pictures called generated and {fnr} of generated ones called real."
        )
    text = (
        'The threshold of "generated" is the lowest that keeps three rules on held-out real pictures: at most '
        f"{fpr} of all are flagged; of the sources with {SOURCE_PICTURES} or more, at most {share(SOURCE_SHARE)} have "
        f"more than one flagged; for no kind with {KIND_PICTURES} or more lies the 95 % interval of the flagged share "
        f"(Wilson's, over pictures) wholly above {share(KIND_SHARE)}. {decided_sentence(rules)} At or below the "
        f'threshold of "real" lie at most {fnr} of the {pictures[GENERATED]:,} held-out generated pictures.'
    )
    header = ("rule", "bounds", "may be", "are", "asks for a probability above")
    rows = [(_rule_name(rule), *_rule_figures(rule)) for rule in rules]
    return f"{text}\n\n{table(header, rows)}"


def decided_sentence(rules: list[ThresholdRule]) -> str:
    """Which rule asked for the highest threshold."""
    decided = next(rule for rule in rules if rule["decided"])
    if decided["rule"] == "kinds":
        return f"The rule on kinds decided: {cell(decided['kind'])}."
    return f"The rule on {'all real pictures' if decided['rule'] == 'pictures' else 'sources'} decided."


def _rule_name(rule: ThresholdRule) -> str:
    if rule["rule"] == "pictures":
        return "real pictures flagged"
    if rule["rule"] == "sources":
        return "real sources with more than one flagged"
    return f"flagged of the tightest kind, {rule['kind']}" if rule["kind"] else "flagged of a kind"


def _rule_figures(rule: ThresholdRule) -> tuple[str, ...]:
    if rule["above"] is None:
        what = f"source has {SOURCE_PICTURES}" if rule["rule"] == "sources" else f"kind has {KIND_PICTURES}"
        return (f"nothing: no {what} real pictures", "", "", "")
    bounds = "" if rule["rule"] != "kinds" else f" ({rule['bounds']} kind{'s' if rule['bounds'] > 1 else ''})"
    of = "sources" if rule["rule"] == "sources" else "pictures"
    return f"{rule['of']:,} {of}{bounds}", f"{rule['allowed']:,}", f"{rule['reached']:,}", f"{rule['above']:.3f}"


def answers_table(answers: list[Answer]) -> str:
    """For each answer, how many in 100 were photographs if half of all are, and how many pictures say so."""
    rows = []
    for answer in answers:
        third = answer["third"]
        name = f"{answer['verdict']}, {_THIRDS[third]} third of the band" if third else answer["verdict"]
        figure = answer["photographs"]
        in_100 = UNDEFINED
        if figure is not None:
            in_100 = f"{100 * figure['value']:.1f} {interval(figure['interval'], percent=True)}"
        rows.append((name, in_100, *(f"{answer['pictures'][label]:,}" for label in CLASSES)))
    return table(("answer", "real in 100", *(f"{name} pictures" for name in (REAL, GENERATED))), rows)


__all__ = ["answers_table", "decided_sentence", "rules_text", "uncertain_sentence"]
