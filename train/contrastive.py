"""Training of the head's hidden blocks by the supervised contrastive loss, before the loss of the paper.

Source: Khosla et al., "Supervised Contrastive Learning", arXiv 2004.11362, its L_out. Samples of a class are drawn
together on the unit sphere and those of the other pushed away; the last Linear, which gives the score, takes no part.
"""

import torch
from torch import Tensor, nn

from modeling import RobustClipForImageClassification

from .arguments import RobustTrainingArguments
from .embedding_dataset import EmbeddingDataset
from .feature_noise import feature_noise

# The paper's temperature.
TEMPERATURE = 0.1


def contrastive_loss(features: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss of a batch.

    With z_i the features at length 1 and P(i) the other samples of i's class, it is the mean over i of
    -1 / |P(i)| sum over p in P(i) of log(exp(z_i z_p / t) / sum over a != i of exp(z_i z_a / t)).
    A sample that is alone in its class has no P(i) and is left out of the mean, but stays among the a of the others.

    Args:
        features: (B, D), any floating dtype; computed in float32, or float64 where given.
        labels: (B,) classes.
        temperature: t, above 0.

    Returns:
        Scalar of float32 or float64, 0 or more. 0 with a zero gradient where no class has two samples.

    Raises:
        ValueError: shapes differ, or `temperature` is not above 0.

    References:
        arXiv 2004.11362, equation 2.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"`features` and `labels` must be (B, D) and (B,), got {tuple(features.shape)} and {tuple(labels.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    features = nn.functional.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels) & ~itself  # (B, B)
    counts = positive.sum(dim=1)
    anchors = counts > 0  # (B,)
    similarity = (features @ features.T / temperature).masked_fill(itself, float("-inf"))[anchors]
    log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
    of_anchor = -torch.where(positive[anchors], log_share, 0).sum(dim=1) / counts[anchors]
    return of_anchor.sum() / max(1, len(of_anchor))


def train_blocks(
    model: RobustClipForImageClassification, dataset: EmbeddingDataset, training: RobustTrainingArguments
) -> None:
    """Train the head's hidden blocks for `contrastive_epochs`, in place, with AdamW at the recipe's learning rate.

    Batches are shuffled, of the recipe's size; of several processes each does all of it, alike.

    Args:
        model: its head reads pictures alone and has at least one block.
        dataset: stored embeddings and labels.
        training: the recipe.

    Raises:
        ValueError: the head has no block, or reads text.
    """
    if model.config.head_depth == 0 or model.config.text_config is not None:
        what = "has no hidden block" if model.config.head_depth == 0 else "reads text"
        raise ValueError(f"`contrastive_epochs` must be 0 for a head that {what}, got {training.contrastive_epochs}.")
    device, head = training.device, model.head
    head.to(device).train()
    blocks = head.layers[:-1]
    optimizer = torch.optim.AdamW(blocks.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    with feature_noise(model, training.feature_noise):
        for _ in range(training.contrastive_epochs):
            for rows in torch.randperm(len(dataset)).split(training.per_device_train_batch_size):
                if len(rows) < 2:  # BatchNorm needs two
                    continue
                batch = {name: tensor.to(device) for name, tensor in dataset.__getitems__(rows.tolist()).items()}
                with torch.no_grad():  # the components are frozen
                    features = head.features(batch["image_embeds"])
                loss = contrastive_loss(blocks(features), batch["labels"])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


__all__ = ["contrastive_loss", "train_blocks"]
