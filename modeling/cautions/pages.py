"""Whether a picture is a page of text, a chart or a diagram, by what the backbone makes of it.

A line in the backbone's embedding, put at length 1, parts such pictures from all others. It belongs to a backbone and
to the side that its processor prepares, not to a head, so it lies here and serves every checkpoint with that backbone.
`python experiments/text_pages.py BANK --write` fits it; how often it is right stands in experiments/README.md.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .known_data import backbone_of

PAGES_FILE = Path(__file__).with_name("pages.json")


@dataclass(frozen=True)
class PageProbe:
    """Tells pages and charts from other pictures.

    Args:
        weights: (D,) float32.
        threshold: of the product of the weights and an embedding of length 1; a page is above it.
        backbone: name and revision of the backbone, as in the configuration.
        size: side in pixels of the square that the backbone sees.
        made_from: what the data was, and when. For the reader.
    """

    weights: Tensor
    threshold: float
    backbone: tuple[str, str]
    size: int
    made_from: dict[str, str]

    def is_page(self, embedding: Tensor) -> bool:
        """Whether an embedding, (D,) or (1, D), not normalised, is that of a page or chart."""
        values = embedding.detach().float().cpu().reshape(-1)
        return float(self.weights @ values) > self.threshold * float(torch.linalg.vector_norm(values))

    def save(self) -> None:
        """Write `PAGES_FILE`."""
        content = {
            "backbone": list(self.backbone),
            "size": self.size,
            "threshold": round(self.threshold, 5),
            "made_from": self.made_from,
            "weights": [round(value, 5) for value in self.weights.tolist()],
        }
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
        PAGES_FILE.write_text(f"{{\n{lines}\n}}\n")


@cache
def stored_probe() -> PageProbe:
    """The one that `PAGES_FILE` holds."""
    content = json.loads(PAGES_FILE.read_text())
    weights = torch.tensor(content["weights"])
    return PageProbe(weights, content["threshold"], tuple(content["backbone"]), content["size"], content["made_from"])


def probe_for(config: Any, size: int) -> PageProbe | None:
    """The probe for a checkpoint's configuration and its processor's size; `None` where it was fitted for another."""
    probe = stored_probe()
    return probe if (probe.backbone, probe.size) == (backbone_of(config), size) else None


__all__ = ["PAGES_FILE", "PageProbe", "probe_for", "stored_probe"]
