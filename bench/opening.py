"""How long the worst files hold who opens them, and what the limits cost an ordinary picture.

    python bench/opening.py [NAME ...]

Each of `tests/worst_files.py`, at 49 MB where it can be that large, is opened and what it says is read, as an answer
does it; beside it, how soon another thread opens a small picture meanwhile. Then a photograph of 12 megapixels in each
format: what opening it costs beside Pillow alone.
"""

import io
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from modeling.file_metadata import read_metadata
from modeling.images import ImageError, open_here, open_image, read_header
from tests.worst_files import LARGE, WORST, jpeg

ROUNDS = 5


def _seconds(work: Callable[[], object]) -> tuple[float, str]:
    """How long it took, and the code of its error."""
    start = time.perf_counter()
    try:
        work()
        outcome = "opened"
    except ImageError as error:
        outcome = error.code
    return time.perf_counter() - start, outcome


def _answer(data: bytes) -> None:
    """What an answer does with a file before and beside the model."""
    open_image(data)
    for _ in range(3):
        read_header(data)
    read_metadata(data)


def measure_worst(names: list[str]) -> None:
    """Print a line for each of the worst files."""
    small = jpeg(300, 200)
    print(f"{'file':40} {'MB':>6} {'s':>6}  {'another picture at most, ms':>27}  outcome")
    for name in names:
        data = WORST[name](LARGE)
        stop, waits = threading.Event(), [0.0]

        def open_others(stop: threading.Event = stop, waits: list[float] = waits) -> None:
            while not stop.wait(0.02):
                waits.append(_seconds(lambda: open_image(small))[0])

        others = threading.Thread(target=open_others)
        others.start()
        seconds, outcome = _seconds(partial(_answer, data))
        stop.set()
        others.join()
        print(f"{name:40} {len(data) / 2**20:6.1f} {seconds:6.2f}  {1000 * max(waits):27.0f}  {outcome}", flush=True)


def _with_pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def measure_ordinary() -> None:
    """Print what opening a photograph of 12 megapixels costs, and Pillow alone, the best of some rounds."""
    photograph = Image.open(Path(__file__).resolve().parent.parent / "examples" / "china.jpg").convert("RGB")
    photograph = photograph.resize((4000, 3000), Image.Resampling.BICUBIC)
    print(f"\n{'12 megapixels':20} {'MB':>6} {'Pillow, ms':>11} {'here, ms':>9} {'open_image, ms':>15}")
    for name, codec, options in (
        ("JPEG", "JPEG", {"quality": 92}),
        ("progressive JPEG", "JPEG", {"quality": 92, "progressive": True}),
        ("PNG", "PNG", {}),
        ("WebP", "WEBP", {}),
        ("TIFF", "TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", "AVIF", {"speed": 9}),
        ("BMP", "BMP", {}),
    ):
        buffer = io.BytesIO()
        photograph.save(buffer, codec, **options)
        data = buffer.getvalue()
        times = [
            min(_seconds(partial(way, data))[0] for _ in range(ROUNDS))
            for way in (_with_pillow, open_here, open_image)
        ]
        print(
            f"{name:20} {len(data) / 1e6:6.1f} {1000 * times[0]:11.1f} {1000 * times[1]:9.1f} {1000 * times[2]:15.1f}"
        )


if __name__ == "__main__":
    measure_worst(sys.argv[1:] or list(WORST))
    if not sys.argv[1:]:
        measure_ordinary()
