"""The RGB picture that a viewer shows of any PIL image: upright, in sRGB, on white, deep grey values scaled.

Published with the weights as remote code. It imports only numpy, Pillow and its own siblings, so that a process that
opens pictures starts without torch.
"""

import struct

import numpy as np
from PIL import Image

from .srgb_robust_clip import to_srgb

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


def _deep_to_grey(image: Image.Image) -> Image.Image:
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
    return Image.fromarray(values.astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any PIL image into the RGB picture that a viewer would show.

    Args:
        image: a PIL image of any mode; of an animation, the frame it stands at. It is decoded if it was not, and
            otherwise left alone.

    Returns:
        An "RGB" image: upright, its declared colours turned into sRGB, transparent parts on white, deep grey values
        scaled. An upright opaque RGB image that declares no colours but sRGB is returned as it is, pixels untouched.
    """
    image.load()
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return to_srgb(_deep_to_grey(image), image.info)
    if image.mode == "La":  # premultiplied grey: Pillow converts it to "LA" and to nothing else
        image = image.convert("LA")
    keyed = "transparency" in image.info and image.mode in COLOUR_KEY_MODES
    if keyed or image.mode in ("LA", "PA", "RGBA", "RGBa") or (image.mode == "P" and image.has_transparency_data):
        layer = image.convert("RGBA")
        colours = to_srgb(image.convert("L") if image.mode == "LA" else layer.convert("RGB"), image.info)
        picture = Image.new("RGB", layer.size, "white")
        picture.paste(colours, mask=layer.getchannel("A"))
        return picture
    return to_srgb(image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB"), image.info)


__all__ = ["to_rgb"]
