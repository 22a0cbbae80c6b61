"""Records -> rows of a feature bank: what is known of a picture and its file, and the backbone's embeddings of views.

A view is a picture on one way to the reader. View 0 is the picture as it is and views 1, 2, ... are random deliveries:
those are trained on. View -1 is one of the standard deliveries, for measuring how a detector bears them.
"""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from tqdm import tqdm

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.deliveries import STANDARD_DELIVERIES, random_delivery
from modeling.detector import tokenize_captions
from modeling.images import ImageError

from ..jobs.processes import cores_of_a_process
from .bank import META_SCHEMA, STANDARD_VIEW
from .file_facts import open_record

# Batches at a time on a CPU; with more cores each gets several. A shard's 128 records keep so many busy.
MOST_WORKERS = 8


@dataclass
class _Part:
    """Some records: a row of each view, the views' pixels (1, 3, S, S) until they are embedded, what is not readable.

    Embeddings are in batches (B, D).
    """

    rows: list[dict] = field(default_factory=list)
    unreadable: list[dict] = field(default_factory=list)
    pixel_values: list[torch.Tensor] = field(default_factory=list)
    image_embeds: list[torch.Tensor] = field(default_factory=list)
    text_embeds: list[torch.Tensor] = field(default_factory=list)


class Embedder:
    """Embeds records, as many batches at a time as there are threads.

    On a CPU a thread opens, delivers, prepares and embeds a batch of its own, each on its share of the cores: one that
    decodes then holds up no other, as it would if all shared one product. On an accelerator the threads prepare
    batches while it works.

    Args:
        model: the backbone, in evaluation mode.
        tokenizer: for the text tower; `None` without one.
        processor: prepares pictures.
        batch_size: views a forward pass, at most.
        views: views a record to train on.
        seed: of the deliveries.
        probed: identifiers of the records that are embedded under every standard delivery too.
        deliveries: names of the standard deliveries that every record is embedded under.
    """

    def __init__(
        self,
        model: RobustClipModel,
        tokenizer: Any,
        processor: RobustClipImageProcessor,
        *,
        batch_size: int,
        views: int,
        seed: int,
        probed: Collection[str],
        deliveries: Collection[str] = (),
    ) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self.batch_size, self.views, self.seed = batch_size, views, seed
        self.probed, self.deliveries = probed, deliveries

    def __call__(self, records: datasets.Dataset, progress: tqdm) -> pa.Table:
        """Embed a shard's records into a table with an `unreadable` list in its metadata."""
        rows: list[dict] = []
        unreadable: list[dict] = []
        image_embeds: list[torch.Tensor] = []
        text_embeds: list[torch.Tensor] = []
        for part in self._parts(records):
            self._embed(part)  # on a CPU its thread has done so
            rows += part.rows
            unreadable += part.unreadable
            image_embeds += part.image_embeds
            text_embeds += part.text_embeds
            progress.set_postfix_str(f"{len(rows)} views of this shard")
        columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in META_SCHEMA}
        table = pa.table({**columns, "image_embeds": _vectors(image_embeds, self.model.config.image_dim)})
        if self.tokenizer is not None:
            table = table.append_column(
                "text_embeds", _vectors(text_embeds, self.model.config.text_config.projection_dim)
            )
        return table.replace_schema_metadata({"unreadable": json.dumps(unreadable)})

    def _parts(self, records: datasets.Dataset) -> Iterator[_Part]:
        """Yield the records in parts of about a batch, in their order; on a CPU the parts are embedded."""
        on_cpu, threads = self.model.device.type == "cpu", torch.get_num_threads()
        workers = min(threads, MOST_WORKERS) if on_cpu else cores_of_a_process()
        # Of few records each worker gets some.
        size = max(1, min(self.batch_size // (self.views + len(self.deliveries)), -(-len(records) // workers)))

        def work(start: int) -> _Part:
            part = self._open([records[row] for row in range(start, min(start + size, len(records)))])
            if on_cpu:
                self._embed(part)
            return part

        # In each of the pool's threads the number is that of its own products.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),))
        ahead: deque[Future[_Part]] = deque()
        try:
            for start in range(0, len(records), size):
                ahead.append(pool.submit(work, start))
                if len(ahead) > 2 * workers:  # so that memory stays bounded
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _open(self, records: list[dict]) -> _Part:
        """Open, deliver and prepare some records."""
        part = _Part()
        for record in records:
            try:
                picture, facts = open_record(record)
            except ImageError as error:
                part.unreadable.append({"record_id": record["record_id"], "error": str(error)})
                continue
            for view, delivery, delivered in self._views(picture, record["record_id"]):
                part.pixel_values.append(self.processor(images=delivered, return_tensors="pt")["pixel_values"])
                part.rows.append({**record, **facts, "view": view, "delivery": delivery})
        return part

    @torch.inference_mode()
    def _embed(self, part: _Part) -> None:
        """Embed a part's prepared views, `batch_size` at a time, and let the pixels go."""
        texts = [row["text"] for row in part.rows]
        for start in range(0, len(part.pixel_values), self.batch_size):
            batch = slice(start, start + self.batch_size)
            pixel_values = torch.cat(part.pixel_values[batch]).to(self.model.device)
            part.image_embeds.append(self.model(pixel_values=pixel_values).image_embeds.float().cpu())
            if self.tokenizer is not None:
                part.text_embeds.append(self._embed_texts(texts[batch]))
        part.pixel_values.clear()

    def _views(self, picture: Image.Image, record_id: str) -> Iterator[tuple[int, str, Image.Image]]:
        """Yield (view, delivery, picture); what is random depends on seed, record and view or delivery only."""
        yield 0, "clean", picture
        record_seed = _number_of(record_id)
        for view in range(1, self.views):
            delivered, delivery = random_delivery(picture, np.random.default_rng([self.seed, view, record_seed]))
            yield view, delivery, delivered
        for number, (delivery, deliver) in enumerate(STANDARD_DELIVERIES.items()):
            if delivery == "clean":  # view 0 is that
                continue
            if record_id in self.probed or delivery in self.deliveries:
                rng = np.random.default_rng([self.seed, 2**32 + number, record_seed])
                yield STANDARD_VIEW, delivery, deliver(picture, rng)

    def _embed_texts(self, texts: list[str | None]) -> torch.Tensor:
        """(B, D_text) with a row of zeros where there is no text."""
        tower: Any = self.model.text_tower
        tokens = tokenize_captions(self.tokenizer, texts)
        embeds = tower(**{name: tensor.to(self.model.device) for name, tensor in tokens.items()}).text_embeds.cpu()
        has_text = torch.tensor([bool(text) for text in texts]).unsqueeze(1)
        return torch.where(has_text, embeds, torch.zeros_like(embeds))


def choose_probed(records: datasets.Dataset, count: int, seed: int) -> set[str]:
    """Identifiers of `count` records, half of each class as far as there are so many, the same whatever their order.

    The first of every source come first, then the second ones, so that many sources are among few pictures.
    """
    ranked: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    if count == 0:
        return set()
    for batch in records.select_columns(["record_id", "source", "label"]).iter(batch_size=1000):
        for record_id, source, label in zip(batch["record_id"], batch["source"], batch["label"], strict=True):
            ranked[label, source].append((_number_of(f"{seed} {record_id}"), record_id))
    chosen: set[str] = set()
    for label in (0, 1):
        turns = [
            (turn, rank, record_id)
            for (other, _), of_source in ranked.items()
            if other == label
            for turn, (rank, record_id) in enumerate(sorted(of_source))
        ]
        chosen |= {record_id for *_, record_id in sorted(turns)[: count // 2]}
    return chosen


def _number_of(text: str) -> int:
    """64 bits that depend on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _vectors(batches: list[torch.Tensor], width: int) -> pa.FixedSizeListArray:
    """Batches of (B, width) tensors as an Arrow column of vectors."""
    values = torch.cat(batches).flatten().numpy() if batches else np.empty(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), width)


__all__ = ["Embedder", "choose_probed"]
