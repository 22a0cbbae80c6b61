"""Pictures that are no photographs: charts, text pages, drawings, gradients, noise, and screenshots of web pages.

Made here, always the same ones, so that the benchmarks of cautions and of known data need nothing from elsewhere.
"""

import html
import io
import shutil
from collections.abc import Iterator

import matplotlib

from modeling.embedded import EXAMPLES

matplotlib.use("Agg")

import matplotlib.font_manager  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

EACH = 24
# Screen, pixels a CSS pixel: two desktops, a laptop and two phones.
SCREENS = (((1366, 768), 1), ((1920, 1080), 1), ((1280, 800), 2), ((390, 844), 3), ((360, 800), 3))
WORDS = "light water house table window street paper garden river stone market letter morning people number answer"
WORDS += " question little early across under between camera picture colour season summer winter travel north"


def unusual_pictures() -> dict[str, list[bytes]]:
    """Kind to PNG files."""
    kinds = {
        "chart": _charts,
        "text page": _text_pages,
        "shapes": _shapes,
        "gradient": _gradients,
        "noise": _noise,
        "screenshot": _screenshots,
    }
    return {kind: list(make(np.random.default_rng(0))) for kind, make in kinds.items()}


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _charts(rng: np.random.Generator) -> Iterator[bytes]:
    """Line, bar, pie, scatter, histogram and field charts in three styles and sizes."""
    kinds = ("line", "bar", "pie", "scatter", "histogram", "field", "area", "box")
    for index in range(EACH):
        with plt.style.context(("default", "ggplot", "dark_background")[index % 3]):
            figure, axes = plt.subplots(figsize=((6, 4), (8, 8), (9, 5))[index // 3 % 3], dpi=120)
            values = rng.normal(size=(4, 40)).cumsum(axis=1)
            match kinds[index % len(kinds)]:
                case "line":
                    axes.plot(values.T, label=["a", "b", "c", "d"])
                    axes.legend()
                case "bar":
                    axes.bar(range(12), abs(values[0, :12]), color=f"C{index % 9}")
                case "pie":
                    axes.pie(abs(values[:, 5]) + 1, labels=["north", "south", "east", "west"], autopct="%1.0f %%")
                case "scatter":
                    axes.scatter(values[0], values[1], c=values[2], s=60)
                case "histogram":
                    axes.hist(values.ravel(), bins=20)
                case "field":
                    axes.imshow(rng.random((12, 16)))
                case "area":
                    axes.stackplot(range(40), abs(values))
                case "box":
                    axes.boxplot(values.T)
            axes.set_title(" ".join(rng.choice(WORDS.split(), 3)))
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            plt.close(figure)
            yield buffer.getvalue()


def _text_pages(rng: np.random.Generator) -> Iterator[bytes]:
    """Black on white or nearly white, several sizes of type."""
    path = matplotlib.font_manager.findfont("DejaVu Serif")
    for index in range(EACH):
        size = 14 + 2 * (index % 6)
        font = ImageFont.truetype(path, size)
        page = Image.new("RGB", (800, 1100), ("white", "#fbf6e9", "#f2f2f2")[index % 3])
        draw = ImageDraw.Draw(page)
        for top in range(60, 1000, int(size * 1.6)):
            draw.text((60, top), " ".join(rng.choice(WORDS.split(), 900 // size // 3)), fill="#111111", font=font)
        yield _png(page)


def _shapes(rng: np.random.Generator) -> Iterator[bytes]:
    """Flat polygons and discs with outlines, as in a simple drawing; drawn twice as large and shrunk."""
    for index in range(EACH):
        picture = Image.new("RGB", (1600, 1200), tuple(rng.integers(150, 256, 3)))
        draw = ImageDraw.Draw(picture)
        for _ in range(4 + index):
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            x, y, size = rng.integers(0, 1400), rng.integers(0, 1000), rng.integers(80, 500)
            if rng.random() < 0.5:
                draw.ellipse((x, y, x + size, y + size), fill=colour, outline="black", width=8)
            else:
                corners = [(int(x + rng.integers(0, size)), int(y + rng.integers(0, size))) for _ in range(4)]
                draw.polygon(corners, fill=colour, outline="black", width=8)
        yield _png(picture.resize((800, 600), Image.Resampling.LANCZOS))


def _gradients(rng: np.random.Generator) -> Iterator[bytes]:
    """Smooth blends of four corner colours, some with waves."""
    down, across = np.mgrid[0:1:480j, 0:1:640j]
    for index in range(EACH):
        corners = rng.uniform(0, 255, (4, 3))
        weights = np.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], -1)
        values = weights @ corners + 40 * (index % 2) * np.sin(9 * down + 5 * across * rng.random())[..., None]
        yield _png(Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)))


def _noise(rng: np.random.Generator) -> Iterator[bytes]:
    """White noise, grey or coloured, of four grain sizes."""
    for index in range(EACH):
        grain = 2 ** (index % 4)
        shape = (480 // grain, 640 // grain) + (() if index % 2 else (3,))
        values = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).convert("RGB")
        yield _png(values.resize((640, 480), Image.Resampling.BICUBIC))


def _screenshots(rng: np.random.Generator) -> Iterator[bytes]:
    """Chromium's picture of a whole screen: twelve kinds of page, each light and dark; none without Chromium."""
    from playwright.sync_api import Error, sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for index, (name, body) in enumerate(_pages(rng) * 2):
            (width, height), scale = SCREENS[index % len(SCREENS)]
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            colours = "#16181d; color: #e4e4e4" if index >= 12 else "#ffffff; color: #1b1b1b"
            page.set_content(
                f"<style>body {{ margin: 0; font: 16px sans-serif; background: {colours} }} main {{ padding: 16px }} "
                "header { background: #31528f; color: white; padding: 12px } td { padding: 8px; border: 1px solid }"
                f"img {{ width: 45%; margin: 4px }}</style><header>{name}</header><main>{body}</main>"
            )
            try:
                yield page.screenshot()
            except Error:  # a busy machine now and then loses one; the second try has always had it
                yield page.screenshot()
            page.close()
        browser.close()


def _pages(rng: np.random.Generator) -> list[tuple[str, str]]:
    """(title, body) of twelve pages."""

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS.split(), words))

    def photo(name: str) -> str:
        import base64

        kind = "jpeg" if name.endswith("jpg") else "webp"
        return f'<img src="data:image/{kind};base64,{base64.b64encode((EXAMPLES / name).read_bytes()).decode()}">'

    photos = [photo(path.name) for path in sorted(EXAMPLES.iterdir()) if path.suffix in (".jpg", ".webp")]
    bubble = '<p style="background:#7aa;border-radius:12px;padding:10px;width:60%;margin-left:{}%">{}</p>'
    button = '<button style="padding:10px;margin:6px;background:#2a7;color:white;border:0">{}</button>'
    table = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in rng.integers(0, 999, 5))}</tr>" for _ in range(30))
    code = html.escape("\n".join(f"def {text(1)}({text(1)}):\n    return {text(1)} + {i}\n" for i in range(20)))
    cell = '<div style="display:inline-block;width:12%;height:60px;border:1px solid #999;padding:2px">{}</div>'
    bars = "".join(f'<rect x="{40 * i}" y="0" width="30" height="{20 * i}" fill="#48a"/>' for i in range(1, 9))
    return [
        ("Article", "".join(f"<h2>{text(4)}</h2><p>{text(90)}</p>" for _ in range(6))),
        ("News", photos[0] + "".join(f"<h3>{text(6)}</h3><p>{text(40)}</p>" for _ in range(6))),
        ("Chat", "".join(bubble.format(35 * (i % 2), text(int(rng.integers(3, 20)))) for i in range(14))),
        ("Table", f"<table>{table}</table>"),
        ("Code", f"<pre>{code}</pre>"),
        ("Form", "".join(f"<p>{text(2)}<br><input size=40 value='{text(2)}'></p>" for _ in range(12))),
        ("Gallery", "".join(photos)),
        ("One photo", photos[1].replace("<img", '<img style="width:95%"') + f"<p>{text(20)}</p>"),
        (
            "Settings",
            "".join(f"<p>{text(3)} <input type=checkbox checked></p>" for _ in range(16)),
        ),
        ("Results", "".join(f"<p><a href=''>{text(5)}</a><br>{text(25)}</p>" for _ in range(9))),
        ("Calendar", "".join(cell.format(day) for day in range(1, 36))),
        ("Board", f"<svg width=400 height=200>{bars}</svg>" + "".join(button.format(text(1)) for _ in range(12))),
    ]
