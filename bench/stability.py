"""What the check by delivered copies changes in the verdicts, and what it costs.

    python bench/stability.py "data/*.parquet"

Prints, for 150 real and 150 generated pictures drawn over sources, the verdicts before and after the check, each
delivery's flips, and the check's time as a multiple of the bare backbone's, both in turn on the same picture.
The default head was trained on the project's development set: on that set the figures compare before with after, they
are not the detector's accuracy.
"""

import statistics
import sys
import time

import pandas as pd
import torch
from sample import sample_pictures

from modeling.detector import Detector
from modeling.images import open_image
from modeling.stability import CLEAN, STABILITY_DELIVERIES, measure_stability
from modeling.verdicts import OPPOSITE, UNCERTAIN, VERDICTS

PER_CLASS = 150
CLASSES = {0: "real pictures", 1: "generated pictures"}


def judge(detector: Detector, data: bytes) -> dict:
    """Verdicts of one picture as it came and as delivered, and the times of the backbone and of the check."""
    picture = open_image(data)
    pixel_values = detector.processor(images=picture, return_tensors="pt")["pixel_values"]
    start = time.perf_counter()
    with torch.inference_mode():
        detector.model.backbone.vision_tower(pixel_values=pixel_values)
    backbone = time.perf_counter() - start
    detection = detector.detect(picture)
    start = time.perf_counter()
    stability = measure_stability(detector, picture, detection)
    return {**stability.verdicts, "after": stability.verdict, "ratio": (time.perf_counter() - start) / backbone}


def print_verdicts(table: pd.DataFrame, title: str, verdicts: pd.Series) -> None:
    """One line a class: how many pictures got each verdict."""
    for label, name in CLASSES.items():
        found = verdicts[table["label"] == label]
        shares = (
            f"{verdict} {(found == verdict).sum():4d} ({100 * (found == verdict).mean():4.1f} %)"
            for verdict in VERDICTS
        )
        print(f"{title:<24} {name:<19} {len(found)}: " + ", ".join(shares))


def main() -> None:
    """Measure and print."""
    detector = Detector.from_pretrained()
    table = sample_pictures(sys.argv[1], PER_CLASS)
    judged = []
    for number, data in enumerate(table["data"]):
        judged.append(judge(detector, data))
        if number % 50 == 0:
            print(f"{number} of {len(table)} pictures", file=sys.stderr, flush=True)
    table = table.drop(columns="data").join(pd.DataFrame(judged))
    clean = table[CLEAN]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {table['source'].nunique()} sources")
    print_verdicts(table, "as it came", clean)
    print_verdicts(table, "opposite once: uncertain", table["after"])
    # What a stricter rule would do: a verdict that only becomes uncertain counts, too.
    changed = table[list(STABILITY_DELIVERIES)].ne(clean, axis=0).sum(axis=1)
    for times in (1, 2):
        print_verdicts(table, f"changed {times}x: uncertain", clean.mask(changed >= times, UNCERTAIN))
    for name in STABILITY_DELIVERIES:
        opposite = table[name] == clean.map(OPPOSITE)
        counts = ", ".join(
            f"{kind} {opposite[table['label'] == label].sum()} opposite, "
            f"{(table[name] != clean)[table['label'] == label].sum()} changed"
            for label, kind in CLASSES.items()
        )
        print(f"{name:<12} {counts}")
    print(f"check / bare backbone: {statistics.median(table['ratio']):.2f} (median)")


if __name__ == "__main__":
    main()
