"""What a text gives away: by a classifier of the texts alone, by having one, and by scores without it."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from modeling import RobustClipForImageClassification
from modeling.verdicts import CLASSES, GENERATED, REAL

from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from .bootstrap import with_interval
from .metrics import roc_auc
from .schema import ByClass, Figure, InputFigures, TextFigures

# What the head is shown beside the whole input.
IMAGE_ONLY = "image only"
PARTS = (IMAGE_ONLY, "same text")
TEXT_ONLY, HAVING_ONE = "text only", "a text at all"
# The label is given away where the interval of an AUC lies beyond this, or beyond 1 minus it.
LEAKS = 0.6

Fold = tuple[NDArray, NDArray]


def scores_by_input(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Raw scores (N,) of rows of a bank with text, with a part of the input taken out.

    Returns:
        "image only": no text; "same text": the bank's mean text for every picture. Nothing for a bank without text.
    """
    if bank.text_embeds is None:
        return {}
    image, text = bank.image_embeds[rows], bank.text_embeds[rows]
    written = int((bank.text_embeds != 0).any(dim=1).sum())
    mean_text = (bank.text_embeds.sum(dim=0, keepdim=True) / max(1, written)).expand_as(text)
    inputs = (torch.zeros_like(text), mean_text)
    return {
        name: score_embeddings(model, image, shown).astype(np.float64)
        for name, shown in zip(PARTS, inputs, strict=True)
    }


def has_text(bank: FeatureBank) -> NDArray[np.bool_]:
    """Whether each row of a bank has a text, (N,)."""
    if bank.text_embeds is None:
        return np.zeros(len(bank), dtype=bool)
    return (bank.text_embeds != 0).any(dim=1).numpy()


def text_only_scores(text: Tensor, labels: NDArray, folds: list[Fold]) -> NDArray[np.float64]:
    """Scores (N,) by a logistic regression on the text alone, fitted without the fold of each picture.

    A head whose image is taken out says what it makes of the text, not what the text holds.

    Args:
        text: (N, D_text) embeddings, zeros where there is no text.
        labels: (N,) of 0 and 1.
        folds: (rows fitted on, rows scored), which together score every row.
    """
    scores, features = np.empty(len(labels)), text.numpy()
    for fitted, scored in folds:
        # A weak penalty: what a text gives away must not be hidden by it.
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        classifier.fit(features[fitted], labels[fitted])
        scores[scored] = classifier.decision_function(features[scored])
    return scores


def measure_text(
    pictures: pd.DataFrame,
    text: Tensor,
    scores: dict[str, NDArray],
    folds: list[Fold],
    with_text: InputFigures,
    without_text: InputFigures,
) -> TextFigures:
    """AUC by what is shown, how many pictures of each class have a text, and whether text gives the label away.

    Args:
        pictures: one row a picture: label, source, score (image and text).
        text: (N, D_text) their text embeddings, zeros where there is none.
        scores: (N,) each, from `scores_by_input`.
        folds: for `text_only_scores`; none where nothing can be held out.
        with_text: from `measure_input`.
        without_text: from `measure_input`.
    """
    written, labels = (text != 0).any(dim=1).numpy(), pictures["label"].to_numpy()
    tables: dict[str, NDArray] = {"image and text": pictures["score"].to_numpy(), **scores}
    if folds:
        tables[TEXT_ONLY] = text_only_scores(text, labels, folds)
    tables[HAVING_ONE] = written.astype(float)
    auc: dict[str, Figure | None] = {TEXT_ONLY: None}
    auc |= {name: with_interval(pictures.assign(score=values), roc_auc) for name, values in tables.items()}
    of_class = {name: written[labels == label] for label, name in enumerate(CLASSES)}
    shares = {name: float(part.mean()) if len(part) else None for name, part in of_class.items()}
    return {
        "pictures_with_text": shares,
        "auc": auc,
        "warning": _warning(auc, shares),
        "with_text": with_text,
        "without_text": without_text,
    }


def _warning(auc: dict[str, Figure | None], shares: ByClass[float | None]) -> str | None:
    """What gives the label away, in words; `None` where nothing does."""
    found = []
    if (text_only := auc[TEXT_ONLY]) is not None and _low(text_only) > LEAKS:
        found.append(f"a classifier of the texts alone has a ROC AUC of {text_only['value']:.3f}")
    if (having_one := auc[HAVING_ONE]) is not None and max(_low(having_one), 1 - _high(having_one)) > LEAKS:
        real, generated = (f"{100 * (shares[name] or 0):.1f} %" for name in (REAL, GENERATED))
        found.append(f"{real} of real and {generated} of generated pictures have a text at all")
    if not found:
        return None
    return (
        f"Text gives the label away: {', and '.join(found)}. Figures with text measure the texts; only those without "
        "text speak of pictures."
    )


def _low(figure: Figure) -> float:
    return figure["interval"][0] if figure["interval"] else figure["value"]


def _high(figure: Figure) -> float:
    return figure["interval"][1] if figure["interval"] else figure["value"]


__all__ = ["IMAGE_ONLY", "PARTS", "has_text", "measure_text", "scores_by_input", "text_only_scores"]
