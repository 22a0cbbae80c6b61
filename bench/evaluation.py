"""Time and memory of a whole evaluation by the number of pictures: random scores of 200 sources, no picture needed.

    python bench/evaluation.py [PICTURES ...]

For each size (3,000, 100,000 and 1,000,000 by default) a fresh process evaluates, audits and writes the report. Given
a bank's size in pictures it shows what evaluation adds to embedding. A last line has 50,000 sources of one picture.
"""

import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from modeling.embedded import DEFAULT_SOURCE
from train.measure.calibration import Calibration
from train.measure.evaluation import evaluate_views
from train.report.evaluation_file import read_evaluation
from train.report.writing import write_report

SIZES, SOURCES = (3_000, 100_000, 1_000_000), 200
THRESHOLDS = {"real_threshold": 0.3, "generated_threshold": 0.7}


def pictures(number: int, sources: int) -> pd.DataFrame:
    """Rows of a bank as `evaluate` judges them: half of the sources real, ten generators, files that tell nothing."""
    rng = np.random.default_rng(0)
    source = np.arange(number) % sources
    label = source % 2
    rows = pd.DataFrame(
        {
            "record_id": [f"p{i}" for i in range(number)],
            "label": label,
            "source": [f"source-{i}" for i in source],
            "generator": np.where(label == 1, np.char.add("generator-", (source // 2 % 10).astype(str)), ""),
            "style": np.where(source % 3 == 0, "drawn", "photoreal"),
            "family": np.where(label == 1, np.char.add("family-", (source // 2 % 5).astype(str)), ""),
            "kind": np.char.add("kind-", (source % 17).astype(str)),
            "kind_by": "seen",
            "date": np.where(source % 3 == 0, "", "2024-12"),
            "view": 0,
            "delivery": "clean",
            "score": rng.normal(size=number) + 1.5 * label - 0.7 + rng.normal(size=sources)[source],
            "format": "JPEG",
            "width": rng.integers(400, 1200, number),
            "height": rng.integers(400, 1200, number),
            "file_bytes": rng.integers(40_000, 400_000, number),
            "jpeg_quality": rng.integers(70, 96, number).astype(float),
            "metadata": "",
            "perceptual_hash": [rng.bytes(32).hex() for _ in range(number)],
        }
    )
    return Calibration(1.0, 0.0, **THRESHOLDS).judge(rows)


def measure(number: int, sources: int) -> None:
    """Evaluate and report once, in this process, and print what it took."""
    logging.disable(logging.WARNING)
    rows = pictures(number, sources)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate_views(rows, **THRESHOLDS)
    evaluated, evaluated_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_report(Path(folder), read_evaluation(DEFAULT_SOURCE) | evaluation, rows)
        reported = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    auc = evaluation["auc"]
    print(
        f"{number:>9,} pictures, {sources:>6,} sources: evaluation {evaluated:6.1f} s ({evaluated_cpu:6.1f} s of "
        f"processor), report {reported:5.1f} s, peak {peak / 1024:,.0f} MiB, {before / 1024:,.0f} of it the pictures' "
        f"rows; AUC {auc['value']:.4f} [{auc['interval'][0]:.4f}, {auc['interval'][1]:.4f}]",
        flush=True,
    )


def main() -> None:
    """Measure every size in a process of its own, so that peaks are its own."""
    if len(sys.argv) > 2 and sys.argv[1] == "--one":
        measure(int(sys.argv[2]), int(sys.argv[3]))
        return
    sizes = [int(size.replace(",", "")) for size in sys.argv[1:]] or SIZES
    cases = [(size, SOURCES) for size in sizes] + ([] if sys.argv[1:] else [(50_000, 50_000)])
    for number, sources in cases:
        subprocess.run([sys.executable, __file__, "--one", str(number), str(sources)], check=True)


if __name__ == "__main__":
    main()
