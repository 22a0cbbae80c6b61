"""Feature bank: embeddings of every view of every record, made once, so that a head trains in minutes.

A row is one view of one record. A view is a picture on one way to the reader: view 0 is the picture as it is and views
1, 2, ... are random deliveries; those are trained on. View -1 is one of the standard deliveries, for measuring how a
detector bears them. A bank is a folder: `rows.arrow`, one memory-mapped matrix of embeddings for each tower, and
`bank.json`, which says what made it (see `making`).
"""

import hashlib
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
# Banks may meet in one only if these are equal.
MUST_AGREE = ("backbone_sha256", "processor", "image_layers", "image_tokens", "views", "seed")


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
        """Read a finished bank, or a folder of banks as one, in the order of their names.

        The embeddings of several banks are copied into memory: 0.4 GB for 16,000 views of the default backbone with
        seven layers. Those of one bank are memory-mapped.

        Raises:
            ValueError: the folder is no bank, or it is not finished, or its banks do not belong together.
        """
        folder = Path(folder)
        info_file = folder / INFO_FILE
        if not info_file.is_file():
            if parts := bank_folders(folder):
                return _join(folder, {part.name: cls.load(part) for part in parts})
            raise ValueError(
                f"{folder} is no feature bank: neither it nor a folder in it has a {INFO_FILE}. Make one: python -m "
                "train features."
            )
        info = json.loads(info_file.read_text())
        if "fingerprint" not in info:
            raise ValueError(f"{folder} is not finished: run `python -m train features` again to go on.")
        if "rows_sha256" in info and info["rows_sha256"] != file_sha256(folder / ROWS_FILE):
            raise ValueError(
                f"{folder / ROWS_FILE} is not the file that {INFO_FILE} names: run `python -m train features` again."
            )
        rows = read_table(folder / ROWS_FILE)
        if missing := sorted(set(META_COLUMNS) - set(rows.column_names)):
            raise ValueError(f"{folder} was made by an earlier version, it lacks {missing}: make the bank again.")
        image_embeds, text_embeds = (_load_matrix(folder / f"{name}.npy") for name in ("image_embeds", "text_embeds"))
        if image_embeds is None:
            raise ValueError(f"{folder} lacks image_embeds.npy: delete the folder and make the bank again.")
        return cls(rows.to_pandas(), image_embeds, text_embeds, info)


def bank_folders(folder: str | os.PathLike) -> list[Path]:
    """The banks that a folder stands for, finished or not: itself, or the folders in it that are banks, by name."""
    folder = Path(folder)
    if (folder / INFO_FILE).is_file():
        return [folder]
    return sorted(info.parent for info in folder.glob(f"*/{INFO_FILE}"))


def _join(folder: Path, banks: dict[str, FeatureBank]) -> FeatureBank:
    """Banks of different pictures as one."""
    (first_name, first), *others = banks.items()
    for name, bank in others:
        for key in MUST_AGREE:
            if bank.info.get(key) != first.info.get(key):
                raise ValueError(
                    f"The banks in {folder} must be made alike: {key} of {first_name} is {first.info.get(key)!r}, of "
                    f"{name} {bank.info.get(key)!r}. Make one of them again, or take it out of the folder."
                )
    home: dict[str, str] = {}
    for name, bank in banks.items():
        for record_id in bank.rows["record_id"].unique():
            if home.setdefault(record_id, name) != name:
                raise ValueError(f"{record_id} is in two banks in {folder}, {home[record_id]} and {name}: leave one.")
    parts = list(banks.values())
    texts = [part.text_embeds for part in parts if part.text_embeds is not None]
    return FeatureBank(
        pd.concat([part.rows for part in parts], ignore_index=True),
        torch.cat([part.image_embeds for part in parts]),
        torch.cat(texts) if texts else None,
        _joined_info([part.info for part in parts]),
    )


def _joined_info(infos: list[dict]) -> dict:
    """What made several banks: their common settings, sums, and hashes of their hashes in order."""
    info = {key: value for key, value in infos[0].items() if key not in ("embeds_sha256", "rows_sha256")}
    for key in ("records_sha256", "pictures_sha256", "probed_sha256", "fingerprint"):
        info[key] = hashlib.sha256(" ".join(str(other.get(key)) for other in infos).encode()).hexdigest()
    for key in ("records", "probed"):
        info[key] = sum(other.get(key, 0) for other in infos)
    for key in ("deliveries", "standard_deliveries"):
        info[key] = [name for name in infos[0].get(key, []) if all(name in other.get(key, []) for other in infos)]
    info["unreadable"] = [record for other in infos for record in other["unreadable"]]
    return info


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


__all__ = [
    "INFO_FILE",
    "META_SCHEMA",
    "ROWS_FILE",
    "STANDARD_VIEW",
    "FeatureBank",
    "bank_folders",
    "file_sha256",
    "read_table",
    "write_tables",
]
