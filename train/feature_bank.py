"""Feature bank: pictures -> embeddings, once, so that a head trains in minutes.

A bank is a folder of Arrow IPC shards and a `bank.json`. A row is one view of one record: view 0 is the picture as it
is, the others are random deliveries of it (the same for both classes). Each shard is written under a temporary name
and renamed, and a shard that is there is not computed again: an interrupted run goes on where it stopped.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from tqdm import tqdm
from transformers import AutoTokenizer

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.checkpoints import default_backbone, load_processor
from modeling.deliveries import random_delivery
from modeling.detector import tokenize_captions
from modeling.images import ImageError, open_image

logger = logging.getLogger(__name__)

INFO_FILE = "bank.json"
META_COLUMNS = ["record_id", "label", "generator", "source", "style", "view", "delivery"]


@dataclass
class FeatureBank:
    """Embeddings with what is known of them.

    Args:
        rows: one row a view: record_id, label, generator, source, style, view, delivery.
        image_embeds: (N, D_image) float32.
        text_embeds: (N, D_text) float32, a row of zeros where there is no text; `None` without a text tower.
        info: what made the bank (`bank.json`), with its fingerprint.
    """

    rows: pd.DataFrame
    image_embeds: torch.Tensor
    text_embeds: torch.Tensor | None
    info: dict

    def __len__(self) -> int:
        """Number of views."""
        return len(self.rows)

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
        shards = [folder / _shard_name(i, info["shards"]) for i in range(info["shards"])]
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing or "fingerprint" not in info:
            raise ValueError(f"{folder} is not finished ({len(missing)} shards missing): run `features` again.")
        table = pa.concat_tables(_read_shard(shard) for shard in shards)
        text = _matrix(table, "text_embeds") if "text_embeds" in table.column_names else None
        return cls(table.select(META_COLUMNS).to_pandas(), _matrix(table, "image_embeds"), text, info)


def build_feature_bank(
    records: datasets.Dataset,
    output: str | os.PathLike,
    *,
    backbone: str = "default",
    views: int = 4,
    seed: int = 0,
    batch_size: int = 16,
    shard_size: int = 128,
) -> FeatureBank:
    """Embed every record under `views` views and write a bank.

    Args:
        records: from `train.data.load_records`.
        output: folder to write; one that an interrupted run left is continued.
        backbone: "default", or a CLIP by Hub id or folder.
        views: views a record, at least 1; the first is the picture as it is.
        seed: of the random deliveries. A view depends on seed, record and view number only.
        batch_size: pictures a forward pass.
        shard_size: records a shard.

    Returns:
        The bank. Pictures that cannot be read are left out, counted and listed in `bank.json`.

    Raises:
        ValueError: `output` holds a bank made with other settings or data.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    folder = str(default_backbone()) if backbone == "default" else backbone
    model = RobustClipModel.from_backbone(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder) if model.text_tower is not None else None
    processor = load_processor(folder) if Path(folder).is_dir() else RobustClipImageProcessor()
    shards = -(-len(records) // shard_size)
    info = {
        "backbone": backbone,
        "backbone_sha256": weights_fingerprint(model),
        "processor": {key: value for key, value in processor.to_dict().items() if key.startswith(("size", "image_"))},
        "records": len(records),
        "records_sha256": hashlib.sha256("\n".join(records["record_id"]).encode()).hexdigest(),
        "views": views,
        "seed": seed,
        "shard_size": shard_size,
        "shards": shards,
    }
    _claim_folder(output, info)
    embed = _Embedder(model, tokenizer, processor, batch_size)
    unreadable: list[dict] = []
    with tqdm(total=len(records) * views, unit="view", desc="features") as progress:
        for index in range(shards):
            rows = range(index * shard_size, min((index + 1) * shard_size, len(records)))
            path = output / _shard_name(index, shards)
            if not path.is_file():
                _write_shard(path, embed(records.select(rows), views, seed, progress))
            else:
                progress.update(len(rows) * views)
            unreadable += json.loads(_read_shard(path).schema.metadata[b"unreadable"])
    info |= {
        "unreadable": unreadable,
        "fingerprint": _files_fingerprint(output / _shard_name(i, shards) for i in range(shards)),
        "versions": {name: version(name) for name in ("torch", "transformers", "Pillow")},
    }
    write_json(output / INFO_FILE, info)
    if unreadable:
        logger.warning("%d pictures could not be read; they are listed in %s.", len(unreadable), output / INFO_FILE)
    return FeatureBank.load(output)


class _Embedder:
    """Embeds records; the next batch is decoded in a thread while the backbone works."""

    def __init__(
        self,
        model: RobustClipModel,
        tokenizer: Any,
        processor: RobustClipImageProcessor,
        batch_size: int,
    ) -> None:
        self.model, self.tokenizer, self.processor, self.batch_size = model, tokenizer, processor, batch_size

    def __call__(self, records: datasets.Dataset, views: int, seed: int, progress: tqdm) -> pa.Table:
        """Embed a shard's records into a table with an `unreadable` list in its metadata."""
        unreadable: list[dict] = []
        rows: list[dict] = []
        image_embeds: list[torch.Tensor] = []
        text_embeds: list[torch.Tensor] = []
        batches = self._batches(records, views, seed, unreadable, progress)
        with ThreadPoolExecutor(max_workers=1) as thread, torch.inference_mode():
            upcoming = thread.submit(next, batches, None)
            while (batch := upcoming.result()) is not None:
                upcoming = thread.submit(next, batches, None)
                batch_rows, pixel_values, texts = batch
                outputs = self.model(pixel_values=pixel_values)
                image_embeds.append(outputs.image_embeds)
                rows += batch_rows
                if self.tokenizer is not None:
                    text_embeds.append(self._embed_texts(texts))
                progress.update(len(batch_rows))
        columns = {name: pa.array([row[name] for row in rows]) for name in META_COLUMNS}
        table = pa.table({**columns, "image_embeds": _vectors(image_embeds, self.model.config.vision_config)})
        if self.tokenizer is not None:
            table = table.append_column("text_embeds", _vectors(text_embeds, self.model.config.text_config))
        return table.replace_schema_metadata({"unreadable": json.dumps(unreadable)})

    def _batches(
        self, records: datasets.Dataset, views: int, seed: int, unreadable: list[dict], progress: tqdm
    ) -> Iterator[tuple[list[dict], torch.Tensor, list[str | None]]]:
        """Yield (rows, pixel_values, texts), `batch_size` views at a time."""
        rows: list[dict] = []
        pixels: list[torch.Tensor] = []
        texts: list[str | None] = []
        for record in records:
            try:
                picture = open_image(record["image"]["bytes"] or record["image"]["path"])
            except ImageError as error:
                unreadable.append({"record_id": record["record_id"], "error": str(error)})
                progress.update(views)
                continue
            for view in range(views):
                delivered, delivery = _deliver(picture, record["record_id"], view, seed)
                pixels.append(self.processor(images=delivered, return_tensors="pt")["pixel_values"])
                rows.append({**record, "view": view, "delivery": delivery})
                texts.append(record["text"])
                if len(rows) == self.batch_size:
                    yield rows, torch.cat(pixels), texts
                    rows, pixels, texts = [], [], []
        if rows:
            yield rows, torch.cat(pixels), texts

    def _embed_texts(self, texts: list[str | None]) -> torch.Tensor:
        """(B, D_text) with a row of zeros where there is no text."""
        tower: Any = self.model.text_tower
        embeds = tower(**tokenize_captions(self.tokenizer, texts)).text_embeds
        has_text = torch.tensor([bool(text) for text in texts]).unsqueeze(1)
        return torch.where(has_text, embeds, torch.zeros_like(embeds))


def _deliver(picture: Image.Image, record_id: str, view: int, seed: int) -> tuple[Image.Image, str]:
    """The picture itself for view 0, else a random delivery that depends on seed, record and view only."""
    if view == 0:
        return picture, "clean"
    record_seed = int.from_bytes(hashlib.sha256(record_id.encode()).digest()[:8], "big")
    return random_delivery(picture, np.random.default_rng([seed, view, record_seed]))


def _vectors(batches: list[torch.Tensor], tower_config: object) -> pa.FixedSizeListArray:
    """Batches of (B, D) tensors as an Arrow column of D-vectors."""
    width = tower_config.projection_dim  # type: ignore[attr-defined]
    values = torch.cat(batches).flatten().numpy() if batches else np.empty(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), width)


