"""What a text gives away: scores of the same pictures with parts of the input taken out."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from modeling import RobustClipForImageClassification
from modeling.verdicts import CLASSES

from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from .bootstrap import with_interval
from .metrics import roc_auc
from .schema import TextLeak

PARTS = ("image only", "text only", "same text")


def scores_by_input(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Raw scores (N,) of rows of a bank with text, with a part of the input taken out.

    Returns:
        "image only": no text; "text only": the bank's mean image for every picture; "same text": the bank's mean text
        for every picture. Nothing for a bank without text.
    """
    if bank.text_embeds is None:
        return {}
    image, text = bank.image_embeds[rows], bank.text_embeds[rows]
    mean_image = bank.image_embeds.mean(dim=0, keepdim=True).expand_as(image)
    written = int((bank.text_embeds != 0).any(dim=1).sum())
    mean_text = (bank.text_embeds.sum(dim=0, keepdim=True) / max(1, written)).expand_as(text)
    inputs = ((image, torch.zeros_like(text)), (mean_image, text), (image, mean_text))
    return {name: score_embeddings(model, *pair).astype(np.float64) for name, pair in zip(PARTS, inputs, strict=True)}


def has_text(bank: FeatureBank, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each row of the bank where the mask holds has a text."""
    if bank.text_embeds is None:
        return np.zeros(int(mask.sum()), dtype=bool)
    return (bank.text_embeds[torch.from_numpy(mask)] != 0).any(dim=1).numpy()


def measure_text(pictures: pd.DataFrame, written: NDArray[np.bool_], scores: dict[str, NDArray]) -> TextLeak | None:
    """AUC by what the detector is shown, and how many pictures of each class have a text.

    Args:
        pictures: one row a picture: label, source, score (image and text).
        written: (N,) whether a picture has a text.
        scores: (N,) each, from `scores_by_input`.

    Returns:
        `None` without text. Having a text at all is a rule of its own: its AUC is "a text at all".
    """
    if not scores:
        return None
    tables: dict[str, NDArray] = {
        "image and text": pictures["score"].to_numpy(),
        **scores,
        "a text at all": written.astype(float),
    }
    shares = {name: written[pictures["label"] == label] for label, name in enumerate(CLASSES)}
    return {
        "pictures_with_text": {name: float(part.mean()) if len(part) else None for name, part in shares.items()},
        "auc": {name: with_interval(pictures.assign(score=values), roc_auc) for name, values in tables.items()},
    }


__all__ = ["PARTS", "has_text", "measure_text", "scores_by_input"]
