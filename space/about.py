"""The tab "About and limits": the checkpoint's own card, its plots, and what a user can do about its limits."""

import re
from pathlib import Path

import gradio as gr

from modeling.embedded import ROOT

PLOTS = ("scores.png", "reliability.png", "robustness.png")
PLOTS_FOLDER = ROOT / "docs" / "evaluation"


def card_text(path: Path) -> str:
    """A model card without its metadata and comments, as Markdown."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE).strip()


def build_about(card: Path | None, *, is_default: bool) -> None:
    """Fill an open tab.

    Args:
        card: the checkpoint's README.md; `None` where it has none.
        is_default: whether the checkpoint is the embedded one, whose plots the project holds.
    """
    words = gr.I18n()
    gr.Markdown(words("about.rates"), elem_id="about-rates")
    plots = [str(PLOTS_FOLDER / name) for name in PLOTS if is_default and (PLOTS_FOLDER / name).is_file()]
    if plots:
        gr.Gallery(
            plots,
            label=words("page.about_plots"),
            columns=3,
            height="auto",
            object_fit="contain",
            elem_id="about-plots",
        )
    gr.Markdown(words("page.about_calibrate"), elem_id="about-calibrate")
    gr.Markdown(words("page.about_programs"), elem_id="about-programs")
    gr.Markdown(card_text(card) if card else words("page.about_no_card"), elem_id="about-card")


__all__ = ["build_about", "card_text"]
