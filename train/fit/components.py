"""The frozen components of the image features, computed once for a fit instead of at every step."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from modeling import RobustClipForImageClassification

ROWS_AT_ONCE = 4096


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


__all__ = ["projected"]
