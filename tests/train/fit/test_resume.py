"""Killed without warning (SIGKILL) and started again: the same weights as without the kill."""

import json
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from modeling import RobustClipForImageClassification
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.features.bank import FeatureBank
from train.features.making import build_feature_bank
from train.fit import fitting as fit_module
from train.fit import held_out
from train.fit.baselines import BASELINES
from train.fit.fitting import FitArguments, fit

# argv: folder, what the training goes on from, the step at which it is killed.
TRAINING = """
import os, signal, sys
import torch
from transformers import TrainerCallback
from modeling import RobustClipConfig, RobustClipForImageClassification
from tests.tiny import TEXT, VISION
from tests.train.tiny_training import arguments, embeddings
from train.embedding_dataset import collate_batch
from train.trainer import RobustTrainer

folder, start, last = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == last:
            os.kill(os.getpid(), signal.SIGKILL)

torch.manual_seed(0)
model = RobustClipForImageClassification(RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT)))
trainer = RobustTrainer(
    model=model,
    args=arguments(
        folder, max_steps=24, save_strategy="steps", save_steps=3, learning_rate=1e-2, stratified=True
    ),
    train_dataset=embeddings(rows=80),  # 5 steps an epoch: the checkpoints lie within epochs
    data_collator=collate_batch,
    callbacks=[Kill()],
)
trainer.train(resume_from_checkpoint=start == "resume")
trainer.save_model(folder + "/final")
"""


def test_training_that_was_killed_ends_with_the_same_weights(python, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert python.run("-c", TRAINING, killed, "fresh", 7).returncode == -signal.SIGKILL
    assert (killed / "checkpoint-6" / "trainer_state.json").is_file()
    assert not (killed / "final").exists()
    for folder, start in ((killed, "resume"), (whole, "fresh")):
        result = python.run("-c", TRAINING, folder, start, -1)
        assert result.returncode == 0, result.stderr[-3000:]
    expected, found = (load_file(folder / "final" / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


# Killed when it is about to write its fourth shard.
BANK = """
import os, signal, sys
from train.data import DataArguments, load_records
from train.features import making, shards

records, output, backbone = sys.argv[1:]
write, written = shards.write_tables, []

def write_or_die(*given):
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*given)
    written.append(given)

shards.write_tables, shards.SHARD_SECONDS = write_or_die, 0
making.build_feature_bank(
    load_records(DataArguments(data=records)), output, backbone=backbone, views=3, batch_size=5
)
"""


def test_a_bank_whose_making_was_killed_equals_one_made_in_peace(python, tmp_path, parquet, backbone):
    result = python.run("-c", BANK, parquet, tmp_path / "killed", backbone)
    assert result.returncode == -signal.SIGKILL, result.stderr
    with pytest.raises(ValueError, match="is not finished"):
        FeatureBank.load(tmp_path / "killed")
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "killed").glob("shard*.arrow")}
    assert len(kept) == 3

    records, settings = load_records(DataArguments(data=str(parquet))), {"views": 3, "batch_size": 5}
    found = build_feature_bank(records, tmp_path / "killed", backbone=str(backbone), **settings)
    expected = build_feature_bank(records, tmp_path / "peace", backbone=str(backbone), **settings)
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert found.info == expected.info
    assert not found.rows.duplicated(["record_id", "view"]).any()


FIT_SETTINGS = {"max_steps": 15, "per_device_train_batch_size": 64, "learning_rate": 1e-2}
# Killed when it is about to fit its third fold.
FIT = """
import json, os, signal, sys
from tests.train.tiny_training import arguments
from train.fit import fitting, held_out

bank, output, settings = sys.argv[1:]
fit_head, fitted = held_out.fit_head, []

def fit_or_die(*given):
    if len(fitted) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    fit_head(*given)
    fitted.append(given)

held_out.fit_head = fit_or_die
fitting.fit(fitting.FitArguments(bank=bank, folds=3, head_depth=1), arguments(output, **json.loads(settings)))
"""


def test_a_fit_that_was_killed_goes_on_with_the_fold_that_was_not_done(
    python, tmp_path, parquet, backbone, monkeypatch
):
    records = load_records(DataArguments(data=str(parquet)))
    build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=1)
    result = python.run("-c", FIT, tmp_path / "bank", tmp_path / "killed", json.dumps(FIT_SETTINGS))
    assert result.returncode == -signal.SIGKILL, result.stderr
    kept = tmp_path / "killed" / "held-out-scores"
    assert len(list(kept.glob("*.safetensors"))) == 2 * (1 + len(BASELINES))
    shutil.copytree(tmp_path / "killed", tmp_path / "other")

    fit_arguments = FitArguments(bank=str(tmp_path / "bank"), folds=3, head_depth=1)
    fitted, fit_head = [], held_out.fit_head
    for module in (held_out, fit_module):
        monkeypatch.setattr(module, "fit_head", lambda *given: (fitted.append(given), fit_head(*given)))
    first = fit(fit_arguments, arguments(tmp_path / "killed", **FIT_SETTINGS))
    found = first.evaluation
    weights = {name: tensor.clone() for name, tensor in first.model.head.state_dict().items()}
    assert len(fitted) == 1 + 1  # the third fold, and the head that ships
    again = fit(fit_arguments, arguments(tmp_path / "killed", **FIT_SETTINGS))
    assert len(fitted) == 1 + 1
    assert again.evaluation == found
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.model.head.state_dict().items())
    assert found == fit(fit_arguments, arguments(tmp_path / "whole", **FIT_SETTINGS)).evaluation
    fitted.clear()
    fit(fit_arguments, arguments(tmp_path / "other", **(FIT_SETTINGS | {"auc_margin": 1.0})))
    assert len(fitted) == 3 + 1  # folds of other settings are not taken


def test_stored_scores_of_a_fold_are_not_taken_for_another_head(tmp_path, tiny_config):
    rows = pd.DataFrame({"label": [0, 1] * 16, "source": [f"s{i % 4}" for i in range(32)], "view": 0})
    generator = torch.Generator().manual_seed(0)
    bank = FeatureBank(rows, torch.randn(32, 8, generator=generator), None, {"fingerprint": "x"})
    fold = np.arange(32) // 2 % 2
    fits = 2 * (1 + len(BASELINES))
    for width, stored in [(4, fits), (4, fits), (5, 2 * fits)]:
        model = RobustClipForImageClassification(tiny_config(text=False, head_depth=1, head_width=width))
        held_out.held_out_scores(model, bank, fold, arguments(tmp_path / "out"), tmp_path / "scores")
        assert len(list((tmp_path / "scores").iterdir())) == stored