def _matrix(table: pa.Table, column: str) -> torch.Tensor:
    """An Arrow column of D-vectors as an (N, D) tensor."""
    width = table.schema.field(column).type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in table.column(column).chunks]
    return torch.from_numpy(np.concatenate(chunks).reshape(-1, width))


def _write_shard(path: Path, table: pa.Table) -> None:
    """Write all or nothing."""
    temporary = path.with_suffix(".partial")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    os.replace(temporary, path)


def _read_shard(path: Path) -> pa.Table:
    """Memory-map a shard."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _shard_name(index: int, shards: int) -> str:
    return f"shard-{index:05d}-of-{shards:05d}.arrow"


def _claim_folder(output: Path, info: dict) -> None:
    """Write the settings, or check that the folder was made with the same ones."""
    path = output / INFO_FILE
    if path.is_file():
        earlier = json.loads(path.read_text())
        different = [key for key, value in info.items() if earlier.get(key) != value]
        if different:
            raise ValueError(
                f"{output} holds a bank made with other settings: "
                + ", ".join(f"{key} was {earlier.get(key)!r}, is {info[key]!r}" for key in different)
                + ". Choose another `output`, or delete that folder."
            )
    else:
        write_json(path, info)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, all or nothing; NaN, which JSON does not have, raises ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def weights_fingerprint(model: RobustClipModel) -> str:
    """SHA-256 over the towers' parameters: two banks may meet only if it is equal."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if "tower" in name:
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _files_fingerprint(paths: Iterator[Path]) -> str:
    """SHA-256 over the contents of the shards, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


__all__ = ["FeatureBank", "build_feature_bank", "weights_fingerprint", "write_json"]
