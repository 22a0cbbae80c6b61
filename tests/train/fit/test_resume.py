"""Killed without warning (SIGKILL) and started again: the same weights as without the kill."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from modeling import RobustClipForImageClassification
from modeling.embedded import ROOT
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.features.bank import FeatureBank, build_feature_bank
from train.fit import fitting as fit_module
from train.fit import held_out
from train.fit.fitting import FitArguments, fit

WORKER = """
import sys, time
sys.path.insert(0, ".")
import torch
from transformers import TrainerCallback
from modeling import RobustClipConfig, RobustClipForImageClassification
from tests.tiny import TEXT, VISION
from tests.train.tiny_training import arguments, embeddings
from train.embedding_dataset import collate_batch
from train.trainer import RobustTrainer

folder, resume, pause = sys.argv[1], sys.argv[2] == "resume", float(sys.argv[3])

class Slow(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        time.sleep(pause)

torch.manual_seed(0)
model = RobustClipForImageClassification(RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT)))
trainer = RobustTrainer(
    model=model,
    args=arguments(
        folder, max_steps=24, save_strategy="steps", save_steps=3, learning_rate=1e-2, stratified=True
    ),
    train_dataset=embeddings(rows=80),  # 5 steps an epoch: the checkpoints lie within epochs
    data_collator=collate_batch,
    callbacks=[Slow()],
)
trainer.train(resume_from_checkpoint=resume)
trainer.save_model(folder + "/final")
"""


def start(tmp_path, folder, resume, pause):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, script, folder, resume, pause]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()[-3000:]


def test_training_that_was_killed_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start(tmp_path, whole, "fresh", 0)
    process = start(tmp_path, killed, "fresh", 0.5)
    deadline = time.monotonic() + 100
    while not (killed / "checkpoint-6" / "trainer_state.json").is_file():
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "checkpoint-24").exists()
    finish(start(tmp_path, killed, "resume", 0))
    finish(uninterrupted)
    expected, found = (
        load_file(whole / "final" / "model.safetensors"),
        load_file(killed / "final" / "model.safetensors"),
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)


BANK_WORKER = """
import sys
sys.path.insert(0, ".")
from train.fit import fitting as fit_module
from train.fit import held_out
from train.data import DataArguments, load_records
from train.features.bank import build_feature_bank

records, output, backbone = sys.argv[1:]
build_feature_bank(
    load_records(DataArguments(data=records)), output, backbone=backbone, views=3, batch_size=5, shard_size=2
)
"""


def test_a_bank_whose_making_was_killed_equals_one_made_in_peace(tmp_path, parquet, backbone):
    script = tmp_path / "worker.py"
    script.write_text(BANK_WORKER)
    command = [sys.executable, script, parquet, tmp_path / "killed", backbone]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "killed").glob("*.arrow"))) < 3:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(ValueError, match="is not finished"):
        FeatureBank.load(tmp_path / "killed")
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "killed").glob("shard*.arrow")}
    assert 3 <= len(kept) < 12

    records, settings = load_records(DataArguments(data=str(parquet))), {"views": 3, "batch_size": 5, "shard_size": 2}
    found = build_feature_bank(records, tmp_path / "killed", backbone=str(backbone), **settings)
    expected = build_feature_bank(records, tmp_path / "peace", backbone=str(backbone), **settings)
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert found.info == expected.info
    assert not found.rows.duplicated(["record_id", "view"]).any()


FIT_WORKER = """
import sys, time
sys.path.insert(0, ".")
from tests.train.fit.test_resume import FIT_SETTINGS
from tests.train.tiny_training import arguments
from train.fit import fitting as fit_module
from train.fit import held_out

bank, output = sys.argv[1:]
fit_head = held_out.fit_head
held_out.fit_head = lambda *given: (time.sleep(0.5), fit_head(*given))
fit_module.fit(fit_module.FitArguments(bank=bank, folds=3, head_depth=1), arguments(output, **FIT_SETTINGS))
"""
FIT_SETTINGS = {"max_steps": 15, "per_device_train_batch_size": 64, "learning_rate": 1e-2}


def test_a_fit_that_was_killed_goes_on_with_the_fold_that_was_not_done(tmp_path, parquet, backbone, monkeypatch):
    records = load_records(DataArguments(data=str(parquet)))
    build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=1)
    script = tmp_path / "worker.py"
    script.write_text(FIT_WORKER)
    command = list(map(str, [sys.executable, script, tmp_path / "bank", tmp_path / "killed"]))
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    kept = tmp_path / "killed" / "held-out-scores"
    while len(list(kept.glob("*.safetensors"))) < 2:
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list(kept.glob("*.safetensors"))) == 2
    shutil.copytree(tmp_path / "killed", tmp_path / "other")

    fit_arguments = FitArguments(bank=str(tmp_path / "bank"), folds=3, head_depth=1)
    fitted, fit_head = [], held_out.fit_head
    for module in (held_out, fit_module):
        monkeypatch.setattr(module, "fit_head", lambda *given: (fitted.append(given), fit_head(*given)))
    found = fit(fit_arguments, arguments(tmp_path / "killed", **FIT_SETTINGS))
    assert len(fitted) == 1 + 1  # the third fold, and the head that ships
    assert found == fit(fit_arguments, arguments(tmp_path / "whole", **FIT_SETTINGS))
    assert not kept.exists()
    fitted.clear()
    fit(fit_arguments, arguments(tmp_path / "other", **(FIT_SETTINGS | {"auc_margin": 1.0})))
    assert len(fitted) == 3 + 1  # folds of other settings are not taken


def test_stored_scores_of_a_fold_are_not_taken_for_another_head(tmp_path, tiny_config):
    rows = pd.DataFrame({"label": [0, 1] * 16, "source": [f"s{i % 4}" for i in range(32)], "view": 0})
    generator = torch.Generator().manual_seed(0)
    bank = FeatureBank(rows, torch.randn(32, 8, generator=generator), None, {"fingerprint": "x"})
    fold = np.arange(32) // 2 % 2
    for width, stored in [(4, 2), (4, 2), (5, 4)]:
        model = RobustClipForImageClassification(tiny_config(text=False, head_depth=1, head_width=width))
        held_out.held_out_scores(model, bank, fold, arguments(tmp_path / "out"), tmp_path / "scores")
        assert len(list((tmp_path / "scores").iterdir())) == stored
