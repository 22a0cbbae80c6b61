"""Several fits joined into one head: its score is the mean of theirs, and it is a head like any other."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from modeling import RobustClipForImageClassification
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank, build_feature_bank
from train.fit.fitting import FitArguments, fit, new_model
from train.fit.held_out import fit_head
from train.members import join_heads, widen
from train.study.fits import Case, Study

# In a process of its own, outside the repository.
LOAD = """
import sys, torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
with torch.inference_mode():
    torch.save(model(image_embeds=torch.load("embeds.pt")).score.clone(), "scores.pt")
"""


@pytest.fixture
def bank(backbone):
    rows = pd.DataFrame({"record_id": [f"p{i}" for i in range(48)], "label": [0, 1] * 24, "view": 0})
    rows["source"] = [f"s{i % 6}" for i in range(48)]
    embeds = torch.randn(48, 8, generator=torch.Generator().manual_seed(0)) + torch.tensor(rows["label"])[:, None]
    return FeatureBank(rows, embeds, None, {"backbone": str(backbone), "fingerprint": "x"})


def settings(folder, **changes):
    return arguments(folder, **({"max_steps": 8, "learning_rate": 1e-2} | changes))


@pytest.mark.parametrize(
    "head",
    [
        {"head_depth": 1},
        {"head_depth": 1, "head_width": 5, "head_components": 4},
        {"head_depth": 0, "head_components": 4},
    ],
)
def test_the_joined_head_gives_the_mean_score_of_its_fits(bank, tmp_path, head):
    rows, training = np.arange(40), settings(tmp_path, seed=2)
    single = new_model(bank, FitArguments(bank="", **head))
    scores = []
    for seed in (6, 7, 8):  # 3 members of seed 2
        fit_head(single, bank, rows, replace(training, seed=seed))
        scores.append(score_embeddings(single, bank.image_embeds))
    assert not np.allclose(scores[0], scores[1], atol=1e-2)
    joined = new_model(bank, FitArguments(bank="", **head, head_members=3))
    fit_head(joined, bank, rows, training, 3)
    found = score_embeddings(joined, bank.image_embeds)
    np.testing.assert_allclose(found, np.mean(scores, axis=0), rtol=1e-5, atol=1e-6)
    assert joined.config.head_depth == head["head_depth"]
    assert joined.config.head_width == ({None: 24, 5: 15}[head.get("head_width")] if head["head_depth"] else None)

    joined.save_pretrained(tmp_path / "detector")
    torch.save(bank.image_embeds, tmp_path / "embeds.pt")
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "detector")]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    np.testing.assert_allclose(torch.load(tmp_path / "scores.pt").numpy(), found, rtol=1e-6, atol=1e-6)


def test_units_stand_side_by_side_by_hand(tiny_config):
    heads = []
    for value in (2.0, 4.0):
        head = RobustClipForImageClassification(tiny_config(text=False, head_depth=1, head_width=1)).head
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.fill_(value)
        head.layers[1].running_mean.fill_(10 * value)
        heads.append(head)
    state = join_heads(heads)
    assert torch.equal(state["layers.0.weight"], torch.tensor([[2.0] * 8, [4.0] * 8]))
    assert torch.equal(state["layers.0.bias"], torch.tensor([2.0, 4.0]))
    assert torch.equal(state["layers.1.running_mean"], torch.tensor([20.0, 40.0]))
    assert torch.equal(state["layers.4.weight"], torch.tensor([[1.0, 2.0]]))
    assert torch.equal(state["layers.4.bias"], torch.tensor([3.0]))


def test_heads_that_cannot_be_joined_are_refused(bank):
    with pytest.raises(ValueError, match="mostly zeros. Set `head_depth` to 0 or 1"):
        new_model(bank, FitArguments(bank="", head_depth=2, head_members=2))
    with pytest.raises(ValueError, match="`head_members` must be 1 or more, got 0"):
        new_model(bank, FitArguments(bank="", head_depth=1, head_members=0))


def test_a_head_that_reads_text_is_not_joined(tiny_config):
    with pytest.raises(ValueError, match="for a head that reads text, got 2"):
        widen(RobustClipForImageClassification(tiny_config(head_depth=1)), 2)


def test_an_attempt_of_a_study_may_have_members(bank, tmp_path):
    head = {"head_depth": 1, "head_width": 3, "head_members": 2}
    study = Study(bank, tmp_path / "fits", settings(tmp_path), 3)
    case = Case("two", head=head)
    study.make([(case, 1, (0,))])
    rows = study.scored_rows((0,))
    model = new_model(bank, FitArguments(bank="", **head))
    fit_head(model, bank, study.training_rows(case, 1, (0,)), settings(tmp_path, seed=1), 2)
    expected = score_embeddings(model, bank.image_embeds[rows])
    np.testing.assert_array_equal(study.scores_of(case, 1, (0,)), expected)


def test_fit_ships_the_joined_head(parquet, backbone, tmp_path):
    build_feature_bank(load_records(DataArguments(data=str(parquet))), tmp_path / "bank", backbone=str(backbone))
    fit_arguments = FitArguments(
        bank=str(tmp_path / "bank"),
        folds=3,
        head_depth=1,
        head_members=3,
        head_output=str(tmp_path / "head"),
    )
    evaluation = fit(fit_arguments, settings(tmp_path / "out", max_steps=15, per_device_train_batch_size=64))
    assert evaluation["made_by"]["arguments"]["head_members"] == 3
    for folder in ("out", "head"):
        assert json.loads((tmp_path / folder / "config.json").read_text())["head_width"] == 24
    model = RobustClipForImageClassification.from_pretrained(tmp_path / "out")
    assert model.head.layers[0].weight.shape == (24, 8)
