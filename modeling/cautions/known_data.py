"""How far a picture is from the data that the head was fitted on.

The head has learned from some thousands of pictures; about one that resembles none of them its score says little. The
distance is Mahalanobis's in the backbone's embeddings, from the mean of all pictures with their shrunk covariance
(Ledoit and Wolf): two small arrays, whatever the number of pictures. It is read against the distances of pictures
whose whole source had been left out, since every new picture is farther than those that were fitted on.

By `python bench/known_data.py` it finds charts (96 %) and pages of text (100 %) far, where nearest neighbours find a
third and a half; it finds 62 % of screenshots, and no flat drawings, gradients or noise. Of held-out photographs of
the nearer half 8 % were misjudged, of the farther half 22 to 47 %; with generated pictures it is the other way round,
so that distance says little about errors as a whole.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import replacing
from ..hub import optional_file

logger = logging.getLogger(__name__)

KNOWN_DATA_FILE = "known_data.safetensors"
FORMAT = "robust-clip known data 1"
# "Far": farther than this share of the pictures of held-out sources.
FAR = 0.99


@dataclass(frozen=True)
class KnownData:
    """What is needed to say how far an embedding is.

    Args:
        mean: (D,) float32, of the embeddings.
        whitener: (D, D) float32: the length of (embedding - mean) @ whitener is the distance.
        quantiles: (Q,) float32, rising: distances of held-out pictures, from the smallest to the largest.
        backbone: name and revision of the backbone that made the embeddings, as in the configuration.
        made_from: what the data was: fingerprints and counts. For the reader.
    """

    mean: Tensor
    whitener: Tensor
    quantiles: Tensor
    backbone: tuple[str, str]
    made_from: dict[str, str]

    def distance(self, embedding: Tensor) -> float:
        """Distance of one embedding, (D,) or (1, D), not normalised.

        Raises:
            ValueError: an embedding of another size.
        """
        if embedding.numel() != len(self.mean):
            raise ValueError(f"`embedding` must hold {len(self.mean)} numbers, got shape {tuple(embedding.shape)}.")
        return float(torch.linalg.vector_norm((embedding.float().cpu().reshape(-1) - self.mean) @ self.whitener))

    def percentile(self, embedding: Tensor) -> float:
        """Share of held-out pictures, in [0, 1], that are nearer than this embedding."""
        shares = np.linspace(0.0, 1.0, len(self.quantiles))
        return float(np.interp(self.distance(embedding), self.quantiles.numpy(), shares))

    def save(self, folder: str | os.PathLike) -> None:
        """Write `KNOWN_DATA_FILE` into a folder, all or nothing."""
        tensors = {"mean": self.mean, "whitener": self.whitener.half(), "quantiles": self.quantiles}
        name, revision = self.backbone
        info = self.made_from | {"format": FORMAT, "backbone_name": name, "backbone_revision": revision}
        # One entry: several would be written in another order each time.
        with replacing(Path(folder) / KNOWN_DATA_FILE) as temporary:
            save_file(tensors, temporary, metadata={"known_data": json.dumps(info, sort_keys=True)})

    @classmethod
    def load(cls, checkpoint: str | os.PathLike, config: Any) -> "KnownData | None":
        """Read it from beside a checkpoint's weights.

        Args:
            checkpoint: a folder or a Hub id.
            config: the checkpoint's `RobustClipConfig`.

        Returns:
            `None` where the checkpoint has none; also, with a warning, where it cannot be used: that costs a caution,
            and must not cost the answer.
        """
        file = optional_file(checkpoint, KNOWN_DATA_FILE)
        if file is None:
            return None
        try:
            with safe_open(file, framework="pt") as content:
                made_from = json.loads((content.metadata() or {}).get("known_data", "{}"))
                tensors = {name: content.get_tensor(name).float() for name in ("mean", "whitener", "quantiles")}
        except (SafetensorError, OSError, ValueError) as error:
            logger.warning("%s cannot be read and is left aside: %s", file, error)
            return None
        made = tuple(made_from.pop(name, "") for name in ("format", "backbone_name", "backbone_revision"))
        wanted = FORMAT, *backbone_of(config)
        size = config.embedding_dim
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        fits = shapes == {"mean": (size,), "whitener": (size, size), "quantiles": (tensors["quantiles"].numel(),)}
        if made != wanted or not fits or tensors["quantiles"].numel() < 2:
            logger.warning(
                "%s is left aside: it holds %s for %s, the checkpoint needs size %d for %s.",
                file,
                shapes,
                made,
                size,
                wanted,
            )
            return None
        return cls(**tensors, backbone=wanted[1:], made_from=made_from)


def backbone_of(config: Any) -> tuple[str, str]:
    """Name and revision of a configuration's backbone, empty where it has none."""
    return config.backbone_name or "", config.backbone_revision or ""


__all__ = ["FAR", "KNOWN_DATA_FILE", "KnownData", "backbone_of"]
