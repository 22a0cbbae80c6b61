"""Feature bank: pictures -> embeddings, once, so that a head trains in minutes.

A row is one view of one record (see `embedder`). While it is made, a bank is a folder of shards. Each is written under
a temporary name and renamed, and one that is there is not computed again: an interrupted run goes on where it stopped,
and several processes on one file system share the work (torchrun). Finished, it is `rows.arrow`, one memory-mapped
matrix of embeddings for each tower, and `bank.json`, which says what made it.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from modeling import RobustClipConfig, RobustClipImageProcessor, RobustClipModel
from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import STANDARD_DELIVERIES
from modeling.files import claim_folder, remove_leftovers, replacing, write_json
from modeling.hub import hub_errors

from ..jobs.processes import start_processes
from .embedder import META_SCHEMA, Embedder, choose_probed

logger = logging.getLogger(__name__)

INFO_FILE = "bank.json"
ROWS_FILE = "rows.arrow"
META_COLUMNS = META_SCHEMA.names


@dataclass
class FeatureBank:
    """Embeddings with what is known of them.

    Args:
        rows: one row a view: record_id, label, generator, source, style, view, delivery, and the facts of its file.
        image_embeds: (N, D_image) float32, memory-mapped: rows come from disk when they are used.
        text_embeds: (N, D_text) float32, memory-mapped, a row of zeros where there is no text; `None` without a text
            tower.
        info: what made the bank (`bank.json`), with its fingerprint.
    """

    rows: pd.DataFrame
    image_embeds: torch.Tensor
    text_embeds: torch.Tensor | None
    info: dict

    def __len__(self) -> int:
        """Number of views."""
        return len(self.rows)

    def select(self, mask: NDArray[np.bool_]) -> "FeatureBank":
        """The rows (N,) where the mask holds; their embeddings are copied into memory, unless all are kept."""
        if mask.all():
            return self
        kept = torch.from_numpy(np.flatnonzero(mask))
        text = None if self.text_embeds is None else self.text_embeds[kept]
        return FeatureBank(self.rows[mask].reset_index(drop=True), self.image_embeds[kept], text, self.info)

    def narrow(self, config: PreTrainedConfig) -> "FeatureBank":
        """The same rows with the image features that a configuration names; copied into memory, unless all are kept.

        Raises:
            ValueError: the bank lacks some.
        """
        stored, tokens = self.info.get("image_layers") or [], self.info.get("image_tokens") or []
        wanted, wanted_tokens = config.image_layers or [], config.image_tokens or []
        if (stored, tokens) == (wanted, wanted_tokens):
            return self
        if not set(wanted) <= set(stored) or not set(wanted_tokens) <= set(tokens):
            raise ValueError(
                f"The bank holds {tokens or 'no tokens'} of layers {stored}, asked for are {wanted_tokens} of layers "
                f"{wanted}: make a bank with --image_layers and --image_tokens."
            )
        width = config.vision_config.hidden_size
        starts = [
            config.embedding_dim + width * (stored.index(layer) * len(tokens) + tokens.index(token))
            for layer in wanted
            for token in wanted_tokens
        ]
        parts = [self.image_embeds[:, : config.embedding_dim]]
        parts += [self.image_embeds[:, start : start + width] for start in starts]
        info = self.info | {"image_layers": config.image_layers, "image_tokens": config.image_tokens}
        return FeatureBank(self.rows, torch.cat(parts, dim=1), self.text_embeds, info)

    def check_made_by(self, backbone: RobustClipModel, processor: RobustClipImageProcessor) -> None:
        """The embeddings must be those that this backbone and processor give, or a head would be fed with others.

        Raises:
            ValueError: with what differs.
        """
        given = {"backbone_sha256": weights_fingerprint(backbone), "processor": processor_settings(processor)}
        for name, value in given.items():
            if value != self.info[name]:
                raise ValueError(
                    f"The bank was made with another backbone or processor: {name} of {self.info['backbone']} is "
                    f"{self.info[name]}, here it is {value}. Make a bank with what is used here."
                )

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "FeatureBank":
        """Read a finished bank.

        Raises:
            ValueError: the folder is no bank, or it is not finished.
        """
        folder = Path(folder)
        info_file = folder / INFO_FILE
        if not info_file.is_file():
            raise ValueError(
                f"{folder} is no feature bank: it has no {INFO_FILE}. Make one: python -m train features."
            )
        info = json.loads(info_file.read_text())
        if "fingerprint" not in info:
            raise ValueError(f"{folder} is not finished: run `python -m train features` again to go on.")
        rows = _read_table(folder / ROWS_FILE)
        if missing := sorted(set(META_COLUMNS) - set(rows.column_names)):
            raise ValueError(f"{folder} was made by an earlier version, it lacks {missing}: make the bank again.")
        image_embeds, text_embeds = (_load_matrix(folder / f"{name}.npy") for name in ("image_embeds", "text_embeds"))
        if image_embeds is None:
            raise ValueError(f"{folder} lacks image_embeds.npy: delete the folder and make the bank again.")
        return cls(rows.to_pandas(), image_embeds, text_embeds, info)


def build_feature_bank(
    records: datasets.Dataset,
    output: str | os.PathLike,
    *,
    backbone: str = "default",
    image_layers: Sequence[int] = (),
    image_tokens: Sequence[str] = (),
    views: int = 4,
    probe_per_source: int = 0,
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
        probe_per_source: records of each source and class that are embedded under every standard delivery too.
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
    output = Path(output)
    processes = start_processes()
    with processes.main_process_first():
        folder = str(default_backbone()) if backbone == "default" else backbone
    with nullcontext() if Path(folder).is_dir() else hub_errors(folder):
        model = load_backbone(folder, image_layers, image_tokens)
        tokenizer = AutoTokenizer.from_pretrained(folder) if model.text_tower is not None else None
        processor = load_processor(folder)
    shards = -(-len(records) // shard_size)
    info = {
        "backbone": backbone,
        "backbone_sha256": weights_fingerprint(model),
        "processor": processor_settings(processor),
        "image_layers": model.config.image_layers,
        "image_tokens": model.config.image_tokens,
        "records": len(records),
        "records_sha256": _records_fingerprint(records),
        "views": views,
        "probe_per_source": probe_per_source,
        "deliveries": sorted(deliveries),
        "standard_deliveries": list(STANDARD_DELIVERIES) if probe_per_source else [],
        "seed": seed,
        "shard_size": shard_size,
        "shards": shards,
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
        probed=choose_probed(records, probe_per_source, seed),
        deliveries=deliveries,
    )
    with _full_float32():
        _write_shards(records, output, embed, info, processes)
    processes.wait_for_everyone()
    if processes.is_main_process:
        _finish(output, info)
    processes.wait_for_everyone()
    return FeatureBank.load(output)


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
    """Write this process's shards, every n-th of n processes, but for those that are there."""
    size, shards = info["shard_size"], info["shards"]
    mine = range(processes.process_index, shards, processes.num_processes)
    with tqdm(total=len(mine), unit="shard", desc="features", disable=not processes.is_main_process) as progress:
        for index in mine:
            path = output / _shard_name(index, shards)
            if not path.is_file():
                rows = range(index * size, min((index + 1) * size, len(records)))
                table = embed(records.select(rows), progress)
                _write_tables(path, table.schema, [table])
            progress.update()


