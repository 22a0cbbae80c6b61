"""The main figures of an evaluation in a few lines, as a command prints them."""

from modeling.verdicts import VERDICTS

from ..measure.schema import Evaluation
from .audit import duplicates_warnings
from .limits import limits_sentences
from .markdown import number, percent
from .nested import nested_lines
from .text import input_lines
from .thresholds import decided_sentence
from .verdicts import NOT_CALIBRATED, families_sentences


def summary(evaluation: Evaluation) -> str:
    """What the data cannot support, then a line a figure, with its 95 % interval."""
    text = evaluation["text"]
    lines = limits_sentences(evaluation)
    lines += [text["warning"]] if text is not None and text["warning"] else []
    lines += [
        *duplicates_warnings(evaluation["bias_audit"]),
        *([NOT_CALIBRATED] if evaluation["fit"] and evaluation["fit"]["calibration"] is None else []),
        *nested_lines(evaluation),
        f"ROC AUC: {number(evaluation['auc'])}",
        f"ROC AUC, source-weighted: {number(evaluation['source_weighted']['auc'])}",
        f"TPR at 1 % FPR, threshold chosen in-sample: {percent(evaluation['tpr_at_1_percent_fpr'])}",
        f"TPR at 5 % FPR, threshold chosen in-sample: {percent(evaluation['tpr_at_5_percent_fpr'])}",
    ]
    for name, shares in evaluation["verdicts"].items():
        if shares is not None:
            called = ", ".join(f"{verdict} {100 * shares[verdict]['value']:.1f} %" for verdict in VERDICTS)
            lines.append(f"{name} pictures called {called}")
    lines += input_lines(text) if text is not None else []
    if evaluation["fit"] is not None:
        lines += families_sentences(evaluation["fit"]["families"])
        if evaluation["fit"]["rules"] is not None:
            lines.append(decided_sentence(evaluation["fit"]["rules"]))
        for name, baseline in evaluation["fit"]["baselines"].items():
            lines += [
                f"{name}: ROC AUC {baseline['auc']:.3f}, head minus it {number(baseline['auc_difference'])}",
                f"{name}: ROC AUC, source-weighted {baseline['auc_source_weighted']:.3f}, head minus it "
                f"{number(baseline['auc_source_weighted_difference'])}",
            ]
    return "\n".join(lines)


__all__ = ["summary"]
