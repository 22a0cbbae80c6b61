"""Charts, diagrams and pages of text, drawn here: `KINDS`, a function of a random generator for each kind.

Nothing needs to come from elsewhere: the words are the licence's, and random letters of other scripts.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from modeling.embedded import EXAMPLES, ROOT  # noqa: E402

Rng = np.random.Generator

STYLES = ("default", "ggplot", "bmh", "grayscale", "seaborn-v0_8-whitegrid", "fivethirtyeight", "dark_background")
FONTS = ("DejaVuSerif", "DejaVuSans", "STIXGeneral", "cmr10", "DejaVuSansMono", "STIXGeneralItalic", "DejaVuSans-Bold")
PAPERS = ("#ffffff", "#fdfdfb", "#fbf6e9", "#f1ead6", "#e9e9ea", "#ffffff")
INKS = ("#000000", "#111111", "#222222", "#1d2b53", "#443322")
SCRIPTS = ((0x0430, 0x044F), (0x03B1, 0x03C9), (0x05D0, 0x05EA), (0x10D0, 0x10F0), (0x0561, 0x0586))
FONT_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
LATIN = (ROOT / "LICENSE").read_text().split()


def words(rng: Rng, count: int) -> str:
    """A run of the licence's words; a caller that wants other letters uses `foreign`."""
    start = int(rng.integers(0, len(LATIN)))
    return " ".join(LATIN[(start + place) % len(LATIN)] for place in range(count))


def foreign(rng: Rng, count: int) -> str:
    """Random words in one of five other scripts."""
    low, high = SCRIPTS[rng.integers(len(SCRIPTS))]
    return " ".join("".join(map(chr, rng.integers(low, high, rng.integers(2, 10)))) for _ in range(count))


def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's fonts."""
    return ImageFont.truetype(str(FONT_FOLDER / f"{name}.ttf"), size)


