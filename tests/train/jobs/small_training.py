"""A loss and a training that two processes share, small enough to be repeated by one."""

import torch
from torch import nn

from modeling import RobustClipConfig, RobustClipForImageClassification
from tests.tiny import TEXT, VISION
from tests.train.tiny_training import arguments, embeddings
from train.embedding_dataset import collate_batch
from train.trainer import RobustTrainer

# 7 and 5 rows: the last batches of two processes may differ in size.
ROWS = {0: slice(0, 7), 1: slice(7, 12)}
BY_SOURCE = {"source_balance": 0.5, "cvar_over": "sources"}


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 4, generator=generator), torch.arange(12) % 3 % 2


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def model_without_batch_statistics():
    """BatchNorm sees the rows of its own process, so that its statistics are left out here."""
    torch.manual_seed(0)
    config = RobustClipConfig(vision_config=dict(VISION), text_config=dict(TEXT), head_depth=0)
    return RobustClipForImageClassification(config)


def train_on_64_samples(folder, batch_size, resume=False, **changes):
    """The weights after 10 steps; a checkpoint at the sixth."""
    model = model_without_batch_statistics()
    settings = {
        "max_steps": 10,
        "save_strategy": "steps",
        "save_steps": 6,
        "per_device_train_batch_size": batch_size,
        "text_dropout": 0.0,
        "sam_rho": 0.2,
        "learning_rate": 1e-2,
        "stratified": True,
    }
    RobustTrainer(
        model=model,
        args=arguments(folder, **(settings | changes)),
        train_dataset=embeddings(rows=64, sources=torch.arange(64) ** 2 % 7),
        data_collator=collate_batch,
    ).train(resume_from_checkpoint=resume)
    return model.state_dict()
