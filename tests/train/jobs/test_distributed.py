"""Two processes (gloo) against one: losses, gradients, SAM steps, a feature bank and a whole fit."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from modeling import RobustClipForImageClassification
from modeling.embedded import ROOT
from tests.train.jobs.small_training import (
    BY_SOURCE,
    batch,
    model_without_batch_statistics,
    small_model,
    train_on_64_samples,
)
from tests.train.two_processes import run_two
from train.data.records import DataArguments, load_records
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.features.making import build_feature_bank
from train.losses import robust_loss

LOSS = """
import sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.train.jobs.small_training import ROWS, batch, small_model
from train.jobs.processes import gather_batch
from train.losses import robust_loss

dist.init_process_group("gloo")
rows = ROWS[dist.get_rank()]
model = DistributedDataParallel(small_model())
features, labels = batch()
scores = model(features[rows]).squeeze(1)
loss = robust_loss(gather_batch(scores), gather_batch(labels[rows])).loss
loss.backward()
found = {"loss": loss.item(), "gradients": [p.grad.tolist() for p in model.parameters()]}
torch.save(found, f"{sys.argv[1]}/{dist.get_rank()}.pt")
dist.destroy_process_group()
"""

TRAINING = """
import json, sys
import torch, torch.distributed as dist
from tests.train.jobs.small_training import train_on_64_samples

folder, settings = sys.argv[1], json.loads(sys.argv[2])
weights = train_on_64_samples(folder, 8, **settings)
torch.save(weights, f"{folder}/weights-{dist.get_rank()}.pt")
dist.destroy_process_group()
"""

BANK = """
import sys
from train.data import DataArguments, load_records
from train.features.making import build_feature_bank

records, output, backbone = sys.argv[1:]
bank = build_feature_bank(
    load_records(DataArguments(data=records)), output, backbone=backbone, views=3, batch_size=5
)
assert len(bank) == 69
"""


def test_the_loss_of_two_processes_is_that_of_the_union_in_value_and_gradient(python, tmp_path):
    run_two(python, "-c", LOSS, tmp_path)
    model = small_model()
    features, labels = batch()
    loss = robust_loss(model(features).squeeze(1), labels).loss
    loss.backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-6)
        for parameter, gradient in zip(model.parameters(), found["gradients"], strict=True):
            torch.testing.assert_close(torch.tensor(gradient), parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, BY_SOURCE])
def test_two_processes_train_as_one_with_both_batches_and_go_on_within_an_epoch(python, tmp_path, settings):
    """64 samples are 4 steps an epoch: the checkpoint at step 6 lies in the middle of the second."""
    run_two(python, "-c", TRAINING, tmp_path / "two", json.dumps(settings))
    two = [torch.load(tmp_path / "two" / f"weights-{rank}.pt") for rank in (0, 1)]
    one = train_on_64_samples(tmp_path / "one", 16, **settings)
    for name, value in one.items():
        for weights in two:
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6, msg=name)
    untrained = model_without_batch_statistics().state_dict()
    assert any(not torch.allclose(one[name], untrained[name], atol=1e-3) for name in one)

    shutil.copytree(tmp_path / "two" / "checkpoint-6", tmp_path / "resumed" / "checkpoint-6")
    run_two(python, "-c", TRAINING, tmp_path / "resumed", json.dumps(settings | {"resume": True}))
    resumed = torch.load(tmp_path / "resumed" / "weights-0.pt")
    assert all(torch.equal(two[0][name], resumed[name]) for name in resumed)


def test_two_processes_make_one_bank_and_fit_one_head(python, tmp_path, parquet, backbone):
    run_two(python, "-c", BANK, parquet, tmp_path / "two", backbone)
    records = load_records(DataArguments(data=str(parquet)))
    one = build_feature_bank(records, tmp_path / "one", backbone=str(backbone), views=3, batch_size=5)
    two = FeatureBank.load(tmp_path / "two")
    pd.testing.assert_frame_equal(two.rows, one.rows)
    # Each of two has one thread: sums run in another order.
    torch.testing.assert_close(two.image_embeds, one.image_embeds, rtol=1e-5, atol=1e-6)
    of_values = {"fingerprint": "", "embeds_sha256": ""}
    assert two.info | of_values == one.info | of_values

    # The command that the documents give, with the real torchrun.
    settings = "--folds 3 --head_depth 1 --max_steps 15 --per_device_train_batch_size 32 --learning_rate 1e-2"
    settings += " --report_to none --save_strategy no"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "train", "fit", "--bank", tmp_path / "two", "--output_dir", tmp_path / "out", *settings.split()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.count("ROC AUC: ") == 1  # by one process
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["pictures"] == {"real": 12, "generated": 11}
    model = RobustClipForImageClassification.from_pretrained(tmp_path / "out")
    assert np.isfinite(score_embeddings(model, two.image_embeds)).all()
