"""Logistic regressions on the same features, which the head must not be worse than."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..features.bank import FeatureBank
from ..measure.shapes import balance_by_shape, number_shapes
from ..measure.sources import source_weights

# Inverse penalty, and whether the fit is source-weighted. By five groups of sources, on embedding and class tokens of
# 1,807 pictures of 256 sources in two views, the AUC is .9774, .9796, .9797, .9796, .9789 and .9772 at 0.0003, 0.001,
# 0.003, 0.01, 0.03 and 0.1. Where shapes are balanced it is highest, .9784, at 0.01 to 0.03, and .0004 lower at 0.003.
# Of all 4,823 pictures of 729 sources it is .9550 at 0.001 and .9542 at 0.003, where shapes are balanced .9465 and
# .9486. With this penalty and tolerance a fit takes 30 to 50 steps.
BASELINES = {"logistic regression": (0.003, False), "logistic regression, source-weighted": (0.003, True)}


def baseline_scores(
    name: str, bank: FeatureBank, train_rows: np.ndarray, held_out: np.ndarray, *, balance_shapes: bool = False
) -> NDArray[np.float64]:
    """Scores (H,) of the held-out rows by one of `BASELINES` on what the head sees, fitted on the others.

    With a bank that has text these are the image embedding and the text embedding, zeros where there is no text.
    With `balance_shapes` the rows are weighted as the head's are drawn (`RobustTrainingArguments`).
    """
    inverse_penalty, weighted = BASELINES[name]
    features, labels = bank.image_embeds.numpy(), bank.rows["label"].to_numpy()[train_rows]
    if bank.text_embeds is not None:
        features = np.concatenate([features, bank.text_embeds.numpy()], axis=1)
    weights = np.ones(len(train_rows))
    if weighted:
        fitted = bank.rows.iloc[train_rows]
        views = len(fitted) // int((fitted["view"] == 0).sum())
        weights = source_weights(labels, fitted["source"], views=views) * len(fitted)
    if balance_shapes:
        weights = balance_by_shape(labels, number_shapes(bank.rows.iloc[train_rows]), weights)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, tol=1e-3, max_iter=2000))
    probe.fit(features[train_rows], labels, logisticregression__sample_weight=weights)
    return probe.decision_function(features[held_out]).astype(np.float64)


__all__ = ["BASELINES", "baseline_scores"]
