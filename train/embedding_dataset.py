"""Stored embeddings: a dataset that hands out whole batches of them, and their scores by a model."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

SCORED_AT_ONCE = 65_536


class EmbeddingDataset(Dataset):
    """Stored embeddings, batched by tensor indexing instead of one Python object a sample.

    Args:
        image_embeds: (N, D_image), in memory or memory-mapped: only a batch's rows are read.
        labels: (N,) of 0 = real and 1 = generated.
        text_embeds: (N, D_text), or `None`.
        rows: (M,) the rows that this dataset consists of; all N by default.
        sources: (N,) integer number of each sample's source, or `None`. Batches do not hold it, see `with_sources`.
        shapes: (N,) integer number of each sample's shape, or `None`; for the sampler.

    Raises:
        ValueError: the number of rows differs.
    """

    def __init__(
        self,
        image_embeds: Tensor,
        labels: Tensor,
        text_embeds: Tensor | None = None,
        rows: Tensor | None = None,
        sources: Tensor | None = None,
        shapes: Tensor | None = None,
    ) -> None:
        of_samples = (image_embeds, text_embeds, sources, shapes)
        if any(len(labels) != len(given) for given in of_samples if given is not None):
            raise ValueError(
                "`image_embeds`, `text_embeds`, `labels`, `sources` and `shapes` must have one row a sample."
            )
        self._sources, self._shapes = sources, shapes
        self.tensors = {"image_embeds": image_embeds, "labels": labels}
        if text_embeds is not None:
            self.tensors["text_embeds"] = text_embeds
        self.rows = torch.arange(len(labels)) if rows is None else rows

    @property
    def labels(self) -> Tensor:
        """Labels of this dataset's samples, (M,)."""
        return self.tensors["labels"][self.rows]

    @property
    def sources(self) -> Tensor | None:
        """Numbers of this dataset's samples' sources, (M,), where it has them."""
        return None if self._sources is None else self._sources[self.rows]

    @property
    def shapes(self) -> Tensor | None:
        """Numbers of this dataset's samples' shapes, (M,), where it has them."""
        return None if self._shapes is None else self._shapes[self.rows]

    def with_sources(self) -> "EmbeddingDataset":
        """Return the same dataset with `sources` in its samples and batches.

        Raises:
            ValueError: it has none.
        """
        if self._sources is None:
            raise ValueError("`EmbeddingDataset` must be made with `sources`, the number of each sample's source.")
        dataset = copy.copy(self)
        dataset.tensors = self.tensors | {"sources": self._sources}
        return dataset

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample, without a batch axis."""
        return {name: tensor[self.rows[index]] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch; PyTorch's loader calls this and hands the result to `collate_batch`."""
        rows = self.rows[torch.as_tensor(indices)]
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


def collate_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pass a batch of `EmbeddingDataset` on as it is."""
    return batch


def score_embeddings(model: nn.Module, image_embeds: Tensor, text_embeds: Tensor | None = None) -> np.ndarray:
    """Raw scores (N,) of stored embeddings, in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    scores = []
    with torch.inference_mode():
        for start in range(0, len(image_embeds), SCORED_AT_ONCE):
            rows = slice(start, start + SCORED_AT_ONCE)
            text = None if text_embeds is None else text_embeds[rows].to(device)
            scores.append(model(image_embeds=image_embeds[rows].to(device), text_embeds=text).score.float().cpu())
    return torch.cat(scores).numpy()


__all__ = ["EmbeddingDataset", "collate_batch", "score_embeddings"]
