"""Two processes (gloo) against one: losses, gradients, a SAM step, a feature bank and a whole fit."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from modeling import RobustClipForImageClassification
from modeling.embedded import ROOT
from train.data.records import DataArguments, load_records
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank, build_feature_bank
from train.losses import robust_loss

# 7 and 5 rows: the last batches of two processes may differ in size.
ROWS = {0: slice(0, 7), 1: slice(7, 12)}

LOSS_WORKER = """
import json, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.train.jobs.test_distributed import ROWS, batch, small_model
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

TRAINER_WORKER = """
import sys
import torch, torch.distributed as dist
from tests.train.jobs.test_distributed import model_without_batch_statistics, two_process_arguments
from tests.train.tiny_training import embeddings
from train.embedding_dataset import collate_batch
from train.trainer import RobustTrainer

folder, batch_size = sys.argv[1], int(sys.argv[2])
by_source = {"source_balance": 0.5, "cvar_over": "sources"} if "by_source" in sys.argv[3:] else {}
model = model_without_batch_statistics()
RobustTrainer(
    model=model,
    args=two_process_arguments(folder, batch_size, **by_source),
    train_dataset=embeddings(rows=64, sources=torch.arange(64) ** 2 % 7),
    data_collator=collate_batch,
).train(resume_from_checkpoint=sys.argv[3:] == ["resume"])
rank = dist.get_rank() if dist.is_initialized() else 0
torch.save(model.state_dict(), f"{folder}/weights-{batch_size}-{rank}.pt")
if dist.is_initialized():
    dist.destroy_process_group()
"""


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 4, generator=generator), torch.arange(12) % 3 % 2


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def model_without_batch_statistics():
    """BatchNorm sees the rows of its own process, so that its statistics are left out here."""
    from modeling import RobustClipConfig, RobustClipForImageClassification
    from tests.tiny import TEXT, VISION

    torch.manual_seed(0)
    config = RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT), head_depth=0)
    return RobustClipForImageClassification(config)


def two_process_arguments(folder, batch_size, **changes):
    from tests.train.tiny_training import arguments

    return arguments(
        folder,
        max_steps=10,
        save_strategy="steps",
        save_steps=6,
        per_device_train_batch_size=batch_size,
        text_dropout=0.0,
        sam_rho=0.2,
        learning_rate=1e-2,
        stratified=True,
        **changes,
    )


def torchrun(processes, arguments, environment=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    result = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.fixture
def worker(tmp_path):
    def write(code):
        script = tmp_path / "worker.py"
        script.write_text("import sys; sys.path.insert(0, '.')\n" + code)
        return script

    return write


def test_the_loss_of_two_processes_is_that_of_the_union_in_value_and_gradient(worker, tmp_path):
    torchrun(2, [worker(LOSS_WORKER), tmp_path])
    model = small_model()
    features, labels = batch()
    loss = robust_loss(model(features).squeeze(1), labels).loss
    loss.backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-6)
        for parameter, gradient in zip(model.parameters(), found["gradients"], strict=True):
            torch.testing.assert_close(torch.tensor(gradient), parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("flags", [[], ["by_source"]])
def test_sam_steps_of_two_processes_are_those_of_one_with_both_batches(worker, tmp_path, flags):
    script = worker(TRAINER_WORKER)
    torchrun(2, [script, tmp_path, 8, *flags])
    torchrun(1, [script, tmp_path, 16, *flags])
    one = torch.load(tmp_path / "weights-16-0.pt")
    for rank in (0, 1):
        two = torch.load(tmp_path / f"weights-8-{rank}.pt")
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    untrained = model_without_batch_statistics().state_dict()
    assert any(not torch.allclose(one[name], untrained[name], atol=1e-3) for name in one)


BANK_WORKER = """
import sys
sys.path.insert(0, ".")
from train.data import DataArguments, load_records
from train.features.bank import build_feature_bank

records, output, backbone = sys.argv[1:]
bank = build_feature_bank(
    load_records(DataArguments(data=records)), output, backbone=backbone, views=3, batch_size=5, shard_size=2
)
assert len(bank) == 69
"""


def test_two_processes_resumed_within_an_epoch_end_with_the_same_weights(worker, tmp_path):
    """64 samples are 4 steps an epoch: the checkpoint at step 6 lies in the middle of the second."""
    script = worker(TRAINER_WORKER)
    torchrun(2, [script, tmp_path / "whole", 8])
    shutil.copytree(tmp_path / "whole" / "checkpoint-6", tmp_path / "resumed" / "checkpoint-6")
    torchrun(2, [script, tmp_path / "resumed", 8, "resume"])
    whole, resumed = (torch.load(tmp_path / name / "weights-8-0.pt") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_two_processes_make_one_bank_and_fit_one_head(worker, tmp_path, parquet, backbone):
    torchrun(2, [worker(BANK_WORKER), parquet, tmp_path / "two", backbone])
    records = load_records(DataArguments(data=str(parquet)))
    one = build_feature_bank(records, tmp_path / "one", backbone=str(backbone), views=3, batch_size=5, shard_size=2)
    two = FeatureBank.load(tmp_path / "two")
    pd.testing.assert_frame_equal(two.rows, one.rows)
    # torchrun gives each process one thread: sums run in another order.
    torch.testing.assert_close(two.image_embeds, one.image_embeds, rtol=1e-5, atol=1e-6)
    assert {**two.info, "fingerprint": ""} == {**one.info, "fingerprint": ""}

    settings = "--folds 3 --head_depth 1 --max_steps 15 --per_device_train_batch_size 32 --learning_rate 1e-2"
    settings += " --report_to none --save_strategy no"
    command = ["-m", "train", "fit", "--bank", tmp_path / "two", "--output_dir", tmp_path / "out", *settings.split()]
    printed = torchrun(2, command)
    assert printed.count("auc:") == 1  # by one process
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["pictures"] == {"real": 12, "generated": 11}
    model = RobustClipForImageClassification.from_pretrained(tmp_path / "out")
    assert np.isfinite(score_embeddings(model, two.image_embeds)).all()
