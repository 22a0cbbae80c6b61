"""The logistic regressions beside a head see what it sees."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.train.tiny_bank import write_bank
from train.features.bank import FeatureBank
from train.fit.baselines import BASELINES, baseline_scores


@pytest.fixture
def bank(tmp_path):
    """Pictures that say nothing, and texts that say the class; every third picture has none."""
    bank = FeatureBank.load(write_bank(tmp_path / "bank", "tiny", text=True))
    rng = np.random.default_rng(0)
    label = bank.rows["label"].to_numpy()
    text = rng.normal(size=tuple(bank.text_embeds.shape)) + 3 * label[:, None]
    text[np.arange(len(label)) // 2 % 3 == 0] = 0
    embeds = (torch.from_numpy(values.astype(np.float32)) for values in (rng.normal(size=text.shape), text))
    return FeatureBank(bank.rows, *embeds, bank.info)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_reads_text_where_the_bank_has_it(bank, name):
    fitted, held_out = np.arange(240), np.arange(240, 480)
    label, written = bank.rows["label"].to_numpy()[held_out], (bank.text_embeds[held_out] != 0).any(dim=1).numpy()
    scores = baseline_scores(name, bank, fitted, held_out)
    assert roc_auc_score(label[written], scores[written]) > 0.99
    assert roc_auc_score(label[~written], scores[~written]) < 0.7
