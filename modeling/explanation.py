"""The heat map: which regions of a picture moved its score, by integrated gradients from a block of the image tower.

Up to that block the picture is embedded once without gradients; only the later blocks are run again, so the map costs
about what two or three scores cost. The tokens are compared with a baseline in which every patch is the picture's
average patch: a region counts as far as it differs from the rest of its own picture. `bench/explanation.py` compares
this with other methods. No torch hook and no stored gradient is used, so threads may explain at the same time.

References:
    Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, arXiv 1703.01365.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import RobustClipForImageClassification
from .configuration_robust_clip import CLIP_TOWERS
from .detector import Detector
from .image_processing_robust_clip import central_square

# How far into the tower the tokens are taken, unless the head reads earlier ones: see bench/explanation.py.
DEPTH = 2 / 3
# Blue and orange (vermilion) of Okabe & Ito's palette: told apart with every kind of colour vision.
REAL_COLOUR = (0, 114, 178)
GENERATED_COLOUR = (213, 94, 0)
OPACITY = 0.75  # of the strongest region
DIMMED = 0.35  # brightness of what the model did not see


@dataclass(frozen=True)
class Explanation:
    """A map of what moved the score.

    Args:
        regions: (rows, columns) float32 in [-1, 1], 14 x 14 for the default checkpoint: the square that the model saw,
            from top left. Positive regions push toward generated, negative ones toward real; the strongest one is 1
            or -1. They are compared with the strongest one, not amounts of probability.
        box: left, top, right, bottom of that square in the upright picture, in pixels.
        method: how the map was made.
    """

    regions: np.ndarray
    box: tuple[int, int, int, int]
    method: str

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return {
            "regions": [[round(float(value), 4) for value in row] for row in self.regions],
            "box": list(self.box),
            "method": self.method,
        }


def can_explain(model: RobustClipForImageClassification) -> bool:
    """Whether there is a map for the model: its image tower must be built as CLIP's."""
    return model.config.vision_config.model_type in CLIP_TOWERS


def explain(detector: Detector, picture: Image.Image, caption: str | None = None) -> Explanation:
    """Find the regions that moved the score of a picture.

    Args:
        detector: what scores it; `can_explain` says whether it can be taken apart.
        picture: from `open_image`.
        caption: as in `Detector.detect`; it stays the same while the picture is taken apart.

    Raises:
        ValueError: a caption for a checkpoint that reads none.
    """
    steps = affordable_steps(detector.model)
    regions = attribute_regions(detector, picture, caption, steps=steps).float().numpy()
    strongest = np.abs(regions).max()
    if strongest > 0:
        regions = regions / strongest
    block = first_block(detector.model)
    method = f"integrated gradients, {steps} steps, from block {block}, against the picture's average patch"
    left, top, right, bottom = central_square(*picture.size, detector.processor.size)
    return Explanation(regions, (round(left), round(top), round(right), round(bottom)), method)


def attribute_regions(
    detector: Detector, picture: Image.Image, caption: str | None = None, *, steps: int | None = None
) -> Tensor:
    """Each region's part, (rows, columns), of the difference between the picture's score and the baseline's.

    The parts add up to that difference with many steps only. Two or three (the default: `affordable_steps`) rank the
    regions well (see the bench), and say nothing about amounts.
    """
    model = detector.model
    text_embeds = detector.embed_captions([caption])
    pixel_values = detector.processor(images=picture, return_tensors="pt")["pixel_values"]
    block = first_block(model)
    with torch.inference_mode(False), torch.enable_grad():
        tokens = tokens_before(model, pixel_values, block)
        score = score_from(model, block, text_embeds)
        parts = integrated_gradients(score, tokens, average_patches(tokens), steps or affordable_steps(model))
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    return parts[0, 1:].sum(dim=-1).reshape(side, side)


