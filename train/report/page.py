"""Markdown and its plots as one HTML page that needs no other file and no network."""

import base64
import html

from markdown_it import MarkdownIt

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --faint: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--edge); padding-bottom: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
table { margin: 0 0 1.5rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--edge); text-align: left; white-space: nowrap; }
th:first-child, td:first-child { min-width: 10rem; white-space: normal; overflow-wrap: anywhere; }
tbody tr:nth-child(odd) { background: var(--faint); }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
"""


def html_page(markdown: str, images: dict[str, bytes]) -> str:
    """Render a report.

    Args:
        markdown: its first line is the title, after "# ". HTML in it is shown as text, not obeyed.
        images: PNG files by the name that the Markdown uses.

    Raises:
        ValueError: the Markdown shows an image that is not in `images`.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                name = str(child.attrs["src"])
                if name not in images:
                    raise ValueError(f"The report shows {name}, which is not among {sorted(images)}.")
                child.attrs["src"] = f"data:image/png;base64,{base64.b64encode(images[name]).decode()}"
    body = parser.renderer.render(tokens, parser.options, {})
    # A wide table scrolls by itself on a telephone, by keyboard too.
    body = body.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>')
    body = body.replace("</table>", "</table></div>")
    title = html.escape(markdown.partition("\n")[0].removeprefix("# "))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


__all__ = ["html_page"]
