"""Make a feature bank: pictures -> embeddings, in shards, on any number of processes.

While it is made, a bank is a folder of shards (see `shards`): an interrupted run goes on where it stopped, and several
processes on one file system share the work (torchrun). A finished bank of the same pictures is not made again; where
what is told of them has changed, its rows are written again (see `describing`).
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from filelock import FileLock, Timeout
from tqdm import tqdm
from transformers import AutoTokenizer

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES
from modeling.files import claim_folder
from modeling.hub import hub_errors

from ..jobs.processes import start_processes
from .backbone import load_backbone, processor_settings, weights_fingerprint
from .bank import INFO_FILE, ROWS_FILE, FeatureBank, file_sha256
from .describing import describe_again
from .embedder import Embedder, Part, choose_probed
from .shards import join_shards, missing_records, remove_shards, share_of, write_shards

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
# From so many views on, some are embedded first to say how long it will take.
LONG_VIEWS = 2000


def build_feature_bank(
    records: datasets.Dataset,
    output: str | os.PathLike,
    *,
    backbone: str = "default",
    image_layers: Sequence[int] = (),
    image_tokens: Sequence[str] = (),
    image_size: int | None = None,
    views: int = 4,
    probed: int = 0,
    deliveries: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 16,
) -> FeatureBank:
    """Embed every record under `views` views and write a bank.

    Args:
        records: from `train.data.records.load_records`.
        output: folder to write; one that an interrupted run left is continued. Of a finished bank of the same
            pictures only the descriptions are written again, where they have changed: it keeps its probed records.
        backbone: "default", or by Hub id or folder: what `from_backbone` takes, or one of our checkpoints.
        image_layers: blocks whose tokens are stored beside the embedding; those of the checkpoint by default.
        image_tokens: which tokens: "class" (the default), "patch_mean".
        image_size: side of the square that the backbone sees, in pixels; its own by default.
        views: views a record, at least 1; the first is the picture as it is.
        probed: records that are embedded under every standard delivery too, half of each class.
        deliveries: names of standard deliveries that every record is embedded under.
        seed: of the random deliveries. A view depends on seed, record and view number only.
        batch_size: pictures a forward pass.

    Returns:
        The bank. Pictures that cannot be read are left out, counted and listed in `bank.json`.

    Raises:
        ValueError: no records, no readable picture, an unknown delivery, `output` holds a bank made with other
            settings or data, or another command is making it.
    """
    if len(records) == 0:
        raise ValueError("There is nothing to embed: no records.")
    if unknown := sorted(set(deliveries) - set(STANDARD_DELIVERIES)):
        raise ValueError(f"`deliveries` must be among {', '.join(STANDARD_DELIVERIES)}, got {', '.join(unknown)}.")
    output, processes = Path(output), start_processes()
    with processes.main_process_first():
        folder = str(default_backbone()) if backbone == "default" else backbone
    with nullcontext() if Path(folder).is_dir() else hub_errors(folder):
        model = load_backbone(folder, image_layers, image_tokens, image_size)
        tokenizer = AutoTokenizer.from_pretrained(folder) if model.text_tower is not None else None
        processor = load_processor(folder, image_size)
    chosen = choose_probed(records, probed, seed)
    info = _made_from(model, processor, records) | {
        "backbone": backbone,
        "image_size": image_size,
        "views": views,
        "probed": probed,
        "probed_sha256": hashlib.sha256(" ".join(sorted(chosen)).encode()).hexdigest(),
        "deliveries": sorted(deliveries),
        "standard_deliveries": list(STANDARD_DELIVERIES) if probed else [],
        "seed": seed,
    }
    with _only_maker(output, processes):
        with processes.main_process_first():
            is_finished = _claim(output, info)
            if is_finished and processes.is_main_process:
                remove_shards(output)  # left by a run that was killed right after it had finished
                _mend_rows(output, records, info["records_sha256"])
        if is_finished:
            return FeatureBank.load(output)
        embedder = Embedder(
            model.to(processes.device),
            tokenizer,
            processor,
            batch_size=batch_size,
            views=views,
            seed=seed,
            probed=chosen,
            deliveries=deliveries,
        )
        with _full_float32():
            _embed_missing(records, output, embedder, processes)
        processes.wait_for_everyone()
        if processes.is_main_process:
            join_shards(output, records, info)
        processes.wait_for_everyone()
        return FeatureBank.load(output)


@contextmanager
def _only_maker(output: Path, processes: PartialState) -> Iterator[None]:
    """Keep other jobs out of the folder; the processes of this one share it.

    Raises:
        ValueError: another job is at it.
    """
    if not processes.is_main_process:
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"Another command is making the bank {output}: wait until it has ended, or choose another `output`."
        ) from None
    except PermissionError:  # of a finished bank that nobody may write, which is only read
        yield
        return
    try:
        yield
    finally:
        (output / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def _claim(output: Path, info: dict) -> bool:
    """Whether the folder holds the finished bank; `ValueError` where it was begun with other settings or pictures."""
    described: tuple[str, ...] = ("records_sha256",)
    if (output / INFO_FILE).is_file() and "fingerprint" in json.loads((output / INFO_FILE).read_text()):
        described = ("records_sha256", "probed_sha256")
    claim_folder(output / INFO_FILE, {name: value for name, value in info.items() if name not in described})
    return len(described) == 2


def _mend_rows(output: Path, records: datasets.Dataset, records_sha256: str) -> None:
    """Write the rows of a finished bank again, where the records say something else by now."""
    info = json.loads((output / INFO_FILE).read_text())
    if (info["records_sha256"], info["rows_sha256"]) != (records_sha256, file_sha256(output / ROWS_FILE)):
        describe_again(output, records, records_sha256)


def _made_from(model: RobustClipModel, processor: RobustClipImageProcessor, records: datasets.Dataset) -> dict:
    """Which backbone, which pixels, which records."""
    pictures_sha256 = _pictures_fingerprint(records)
    return {
        "backbone_sha256": weights_fingerprint(model),
        "processor": processor_settings(processor),
        "image_layers": model.config.image_layers,
        "image_tokens": model.config.image_tokens,
        "records": len(records),
        "pictures_sha256": pictures_sha256,
        "texts_sha256": None if model.text_tower is None else _columns_fingerprint(records, ["record_id", "text"]),
        "records_sha256": _columns_fingerprint(records, records.column_names, pictures_sha256),
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


def _embed_missing(records: datasets.Dataset, output: Path, embedder: Embedder, processes: PartialState) -> None:
    """Embed this process's share of the records that no shard holds, and say first how much it is."""
    parts = embedder.divide(records, missing_records(output, len(records)))
    processes.wait_for_everyone()  # nobody writes a shard before all have seen which are there
    mine = share_of(parts, processes.process_index, processes.num_processes)
    views = sum(part.views for part in mine)
    if processes.is_main_process and views >= LONG_VIEWS:
        logger.info(_estimate(records, embedder, mine, views))
    with tqdm(total=views, unit="view", desc="features", smoothing=0.05, disable=not processes.is_main_process) as bar:
        write_shards(embedder.embed(records, mine), output, embedder, bar)


