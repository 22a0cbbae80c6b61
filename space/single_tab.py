"""The tab for one picture, and the endpoint `/detect` behind it.

The answer grows on the page while it is computed: `examine` yields it part by part.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from modeling.detector import Detector
from modeling.embedded import example_files
from modeling.examination import Examination, examine
from modeling.explanation import draw
from modeling.images import ImageError
from modeling.sentences import sentence

from .jobs import is_awaited
from .language import language_of
from .result_card import card_html, provenance_html, stability_html

EXAMPLES = [str(path) for path in example_files()]
OVERLAY_SIDE = 768  # pixels
# One examination at a time, whoever asks for it: page and programs share the processor.
ONE_AT_A_TIME = "examine"

logger = logging.getLogger(__name__)


def build_single_tab(detector: Detector) -> None:
    """Build both within the page that is being built."""
    words = gr.I18n()
    with gr.Row():
        with gr.Column(scale=5):
            image, caption = _build_picture(detector)
            button = gr.Button(words("page.check"), variant="primary", elem_id="check")
            gr.Examples(EXAMPLES, inputs=[image], label=words("page.examples"), elem_id="examples")
        with gr.Column(scale=6):
            hint = gr.Markdown(words("page.empty"), elem_id="hint")
            answer = gr.HTML(visible=False, elem_id="answer", container=True)
    more = _build_more()

    def check(image: dict | None, caption: str = "", request: gr.Request | None = None) -> Iterator[tuple]:
        language = language_of(request)
        for found in _examinations(detector, image, caption, language):
            yield _shown(found, language)

    button.click(
        check,
        [image, caption] if detector.reads_captions else [image],
        [hint, answer, *more],
        preprocess=False,
        api_visibility="private",
        show_progress_on=[hint, answer],
        concurrency_id=ONE_AT_A_TIME,
        concurrency_limit=1,
    )
    _build_api(detector)


def _build_picture(detector: Detector) -> tuple[gr.Image, gr.Textbox]:
    """Where a visitor gives the picture, and its caption where the checkpoint reads one."""
    words = gr.I18n()
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
    return image, caption


def _build_more() -> list:
    """What stands below the answer: its row, stability, what the file says, the heat map and its note, all fields."""
    words = gr.I18n()
    with gr.Row(visible=False) as row:
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
    return [row, stability, provenance, slider, note, details]


def _shown(found: Examination, language: str) -> tuple:
    """The examination so far as the values of hint, answer and `_build_more`."""
    overlay = gr.skip()
    if found.explanation is not None:
        drawn = draw(found.picture, found.explanation, max_side=OVERLAY_SIDE)
        overlay = gr.update(value=(found.picture.resize(drawn.size), drawn))
    return (
        gr.update(visible=False),
        gr.update(value=card_html(found, language), visible=True),
        gr.update(visible=True),
        stability_html(found, language),
        provenance_html(found, language),
        overlay,
        _about_map(found, language),
        found.to_dict(),
    )


def _about_map(found: Examination, language: str) -> str:
    """How to read the heat map."""
    if found.explanation is None:
        return sentence("explanation", "none", language) if found.complete else sentence("card", "working", language)
    left, top, right, bottom = found.explanation.box
    whole = right - left >= found.picture.width and bottom - top >= found.picture.height
    codes = ("legend", "limits") if whole else ("legend", "outside", "limits")
    return " ".join(sentence("explanation", code, language) for code in codes)


def _build_api(detector: Detector) -> None:
    """The endpoint for programs, in a column that nobody sees: its labels are words and not keys of a translation."""

    def detect(image: dict | None, caption: str = "", request: gr.Request | None = None) -> dict:
        """Say whether one picture is a photograph or was generated.

        Args:
            image: the picture's file.
            caption: a text that goes with it; only where the checkpoint reads captions.
            request: given by Gradio; its language is that of an error's words.

        Returns:
            All fields of the answer; docs/api.md describes them.
        """
        answer: dict = {}
        for found in _examinations(detector, image, caption, language_of(request)):
            if not is_awaited():
                break
            answer = found.to_dict()
        return answer

    with gr.Column(visible=False):
        inputs: list = [gr.Image(type="filepath", image_mode=None, label="The picture's file")]
        if detector.reads_captions:
            inputs.append(gr.Textbox(label="A text that goes with the picture"))
        answer = gr.JSON(label="All fields of the answer, see docs/api.md")
        gr.Button().click(
            detect,
            inputs,
            answer,
            preprocess=False,
            api_name="detect",
            concurrency_id=ONE_AT_A_TIME,
            concurrency_limit=1,
        )


def _examinations(detector: Detector, image: dict | None, caption: str, language: str) -> Iterator[Examination]:
    """Examine an upload; whatever goes wrong becomes one sentence for its owner and never a traceback."""
    path = (image or {}).get("path")
    if not path:
        raise gr.Error(sentence("page", "choose_first", language), print_exception=False)
    if not Path(path).is_file():
        raise gr.Error(sentence("requests", "gone", language), print_exception=False)
    try:
        yield from examine(detector, path, (caption or "").strip() or None)
    except ImageError as error:
        raise gr.Error(error.sentence(language), print_exception=False) from error
    except Exception as error:
        logger.exception("No answer for a picture")
        raise gr.Error(sentence("page", "failed", language), print_exception=False) from error


__all__ = ["build_single_tab"]
