"""docs/ray_scoring.py on a local Ray, with real weights: its probabilities must be those of `Detector.detect_many`.

    python bench/ray_example.py

In `make bench` instead of `make test`, because starting Ray alone takes longer than most tests. Without Ray
(`pip install -e ".[ray]"`) it says so and ends.
"""

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from scoring import write_pictures

from modeling.checkpoints import default_checkpoint
from modeling.detector import Detector

ROOT = Path(__file__).resolve().parent.parent
PICTURES, WORKERS = 24, 2


def main() -> None:
    """Run the example and compare."""
    if importlib.util.find_spec("ray") is None:
        print('Ray is not installed, its example was not run: pip install -e ".[ray]"')
        return
    # Before Ray is imported: no statistics are sent, its workers find this project, and it stays on the loopback
    # interface, as it does by default on systems that ask the user about every open port.
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'docs'}",
    }
    sys.path.insert(0, str(ROOT / "docs"))
    import ray
    from ray_scoring import score_folder

    model = str(default_checkpoint())
    ray.init(address="local", num_cpus=2 * WORKERS, include_dashboard=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "pictures"
            write_pictures(pictures, PICTURES)
            (pictures / "broken.jpg").write_bytes(b"not a picture")
            start = time.perf_counter()
            score_folder(str(pictures), f"{folder}/scores", model=model, workers=WORKERS)
            seconds = time.perf_counter() - start
            rows = pd.read_parquet(f"{folder}/scores").sort_values("path").reset_index(drop=True)
            answers = Detector.from_pretrained(model).detect_many(rows["path"].tolist())
    finally:
        ray.shutdown()
    errors = [answer.error or "" for answer in answers]
    if rows["error"].tolist() != errors or len(rows) != PICTURES + 1:
        sys.exit(f"Ray's example gave {len(rows)} rows with the errors {rows['error'].tolist()}, expected {errors}.")
    probabilities = pd.Series([answer.probability for answer in answers], dtype=float)
    difference = (rows["probability"] - probabilities).abs().max()
    if not difference < 1e-5:
        sys.exit(f"Ray's example differs from detect_many by {difference:.2e} in the probability.")
    print(f"Ray {ray.__version__}, {WORKERS} workers: {len(rows)} files in {seconds:.1f} s, loading included")
    print(f"errors as detect_many, probabilities within {difference:.1e} of it")


if __name__ == "__main__":
    main()
