"""Records -> rows of a feature bank: what is known of a picture and its file, and the backbone's embeddings of views.

A view is a picture on one way to the reader. View 0 is the picture as it is and views 1, 2, ... are random deliveries:
those are trained on. View -1 is one of the standard deliveries, for measuring how a detector bears them.
"""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.deliveries import STANDARD_DELIVERIES, random_delivery
from modeling.detector import tokenize_captions
from modeling.images import ImageError

from ..data.schema import DESCRIBED
from ..jobs.processes import cores_of_a_process
from .bank import META_SCHEMA, STANDARD_VIEW
from .file_facts import open_record

# Parts at a time on a CPU; with more cores each gets several.
MOST_WORKERS = 8
# Views of a part on a CPU, at most: a pass over more is no faster, and parts that are in work die with their process.
CPU_BATCH = 8


@dataclass
class Part:
    """Some records: a row of each view, the views' pixels (1, 3, S, S) until they are embedded, what is not readable.

    Embeddings are in batches (B, D). `views` counts also those of records that are not readable.
    """

    records: range
    views: int
    rows: list[dict] = field(default_factory=list)
    unreadable: list[dict] = field(default_factory=list)
    pixel_values: list[torch.Tensor] = field(default_factory=list)
    image_embeds: list[torch.Tensor] = field(default_factory=list)
    text_embeds: list[torch.Tensor] = field(default_factory=list)


class Embedder:
    """Embeds records, as many parts at a time as there are threads.

    On a CPU a thread opens, delivers, prepares and embeds a part of its own, each on its share of the cores: one that
    decodes then holds up no other, as it would if all shared one product. On an accelerator the threads prepare
    parts while it works.

    Args:
        model: the backbone, in evaluation mode.
        tokenizer: for the text tower; `None` without one.
        processor: prepares pictures.
        batch_size: views a forward pass, at most; on a CPU at most `CPU_BATCH`.
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
        self.on_cpu = model.device.type == "cpu"
        self.workers = min(torch.get_num_threads(), MOST_WORKERS) if self.on_cpu else cores_of_a_process()
        self.batch_size = min(batch_size, CPU_BATCH) if self.on_cpu else batch_size
        self.views, self.seed, self.probed, self.deliveries = views, seed, probed, deliveries

    def divide(self, records: datasets.Dataset, ranges: Iterable[range]) -> list[Part]:
        """Cut ranges of records into parts of about a batch of views, which begin and end with a record.

        Cut again from where a part begins, the parts are the same: so are the batches of an interrupted run.
        """
        standard = [name for name in STANDARD_DELIVERIES if name != "clean"]
        others = sum(name in self.deliveries for name in standard)
        record_ids = records["record_id"][:]
        parts: list[Part] = []
        for indices in ranges:
            for index in indices:
                views = self.views + (len(standard) if record_ids[index] in self.probed else others)
                if index == indices.start or parts[-1].views + views > self.batch_size:
                    parts.append(Part(range(index, index + 1), views))
                else:
                    parts[-1] = Part(range(parts[-1].records.start, index + 1), parts[-1].views + views)
        return parts

    def embed(self, records: datasets.Dataset, parts: Sequence[Part]) -> Iterator[Part]:
        """Fill the parts, and yield them in their order. Some parts ahead are in work while one is waited for."""
        threads, workers = torch.get_num_threads(), self.workers

        def work(part: Part) -> Part:
            self._open(records, part)
            if self.on_cpu:
                self._embed(part)
            return part

        # In each of the pool's threads the number is that of its own products.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),))
        ahead: deque[Future[Part]] = deque()
        try:
            for part in parts:
                ahead.append(pool.submit(work, part))
                if len(ahead) > 2 * workers:  # so that memory stays bounded
                    yield self._embedded(ahead.popleft().result())
            while ahead:
                yield self._embedded(ahead.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def table(self, parts: Sequence[Part]) -> pa.Table:
        """Rows and embeddings of filled parts, with an `unreadable` list in its metadata."""
        rows = [row for part in parts for row in part.rows]
        columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in META_SCHEMA}
        image_embeds = [batch for part in parts for batch in part.image_embeds]
        table = pa.table({**columns, "image_embeds": _vectors(image_embeds, self.model.config.image_dim)})
        if self.tokenizer is not None:
            text_embeds = [batch for part in parts for batch in part.text_embeds]
            table = table.append_column(
                "text_embeds", _vectors(text_embeds, self.model.config.text_config.projection_dim)
            )
        unreadable = [record for part in parts for record in part.unreadable]
        return table.replace_schema_metadata({"unreadable": json.dumps(unreadable)})

    def _embedded(self, part: Part) -> Part:
        """On an accelerator parts are embedded here, on a CPU their threads have done so."""
        if not self.on_cpu:
            self._embed(part)
        return part

    def _open(self, records: datasets.Dataset, part: Part) -> None:
        """Open, deliver and prepare a part's records."""
        for index in part.records:
            record = records[index]
            try:
                picture, facts = open_record(record)
            except ImageError as error:
                part.unreadable.append({"record_id": record["record_id"], "error": str(error)})
                continue
            described = {name: record[name] for name in ("record_id", "text", *DESCRIBED)}
            for view, delivery, delivered in self._views(picture, record["record_id"]):
                part.pixel_values.append(self.processor(images=delivered, return_tensors="pt")["pixel_values"])
                part.rows.append({**described, **facts, "view": view, "delivery": delivery})

    @torch.inference_mode()
    def _embed(self, part: Part) -> None:
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


__all__ = ["Embedder", "Part", "choose_probed"]
