"""The robust CLIP detector: frozen towers, an MLP head, one score (arXiv 2404.12908, section 3).

Published with the weights as remote code: it imports only torch, transformers and its sibling configuration.

Differences from the reference code: text is optional per sample (a learned embedding stands in where there is none),
stored embeddings can be fed instead of pictures, the two class logits carry the calibration, and the image tower may
be another one than CLIP's.
"""

import math
import os
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    MetaClip2VisionModelWithProjection,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput

from .configuration_robust_clip import RobustClipConfig

# transformers registers only the class that is saved; a published folder must load by every Auto class.
AUTO_MAP = {
    "AutoConfig": "configuration_robust_clip.RobustClipConfig",
    "AutoModel": "modeling_robust_clip.RobustClipModel",
    "AutoModelForImageClassification": "modeling_robust_clip.RobustClipForImageClassification",
}
# `model_type` of an image tower's configuration -> its class. The embedding is what the tower itself offers: CLIP's
# projected one, SigLIP's pooled one, the class token of DINOv2 and DINOv3.
IMAGE_TOWERS = {
    "clip_vision_model": CLIPVisionModelWithProjection,
    "metaclip_2_vision_model": MetaClip2VisionModelWithProjection,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
# `model_type` of a backbone with two towers -> that of its image tower. (Many models hold a CLIP tower among others.)
TWO_TOWERS = {"clip": "clip_vision_model", "metaclip_2": "metaclip_2_vision_model", "siglip": "siglip_vision_model"}
# What such a backbone holds beside one tower. It is not wanted when that one is loaded, so it is not reported.
BESIDE_IMAGE = [r"^text_model\.", r"^text_projection\.", r"^logit_(scale|bias)$"]
BESIDE_TEXT = [r"^vision_model\.", r"^visual_projection\.", r"^logit_(scale|bias)$"]
# The learned positions of the patches, of towers that see pictures of one size; DINOv2 and DINOv3 see any.
POSITIONS = "embeddings.position_embedding.weight"


@dataclass
class RobustClipModelOutput(ModelOutput):
    """Embeddings of a batch.

    Args:
        image_embeds: (B, D_image) image embeddings, not normalised; behind the tower's own embedding the tokens of
            the configuration's `image_layers`, where it names some.
        text_embeds: (B, D_text) text embeddings, the learned no-text embedding where a sample has no text;
            `None` without a text tower.
    """

    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


@dataclass
class RobustClipClassifierOutput(ModelOutput):
    """Answer for a batch.

    Args:
        loss: mean binary cross-entropy of the raw score against `labels`; `None` without labels. (Training replaces
            it by the paper's loss, see `train.losses`.)
        logits: (B, 2) class logits, [real, generated]; their softmax is the calibrated probability.
        score: (B,) the raw score, higher is more likely generated.
        image_embeds: (B, D_image).
        text_embeds: (B, D_text) or `None`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    score: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


class RobustClipHead(nn.Module):
    """`head_depth` x [Linear, BatchNorm, activation, Dropout], then Linear to one score.

    With `head_components` each part of the image features is projected to its principal components and scaled
    to one length first; these projections are set by whoever fits the head, and frozen.
    """

    def __init__(self, config: RobustClipConfig) -> None:
        """Build from the configuration's head fields."""
        super().__init__()
        self.image_parts = config.image_parts
        self.components = None
        if (most := config.head_components) is not None:
            self.components = nn.ModuleList(nn.Linear(part, min(part, most)) for part in self.image_parts)
        if config.head_activation not in ACT2FN:
            raise ValueError(f"`head_activation` must be one of {', '.join(ACT2FN)}, got {config.head_activation!r}.")
        layers: list[nn.Module] = []
        width = config.feature_dim
        for _ in range(config.head_depth):
            next_width = config.head_width or width
            layers += [
                nn.Linear(width, next_width),
                nn.BatchNorm1d(next_width),
                ACT2FN[config.head_activation],
                nn.Dropout(config.head_dropout),
            ]
            width = next_width
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)
        self.freeze()

    def freeze(self) -> None:
        """The components are fitted once, not trained."""
        if self.components is not None:
            self.components.requires_grad_(False)

    @property
    def part_widths(self) -> list[int]:
        """Widths of the parts of the image features as the first layer sees them."""
        if self.components is None:
            return self.image_parts
        return [cast(nn.Linear, project).out_features for project in self.components]

    def features(self, image_embeds: Tensor, text_embeds: Tensor | None = None) -> Tensor:
        """What the first layer sees, (B, D): the image features or their components, then the text where there is."""
        features = [image_embeds]
        if self.components is not None:
            parts = image_embeds.split(self.image_parts, dim=-1)
            features = [_unit_mean_square(project(part)) for project, part in zip(self.components, parts, strict=True)]
        if text_embeds is not None:
            features.append(text_embeds)
        return torch.cat(features, dim=-1)

    def forward(self, image_embeds: Tensor, text_embeds: Tensor | None = None) -> Tensor:
        """Map image features (B, D_image), and text embeddings (B, D_text) where there are some, to (B,) scores."""
        return self.layers(self.features(image_embeds, text_embeds)).squeeze(-1)


class RobustClipPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation shared by the two public models."""

    config_class = RobustClipConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["CLIPTextEmbeddings", "CLIPEncoderLayer", "CLIPVisionEmbeddings"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what a checkpoint does not hold: Kaiming-uniform Linear layers, a small no-text embedding."""
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=0.01, nonlinearity="leaky_relu")
            init.zeros_(module.bias)
        elif isinstance(module, RobustClipModel) and module.no_text_embed is not None:
            init.normal_(module.no_text_embed, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save weights, configuration and code so that every Auto class loads the folder."""
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with the towers frozen: loading makes every parameter trainable."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with `output_loading_info`
        for module in model.modules():
            if isinstance(module, RobustClipModel | RobustClipHead):
                module.freeze()
        return loaded

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str,
        *,
        use_text: bool = True,
        revision: str | None = None,
        image_size: int | None = None,
        **config_fields: Any,
    ) -> Self:
        """Build a detector with pretrained towers and a fresh head.

        Args:
            name_or_path: a Hub id or a folder of a CLIP with both towers or of its image tower alone; or of a SigLIP
                (also a SigLIP 2 of fixed size), MetaCLIP 2, DINOv2 or DINOv3 ViT, of which the image tower is taken.
            use_text: take the text tower too, where the backbone is a CLIP with one.
            revision: branch, tag or commit on the Hub.
            image_size: side of the square that the tower sees, in pixels, a multiple of its patches' side; its own by
                default. Learned positions are interpolated to it, once: `vision_config.image_size` says it from then
                on. DINOv2 and DINOv3 see squares of any size as they are. The processor needs the same `size`.
            **config_fields: fields of `RobustClipConfig`, for example `head_dropout=0.5`.

        Raises:
            ValueError: the backbone is none of these, or has no embedding, or cannot see squares of `image_size`.

        Example:
            >>> model = RobustClipForImageClassification.from_backbone("openai/clip-vit-large-patch14")
        """
        source = AutoConfig.from_pretrained(name_or_path, revision=revision)
        tower_class = _image_tower_class(source.model_type, name_or_path)
        vision = _load_tower(tower_class, BESIDE_IMAGE, name_or_path, revision)
        if not getattr(vision.config, "vision_use_head", True):
            raise ValueError(f"The image tower of {str(name_or_path)!r} must have a pooling head, got none.")
        text = None
        if use_text and source.model_type == "clip":
            text = _load_tower(CLIPTextModelWithProjection, BESIDE_TEXT, name_or_path, revision)
        config_fields = {"backbone_name": str(name_or_path), "backbone_revision": revision, **config_fields}
        state, seen = vision.state_dict(), _without_path(vision.config)
        if image_size is not None:
            state = resize_positions(state, patches_a_side(image_size, vision.config.patch_size))
            seen |= {"image_size": image_size} if has_learned_positions(state) else {}
        config = RobustClipConfig(
            vision_config=seen,
            text_config=_without_path(text.config) if text else None,
            **config_fields,
        )
        model = cls(config)
        backbone = getattr(model, cls.base_model_prefix, model)
        backbone.vision_tower.load_state_dict(state)
        if text is not None:
            backbone.text_tower.load_state_dict(text.state_dict())
        return model


class RobustClipModel(RobustClipPreTrainedModel):
    """The backbone: pictures and captions in, embeddings out. Frozen unless a caller unfreezes it."""

    # Loading a whole detector as features is a normal use: the head is not missing, it is not wanted.
    _keys_to_ignore_on_load_unexpected = [r"^head\."]

    def __init__(self, config: RobustClipConfig) -> None:
        """Build the towers of the configuration, frozen and in evaluation mode."""
        super().__init__(config)
        tower_class = _image_tower_class(config.vision_config.model_type, "vision_config")
        self.vision_tower = tower_class._from_config(config.vision_config)
        self.text_tower = None
        self.no_text_embed = None
        if config.text_config is not None:
            self.text_tower = CLIPTextModelWithProjection._from_config(config.text_config)
            self.no_text_embed = nn.Parameter(torch.zeros(config.text_config.projection_dim))
        self.freeze()
        self.post_init()

    def freeze(self) -> None:
        """Make no parameter of the towers trainable."""
        for tower in (self.vision_tower, self.text_tower):
            if tower is not None:
                tower.requires_grad_(False)

    def train(self, mode: bool = True) -> "RobustClipModel":
        """Set the mode; a tower without a trainable parameter stays in evaluation mode."""
        super().train(mode)
        for tower in (self.vision_tower, self.text_tower):
            if tower is not None and not any(p.requires_grad for p in tower.parameters()):
                tower.eval()
        return self

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_embeds: Tensor | None = None,
        text_embeds: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> RobustClipModelOutput | tuple:
        """Embed a batch.

        Args:
            pixel_values: (B, 3, S, S) from `RobustClipImageProcessor`; or give `image_embeds`.
            input_ids: (B, L) CLIP tokens, at most 77; optional.
            attention_mask: (B, L) of 0 and 1. A row of zeros means that this sample has no text.
            image_embeds: (B, D_image) stored embeddings instead of pictures.
            text_embeds: (B, D_text) stored embeddings instead of tokens. A row of zeros means no text.
            return_dict: `False` returns a tuple.

        Raises:
            ValueError: both or neither of pictures and stored embeddings, or text without a text tower.
        """
        if (pixel_values is None) == (image_embeds is None):
            raise ValueError("Give exactly one of `pixel_values` and `image_embeds`.")
        # Stored embeddings are float32, whatever the model is.
        image_embeds = self.embed_images(pixel_values) if image_embeds is None else image_embeds.to(self.dtype)
        text_embeds = self._embed_text(image_embeds, input_ids, attention_mask, text_embeds)
        output = RobustClipModelOutput(image_embeds=image_embeds, text_embeds=text_embeds)
        return output if return_dict is not False else output.to_tuple()

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """Image embeddings (B, D_image) of pictures (B, 3, S, S)."""
        layers = self.config.image_layers
        # Hidden states are asked for only where they are used: they would be kept in memory.
        output = self.vision_tower(pixel_values=pixel_values, **({"output_hidden_states": True} if layers else {}))
        embeds = output["image_embeds" if "image_embeds" in output else "pooler_output"]
        return self.join_image_embeds(embeds, [output.hidden_states[layer] for layer in layers]) if layers else embeds

    def join_image_embeds(self, embeds: Tensor, tokens: list[Tensor]) -> Tensor:
        """Image embeddings (B, D_image) from the tower's own (B, D) and the tokens (B, T, H) behind each layer."""
        vision = self.config.vision_config
        # Patches come last, as many as the pictures have: a DINOv2 is fed smaller ones than its configuration says.
        before = 0 if vision.model_type == "siglip_vision_model" else 1 + getattr(vision, "num_register_tokens", 0)
        parts = [embeds]
        for of_layer in tokens:
            found = {"class": of_layer[:, 0], "patch_mean": of_layer[:, before:].mean(dim=1)}
            parts += [found[name] for name in self.config.image_tokens]
        return torch.cat(parts, dim=-1)

    def _embed_text(
        self, image_embeds: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None, text_embeds: Tensor | None
    ) -> Tensor | None:
        """Text embeddings (B, D_text), with the no-text embedding where a sample has no text."""
        if input_ids is not None and text_embeds is not None:
            raise ValueError("Give at most one of `input_ids` and `text_embeds`.")
        if self.text_tower is None:
            if input_ids is not None or text_embeds is not None:
                raise ValueError("This checkpoint has no text tower: leave out `input_ids` and `text_embeds`.")
            return None
        no_text = self.no_text_embed.to(image_embeds.dtype).expand(image_embeds.shape[0], -1)
        has_text = rows_with_text(input_ids, attention_mask, text_embeds)
        if has_text is None:
            return no_text
        if text_embeds is None:
            if attention_mask is None:
                attention_mask = torch.ones_like(input_ids)
            # A fully masked row would be NaN inside the tower: let it see its padding, its embedding is not used.
            attention_mask = torch.where(has_text, attention_mask, torch.ones_like(attention_mask))
            text_embeds = self.text_tower(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        return torch.where(has_text, text_embeds.to(no_text.dtype), no_text)


class RobustClipForImageClassification(RobustClipPreTrainedModel):
    """Backbone and head: real (0) or generated (1).

    Example:
        >>> model = RobustClipForImageClassification.from_pretrained("path/of/a/checkpoint")
        >>> model(**processor(images=image, return_tensors="pt")).logits.softmax(-1)[:, 1]  # P(generated)
    """

    def __init__(self, config: RobustClipConfig) -> None:
        """Build backbone and head."""
        super().__init__(config)
        self.backbone = RobustClipModel(config)
        self.head = RobustClipHead(config)
        self.post_init()
        # transformers takes this over from the backbone; here a weight of the head that is not known is a fault.
        self._keys_to_ignore_on_load_unexpected -= set(RobustClipModel._keys_to_ignore_on_load_unexpected)

    @torch.no_grad()
    def reset_head(self) -> None:
        """Initialise the head, and the no-text embedding where there is one, afresh from the global random state."""
        # On the CPU: the numbers of one seed are then the same wherever the model is.
        head = RobustClipHead(self.config)
        for module in head.modules():
            self._init_weights(module)
        self.head = head.to(self.device)
        if self.backbone.no_text_embed is not None:
            values = torch.empty(self.backbone.no_text_embed.shape).normal_(std=self.config.initializer_range)
            self.backbone.no_text_embed.copy_(values)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_embeds: Tensor | None = None,
        text_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> RobustClipClassifierOutput | tuple:
        """Score a batch. Inputs as in `RobustClipModel.forward`.

        Args:
            pixel_values: (B, 3, S, S).
            input_ids: (B, L).
            attention_mask: (B, L).
            image_embeds: (B, D_image).
            text_embeds: (B, D_text).
            labels: (B,) of 0 = real and 1 = generated.
            return_dict: `False` returns a tuple.
        """
        embeds = self.backbone(pixel_values, input_ids, attention_mask, image_embeds, text_embeds)
        score = self.head(embeds.image_embeds, embeds.text_embeds)
        # Two logits whose softmax is sigmoid(scale * score + bias), so that `pipeline` shows the calibrated value.
        half = 0.5 * self._calibrated(score.float(), rows_with_text(input_ids, attention_mask, text_embeds))
        loss = None
        if labels is not None:
            loss = nn.functional.binary_cross_entropy_with_logits(score.float(), labels.float())
        output = RobustClipClassifierOutput(
            loss=loss,
            logits=torch.stack([-half, half], dim=-1),
            score=score,
            image_embeds=embeds.image_embeds,
            text_embeds=embeds.text_embeds,
        )
        return output if return_dict is not False else output.to_tuple()

    def _calibrated(self, score: Tensor, has_text: Tensor | None) -> Tensor:
        """Affine calibration of scores (B,), each by the part that belongs to its sample's input."""
        scale, bias, *_ = self.config.decision(with_text=False)
        alone = scale * score + bias
        if has_text is None or self.config.without_text is None:
            return alone
        scale, bias, *_ = self.config.decision(with_text=True)
        return torch.where(has_text.squeeze(-1), scale * score + bias, alone)


def rows_with_text(
    input_ids: Tensor | None, attention_mask: Tensor | None, text_embeds: Tensor | None
) -> Tensor | None:
    """Which samples have a text, (B, 1) of bool; `None` where the batch has no text at all."""
    if text_embeds is not None:
        return (text_embeds != 0).any(dim=1, keepdim=True)
    if input_ids is None:
        return None
    return (torch.ones_like(input_ids) if attention_mask is None else attention_mask).any(dim=1, keepdim=True)


def patches_a_side(image_size: int, patch_size: int) -> int:
    """Patches along the side of a square of so many pixels, or a ValueError where they do not fill it."""
    if image_size < patch_size or image_size % patch_size:
        raise ValueError(f"`image_size` must be a multiple of {patch_size}, the side of a patch, got {image_size}.")
    return image_size // patch_size


def has_learned_positions(state: dict[str, Tensor]) -> bool:
    """Whether an image tower's state holds a position for each patch, so that it sees pictures of one size only."""
    return any(name.endswith(POSITIONS) for name in state)


def resize_positions(state: dict[str, Tensor], patches: int) -> dict[str, Tensor]:
    """State of an image tower with its learned positions interpolated to another number of patches.

    The arithmetic is that of transformers' `interpolate_pos_encoding` (bicubic), done once instead of at every pass.

    Args:
        state: of the tower; left as it is.
        patches: along a side.

    Returns:
        The same tensors, but for the table of positions, ([1 +] patches * patches, D).
    """
    resized = dict(state)
    for name in filter(lambda name: name.endswith(POSITIONS), state):
        table = state[name]
        before = math.isqrt(len(table))  # the class token's position comes first, where there is one
        own = len(table) - before * before
        if before != patches:
            grid = table[own:].T.reshape(1, -1, before, before)
            grid = nn.functional.interpolate(grid, size=(patches, patches), mode="bicubic", align_corners=False)
            resized[name] = torch.cat([table[:own], grid.flatten(2)[0].T])
    return resized


def _image_tower_class(model_type: str, name: str | os.PathLike) -> type[PreTrainedModel]:
    """Class of the image tower of a backbone, or a ValueError that says which backbones there are."""
    tower_type = TWO_TOWERS.get(model_type, model_type)
    if tower_type not in IMAGE_TOWERS:
        why = " SigLIP 2 NaFlex takes pictures of any size; take one of fixed size." if "siglip2" in model_type else ""
        raise ValueError(
            f"{str(name)!r} must be a backbone of model_type {', '.join([*TWO_TOWERS, *IMAGE_TOWERS])}, "
            f"got {model_type!r}.{why}"
        )
    return IMAGE_TOWERS[tower_type]


def _load_tower(
    tower_class: type[PreTrainedModel], beside: list[str], name: str | os.PathLike, revision: str | None
) -> PreTrainedModel:
    """Load one tower of a backbone in float32; those of neither tower are reported, and without some there is none."""
    fields = {"_keys_to_ignore_on_load_unexpected": beside, "__module__": tower_class.__module__}
    quiet: Any = type(tower_class.__name__, (tower_class,), fields)
    tower, info = quiet.from_pretrained(name, revision=revision, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"The weights of {str(name)!r} lack {len(missing)} of the tower's, such as {missing[0]}: get it again."
        )
    return tower


def _unit_mean_square(values: Tensor) -> Tensor:
    """Scale each row so that the mean of its squares is 1, for every picture alike."""
    return nn.functional.normalize(values, dim=-1) * values.shape[-1] ** 0.5


def _without_path(config: PreTrainedConfig) -> dict:
    """A tower's configuration without the folder that it was loaded from: nobody else's machine has it."""
    return {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}


__all__ = ["RobustClipForImageClassification", "RobustClipModel", "patches_a_side", "resize_positions"]
