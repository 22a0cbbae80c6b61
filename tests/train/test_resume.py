"""Killed without warning (SIGKILL) and started again: the same weights as without the kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]

WORKER = """
import sys, time
sys.path.insert(0, ".")
import torch
from transformers import TrainerCallback
from modeling import RobustClipConfig, RobustClipForImageClassification
from tests.conftest import TEXT, VISION
from tests.train.test_trainer import arguments, embeddings
from train.trainer import RobustTrainer, collate_batch

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
