"""Which language a visitor reads: Gradio's own i18n for fixed labels, the browser's Accept-Language for answers."""

from typing import Any

import gradio as gr

from modeling.detector import Detector
from modeling.sentences import LANGUAGES, all_sentences

from .batch_view import labels
from .result_card import error_rates

# Gradio has locales of its own for Chinese by region, which would hide a plain "zh".
REGIONS = {"zh": ("zh", "zh-CN", "zh-TW")}


def interface_texts(detector: Detector) -> gr.I18n:
    """Fixed labels in every language, keyed "topic.code", for `launch(i18n=...)`; the browser's locale chooses.

    Args:
        detector: whose measured rates some labels state.
    """
    tables: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        table = {f"page.{code}": text for code, text in all_sentences(language)["page"].items()}
        table |= {f"batch.{code}": text for code, text in labels(detector, language).items()}
        table["about.rates"] = error_rates(detector.model.config.measured(with_text=False), language)
        tables |= dict.fromkeys(REGIONS.get(language, (language,)), table)
    return gr.I18n(**tables)


def language_of(request: Any) -> str:
    """The supported language that the browser prefers; English for programs and for all others.

    Args:
        request: whose `headers` hold Accept-Language, such as "es-MX,es;q=0.9,en;q=0.8"; or `None`.
    """
    header = (request.headers.get("accept-language") or "") if request is not None else ""
    choices = []
    for position, part in enumerate(header.split(",")[:20]):
        tag, _, weight = part.partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        choices.append((-quality, position, tag.strip().lower().split("-")[0]))
    return next((language for _, _, language in sorted(choices) if language in LANGUAGES), "en")


__all__ = ["interface_texts", "language_of"]
