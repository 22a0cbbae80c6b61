"""Views a second of `python -m train features` beside the bare backbone on ready tensors, in the same run.

    python bench/feature_bank.py

Opening, delivering and preparing pictures must hide behind the backbone: the target is 90 % of its throughput. About
four minutes on two cores. Both take turns (A B A B), so that a drifting machine slows both.
"""

import logging
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import torch
from sample import example_records

from modeling import RobustClipModel
from modeling.checkpoints import default_backbone
from train.features.making import build_feature_bank

TURNS = 3
RECORDS, VIEWS, BATCH = 64, 3, 16


def main() -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    records = example_records(RECORDS)
    model = RobustClipModel.from_backbone(str(default_backbone())).eval()
    pixels = torch.randn(BATCH, 3, 224, 224)
    bank_rates, bare_rates = [], []
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        model(pixel_values=pixels)
        for turn in range(TURNS):
            start = time.perf_counter()
            bank = build_feature_bank(records, Path(folder) / str(turn), views=VIEWS, batch_size=BATCH)
            bank_rates.append(len(bank) / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(RECORDS * VIEWS // BATCH):
                model(pixel_values=pixels)
            bare_rates.append(RECORDS * VIEWS / (time.perf_counter() - start))
    ratio = statistics.median(a / b for a, b in zip(bank_rates, bare_rates, strict=True))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {RECORDS} pictures x {VIEWS} views a turn")
    print(f"feature bank:  {statistics.median(bank_rates):.2f} views/s, loading the backbone included")
    print(f"bare backbone: {statistics.median(bare_rates):.2f} views/s on ready tensors")
    print(f"feature bank / bare backbone: {ratio:.3f} (target: 0.90)")


if __name__ == "__main__":
    main()
