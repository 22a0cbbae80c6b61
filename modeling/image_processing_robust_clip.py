"""Image processor of the robust CLIP detector: any picture in, normalised `pixel_values` out.

Published with the weights as remote code: it imports only torch, transformers, numpy, Pillow and its neighbours.

The arithmetic is that of transformers' `CLIPImageProcessorPil` (bicubic resize of the short side, centre crop, CLIP's
mean and standard deviation). What differs: resize and crop are one Pillow call, so a thin strip needs no huge
intermediate picture; there is no torchvision back-end, so every installation computes the same numbers; and a picture
is shown the way a viewer shows it (upright, transparent parts on white, 16 bits scaled instead of clipped).
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from .colour_robust_clip import to_rgb


def _as_picture(image: Any) -> Image.Image:
    """One input of `preprocess` as an RGB picture."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(
            f"`images` must hold PIL images, numpy arrays or torch tensors, got {type(image).__name__}. "
            "Open a file with `PIL.Image.open` first."
        )
    got = f"{type(image).__name__} of {image.dtype} with shape {tuple(image.shape)}"
    if isinstance(image, torch.Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            raise ValueError(f"A tensor must be uint8 [3, H, W] with values 0..255, got {got}. Convert it first.")
        image = image.permute(1, 2, 0).contiguous().cpu().numpy()
    elif image.dtype != np.uint8 or (image.ndim != 2 and image.shape[2:] != (3,)) or image.size == 0:
        raise ValueError(f"An array must be uint8 [H, W, 3] or [H, W], values 0..255, got {got}. Convert it first.")
    return Image.fromarray(image).convert("RGB")


def central_square(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the square that the model sees at `size` pixels a side, in picture pixels."""
    short = min(width, height)
    full_width, full_height = int(size * width / short), int(size * height / short)
    left, top = (full_width - size) // 2, (full_height - size) // 2
    step_x, step_y = width / full_width, height / full_height
    return left * step_x, top * step_y, min((left + size) * step_x, width), min((top + size) * step_y, height)


def _resize_and_crop(picture: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` and keep the central square, in one resampling.

    Pillow's filter reads the pixels around `box`, so this equals resizing the whole picture and cropping it, up to
    the rounding of the box's corners.
    """
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=central_square(*picture.size, size))


def _side(size: int | dict[str, int]) -> int:
    """The side of the square, however a processor's file writes it."""
    side: int | None = None
    if not isinstance(size, dict):
        side = size
    elif "shortest_edge" in size or size.get("height") == size.get("width"):
        side = size.get("shortest_edge", size.get("height"))
    if not isinstance(side, int) or side < 1:
        raise ValueError(f"`size` must be one whole number of pixels for both sides, 1 or more, got {size!r}.")
    return side


class RobustClipImageProcessor(BaseImageProcessor):
    """Turns pictures into the model's `pixel_values`.

    Args:
        size: side of the square the model sees, in pixels; the short side of a picture is resized to it. Backbones'
            own files write it as {"shortest_edge": 224} or {"height": 224, "width": 224}.
        crop_size: the same, where a backbone's own file resizes to a larger `size` than it crops to, as DINOv2's.
        image_mean: mean of R, G and B in [0, 1]. `None` = CLIP's.
        image_std: standard deviation of R, G and B. `None` = CLIP's.
        **kwargs: other fields of a saved `preprocessor_config.json`, kept as attributes.

    Example:
        >>> processor = RobustClipImageProcessor()
        >>> processor(Image.new("RGB", (640, 480)), return_tensors="pt")["pixel_values"].shape
        torch.Size([1, 3, 224, 224])
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        size: int | dict[str, int] = 224,
        crop_size: int | dict[str, int] | None = None,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if crop_size is not None and kwargs.get("do_center_crop", True):
            size = crop_size
        self.size = _side(size)
        self.image_mean = list(OPENAI_CLIP_MEAN if image_mean is None else image_mean)
        self.image_std = list(OPENAI_CLIP_STD if image_std is None else image_std)
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or min(self.image_std) <= 0:
            raise ValueError(
                "`image_mean` and `image_std` must hold three numbers each, the latter above 0, got "
                f"{self.image_mean} and {self.image_std}."
            )

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Prepare one picture or a list of pictures.

        Args:
            images: a PIL image (any mode), a uint8 array [H, W, 3] or [H, W], a uint8 tensor [3, H, W], or a list of
                such.
            return_tensors: "pt" for torch, "np" or `None` for numpy.
            **kwargs: none is understood: the settings belong to the processor, so that all pictures are treated alike.

        Returns:
            `pixel_values`: float32 [B, 3, size, size], about -1.8 to 2.2.

        Raises:
            TypeError: an image of another type, or an unknown option.
            ValueError: an array of another shape or dtype, or an empty list.
        """
        if kwargs:
            raise TypeError(f"Unknown options {sorted(kwargs)}: set them when the processor is made.")
        batch = list(images) if isinstance(images, list | tuple) else [images]
        if not batch:
            raise ValueError("`images` must hold at least one picture, got an empty list.")
        # An 8-bit value has 256 images under rescaling and normalisation: look them up. [3, 256]
        levels = (np.arange(256) * (1 / 255)).astype(np.float32)
        mean, std = np.array([self.image_mean, self.image_std], dtype=np.float32)[:, :, None]
        table = (levels - mean) / std
        pixel_values = np.empty((len(batch), 3, self.size, self.size), dtype=np.float32)
        for row, image in zip(pixel_values, batch, strict=True):
            pixels = np.asarray(_resize_and_crop(_as_picture(image), self.size))  # [size, size, 3]
            for channel in range(3):
                np.take(table[channel], pixels[..., channel], out=row[channel])
        return BatchFeature(data={"pixel_values": pixel_values}, tensor_type=return_tensors)


__all__ = ["RobustClipImageProcessor", "central_square"]
