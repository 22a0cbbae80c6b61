"""`python -m train features`."""

import pandas as pd

from modeling.verdicts import CLASSES

from ..data.options import DataArguments
from ..data.records import load_records
from ..jobs.processes import start_processes
from .making import build_feature_bank
from .options import FeatureArguments

LARGEST = 3


def features(data: DataArguments, arguments: FeatureArguments) -> None:
    """Embed a data set, and print how much it is."""
    # One process after the other: what the first has downloaded and cached, the others find.
    with (processes := start_processes()).main_process_first():
        records = load_records(data)
    bank = build_feature_bank(
        records,
        arguments.output,
        backbone=arguments.backbone,
        image_layers=arguments.image_layers,
        image_tokens=arguments.image_tokens,
        image_size=arguments.image_size,
        views=arguments.views,
        probed=arguments.probed,
        deliveries=arguments.deliveries,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    if processes.is_main_process:
        clean, unreadable = bank.rows[bank.rows["view"] == 0], len(bank.info["unreadable"])
        print(
            f"{len(bank)} views of {len(clean)} pictures in {arguments.output}; {unreadable} pictures were unreadable"
        )
        for line in count_sources(clean):
            print(line)


def count_sources(clean: pd.DataFrame) -> list[str]:
    """A line for each class: its pictures, its sources, and the largest of them."""
    lines = []
    for label, name in enumerate(CLASSES):
        of_class = clean[clean["label"] == label]
        sources = of_class["source"].value_counts()
        line = f"{name}: {len(of_class)} pictures of {len(sources)} sources"
        if len(sources) == len(of_class) > 1:
            line += ": every picture is its own source, so nothing is held out together"
        elif len(sources):
            largest = sorted(sources.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]
            line += ", the largest " + ", ".join(f"{source} ({count})" for source, count in largest)
        lines.append(line)
    return lines