def sheet(rng: Rng, size: tuple[int, int] | None = None) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty page, tall unless `size` says otherwise."""
    picture = Image.new("RGB", size or ((850, 1100), (827, 1169), (700, 1000))[rng.integers(3)], rng.choice(PAPERS))
    return picture, ImageDraw.Draw(picture)


def column(
    draw: ImageDraw.ImageDraw,
    rng: Rng,
    box: tuple[int, int, int, int],
    size: int,
    name: str | None = None,
    text: Callable[[Rng, int], str] = words,
    ink: str | None = None,
) -> None:
    """Paragraphs that fill a box (left, top, right, bottom), some with a heading."""
    left, top, right, bottom = box
    name, ink = name or str(rng.choice(FONTS[:4])), ink or str(rng.choice(INKS))
    face, spacing = font(name, size), int(size * rng.uniform(1.2, 1.7))
    per_line = max(6, int((right - left) / face.getlength("n")))
    while top < bottom - spacing:
        if rng.random() < 0.3:
            draw.text((left, top), words(rng, 3), fill=ink, font=font("DejaVuSans-Bold", int(size * 1.3)))
            top += 2 * spacing
        for line in textwrap.wrap(text(rng, int(rng.integers(30, 120))), per_line):
            if top > bottom - spacing:
                return
            draw.text((left, top), line, fill=ink, font=face)
            top += spacing
        top += spacing


def one_column(rng: Rng) -> Image.Image:
    """A page of a book or letter."""
    page, draw = sheet(rng)
    margin = int(page.width * rng.uniform(0.06, 0.15))
    column(draw, rng, (margin, margin, page.width - margin, page.height - margin), int(rng.integers(13, 30)))
    return page


def other_script(rng: Rng) -> Image.Image:
    """The same in other letters."""
    page, draw = sheet(rng)
    box = (70, 80, page.width - 70, page.height - 80)
    column(draw, rng, box, int(rng.integers(14, 28)), "DejaVuSans", foreign)
    return page


def two_columns(rng: Rng) -> Image.Image:
    """A page of an article or newspaper: a title, two or three columns, at times a chart or photograph in one."""
    page, draw = sheet(rng)
    draw.text((60, 50), words(rng, 5), fill="black", font=font("DejaVuSerif-Bold", int(rng.integers(20, 34))))
    count, size = int(rng.integers(2, 4)), int(rng.integers(9, 15))
    width = (page.width - 120) // count
    for place in range(count):
        left = 60 + place * width
        column(draw, rng, (left, 120, left + width - 20, page.height - 60), size)
    if rng.random() < 0.6:
        inset = chart(rng) if rng.random() < 0.5 else photograph(rng)
        inset.thumbnail((width - 20, 400))
        page.paste(inset, (60, int(rng.integers(130, 600))))
    return page


def with_photograph(rng: Rng) -> Image.Image:
    """A page with a photograph over a quarter to a third of it."""
    page, draw = sheet(rng)
    inset = photograph(rng).resize((page.width - 140, int(page.height * rng.uniform(0.25, 0.35))))
    page.paste(inset, (70, 70))
    column(draw, rng, (70, 100 + inset.height, page.width - 70, page.height - 60), int(rng.integers(12, 20)))
    return page


def form(rng: Rng) -> Image.Image:
    """Labels, boxes and lines to fill in."""
    page, draw = sheet(rng)
    ink, face = str(rng.choice(INKS)), font(str(rng.choice(FONTS[:4])), int(rng.integers(13, 18)))
    draw.text((60, 40), words(rng, 3), fill=ink, font=font("DejaVuSans-Bold", 26))
    for top in range(110, page.height - 90, int(rng.integers(40, 62))):
        draw.text((60, top), words(rng, 2), fill=ink, font=face)
        if rng.random() < 0.6:
            draw.rectangle((300, top - 4, page.width - 60, top + 26), outline=ink)
            if rng.random() < 0.5:
                draw.text((310, top), words(rng, 2), fill="#1d2b9b", font=font("STIXGeneralItalic", 18))
        else:
            for left in range(300, page.width - 160, 140):
                draw.rectangle((left, top, left + 16, top + 16), outline=ink)
                draw.text((left + 24, top), words(rng, 1)[:9], fill=ink, font=face)
    return page


def table(rng: Rng) -> Image.Image:
    """A grid of numbers, as in a report or a spreadsheet."""
    page, draw = sheet(rng, ((1000, 700), (850, 1100), (1200, 600))[rng.integers(3)])
    columns, height = int(rng.integers(4, 10)), int(rng.integers(20, 36))
    face, lines, head = font(str(rng.choice(FONTS[:5])), height // 2), rng.random() < 0.6, str(rng.choice(PAPERS))
    width = (page.width - 80) // columns
    for row, top in enumerate(range(60, page.height - 60, height)):
        for place in range(columns):
            left = 40 + place * width
            if lines:
                draw.rectangle((left, top, left + width, top + height), outline="#777777", fill=None if row else head)
            cell = (
                words(rng, 1)[: width // height] if row == 0 or place == 0 else f"{rng.integers(0, 99999) / 10:,.1f}"
            )
            draw.text((left + 5, top + height // 5), cell, fill="#111111", font=face)
    return page


def code(rng: Rng) -> Image.Image:
    """A program in an editor, light or dark."""
    dark = rng.random() < 0.5
    page = Image.new("RGB", ((1100, 800), (900, 1000))[rng.integers(2)], "#1e1e2e" if dark else "#ffffff")
    draw, face = ImageDraw.Draw(page), font("DejaVuSansMono", int(rng.integers(14, 22)))
    colours = ("#c6a0f6", "#a6da95", "#8aadf4", "#cad3f5") if dark else ("#8959a8", "#718c00", "#4271ae", "#222222")
    for number, top in enumerate(range(20, page.height - 20, int(face.size * 1.4))):
        draw.text((14, top), f"{number + 1:>3}", fill="#888888", font=face)
        left = 70 + 40 * int(rng.integers(0, 4))
        for word in words(rng, int(rng.integers(0, 7))).split():
            draw.text((left, top), word, fill=str(rng.choice(colours)), font=face)
            left += int(face.getlength(word + " "))
    return page


def slide(rng: Rng) -> Image.Image:
    """A title with points, at times beside a chart or photograph."""
    colours = (("#ffffff", "#1b1b1b"), ("#0b2545", "#ffffff"), ("#f4f1de", "#3d405b"), ("#202020", "#e8e8e8"))
    ground, ink = colours[rng.integers(len(colours))]
    page = Image.new("RGB", ((1280, 720), (1024, 768))[rng.integers(2)], ground)
    draw = ImageDraw.Draw(page)
    if rng.random() < 0.4:
        draw.rectangle((0, 0, page.width, 120), fill=("#31528f", "#a23b3b", "#2a7f62")[rng.integers(3)])
    draw.text((60, 40), words(rng, 4), fill=ink, font=font("DejaVuSans-Bold", 40))
    beside = rng.random() < 0.6
    for top in range(180, page.height - 100, int(rng.integers(60, 100))):
        draw.text((70, top), "\u2022 " + words(rng, 3 if beside else 8), fill=ink, font=font("DejaVuSans", 26))
    if beside:
        inset = chart(rng) if rng.random() < 0.7 else photograph(rng)
        inset.thumbnail((page.width // 2 - 40, page.height - 240))
        page.paste(inset, (page.width // 2, 170))
    return page


def receipt(rng: Rng) -> Image.Image:
    """A narrow slip of print with amounts at the right."""
    page = Image.new("RGB", (420, int(rng.integers(700, 1100))), str(rng.choice(PAPERS)))
    draw, face = ImageDraw.Draw(page), font(("DejaVuSansMono", "DejaVuSans")[rng.integers(2)], 18)
    for top in range(30, page.height - 30, int(rng.integers(24, 34))):
        draw.text((24, top), words(rng, 2)[:20], fill="#222222", font=face)
        draw.text((320, top), f"{rng.integers(10, 9999) / 100:.2f}", fill="#222222", font=face)
    return page


def formulas(rng: Rng) -> Image.Image:
    """Mathematics set on a page or a board."""
    parts = (r"\sum_{i=1}^{n} x_i^2", r"\int_0^\infty e^{-x}\,dx", r"\frac{\partial f}{\partial x}", r"\sqrt{a^2+b^2}")
    ground, ink = (("white", "black"), ("#fbf6e9", "#222222"), ("#1f3d2f", "white"))[rng.integers(3)]
    figure = Figure(figsize=(8, 9), dpi=100, facecolor=ground)
    for line in range(int(rng.integers(8, 16))):
        formula = "$" + " = ".join(rng.choice(parts, 2)) + "$"
        text = formula if rng.random() < 0.6 else words(rng, 10)
        figure.text(0.08, 0.93 - 0.06 * line, text, fontsize=int(rng.integers(12, 20)), color=ink)
    return drawn(figure)


def diagram(rng: Rng) -> Image.Image:
    """Boxes with words, joined by arrows."""
    page, draw = sheet(rng, ((1000, 700), (800, 900))[rng.integers(2)])
    face, fill = font("DejaVuSans", 16), ("#dbe9f6", "#ffffff", "#fde9c9", "#e3f4e0")[rng.integers(4)]
    places = [(int(x), int(y)) for x in range(60, page.width - 200, 240) for y in range(60, page.height - 100, 150)]
    chosen = [places[index] for index in rng.permutation(len(places))[: int(rng.integers(5, 12))]]
    for (x, y), (to_x, to_y) in zip(chosen, chosen[1:], strict=False):
        draw.line((x + 80, y + 30, to_x + 80, to_y + 30), fill="#333333", width=2)
    for x, y in chosen:
        shape = draw.rectangle if rng.random() < 0.7 else draw.ellipse
        shape((x, y, x + 170, y + 64), fill=fill, outline="#333333", width=2)
        draw.text((x + 14, y + 22), words(rng, 2)[:15], fill="#111111", font=face)
    return page


def drawn(figure: Figure) -> Image.Image:
    """The picture of a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _plot(kind: str) -> Callable[[Rng], Image.Image]:
    def draw(rng: Rng) -> Image.Image:
        with plt.style.context(STYLES[rng.integers(len(STYLES))]):
            size = ((6.4, 4.8), (8, 4), (6, 6), (9, 6))[rng.integers(4)]
            figure = Figure(figsize=size, dpi=int(rng.integers(80, 140)))
            axes = figure.add_subplot(projection="3d" if kind == "surface" else None)
            values = rng.normal(size=(int(rng.integers(1, 6)), 40)).cumsum(axis=1)
            fill_axes(axes, kind, values, rng)
            if rng.random() < 0.8:
                axes.set_title(words(rng, 4))
            if kind not in ("pie", "heat") and rng.random() < 0.8:
                axes.set_xlabel(words(rng, 2))
                axes.set_ylabel(words(rng, 2))
            return drawn(figure)

    return draw


