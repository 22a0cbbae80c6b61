"""How long one answer takes, beside the bare backbone in the same run: `make bench`.

Prints medians in milliseconds and the ratio of the whole answer (open, prepare, backbone, head, verdict) to the
backbone alone, in turn A B A B so that a drifting machine slows both.
"""

import statistics
import time
from pathlib import Path

import torch

from modeling.detector import Detector
from modeling.images import open_image

RUNS = 20
PICTURE = Path(__file__).resolve().parent.parent / "examples" / "china.jpg"


def milliseconds(call) -> float:  # noqa: ANN001
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    detector = Detector.from_pretrained()
    image = open_image(PICTURE)
    pixels = detector.processor(images=image, return_tensors="pt")["pixel_values"]
    tower = detector.model.backbone.vision_tower
    calls = {
        "whole answer": lambda: detector.detect(PICTURE),
        "bare backbone": lambda: tower(pixel_values=pixels),
        "open": lambda: open_image(PICTURE),
        "prepare": lambda: detector.processor(images=image, return_tensors="pt"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            call()
        for _ in range(RUNS):
            for name, call in calls.items():
                times[name].append(milliseconds(call))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {PICTURE.name}, median of {RUNS}")
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.1f} ms (min {min(values):.1f}, max {max(values):.1f})")
    ratios = [a / b for a, b in zip(times["whole answer"], times["bare backbone"], strict=True)]
    print(f"whole answer / bare backbone: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
