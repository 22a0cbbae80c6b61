"""`python -m train features`."""

from ..data.options import DataArguments
from ..data.records import load_records
from ..jobs.processes import start_processes
from .making import build_feature_bank
from .options import FeatureArguments


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
        views=arguments.views,
        probed=arguments.probed,
        deliveries=arguments.deliveries,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    if processes.is_main_process:
        pictures, unreadable = bank.rows["record_id"].nunique(), len(bank.info["unreadable"])
        print(f"{len(bank)} views of {pictures} pictures in {arguments.output}; {unreadable} pictures were unreadable")
