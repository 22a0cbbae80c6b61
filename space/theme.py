"""The look: calm, few colours, fonts of the visitor's own system (no request to another host), light and dark."""

from pathlib import Path

import gradio as gr

STYLE = Path(__file__).with_name("style.css")
ICON = Path(__file__).with_name("icon.svg")

_INK = gr.themes.Color(
    name="ink",
    c50="#f3f6f8",
    c100="#e3eaee",
    c200="#c8d5dc",
    c300="#a2b7c2",
    c400="#73909f",
    c500="#517081",
    c600="#3b5a6b",
    c700="#2f4958",
    c800="#243944",
    c900="#1a2a33",
    c950="#101b21",
)


def page_theme() -> gr.themes.Base:
    """The theme of the page; what it cannot say is in style.css."""
    return gr.themes.Base(
        primary_hue=_INK,
        secondary_hue=_INK,
        neutral_hue=gr.themes.colors.stone,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
    ).set(
        body_background_fill="#faf9f7",
        body_background_fill_dark="#14181b",
        body_text_color="#1d2327",
        body_text_color_dark="#e8ecee",
        body_text_color_subdued="#5a646b",
        body_text_color_subdued_dark="#a9b4ba",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c2226",
        block_border_color="#dfdcd6",
        block_border_color_dark="#343d43",
        block_label_text_color="#3b464d",
        block_label_text_color_dark="#c9d2d7",
        block_title_text_color="#3b464d",
        block_title_text_color_dark="#c9d2d7",
        button_primary_background_fill="#24505f",
        button_primary_background_fill_hover="#1b3f4c",
        button_primary_background_fill_dark="#9fd0df",
        button_primary_background_fill_hover_dark="#bfe3ee",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0d2028",
        link_text_color="#1f5c70",
        link_text_color_dark="#9fd0df",
        link_text_color_visited="#1f5c70",
        link_text_color_visited_dark="#9fd0df",
    )


__all__ = ["ICON", "STYLE", "page_theme"]
