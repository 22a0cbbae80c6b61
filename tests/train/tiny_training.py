"""Training on tiny models: arguments, embeddings and a trainer."""

import torch

from train.arguments import RobustTrainingArguments
from train.embedding_dataset import EmbeddingDataset, collate_batch
from train.measure.metrics import roc_auc
from train.trainer import RobustTrainer


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "max_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    return RobustTrainingArguments(**(settings | changes))


def embeddings(rows=32, text=True, seed=0, sources=None):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    image = torch.randn(rows, 8, generator=generator) + labels[:, None]
    text_embeds = torch.randn(rows, 8, generator=generator) if text else None
    return EmbeddingDataset(image, labels, text_embeds, sources=sources)


def auc(prediction):
    """ROC AUC over the whole evaluation set, from the two logits: a `compute_metrics` for a trainer."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"auc": roc_auc(prediction.label_ids, logits[:, 1] - logits[:, 0])}


def trainer(model, folder, dataset=None, **changes):
    return RobustTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=dataset or embeddings(),
        data_collator=collate_batch,
        compute_metrics=auc,
    )
