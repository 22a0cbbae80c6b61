"""Principal components of the image features: fitted once, and frozen while the head is fitted."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from modeling import RobustClipForImageClassification

from ..features.bank import FeatureBank

# So many rows give the principal components to three digits; more would only take memory.
MOST_COMPONENT_ROWS = 20_000
ROWS_AT_ONCE = 4096


def fit_components(model: RobustClipForImageClassification, bank: FeatureBank, rows: np.ndarray) -> nn.ModuleList:
    """Projections for the model's head to the principal components of these rows' image features, frozen.

    Of each part all have one scale, a mean square of 1 on average, and so keep their shares of the variance. Whitened,
    the many directions in which pictures hardly differ drown the few in which they do (experiments/README.md).
    Of more than MOST_COMPONENT_ROWS rows every n-th is used.

    Raises:
        ValueError: there are not more rows than components.
    """
    rows = rows[:: -(-len(rows) // MOST_COMPONENT_ROWS)]
    components = copy.deepcopy(cast(nn.ModuleList, model.head.components))
    projections = [module for module in components if isinstance(module, nn.Linear)]
    most = max(project.out_features for project in projections)
    if len(rows) <= most:
        raise ValueError(f"`head_components` must be below the number of rows to fit on, {len(rows)}, got {most}.")
    parts = bank.image_embeds[torch.from_numpy(rows)].split(model.config.image_parts, dim=-1)
    for project, part in zip(projections, parts, strict=True):
        found = PCA(project.out_features, svd_solver="covariance_eigh").fit(part.double().numpy())
        basis = found.components_ / np.sqrt(max(found.explained_variance_.mean(), np.finfo(np.float32).tiny))
        with torch.no_grad():
            project.weight.copy_(torch.from_numpy(basis))
            project.bias.copy_(torch.from_numpy(-basis @ found.mean_))
    return components


@contextmanager
def projected(model: RobustClipForImageClassification, image_embeds: Tensor, rows: np.ndarray) -> Iterator[Tensor]:
    """Within the body the head takes, in the place of image features, what its components make of them.

    A head without components takes the features as they are.

    Args:
        model: its components are fitted.
        image_embeds: (N, D_image), in memory or memory-mapped.
        rows: (M,) the rows that are used.

    Yields:
        (N, D) to use in the place of `image_embeds`, in a temporary file: what is much stays on disk, what is little
        in the page cache. Only `rows` are filled, and a file's holes take no room.
    """
    head = model.head
    components, widths = head.components, head.image_parts
    if components is None:
        yield image_embeds
        return
    projected_widths = head.part_widths
    with tempfile.TemporaryFile() as file:
        stored = np.memmap(file, np.float32, "w+", shape=(len(image_embeds), sum(projected_widths)))
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                chunk = rows[start : start + ROWS_AT_ONCE]
                features = image_embeds[torch.from_numpy(chunk)].to(model.device)
                stored[chunk] = head.features(features).float().cpu().numpy()
        head.components, head.image_parts = None, projected_widths
        try:
            yield torch.from_numpy(stored)
        finally:
            head.components, head.image_parts = components, widths


__all__ = ["fit_components", "projected"]
