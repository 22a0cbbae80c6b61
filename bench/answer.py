"""How soon the verdict and the whole answer of the page are there, beside the bare backbone in the same run.

    python bench/answer.py [--runs 15]

Prints medians in milliseconds and as multiples of the backbone's forward pass for one picture; the parts take turns,
so that a drifting machine slows all of them. Opening the file is apart: it depends on the picture.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from modeling.detector import Detector
from modeling.embedded import EXAMPLES
from modeling.examination import examine
from modeling.explanation import draw


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="measurements a picture")
    runs = parser.parse_args().runs
    detector = Detector.from_pretrained()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, median of {runs} runs a picture")
    for name in ("china.jpg", "flux_dev.webp"):
        measure(detector, EXAMPLES / name, runs)


def measure(detector: Detector, picture: Path, runs: int) -> None:
    """Print the times of one picture."""
    pixels = torch.zeros(1, 3, 224, 224)
    tower = detector.model.backbone.vision_tower
    times: dict[str, list[float]] = {}
    for run in range(runs + 1):
        start = time.perf_counter()
        with torch.inference_mode():
            tower(pixel_values=pixels)
        backbone = 1000 * (time.perf_counter() - start)
        start = time.perf_counter()
        *_, answer = examine(detector, picture)
        drawing = time.perf_counter()
        draw(answer.picture, answer.explanation)
        end = time.perf_counter()
        if run == 0:  # warm-up
            continue
        parts = answer.milliseconds | {"drawing": 1000 * (end - drawing)}
        for part, value in parts.items():
            times.setdefault(part, []).append(value)
        times.setdefault("backbone", []).append(backbone)
        times.setdefault("verdict / backbone, opening apart", []).append(parts["score"] / backbone)
        whole = 1000 * (end - start) - parts["open"]
        times.setdefault("whole answer / backbone, opening apart", []).append(whole / backbone)
    print(picture.name)
    for part, values in times.items():
        print(f"  {part:40} {statistics.median(values):8.2f}  (min {min(values):.2f}, max {max(values):.2f})")


if __name__ == "__main__":
    main()
