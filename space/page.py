"""The page: one picture, many pictures, and what to know about the detector; the endpoints for programs beside it."""

from pathlib import Path

import gradio as gr

from modeling.detector import Detector
from modeling.sentences import sentence

from .about import build_about
from .batch_tab import build_batch_tab
from .gate import GuardedBlocks
from .jobs import attend
from .language import language_of
from .single_tab import build_single_tab

WAITING = 32  # visitors; the next one is told that the queue is full
# Gradio 6.31 gives the buttons of its example pictures no name for a screen reader, and a card's wide tables, which
# scroll, no place in the order of the tabulator key.
MEND_ACCESS = """() => new MutationObserver(() => {
    document.querySelectorAll("#examples button.gallery-item:not([aria-label])").forEach((button, index) =>
        button.setAttribute("aria-label", `${index + 1}`));
    document.querySelectorAll("#about-card table:not([tabindex])").forEach(table => table.tabIndex = 0);
}).observe(document.body, {childList: true, subtree: true})"""


def build_page(detector: Detector, card: Path | None, *, is_default: bool) -> GuardedBlocks:
    """Build the page and its API around a detector.

    Args:
        detector: loaded.
        card: the checkpoint's README.md, shown in the tab about it; `None` where it has none.
        is_default: whether the checkpoint is the embedded one.

    Returns:
        Blocks with the endpoints `/detect` (one picture) and `/detect_many`, the queue configured.
    """
    words = gr.I18n()
    with GuardedBlocks(title=sentence("page", "title"), analytics_enabled=False) as page:
        with gr.Column(elem_id="heading"):
            gr.Markdown(words("page.heading"))
        with gr.Tab(words("page.tab_one"), id="one"):
            build_single_tab(detector)
        with gr.Tab(words("page.tab_many"), id="many"):
            build_batch_tab(detector, say=lambda code: words(f"batch.{code}"), language=language_of)
        with gr.Tab(words("page.tab_about"), id="about"):
            build_about(card, is_default=is_default)
        page.load(fn=None, js=MEND_ACCESS)
    page.queue(max_size=WAITING, api_open=False)
    attend(page)
    return page


__all__ = ["build_page"]
