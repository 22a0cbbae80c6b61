"""Scores of pictures by fits that never saw their source: a few fits a fold, kept on disk until all are done."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from modeling import RobustClipForImageClassification

from ..arguments import RobustTrainingArguments
from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from ..jobs.processes import first_decides
from ..measure.text_leak import PARTS, scores_by_input
from .baselines import BASELINES, baseline_scores
from .head import fit_head
from .stored import fit_key, load_fit, store_fit


def held_out_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    fold: NDArray[np.int64],
    training: RobustTrainingArguments,
    unfinished: Path,
) -> dict[str, NDArray[np.float64]]:
    """Scores of every row (the head's, the baselines' and, with text, by input) from fits that never saw its source.

    Views of standard deliveries are scored, and never fitted on. The scores of each fit are kept in `unfinished`, so
    that an interrupted run goes on with the next one.

    Args:
        model: as `new_model` makes it; its head is fitted anew.
        bank: the data.
        fold: (N,) number of the fold that holds each row out.
        training: the recipe.
        unfinished: folder of the fits that are done.
    """
    parts = ["head", *(PARTS if bank.text_embeds is not None else ())]
    scores = {name: np.full(len(bank), np.nan) for name in (*parts, *BASELINES)}
    trained_on = (bank.rows["view"] >= 0).to_numpy()
    for number in tqdm(range(fold.max() + 1), desc="held-out sources", unit="fit"):
        rows = _Rows(np.flatnonzero((fold != number) & trained_on), np.flatnonzero(fold == number))
        # Each fit is kept by itself: one that is interrupted is all that is lost.
        fits: list[tuple[Any, str, list[str], Callable[[], dict[str, Tensor]]]]
        fits = [(training, "", parts, partial(_head_scores, model, bank, rows, training))]
        balanced = "balanced by shape" if training.balance_shapes else ""
        fits += [(name, balanced, [name], partial(_baseline, name, bank, rows, training)) for name in BASELINES]
        for method, inputs, names, make in fits:
            path = unfinished / f"{fit_key(bank, *rows, model.config, method, inputs)}.safetensors"
            if first_decides(path.is_file()):
                found = load_fit(path, dict.fromkeys(names, rows.held_out.shape))
            else:
                found = make()
                if PartialState().is_main_process:
                    store_fit(path, found)
            for name in names:
                scores[name][rows.held_out] = found[name].numpy()
    return scores


class _Rows(NamedTuple):
    """Rows of a bank that a fit sees, (F,), and those that it scores, (H,)."""

    fitted: NDArray[np.int64]
    held_out: NDArray[np.int64]


def _head_scores(
    model: RobustClipForImageClassification, bank: FeatureBank, rows: _Rows, training: RobustTrainingArguments
) -> dict[str, Tensor]:
    """Scores (H,) by a head; where there is text, also with a part of the input taken out."""
    fit_head(model, bank, rows.fitted, training)
    text = None if bank.text_embeds is None else bank.text_embeds[rows.held_out]
    scores = {"head": score_embeddings(model, bank.image_embeds[rows.held_out], text).astype(np.float64)}
    scores |= scores_by_input(model, bank, rows.held_out)
    return {name: torch.from_numpy(values) for name, values in scores.items()}


def _baseline(name: str, bank: FeatureBank, rows: _Rows, training: RobustTrainingArguments) -> dict[str, Tensor]:
    """Scores (H,) by a logistic regression."""
    scores = baseline_scores(name, bank, *rows, balance_shapes=training.balance_shapes)
    return {name: torch.from_numpy(scores)}


__all__ = ["held_out_scores"]
