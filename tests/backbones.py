"""A tiny random backbone of every family, saved as its own repository holds it: weights and preprocessor config."""

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from tests.tiny import TEXT, VISION

SQUARE = {"height": 32, "width": 32}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PLAIN = {name: value for name, value in VISION.items() if name != "projection_dim"}
TOKENS = {name: value for name, value in TEXT.items() if name != "projection_dim"}


def _clip(config_class, model_class):
    return model_class(config_class(vision_config=VISION, text_config=TEXT, projection_dim=8))


def _siglip():
    return SiglipModel(SiglipConfig(vision_config=PLAIN, text_config=TOKENS | {"projection_size": 16}))


# Family -> (model, its own processor on Pillow), with the settings of the published files except the sizes.
FAMILIES = {
    "clip": (
        lambda: _clip(CLIPConfig, CLIPModel),
        lambda: CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    ),
    "metaclip_2": (
        lambda: _clip(MetaClip2Config, MetaClip2Model),
        lambda: CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE),
    ),
    "siglip": (_siglip, lambda: SiglipImageProcessorPil(size=SQUARE)),
    "dinov2": (
        lambda: Dinov2Model(Dinov2Config(**PLAIN | {"image_size": 64})),
        lambda: BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE, **IMAGENET),
    ),
    "dinov2_with_registers": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**PLAIN, num_register_tokens=2)),
        lambda: BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE, **IMAGENET),
    ),
    # DINOv3's own processor needs torchvision; SigLIP's has the same fields.
    "dinov3_vit": (
        lambda: DINOv3ViTModel(DINOv3ViTConfig(**PLAIN, num_register_tokens=2)),
        lambda: SiglipImageProcessorPil(size=SQUARE, resample=2, **IMAGENET),
    ),
}


def save_backbone(family, folder):
    """Write a tiny backbone of `family` and return it, in evaluation mode, with its own processor."""
    make_model, make_processor = FAMILIES[family]
    torch.manual_seed(0)
    model, processor = make_model().eval(), make_processor()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
