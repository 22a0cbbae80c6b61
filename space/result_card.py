"""The answer as HTML: the card with the verdict, the stability chart and what the file says.

Jinja2 escapes every value, so that no text of a file is ever taken for HTML.
"""

from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from modeling.examination import Examination
from modeling.provenance.content_credentials import TRUST_LIST_DATE
from modeling.provenance.searched import SYNTHID_CHECKS, SYNTHID_GENERATORS, searched
from modeling.sentences import sentence
from modeling.verdicts import GENERATED, REAL, UNCERTAIN

# Beside the colours, so that no meaning rests on colour alone.
SIGNS = {REAL: "●", GENERATED: "◆", UNCERTAIN: "◐"}

_templates = Environment(
    loader=PackageLoader("space"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def card_html(answer: Examination, language: str) -> str:
    """The verdict, how sure it is, how often it is wrong, and what to mind."""
    say = _sayer(language)
    detection = answer.detection
    percent = _percent(detection.probability)
    real, generated = _percent(detection.real_threshold), _percent(detection.generated_threshold)
    never = (detection.generated_threshold or 0) > 1  # set on too few photographs to promise a rate
    without = detection.probability_without_caption
    flipped = answer.stability is not None and answer.verdict != detection.verdict
    return _templates.get_template("card.html").render(
        say=say,
        language=language,
        verdict=answer.verdict,
        sign=SIGNS[answer.verdict],
        percent=percent,
        real=real,
        generated=100.0 if never else generated,
        bar_label=say("card", "bar_never" if never else "bar", percent=percent, real=real, generated=generated),
        caption_percent=None if without is None else _percent(without),
        rates=error_rates(answer.operating_point, language),
        cautions=[caution.sentence(language) for caution in answer.cautions],
        stability_sentence=answer.stability.sentence(language) if flipped and answer.stability else "",
        footer=say(
            "card",
            "footer",
            model=detection.model,
            version=answer.model_version,
            format=answer.file_format,
            width=detection.width,
            height=detection.height,
            sha256=detection.sha256,
        ),
    )


def error_rates(operating_point: dict | None, language: str) -> str:
    """One sentence on how often the checkpoint is wrong, from its own measurement."""
    say = _sayer(language)
    point = operating_point or {}
    if "false_positive_rate_bound_95" in point:
        target = f"{100 * point['target_fpr']:g}"
        return say("card", "rates_own", measured_on=point["measured_on"], target=target)
    names = ("false_positive_rate", "true_positive_rate", "false_negative_rate")
    if not all(name in point for name in names):
        return say("card", "rates_none")
    false_alarms, found, missed = (f"{100 * point[name]['value']:.0f}" for name in names)
    return say("card", "rates", false_alarms=false_alarms, found=found, missed=missed)


def stability_html(answer: Examination, language: str) -> str:
    """The picture under standard deliveries, as a table with bars."""
    say, stability = _sayer(language), answer.stability
    rows = []
    if stability is not None:
        for name, probability in stability.probabilities.items():
            verdict = stability.verdicts[name]
            words = say("stability", name)
            rows.append({"name": words, "percent": _percent(probability), "verdict": verdict, "sign": SIGNS[verdict]})
    return _templates.get_template("stability.html").render(
        say=say,
        language=language,
        stability=stability,
        stability_sentence=stability.sentence(language) if stability else "",
        rows=rows,
    )


def provenance_html(answer: Examination, language: str) -> str:
    """What the file itself says, each finding with its strength."""
    found = answer.provenance
    return _templates.get_template("provenance.html").render(
        say=_sayer(language),
        language=language,
        provenance=found,
        searched=searched(found.evidence) if found else (),
        trust_list_date=TRUST_LIST_DATE,
        synthid_generators=SYNTHID_GENERATORS,
        synthid_checks=SYNTHID_CHECKS,
    )


def _sayer(language: str) -> partial[str]:
    return partial(sentence, language=language)


def _percent(probability: float | None) -> float:
    """With one decimal, as everywhere on the page."""
    return round(100 * (probability or 0.0), 1)


__all__ = ["SIGNS", "card_html", "error_rates", "provenance_html", "stability_html"]
