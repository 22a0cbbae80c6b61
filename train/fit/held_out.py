"""Scores of pictures by fits that never saw their source: one fit a fold, kept on disk until all are done."""

from pathlib import Path

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

    Views of standard deliveries are scored, and never fitted on. Each fold's scores are kept in `unfinished`, so that
    an interrupted run goes on with the next fold.

    Args:
        model: as `new_model` makes it; its head is fitted anew.
        bank: the data.
        fold: (N,) number of the fold that holds each row out.
        training: the recipe.
        unfinished: folder of the folds that are done.
    """
    names = ["head", *BASELINES, *(PARTS if bank.text_embeds is not None else ())]
    scores = {name: np.full(len(bank), np.nan) for name in names}
    trained_on = (bank.rows["view"] >= 0).to_numpy()
    for number in tqdm(range(fold.max() + 1), desc="held-out sources", unit="fit"):
        train_rows, held_out = np.flatnonzero((fold != number) & trained_on), np.flatnonzero(fold == number)
        path = unfinished / f"{fit_key(bank, train_rows, held_out, model.config, training)}.safetensors"
        if first_decides(path.is_file()):
            found = load_fit(path, dict.fromkeys(names, held_out.shape))
        else:
            found = _fold_scores(model, bank, train_rows, held_out, training)
            if PartialState().is_main_process:
                store_fit(path, found)
        for name in names:
            scores[name][held_out] = found[name].numpy()
    return scores


def _fold_scores(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    train_rows: NDArray[np.int64],
    held_out: NDArray[np.int64],
    training: RobustTrainingArguments,
) -> dict[str, Tensor]:
    """Scores (H,) of the held-out rows by a head, and by each baseline, fitted on the others.

    Where there is text, also the head's with a part of the input taken out.
    """
    fit_head(model, bank, train_rows, training)
    text = None if bank.text_embeds is None else bank.text_embeds[held_out]
    scores = {"head": score_embeddings(model, bank.image_embeds[held_out], text).astype(np.float64)}
    scores |= scores_by_input(model, bank, held_out)
    scores |= {
        name: baseline_scores(name, bank, train_rows, held_out, balance_shapes=training.balance_shapes)
        for name in BASELINES
    }
    return {name: torch.from_numpy(values) for name, values in scores.items()}


__all__ = ["held_out_scores"]
