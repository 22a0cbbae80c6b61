"""Feature bank: embeddings of every view of every record, made once, so that a head trains in minutes.

A row is one view of one record. A view is a picture on one way to the reader: view 0 is the picture as it is and views
1, 2, ... are random deliveries; those are trained on. View -1 is one of the standard deliveries, for measuring how a
detector bears them. A bank is a folder: `rows.arrow`, one memory-mapped matrix of embeddings for each tower, and
`bank.json`, which says what made it (see `making`).
"""

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig

from modeling import RobustClipImageProcessor, RobustClipModel
from modeling.files import replacing

from ..data.schema import DESCRIBED
from .backbone import processor_settings, weights_fingerprint
from .file_facts import FACTS

INFO_FILE = "bank.json"
ROWS_FILE = "rows.arrow"
STANDARD_VIEW = -1
META_SCHEMA = pa.schema(
    [
        (name, pa.int64() if name in ("label", "view") else pa.string())
        for name in ("record_id", *DESCRIBED, "view", "delivery")
    ]
    + FACTS
)
META_COLUMNS = META_SCHEMA.names


@dataclass
class FeatureBank:
    """Embeddings with what is known of them.

    Args:
        rows: one row a view: record_id, what is told of the record (`DESCRIBED`), view, delivery, and the facts of its
            file.
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
        rows = read_table(folder / ROWS_FILE)
        if missing := sorted(set(META_COLUMNS) - set(rows.column_names)):
            raise ValueError(f"{folder} was made by an earlier version, it lacks {missing}: make the bank again.")
        image_embeds, text_embeds = (_load_matrix(folder / f"{name}.npy") for name in ("image_embeds", "text_embeds"))
        if image_embeds is None:
            raise ValueError(f"{folder} lacks image_embeds.npy: delete the folder and make the bank again.")
        return cls(rows.to_pandas(), image_embeds, text_embeds, info)


def _load_matrix(path: Path) -> torch.Tensor | None:
    """A stored matrix, memory-mapped; `None` where there is no such file."""
    if not path.is_file():
        return None
    with warnings.catch_warnings():
        # It is never written to. A writable mapping would count against memory, and fail for a bank larger than that.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.load(path, mmap_mode="r"))


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables one after the other, all or nothing."""
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Memory-map a table."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


__all__ = ["INFO_FILE", "META_SCHEMA", "ROWS_FILE", "STANDARD_VIEW", "FeatureBank", "read_table", "write_tables"]