def fill_axes(axes, kind: str, values: np.ndarray, rng: Rng) -> None:
    """Draw rows of values as one kind of chart."""
    names = [words(rng, 1)[:8] for _ in values]
    match kind:
        case "line":
            axes.plot(values.T, label=names, marker=("", "o", "s")[rng.integers(3)])
            axes.legend()
        case "bar":
            places = np.arange(int(rng.integers(4, 15)))
            for row, one in enumerate(values[:3]):
                axes.bar(places + 0.25 * row, abs(one[: len(places)]), 0.25 if len(values) > 1 else 0.8)
        case "scatter":
            for one in values:
                axes.scatter(one + rng.normal(size=40), rng.normal(size=40), s=int(rng.integers(5, 60)), alpha=0.7)
        case "pie":
            axes.pie(abs(values[0, :6]) + 0.5, labels=[words(rng, 1)[:9] for _ in range(6)], autopct="%1.0f %%")
        case "heat":
            axes.imshow(rng.random((int(rng.integers(5, 20)),) * 2), cmap=("viridis", "Blues", "hot")[rng.integers(3)])
        case "histogram":
            axes.hist(values.ravel(), bins=int(rng.integers(8, 50)))
        case "box":
            axes.boxplot(rng.normal(size=(40, 6)))
        case "area":
            axes.stackplot(range(40), abs(values) + 0.1)
        case "contour":
            across = np.linspace(-3, 3, 60)
            field = np.sin(across[:, None] * rng.uniform(0.5, 2)) * np.cos(across * rng.uniform(0.5, 2))
            (axes.contourf if rng.random() < 0.5 else axes.contour)(across, across, field, 12)
        case "surface":
            across = np.linspace(-3, 3, 30)
            x, y = np.meshgrid(across, across)
            axes.plot_surface(x, y, np.sin(x * rng.uniform(0.5, 2)) * np.cos(y), cmap="viridis")


CHARTS = {
    f"{kind} chart": _plot(kind)
    for kind in ("line", "bar", "scatter", "pie", "heat", "histogram", "box", "area", "contour", "surface")
}


def chart(rng: Rng) -> Image.Image:
    """A chart of any kind."""
    return CHARTS[str(rng.choice(list(CHARTS)))](rng)


def photograph(rng: Rng) -> Image.Image:
    """One of the project's examples, cut at random."""
    paths = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jpg", ".webp", ".png"))
    picture = Image.open(paths[rng.integers(len(paths))]).convert("RGB")
    width, height = (int(side * rng.uniform(0.5, 1)) for side in picture.size)
    left, top = int(rng.integers(0, picture.width - width + 1)), int(rng.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


PAGES = {
    "page of one column": one_column,
    "page in another script": other_script,
    "page of columns": two_columns,
    "page with a photograph": with_photograph,
    "form": form,
    "table": table,
    "code": code,
    "slide": slide,
    "receipt": receipt,
    "formulas": formulas,
    "diagram": diagram,
}
KINDS = PAGES | CHARTS


__all__ = ["CHARTS", "KINDS", "PAGES", "chart", "photograph"]
