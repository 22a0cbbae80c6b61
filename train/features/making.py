"""Make a feature bank: pictures -> embeddings, in shards, on any number of processes.

While it is made, a bank is a folder of shards. Each is written all or nothing, and one that is there is not computed
again: an interrupted run goes on where it stopped, and several processes on one file system share the work (torchrun).
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from accelerate import PartialState
from tqdm import tqdm
from transformers import AutoTokenizer

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES
from modeling.files import claim_folder, remove_leftovers, replacing, write_json
from modeling.hub import hub_errors

from ..jobs.processes import start_processes
from .backbone import load_backbone, processor_settings, weights_fingerprint
from .bank import INFO_FILE, META_COLUMNS, META_SCHEMA, ROWS_FILE, FeatureBank, read_table, write_tables
from .embedder import Embedder, choose_probed

logger = logging.getLogger(__name__)


def build_feature_bank(
    records: datasets.Dataset,
    output: str | os.PathLike,
    *,
    backbone: str = "default",
    image_layers: Sequence[int] = (),
    image_tokens: Sequence[str] = (),
    views: int = 4,
    probed: int = 0,
    deliveries: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 16,
    shard_size: int = 128,
) -> FeatureBank:
    """Embed every record under `views` views and write a bank.

    Args:
        records: from `train.data.records.load_records`.
        output: folder to write; one that an interrupted run left is continued.
        backbone: "default", or by Hub id or folder: what `from_backbone` takes, or one of our checkpoints.
        image_layers: blocks whose tokens are stored beside the embedding; those of the checkpoint by default.
        image_tokens: which tokens: "class" (the default), "patch_mean".
        views: views a record, at least 1; the first is the picture as it is.
        probed: records that are embedded under every standard delivery too, half of each class.
        deliveries: names of standard deliveries that every record is embedded under.
        seed: of the random deliveries. A view depends on seed, record and view number only.
        batch_size: pictures a forward pass.
        shard_size: records a shard.

    Returns:
        The bank. Pictures that cannot be read are left out, counted and listed in `bank.json`.

    Raises:
        ValueError: no records, no readable picture, an unknown delivery, or `output` holds a bank made with other
            settings or data.
    """
    if len(records) == 0:
        raise ValueError("There is nothing to embed: no records.")
    if unknown := sorted(set(deliveries) - set(STANDARD_DELIVERIES)):
        raise ValueError(f"`deliveries` must be among {', '.join(STANDARD_DELIVERIES)}, got {', '.join(unknown)}.")
    output, processes = Path(output), start_processes()
    with processes.main_process_first():
        folder = str(default_backbone()) if backbone == "default" else backbone
    with nullcontext() if Path(folder).is_dir() else hub_errors(folder):
        model = load_backbone(folder, image_layers, image_tokens)
        tokenizer = AutoTokenizer.from_pretrained(folder) if model.text_tower is not None else None
        processor = load_processor(folder)
    info = _made_from(model, processor, records) | {
        "backbone": backbone,
        "views": views,
        "probed": probed,
        "deliveries": sorted(deliveries),
        "standard_deliveries": list(STANDARD_DELIVERIES) if probed else [],
        "seed": seed,
        "shard_size": shard_size,
        "shards": -(-len(records) // shard_size),
    }
    with processes.main_process_first():
        claim_folder(output / INFO_FILE, info)
    if "fingerprint" in json.loads((output / INFO_FILE).read_text()):
        if processes.is_main_process:
            for left in output.glob("shard-*"):  # a run that was killed right after it had finished
                left.unlink()
        return FeatureBank.load(output)
    embed = Embedder(
        model.to(processes.device),
        tokenizer,
        processor,
        batch_size=batch_size,
        views=views,
        seed=seed,
        probed=choose_probed(records, probed, seed),
        deliveries=deliveries,
    )
    with _full_float32():
        _write_shards(records, output, embed, info, processes)
    processes.wait_for_everyone()
    if processes.is_main_process:
        _finish(output, info)
    processes.wait_for_everyone()
    return FeatureBank.load(output)


def _made_from(model: RobustClipModel, processor: RobustClipImageProcessor, records: datasets.Dataset) -> dict:
    """Which backbone, which pixels, which records."""
    return {
        "backbone_sha256": weights_fingerprint(model),
        "processor": processor_settings(processor),
        "image_layers": model.config.image_layers,
        "image_tokens": model.config.image_tokens,
        "records": len(records),
        "records_sha256": _records_fingerprint(records),
    }


@contextmanager
def _full_float32() -> Iterator[None]:
    """Within, cuDNN does not round float32 to TF32, which it does by default: a bank is the same from every device."""
    if not torch.cuda.is_available():
        yield
        return
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch's own types lack it
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def _write_shards(
    records: datasets.Dataset, output: Path, embed: Embedder, info: dict, processes: PartialState
) -> None:
    """Write this process's shards, every n-th of n processes, except those that are there."""
    size, shards = info["shard_size"], info["shards"]
    mine = range(processes.process_index, shards, processes.num_processes)
    with tqdm(total=len(mine), unit="shard", desc="features", disable=not processes.is_main_process) as progress:
        for index in mine:
            path = output / _shard_name(index, shards)
            if not path.is_file():
                rows = range(index * size, min((index + 1) * size, len(records)))
                table = embed(records.select(rows), progress)
                write_tables(path, table.schema, [table])
            progress.update()


