"""A data set whose classes differ by shape alone: what fits make of it, with and without balanced shapes."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.train.tiny_training import arguments
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.features.file_facts import HASH_SIDE
from train.fit.baselines import baseline_scores
from train.fit.head import fit_head
from train.measure.bias_audit import audit_bias
from train.measure.metrics import roc_auc
from train.measure.shapes import balance_by_shape, number_shapes

PICTURES = 1200


@pytest.fixture
def bank():
    """40 sources; two of fifteen real pictures are square and ten of fifteen generated ones. One column tells it."""
    rng = np.random.default_rng(0)
    number, label = np.arange(PICTURES), np.arange(PICTURES) % 2
    of_source = number // 2 % 15
    square = np.where(label == 0, of_source < 2, of_source < 10)
    wide = rng.random(PICTURES) < 0.5
    rows = pd.DataFrame(
        {
            "record_id": [f"p{i}" for i in number],
            "label": label,
            "source": [f"s{kind}-{i // 30 % 20}" for kind, i in zip(label, number, strict=True)],
            "view": 0,
            "width": np.where(square | ~wide, 480, 640),
            "height": np.where(square | wide, 480, 640),
            "format": "JPEG",
            "file_bytes": 1,
            "jpeg_quality": 90.0,
            "metadata": "",
            "perceptual_hash": [rng.bytes(HASH_SIDE**2 // 8).hex() for _ in number],
        }
    )
    embeds = rng.normal(size=(PICTURES, 8))
    embeds[:, 0] = 2 * square - 1
    return FeatureBank(rows, torch.from_numpy(embeds.astype(np.float32)), None, {})


@pytest.fixture
def halves(bank):
    """Rows of half of the sources of each class, and of the others."""
    fitted = bank.rows["source"].str.split("-").str[1].astype(int).to_numpy() % 2 == 0
    return np.flatnonzero(fitted), np.flatnonzero(~fitted)


def held_out_auc(bank, rows, scores):
    return roc_auc(bank.rows["label"].to_numpy()[rows], scores)


def test_the_heads_auc_rises_by_shape_and_not_with_balanced_shapes(bank, halves, tiny_model, tmp_path):
    fitted, held_out = halves
    aucs = []
    for balance_shapes in (False, True):
        training = arguments(
            tmp_path,
            max_steps=60,
            per_device_train_batch_size=200,
            learning_rate=1e-2,
            balance_shapes=balance_shapes,
        )
        fit_head(tiny_model, bank, fitted, training)
        aucs.append(held_out_auc(bank, held_out, score_embeddings(tiny_model, bank.image_embeds[held_out])))
    assert aucs[0] > 0.7
    assert abs(aucs[1] - 0.5) < 0.1


@pytest.mark.parametrize("name", ["logistic regression", "logistic regression, source-weighted"])
def test_so_does_a_baselines(bank, halves, name):
    fitted, held_out = halves
    plain, balanced = (
        held_out_auc(bank, held_out, baseline_scores(name, bank, fitted, held_out, balance_shapes=balance))
        for balance in (False, True)
    )
    assert plain > 0.7
    assert abs(balanced - 0.5) < 0.1


def test_the_audit_says_how_far_shape_alone_comes(bank):
    audit = audit_bias(bank.rows.assign(score=np.nan))
    # A real picture is square in 2 of 15, a generated one in 10 of 15; by shape all others look alike.
    expected = (10 / 15) * (13 / 15) + ((10 / 15) * (2 / 15) + (5 / 15) * (13 / 15)) / 2
    assert audit["shape_and_size"]["value"] == pytest.approx(expected, abs=0.04)
    assert audit["shape_and_size"]["interval"][0] > 0.7
    assert "aspect" in audit["gives_away"]


def test_weights_that_balance_shapes_leave_nothing_to_tell_by(bank):
    labels, shapes = bank.rows["label"].to_numpy(), number_shapes(bank.rows)
    weights = balance_by_shape(labels, shapes, np.ones(PICTURES))
    assert roc_auc(labels, (shapes == 0).astype(float), weights) == pytest.approx(0.5)
