"""How often each caution is given: to photographs, which should rarely get one, and to pictures that should.

    python bench/cautions.py DATA [--drawings FOLDER]

DATA is a Parquet file or glob with `image`, `label`, `style` and `source`, such as the development set. Drawings,
charts, text pages and screenshots are made here; FOLDER adds drawings of one's own. Also prints how strongly DATA's
photographs can be compressed before that is said, how near they come to showing nothing, and how long cautions take
for 12 megapixels.
"""

import argparse
import io
import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from unusual_pictures import unusual_pictures

from modeling import RobustClipImageProcessor
from modeling.cautions.content import MIN_CORRELATION, MIN_LEFT, has_content, measure_content
from modeling.cautions.finding import MAX_POOR_BITS, find_cautions
from modeling.images import open_image
from train.data.records import DataArguments, load_records

COMPRESSED = 60
SIDE = 224  # of the square that the embedded default sees
PROCESSOR = RobustClipImageProcessor(size=SIDE)
LEAST = (MIN_LEFT, MIN_CORRELATION)
QUALITIES = (90, 75, 60, 40, 20, 10, 5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--drawings", type=Path)
    arguments = parser.parse_args()
    records = load_records(DataArguments(data=arguments.data))
    kinds: dict[str, list[list[str]]] = {}
    by_source: Counter[str] = Counter()
    photographs = []
    for record in records:
        data = record["image"]["bytes"]
        codes = codes_of(data)
        kind = "photographs" if record["label"] == 0 else f"generated, {record['style']}"
        kinds.setdefault(kind, []).append(codes)
        if record["label"] == 0:
            photographs.append(data)
            by_source[record["source"]] += "drawing" in codes
    for kind, files in unusual_pictures().items():
        kinds[kind] = [codes_of(data) for data in files]
        kinds[f"{kind}, as JPEG"] = [codes_of(shared(data)) for data in files]
    if arguments.drawings is not None:
        files = [path.read_bytes() for path in sorted(arguments.drawings.iterdir())]
        kinds["drawings of FOLDER"] = [codes_of(data) for data in files]
        kinds["drawings of FOLDER, as JPEG"] = [codes_of(shared(data)) for data in files]
    for kind, found in kinds.items():
        counts = Counter(code for codes in found for code in codes)
        none = sum(not codes for codes in found)
        rates = ", ".join(f"{code} {100 * count / len(found):.1f} %" for code, count in counts.most_common())
        print(f"{kind} ({len(found)}): none {100 * none / len(found):.1f} %, {rates}")
    worst = ", ".join(f"{source} {count}" for source, count in by_source.most_common(4))
    print(f"photographs taken for drawings, by source: {worst}")
    print_content(photographs)
    print_compression(photographs)
    print_time()


def codes_of(data: bytes) -> list[str]:
    """The cautions about one file."""
    picture = open_image(data)
    pixel_values = PROCESSOR(images=picture, return_tensors="pt")["pixel_values"]
    (seen,) = has_content(pixel_values, PROCESSOR.image_std)
    return [caution.code for caution in find_cautions(data, picture, model_side=SIDE, has_content=seen)]


def print_content(photographs: list[bytes]) -> None:
    """How near real pictures come to those that show nothing, and how many are taken for such."""
    measured = [
        measure_content(PROCESSOR(images=open_image(data), return_tensors="pt")["pixel_values"], PROCESSOR.image_std)
        for data in photographs
    ]
    for name, values, least in zip(("left", "correlation"), zip(*measured, strict=True), LEAST, strict=True):
        ordered = sorted(value.item() for value in values)
        lowest = ", ".join(f"{value:.2f}" for value in ordered[:5])
        below = sum(value < least for value in ordered)
        print(f"no_content, {name}: {lowest} are the lowest of {len(ordered)} photographs, {below} under {least}")


def shared(data: bytes) -> bytes:
    """The picture as the development set's are: short side 400 at most, JPEG, here of quality 80."""
    picture = open_image(data)
    picture.thumbnail([side * min(1, 400 / min(picture.size)) for side in picture.size])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def print_compression(photographs: list[bytes]) -> None:
    """Bits a pixel of photographs at several qualities, and how many are called strongly compressed."""
    chosen = np.random.default_rng(0).permutation(len(photographs))[:COMPRESSED]
    pictures = [open_image(photographs[index]) for index in chosen]
    for file_format in MAX_POOR_BITS:
        for quality in QUALITIES:
            bits, named = [], 0
            for picture in pictures:
                buffer = io.BytesIO()
                picture.save(buffer, file_format, quality=quality)
                bits.append(8 * buffer.tell() / (picture.width * picture.height))
                named += "compressed" in codes_of(buffer.getvalue())
            low, middle = np.quantile(bits, (0.05, 0.5))
            print(
                f"{file_format} quality {quality}: {middle:.2f} bits a pixel (5 % under {low:.2f}), "
                f"called strongly compressed {100 * named / len(pictures):.0f} % of {len(pictures)}"
            )


def print_time() -> None:
    """Median time for an opened photograph of 12 megapixels, and for a drawing, which is looked at twice."""
    photograph = open_image(Path(__file__).resolve().parent.parent / "examples" / "china.jpg")
    drawing = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(drawing).ellipse((100, 100, 400, 400), fill="navy")
    for name, picture in (("photograph", photograph), ("drawing", drawing)):
        picture = picture.resize((4000, 3000), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        wall, processor = [], []
        for _ in range(15):
            start, processor_start = time.perf_counter(), time.process_time()
            find_cautions(buffer.getvalue(), picture, model_side=SIDE)
            wall.append(1000 * (time.perf_counter() - start))
            processor.append(1000 * (time.process_time() - processor_start))
        print(
            f"{name} of 4000 x 3000 pixels: {statistics.median(wall):.1f} ms (least {min(wall):.1f}, "
            f"processor time {statistics.median(processor):.1f})"
        )


if __name__ == "__main__":
    main()