def _finish(output: Path, info: dict) -> None:
    """Join the shards, one in memory at a time, say so in `bank.json`, and delete them."""
    paths = [output / _shard_name(index, info["shards"]) for index in range(info["shards"])]
    counts, unreadable, widths = [], [], {}
    for path in paths:
        shard = read_table(path)
        counts.append(len(shard))
        unreadable += json.loads(shard.schema.metadata[b"unreadable"])
        for name in ("image_embeds", "text_embeds"):
            if name in shard.column_names:
                widths[name] = shard.schema.field(name).type.list_size
    if sum(counts) == 0:
        raise ValueError(f"None of the {len(unreadable)} pictures can be read; the first: {unreadable[0]['error']}")
    digest = hashlib.sha256()
    for name, width in widths.items():
        with replacing(output / f"{name}.npy") as partial:
            matrix = np.lib.format.open_memmap(partial, "w+", dtype=np.float32, shape=(sum(counts), width))
            start = 0
            for path, count in zip(paths, counts, strict=True):
                values = read_table(path).column(name).combine_chunks().flatten().to_numpy().reshape(-1, width)
                matrix[start : start + count] = values
                digest.update(values.tobytes())
                start += count
            matrix.flush()
    tables = (read_table(path).select(META_COLUMNS).cast(META_SCHEMA) for path in paths)
    write_tables(output / ROWS_FILE, META_SCHEMA, tables)
    with (output / ROWS_FILE).open("rb") as rows:
        digest.update(hashlib.file_digest(rows, "sha256").digest())
    if unreadable:
        logger.warning("%d pictures could not be read; they are listed in %s.", len(unreadable), output / INFO_FILE)
    versions = {name: version(name) for name in ("torch", "transformers", "Pillow")}
    info = info | {"unreadable": unreadable, "fingerprint": digest.hexdigest(), "versions": versions}
    write_json(output / INFO_FILE, info)
    for path in paths:
        path.unlink()
    remove_leftovers(output)


def _shard_name(index: int, shards: int) -> str:
    return f"shard-{index:05d}-of-{shards:05d}.arrow"


def _size(path: str | None) -> int | None:
    """Bytes of a record's file, `None` where there is none."""
    return os.path.getsize(path) if path and os.path.isfile(path) else None


def _records_fingerprint(records: datasets.Dataset) -> str:
    """SHA-256 over all that is known of the records, in order, and the sizes of their files."""
    digest = hashlib.sha256()
    for batch in records.with_format("arrow").iter(batch_size=1000):
        described = batch.drop_columns(["image"])
        sizes = pc.binary_length(pc.struct_field(batch.column("image"), "bytes")).to_pylist()
        paths = pc.struct_field(batch.column("image"), "path").to_pylist()
        sizes = [_size(path) if size is None else size for size, path in zip(sizes, paths, strict=True)]
        digest.update(json.dumps([described.to_pydict(), sizes], sort_keys=True).encode())
    return digest.hexdigest()


__all__ = ["build_feature_bank"]