def _estimate(records: datasets.Dataset, embedder: Embedder, parts: Sequence[Part], views: int) -> str:
    """How many views, how fast, how long: by the first parts, embedded once to measure it."""
    tried = [Part(part.records, part.views) for part in parts[: 2 * embedder.workers if embedder.on_cpu else 4]]
    start = time.perf_counter()
    rate = sum(part.views for part in embedder.embed(records, tried)) / (time.perf_counter() - start)
    minutes = views / rate / 60
    duration = f"{minutes / 60:.1f} hours" if minutes >= 100 else f"{minutes:.0f} minutes"
    return f"{views:,} views at {rate:.1f} a second: about {duration}"


def _pictures_fingerprint(records: datasets.Dataset) -> str:
    """SHA-256 over the identifiers and the bytes of the pictures, in order."""
    digest = hashlib.sha256()
    for batch in records.select_columns(["record_id", "image"]).with_format("arrow").iter(batch_size=64):
        for record_id, image in zip(batch["record_id"].to_pylist(), batch["image"].to_pylist(), strict=True):
            digest.update(json.dumps([record_id, hashlib.sha256(_content(image)).hexdigest()]).encode())
    return digest.hexdigest()


def _content(image: dict | None) -> bytes:
    """The bytes of a picture's file; none where it cannot be read, which embedding will count."""
    if image is None or (image["bytes"] is None and image["path"] is None):
        return b""
    with suppress(OSError):
        return Path(image["path"]).read_bytes() if image["bytes"] is None else image["bytes"]
    return b""


def _columns_fingerprint(records: datasets.Dataset, names: Sequence[str], start: str = "") -> str:
    """SHA-256 over what columns, other than the picture, say of the records, in order."""
    digest = hashlib.sha256(start.encode())
    columns = records.select_columns([name for name in names if name != "image"])
    for batch in columns.with_format("arrow").iter(batch_size=1000):
        digest.update(json.dumps(batch.to_pydict(), sort_keys=True).encode())
    return digest.hexdigest()


__all__ = ["build_feature_bank"]