def integrated_gradients(score: Callable[[Tensor], Tensor], tokens: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """Each number's part of `score(tokens) - score(baseline)`, both (1, 1 + patches, D), by Gauss-Legendre quadrature.

    Captum's IntegratedGradients gives the same numbers (tested); importing it costs the page Matplotlib.
    """
    places, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    way = tokens - baseline
    points = torch.cat([baseline + place * way for place in (1 + places) / 2]).requires_grad_()
    (gradients,) = torch.autograd.grad(score(points).sum(), points)
    shares = torch.tensor(weights / 2).float().to(gradients.device)
    return (gradients * shares[:, None, None]).sum(dim=0, keepdim=True) * way


def first_block(model: RobustClipForImageClassification) -> int:
    """Number of the first block that is run again: not after a layer that the head reads."""
    depth = int(DEPTH * model.config.vision_config.num_hidden_layers)
    return min([depth, *(model.config.image_layers or [])])


def affordable_steps(model: RobustClipForImageClassification) -> int:
    """Points on the way from the baseline: so many that the blocks behind `first_block` cost one pass of the tower.

    From two thirds of the tower on these are 3, from half of it 2.
    """
    blocks = model.config.vision_config.num_hidden_layers
    return round(blocks / (blocks - first_block(model)))


@torch.no_grad()
def tokens_before(model: RobustClipForImageClassification, pixel_values: Tensor, block: int) -> Tensor:
    """Tokens (B, 1 + patches, D) that enter a block, the class token first."""
    tower = model.backbone.vision_tower.vision_model
    tokens = tower.pre_layrnorm(tower.embeddings(pixel_values))
    for layer in tower.encoder.layers[:block]:
        tokens = layer(tokens, attention_mask=None)
    return tokens


def score_from(
    model: RobustClipForImageClassification, block: int, text_embeds: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """The rest of the model: tokens (B, 1 + patches, D) that enter `block` to scores (B,)."""
    tower = model.backbone.vision_tower

    def score(tokens: Tensor) -> Tensor:
        behind = {block: tokens}
        for number, layer in enumerate(tower.vision_model.encoder.layers[block:], start=block + 1):
            tokens = behind[number] = layer(tokens, attention_mask=None)
        image_embeds = tower.visual_projection(tower.vision_model.post_layernorm(tokens[:, 0]))
        read = [behind[layer] for layer in model.config.image_layers or []]
        image_embeds = model.backbone.join_image_embeds(image_embeds, read)
        text = None if text_embeds is None else text_embeds.expand(len(tokens), -1)
        return model(image_embeds=image_embeds, text_embeds=text).score

    return score


def average_patches(tokens: Tensor) -> Tensor:
    """The baseline: the same class token, and the average patch at every place."""
    patches = tokens[:, 1:]
    return torch.cat([tokens[:, :1], patches.mean(dim=1, keepdim=True).expand_as(patches)], dim=1)


def draw(picture: Image.Image, explanation: Explanation, max_side: int = 768) -> Image.Image:
    """The picture in grey with the map on it: blue pushes toward real, orange toward generated.

    Args:
        picture: the one that was explained.
        explanation: of it.
        max_side: longest side of the result in pixels; a smaller picture is not enlarged.

    Returns:
        An RGB picture of the same shape as `picture`. What the model did not see is dark.
    """
    scale = min(1.0, max_side / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    grey = picture.resize((width, height), Image.Resampling.BICUBIC).convert("L").convert("RGB")
    left, top, right, bottom = (round(side * scale) for side in explanation.box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    regions = Image.fromarray(explanation.regions).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    values = np.asarray(regions)[..., None]  # (H, W, 1)
    colour = np.where(values > 0, GENERATED_COLOUR, REAL_COLOUR)
    opacity = OPACITY * np.sqrt(np.abs(values))  # by the root: a few strong regions must not hide all others
    pixels = np.asarray(grey, dtype=np.float32)
    drawn = DIMMED * pixels
    drawn[top:bottom, left:right] = (1 - opacity) * pixels[top:bottom, left:right] + opacity * colour
    return Image.fromarray(np.rint(drawn).astype(np.uint8))


__all__ = ["Explanation", "attribute_regions", "can_explain", "draw", "explain"]
