"""Image processor of the robust CLIP detector: any picture in, normalised `pixel_values` out.

Published with the weights as remote code: it imports only torch, transformers, numpy and Pillow.

The arithmetic is that of transformers' `CLIPImageProcessorPil` (bicubic resize of the short side, centre crop, CLIP's
mean and standard deviation). What differs: resize and crop are one Pillow call, so a thin strip needs no huge
intermediate picture; there is no torchvision back-end, so every installation computes the same numbers; and a picture
is shown the way a viewer shows it (upright, transparent parts on white, 16 bits scaled instead of clipped).
"""

import struct
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Where Pillow looks for an orientation. Dropped once it has been applied, so that it cannot be applied twice.
ORIENTATION_CARRIERS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# Modes for which a "transparency" entry of `Image.info` names colours; elsewhere Pillow ignores or rejects it.
COLOUR_KEY_MODES = ("1", "L", "P", "RGB")
# A float picture whose peak is below this counts as 0..1 with highlights above 1: as 0..255 it would be black.
FLOAT_PEAK = 8.0


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, once. Metadata that cannot be read means no rotation."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return image
    # A damaged entry may hold anything, also values that cannot be looked up in a dict.
    method = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if method is None:
        return image
    turned = image.transpose(method)
    for key in ORIENTATION_CARRIERS:
        turned.info.pop(key, None)
    return turned


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey values to 8 bits; Pillow's own conversion clips them at 255.

    White is 65535 for 16-bit modes. The modes "I" and "F" do not say what white is: it is the smallest of the usual
    ranges (1 for floats, 255, 65535) that holds the peak, otherwise the peak itself. NaN and negative values are
    black.
    """
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=np.inf, neginf=0.0)
    if image.mode.startswith("I;16"):
        white = 65535.0
        colour_key = image.info.get("transparency")
        if isinstance(colour_key, int):
            values[values == colour_key] = white
    else:
        peak = float(values.max(where=np.isfinite(values), initial=0.0))
        ranges = [(FLOAT_PEAK, 1.0)] if image.mode == "F" else []
        ranges += [(255.0, 255.0), (65535.0, 65535.0), (np.inf, peak)]
        white = next(white for limit, white in ranges if peak <= limit)
    values *= 255.0 / white
    np.clip(np.rint(values, out=values), 0.0, 255.0, out=values)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any PIL image into the RGB picture that a viewer would show.

    Args:
        image: a PIL image of any mode; of an animation, the frame it stands at. It is decoded if it was not, and
            otherwise left alone.

    Returns:
        An "RGB" image: upright, transparent parts on white, deep grey values scaled. An upright opaque RGB image is
        returned as it is, pixels untouched.
    """
    image.load()
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(image)
    if image.mode == "La":  # premultiplied grey: Pillow converts it to "LA" and to nothing else
        image = image.convert("LA")
    keyed = "transparency" in image.info and image.mode in COLOUR_KEY_MODES
    if keyed or image.mode in ("LA", "PA", "RGBA", "RGBa") or (image.mode == "P" and image.has_transparency_data):
        layer = image.convert("RGBA")
        picture = Image.new("RGB", layer.size, "white")
        picture.paste(layer, mask=layer)
        return picture
    return image if image.mode == "RGB" else image.convert("RGB")


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
        given = size
        if isinstance(size, dict):
            height, width = size.get("height"), size.get("width")
            size = size.get("shortest_edge", height if height == width else None)
        self.image_mean = list(OPENAI_CLIP_MEAN if image_mean is None else image_mean)
        self.image_std = list(OPENAI_CLIP_STD if image_std is None else image_std)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"`size` must be one whole number of pixels for both sides, 1 or more, got {given!r}.")
        self.size = size
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


__all__ = ["RobustClipImageProcessor", "central_square", "to_rgb"]
