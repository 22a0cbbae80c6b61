"""Pictures of sources that no fit saw: a checkpoint carries their features, so that a change of it can be judged.

Facts only, no pictures: 8 bits a number, with a lowest value and a step a column. Which sources they are follows from
their names alone, so that anybody who has the data can say it.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modeling import RobustClipConfig, RobustClipForImageClassification
from modeling.checkpoints import SET_ASIDE_FILE
from modeling.files import replacing
from modeling.hub import optional_file
from modeling.verdicts import CLASSES, GENERATED, REAL

from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from .bootstrap import with_interval
from .calibration import Calibration
from .evaluation import verdicts_by_class
from .metrics import roc_auc
from .sources import FULL_SOURCE

FORMAT = "robust-clip set aside 1"
# So many pictures of a source say what it is like; more would only make the file larger.
MOST_OF_A_SOURCE = 12
_LEVELS = 255


@dataclass(frozen=True)
class SetAside:
    """Features of pictures that were set aside.

    Args:
        rows: one row a picture: label, source.
        codes: (N, D_image) uint8, steps above the lowest value of the column.
        low: (D_image,) float32, the lowest value of each column.
        step: (D_image,) float32, above 0.
        facts: for the reader: `pictures` and `sources` by class; `rates` of the head that they came with.
    """

    rows: pd.DataFrame
    codes: Tensor
    low: Tensor
    step: Tensor
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def image_embeds(self) -> Tensor:
        """(N, D_image) float32, each within half a step of what it was."""
        return self.low + self.codes.float() * self.step

    def save(self, folder: str | os.PathLike) -> None:
        """Write `SET_ASIDE_FILE` into a folder, all or nothing."""
        tensors = {"codes": self.codes, "low": self.low, "step": self.step}
        tensors["label"] = torch.from_numpy(self.rows["label"].to_numpy(dtype=np.uint8))
        told = {"format": FORMAT, "source": self.rows["source"].tolist(), "facts": self.facts}
        # One entry: several would be written in another order each time.
        with replacing(Path(folder) / SET_ASIDE_FILE) as temporary:
            save_file(tensors, temporary, metadata={"set_aside": json.dumps(told, sort_keys=True)})

    @classmethod
    def load(cls, checkpoint: str | os.PathLike, config: RobustClipConfig) -> "SetAside":
        """Read it from beside a checkpoint's weights.

        Args:
            checkpoint: a folder or a Hub id.
            config: the checkpoint's.

        Raises:
            ValueError: there is none, it is damaged, or its features are not those that the checkpoint's head reads.
        """
        file = optional_file(checkpoint, SET_ASIDE_FILE)
        if file is None:
            raise ValueError(
                f"{checkpoint} has no {SET_ASIDE_FILE}, features of pictures that no fit of it saw: without them "
                "nobody can say whether a change makes it worse. `fit --set_aside 40` writes them."
            )
        try:
            with safe_open(file, framework="pt") as content:
                told = json.loads((content.metadata() or {}).get("set_aside", "{}"))
                codes, low, step, label = (content.get_tensor(name) for name in ("codes", "low", "step", "label"))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{file} is damaged ({error}): get the checkpoint again.") from error
        if told.get("format") != FORMAT or codes.shape != (len(label), config.image_dim):
            raise ValueError(
                f"{file} must hold {config.image_dim} features a picture ({FORMAT}), got {tuple(codes.shape)} "
                f"({told.get('format', 'no format')}): get the checkpoint again."
            )
        rows = pd.DataFrame({"label": label.numpy().astype(np.int64), "source": told["source"]})
        return cls(rows, codes, low, step, told["facts"])


def set_sources_aside(bank: FeatureBank, number: int) -> tuple[FeatureBank, FeatureBank]:
    """Divide a bank into what is fitted and what is set aside.

    Of each class these are the sources whose names have the lowest SHA-256, among those of one class and of
    FULL_SOURCE pictures or more.

    Args:
        bank: with related sources joined.
        number: of sources, half of each class.

    Raises:
        ValueError: `number` is odd, or a class has not so many such sources.
    """
    if number < 2 or number % 2:
        raise ValueError(f"`set_aside` must be an even number of sources, half of each class, got {number}.")
    pictures = bank.rows[bank.rows["view"] == 0]
    sources = pictures.groupby("source")["label"].agg(["nunique", "first", "size"])
    sources = sources[(sources["nunique"] == 1) & (sources["size"] >= FULL_SOURCE)]
    chosen: list[str] = []
    for label, name in enumerate(CLASSES):
        names = sorted(sources.index[sources["first"] == label], key=_sha256)
        if len(names) < number // 2:
            raise ValueError(
                f"`set_aside` {number} takes {number // 2} {name} sources of {FULL_SOURCE} or more pictures, got "
                f"{len(names)}: set fewer aside."
            )
        chosen += names[: number // 2]
    aside = bank.rows["source"].isin(chosen).to_numpy()
    return bank.select(~aside), bank.select(aside)


def set_aside_of(aside: FeatureBank, model: RobustClipForImageClassification) -> SetAside:
    """What a checkpoint carries of the pictures that were set aside for it, with the rates of its head there.

    Args:
        aside: as `set_sources_aside` gives it, with the features that the head reads.
        model: fitted, with its calibration and thresholds.
    """
    clean = aside.rows[aside.rows["view"] == 0]
    kept = clean[clean.groupby("source").cumcount() < MOST_OF_A_SOURCE]
    embeds = aside.image_embeds[torch.from_numpy(kept.index.to_numpy())].double()
    low, high = embeds.amin(0), embeds.amax(0)
    step = torch.where(high > low, (high - low) / _LEVELS, 1.0)
    codes = ((embeds - low) / step).round().to(torch.uint8)
    found = SetAside(kept[["label", "source"]].reset_index(drop=True), codes, low.float(), step.float())
    rows = found.rows
    scored = rows.assign(score=score_embeddings(model, found.image_embeds).astype(np.float64))
    decision = model.config.decision(with_text=False)
    verdicts = verdicts_by_class(Calibration(*decision).judge(scored))
    by_class = {name: rows[rows["label"] == label] for label, name in enumerate(CLASSES)}
    facts = {
        "pictures": {name: len(of_class) for name, of_class in by_class.items()},
        "sources": {name: of_class["source"].nunique() for name, of_class in by_class.items()},
        "rates": {
            "auc": with_interval(scored, roc_auc),
            "false_positive_rate": _called_generated(verdicts[REAL]),
            "true_positive_rate": _called_generated(verdicts[GENERATED]),
        },
    }
    return replace(found, facts=facts)


def set_aside_facts(folder: Path) -> dict[str, Any] | None:
    """What the file in a folder says of itself; `None` where there is none."""
    if not (folder / SET_ASIDE_FILE).is_file():
        return None
    with safe_open(folder / SET_ASIDE_FILE, framework="pt") as content:
        return json.loads(content.metadata()["set_aside"])["facts"]


def _called_generated(shares: Any) -> dict[str, Any]:
    return {name: shares[GENERATED][name] for name in ("value", "interval")}


def _sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


__all__ = ["MOST_OF_A_SOURCE", "SetAside", "set_aside_facts", "set_aside_of", "set_sources_aside"]
