"""The page: one picture, many pictures, and what to know about the detector; the endpoints for programs beside it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from modeling.detector import Detector
from modeling.embedded import example_files
from modeling.examination import Examination, examine
from modeling.explanation import draw
from modeling.images import ImageError
from modeling.sentences import sentence

from .about import build_about
from .batch_tab import build_batch_tab
from .language import language_of
from .result_card import card_html, provenance_html, stability_html

EXAMPLES = [str(path) for path in example_files()]
WAITING = 32  # visitors; the next one is told that the queue is full
# Uploads are deleted when they are this old, looked for every two minutes. Not sooner: Gradio keeps one file for all
# visitors who upload the same bytes, and a run over many pictures takes up to eight minutes.
KEEP_SECONDS, LOOK_SECONDS = 900, 120
OVERLAY_SIDE = 768  # pixels
# Gradio 6.31 gives the buttons of its example pictures no name for a screen reader.
NAME_EXAMPLES = """() => new MutationObserver(() =>
    document.querySelectorAll("#examples button.gallery-item:not([aria-label])").forEach((button, index) =>
        button.setAttribute("aria-label", `${index + 1}`))
).observe(document.body, {childList: true, subtree: true})"""

logger = logging.getLogger(__name__)


class Page(gr.Blocks):
    """Blocks that open no web address that a client sends in the place of an upload.

    Gradio 6.31 would download a public one on the server before any handler is called.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Refuse addresses, then go on as Gradio does."""
        if _has_address(inputs):
            raise gr.Error(sentence("page", "no_addresses"), print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def build_page(detector: Detector, card: Path | None, *, is_default: bool) -> gr.Blocks:
    """Build the page and its API around a detector.

    Args:
        detector: loaded.
        card: the checkpoint's README.md, shown in the tab about it; `None` where it has none.
        is_default: whether the checkpoint is the embedded one.

    Returns:
        Blocks with the endpoints `/detect` (one picture) and `/detect_many`, the queue configured.
    """
    words = gr.I18n()
    deletion = (LOOK_SECONDS, KEEP_SECONDS)
    with Page(title=sentence("page", "title"), analytics_enabled=False, delete_cache=deletion) as page:
        with gr.Column(elem_id="heading"):
            gr.Markdown(words("page.heading"))
        with gr.Tab(words("page.tab_one"), id="one"):
            _build_single(detector)
        with gr.Tab(words("page.tab_many"), id="many"):
            build_batch_tab(detector, say=lambda code: words(f"batch.{code}"), language=language_of)
        with gr.Tab(words("page.tab_about"), id="about"):
            build_about(card, is_default=is_default)
        page.load(fn=None, js=NAME_EXAMPLES)
    return page.queue(max_size=WAITING)


def _build_single(detector: Detector) -> None:
    """The tab for one picture and the endpoint `/detect`."""
    words = gr.I18n()
    with gr.Row():
        with gr.Column(scale=5):
            # image_mode=None and preprocess=False: our own loader gets the untouched file.
            image = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard", "webcam"],
                label=words("page.picture"),
                elem_id="picture",
            )
            caption = gr.Textbox(
                label=words("page.caption"), visible=detector.reads_captions, elem_id="caption", max_length=1000
            )
            button = gr.Button(words("page.check"), variant="primary", elem_id="check")
            gr.Examples(EXAMPLES, inputs=[image], label=words("page.examples"), elem_id="examples")
        with gr.Column(scale=6):
            hint = gr.Markdown(words("page.empty"), elem_id="hint")
            answer = gr.HTML(visible=False, elem_id="answer", container=True)
    with gr.Row(visible=False) as more:
        with gr.Column(scale=5):
            slider = gr.ImageSlider(
                label=words("page.explanation"),  # type: ignore[arg-type]
                elem_id="explanation",
                interactive=False,
                buttons=[],
                max_height=520,
            )
            note = gr.Markdown(elem_id="explanation-note")
        with gr.Column(scale=6):
            stability = gr.HTML(elem_id="stability", container=True)
            provenance = gr.HTML(elem_id="provenance", container=True)
    with gr.Accordion(words("page.details"), open=False):
        details = gr.JSON(label=words("page.details"), elem_id="details", show_label=False)

    def check(image: dict | None, caption: str = "", request: gr.Request | None = None) -> Iterator[tuple]:
        language = language_of(request)
        for found in _examinations(detector, image, caption, language):
            overlay = gr.skip()
            if found.explanation is not None:
                shown = draw(found.picture, found.explanation, max_side=OVERLAY_SIDE)
                plain = found.picture.resize(shown.size)
                overlay = gr.update(value=(plain, shown))
            yield (
                gr.update(visible=False),
                gr.update(value=card_html(found, language), visible=True),
                gr.update(visible=True),
                stability_html(found, language),
                provenance_html(found, language),
                overlay,
                _about_map(found, language),
                found.to_dict(),
            )

    def detect(image: dict | None, caption: str = "", request: gr.Request | None = None) -> dict:
        """Say whether one picture is a photograph or was generated.

        Args:
            image: the picture's file.
            caption: a text that goes with it; only where the checkpoint reads captions.
            request: given by Gradio; its language is that of an error's words.

        Returns:
            All fields of the answer; docs/api.md describes them.
        """
        *_, found = _examinations(detector, image, caption, language_of(request))
        return found.to_dict()

    inputs = [image, caption] if detector.reads_captions else [image]
    outputs = [hint, answer, more, stability, provenance, slider, note, details]
    button.click(
        check,
        inputs,
        outputs,
        preprocess=False,
        api_visibility="private",
        concurrency_id="examine",
        concurrency_limit=1,
        show_progress_on=[hint, answer],
    )
    with gr.Column(visible=False):  # what programs see: labels that are words and not keys of a translation
        api_inputs: list = [gr.Image(type="filepath", image_mode=None, label="The picture's file")]
        if detector.reads_captions:
            api_inputs.append(gr.Textbox(label="A text that goes with the picture"))
        api_answer = gr.JSON(label="All fields of the answer, see docs/api.md")
        gr.Button().click(
            detect,
            api_inputs,
            api_answer,
            preprocess=False,
            api_name="detect",
            concurrency_id="examine",
            concurrency_limit=1,
        )


def _examinations(detector: Detector, image: dict | None, caption: str, language: str) -> Iterator[Examination]:
    """Examine an upload; whatever goes wrong becomes one sentence for its owner and never a traceback."""
    path = (image or {}).get("path")
    if not path:
        raise gr.Error(sentence("page", "choose_first", language), print_exception=False)
    if not Path(path).is_file():
        raise gr.Error(sentence("page", "gone", language), print_exception=False)
    try:
        yield from examine(detector, path, (caption or "").strip() or None)
    except ImageError as error:
        raise gr.Error(error.sentence(language), print_exception=False) from error
    except Exception as error:
        logger.exception("No answer for a picture")
        raise gr.Error(sentence("page", "failed", language), print_exception=False) from error


def _about_map(found: Examination, language: str) -> str:
    """How to read the heat map."""
    if found.explanation is None:
        return sentence("explanation", "none", language) if found.complete else sentence("card", "working", language)
    left, top, right, bottom = found.explanation.box
    whole = right - left >= found.picture.width and bottom - top >= found.picture.height
    codes = ("legend", "limits") if whole else ("legend", "outside", "limits")
    return " ".join(sentence("explanation", code, language) for code in codes)


def _has_address(data: Any) -> bool:
    """Whether a web address stands anywhere in the place of a file."""
    if isinstance(data, dict):
        places = [data.get("path"), data.get("url") if not data.get("path") else None]
        if any(isinstance(place, str) and "://" in place for place in places):
            return True
        return any(_has_address(value) for value in data.values())
    return isinstance(data, list) and any(_has_address(value) for value in data)


__all__ = ["build_page"]