def _finish(output: Path, info: dict) -> None:
    """Join the shards, one in memory at a time, say so in `bank.json`, and delete them."""
    paths = [output / _shard_name(index, info["shards"]) for index in range(info["shards"])]
    counts, unreadable, widths = [], [], {}
    for path in paths:
        shard = _read_table(path)
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
                values = _read_table(path).column(name).combine_chunks().flatten().to_numpy().reshape(-1, width)
                matrix[start : start + count] = values
                digest.update(values.tobytes())
                start += count
            matrix.flush()
    tables = (_read_table(path).select(META_COLUMNS).cast(META_SCHEMA) for path in paths)
    _write_tables(output / ROWS_FILE, META_SCHEMA, tables)
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


def _load_matrix(path: Path) -> torch.Tensor | None:
    """A stored matrix, memory-mapped; `None` where there is no such file."""
    if not path.is_file():
        return None
    with warnings.catch_warnings():
        # It is never written to. A writable mapping would count against memory, and fail for a bank larger than that.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.load(path, mmap_mode="r"))


def _write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables one after the other, all or nothing."""
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def _read_table(path: Path) -> pa.Table:
    """Memory-map a table."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _shard_name(index: int, shards: int) -> str:
    return f"shard-{index:05d}-of-{shards:05d}.arrow"


def load_backbone(folder: str, image_layers: Sequence[int] = (), image_tokens: Sequence[str] = ()) -> RobustClipModel:
    """A backbone, or that of one of our checkpoints, by folder or Hub id, in evaluation mode.

    Args:
        folder: where it is.
        image_layers: as `RobustClipConfig`'s; a checkpoint's own by default.
        image_tokens: as `RobustClipConfig`'s.
    """
    given = {"image_layers": list(image_layers), "image_tokens": list(image_tokens)}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    if AutoConfig.from_pretrained(folder).model_type == RobustClipConfig.model_type:
        return RobustClipModel.from_pretrained(folder, **fields).eval()
    return RobustClipModel.from_backbone(folder, **fields).eval()


def weights_fingerprint(model: RobustClipModel) -> str:
    """SHA-256 over the towers' parameters: two banks may meet only if it is equal."""
    return state_fingerprint({name: value for name, value in model.state_dict().items() if "tower" in name})


def state_fingerprint(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the names and values of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def processor_settings(processor: RobustClipImageProcessor) -> dict:
    """What decides the pixels that a backbone sees."""
    return {"size": processor.size, "image_mean": processor.image_mean, "image_std": processor.image_std}


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


__all__ = [
    "FeatureBank",
    "build_feature_bank",
    "load_backbone",
    "processor_settings",
    "state_fingerprint",
    "weights_fingerprint",
]
