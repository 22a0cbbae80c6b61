"""Configuration of the robust CLIP detector (arXiv 2404.12908).

Published with the weights as remote code: it imports only transformers and huggingface_hub.

Differences from the paper's reference code: the text tower is optional, the calibration and the operating point
travel with the weights, and labels are fixed to those of `CLASSES`.
"""

import inspect
import re
from functools import wraps
from typing import Any, NamedTuple

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPTextConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# openai/clip-vit-large-patch14, the paper's backbone.
PAPER_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}

# The name of label 0 and of label 1.
CLASSES = ("real", "generated")
# Image towers built as CLIP's: a projection of the class token.
CLIP_TOWERS = ("clip_vision_model", "metaclip_2_vision_model")
# What can be taken from the tokens behind a block: the class token, and the mean of the patches' tokens.
IMAGE_TOKENS = ("class", "patch_mean")


class Decision(NamedTuple):
    """From a score to a verdict: fields of `RobustClipConfig`, and of its `without_text`."""

    calibration_scale: float
    calibration_bias: float
    real_threshold: float
    generated_threshold: float


def _one_sentence(cls: type) -> type:
    """Raise what `@strict` refuses as a ValueError of one sentence: its own error is none, and has several lines."""
    strict_init = cls.__init__  # type: ignore[misc]

    @wraps(strict_init)
    def init(self: Any, *args: Any, **fields: Any) -> None:
        try:
            strict_init(self, *args, **fields)
        except StrictDataclassError as error:
            wrong = re.match(r"Validation error for field '(\w+)'", str(error))
            if wrong and wrong[1] in fields:
                kind = inspect.formatannotation(cls.__annotations__.get(wrong[1], Any))
                raise ValueError(f"`{wrong[1]}` must be {kind}, got {fields[wrong[1]]!r}.") from error
            raise ValueError(str(error.__cause__ or error)) from error

    cls.__init__ = init  # type: ignore[misc]
    return cls


@_one_sentence
@strict
class RobustClipConfig(PreTrainedConfig):
    """Everything that turns a picture, and a caption when there is one, into a calibrated probability.

    Args:
        vision_config: image tower: the configuration of one of `modeling_robust_clip.IMAGE_TOWERS`, or its dict with
            its `model_type`; without one, a CLIP's. The default is the paper's ViT-L/14.
        text_config: text tower (`CLIPTextConfig` or its dict). `None` = the detector takes pictures only.
        image_layers: blocks of the image tower, 1 the first, whose tokens the head sees beside the embedding (as RINE
            does, arXiv 2402.19091). `None` = the embedding alone, as in the paper.
        image_tokens: which tokens of these blocks, of `IMAGE_TOKENS`.
        head_components: the head sees the embedding and each token as so many principal components, fitted
            to the training data and then frozen, all scaled to one length. `None` = as they are, as in the paper.
        head_depth: number of blocks [Linear, BatchNorm, activation, Dropout] before the last Linear. Paper: 3.
        head_width: width of these blocks. `None` = the width of their input, as in the paper.
        head_activation: name of an activation of transformers. The reference code uses LeakyReLU(0.01).
        head_dropout: dropout probability in [0, 1). Reference: 0.335.
        calibration_scale: `scale` > 0 in P(generated) = sigmoid(scale * score + bias). 1 = not calibrated.
        calibration_bias: `bias` of the same formula. 0 = not calibrated.
        real_threshold: verdict "real" when P(generated) <= this. In [0, 1], not above `generated_threshold`.
        generated_threshold: verdict "generated" when P(generated) >= this; between the two it is "uncertain". Above
            1 it is never "generated".
        without_text: these four fields for a picture without a text, where there is a text tower: its scores lie
            elsewhere. `None` = the same as with one.
        operating_point: what was measured at these thresholds: false-positive rate, counts, data. For the reader.
            Under "without_text" the same at those of `without_text`.
        corrections: what was done to the head after it was fitted: which pictures of a user, and what was measured
            (`python -m train refit`). For the reader. `None` = nothing.
        backbone_name: where the backbone's weights came from, a Hub id or another name.
        backbone_revision: which revision of it.
        initializer_range: standard deviation of the learned no-text embedding at initialisation.

    Raises:
        ValueError: a field is of another type, or out of its range.
    """

    model_type = "robust_clip"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(AutoConfig, model_type="clip_vision_model", init_kwargs=PAPER_VISION),
        "text_config": SubConfigSpec(config_class=CLIPTextConfig, optional=True),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | CLIPTextConfig | None = None
    image_layers: list[int] | None = None
    image_tokens: list[str] | None = None
    head_components: int | None = None
    head_depth: int = 3
    head_width: int | None = None
    head_activation: str = "leaky_relu"
    head_dropout: float | int = 0.335
    calibration_scale: float | int = 1.0
    calibration_bias: float | int = 0.0
    real_threshold: float | int = 0.5
    generated_threshold: float | int = 0.5
    without_text: dict[str, float | int] | None = None
    operating_point: dict | None = None
    corrections: list[dict] | None = None
    backbone_name: str | None = None
    backbone_revision: str | None = None
    # transformers falls back to a standard deviation of 1.0 for a config without this field.
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Fix the labels and the problem type, then let transformers build the nested configurations."""
        self.id2label = dict(enumerate(CLASSES))
        self.label2id = {name: label for label, name in self.id2label.items()}
        self.problem_type = "single_label_classification"
        self.image_layers = self.image_layers or None
        self.image_tokens = self.image_tokens or (["class"] if self.image_layers else None)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs: Any) -> Any:
        """As in transformers; an error says that it is the file that is wrong.

        Raises:
            ValueError: what the file should hold, and what it holds.
        """
        try:
            return super().from_dict(config_dict, **kwargs)
        except ValueError as error:
            raise ValueError(f"config.json is not valid: {error} Correct it, or get the checkpoint again.") from error

    @property
    def embedding_dim(self) -> int:
        """Width of the tower's own image embedding, the first columns of `image_embeds`."""
        tower = self.vision_config
        return tower.projection_dim if tower.model_type in CLIP_TOWERS else tower.hidden_size

    @property
    def image_parts(self) -> list[int]:
        """Widths of the parts of `image_embeds`: the embedding, then for each layer its tokens."""
        tokens = len(self.image_layers or []) * len(self.image_tokens or [])
        return [self.embedding_dim, *[self.vision_config.hidden_size] * tokens]

    @property
    def image_dim(self) -> int:
        """Width of `image_embeds`, D_image."""
        return sum(self.image_parts)

    @property
    def feature_dim(self) -> int:
        """Width of the head's first Linear: image features, plus text embedding where there is a text tower."""
        most = self.head_components or self.image_dim
        image = sum(min(part, most) for part in self.image_parts)
        return image + (self.text_config.projection_dim if self.text_config is not None else 0)

    def decision(self, *, with_text: bool) -> Decision:
        """Calibration and thresholds for a picture that comes with a text, or without one."""
        if with_text or self.without_text is None:
            return Decision(*(getattr(self, name) for name in Decision._fields))
        return Decision(**self.without_text)

    def measured(self, *, with_text: bool) -> dict | None:
        """Return what `operating_point` says of the thresholds of `decision`."""
        if with_text or self.without_text is None:
            return self.operating_point
        return (self.operating_point or {}).get("without_text")

    def validate_image(self) -> None:
        """Checked by `@strict` at construction."""
        if self.image_tokens and not self.image_layers:
            raise ValueError(f"`image_tokens` needs `image_layers`, got {self.image_tokens} and no layers.")
        if self.vision_config is None or not self.image_layers:
            return
        blocks = self.vision_config.num_hidden_layers
        layers = self.image_layers
        if sorted(set(layers)) != layers or not 1 <= layers[0] <= layers[-1] <= blocks:
            raise ValueError(f"`image_layers` must rise within 1 to the tower's {blocks} blocks, got {layers}.")
        tokens = [name for name in IMAGE_TOKENS if name in self.image_tokens]
        if tokens != self.image_tokens:
            raise ValueError(
                f"`image_tokens` must be of {list(IMAGE_TOKENS)}, in this order, got {self.image_tokens}."
            )
        if "class" in tokens and self.vision_config.model_type == "siglip_vision_model":
            raise ValueError('`image_tokens` must be ["patch_mean"] for a SigLIP: its tower has no class token.')

    def validate_head(self) -> None:
        """Checked by `@strict` at construction."""
        if self.head_components is not None and self.head_components < 1:
            raise ValueError(f"`head_components` must be 1 or more, or None for none, got {self.head_components}.")
        if self.head_depth < 0:
            raise ValueError(f"`head_depth` must be 0 or more, got {self.head_depth}.")
        if self.head_width is not None and self.head_width < 1:
            raise ValueError(f"`head_width` must be 1 or more, or None for the input's width, got {self.head_width}.")
        if not 0 <= self.head_dropout < 1:
            raise ValueError(f"`head_dropout` must be in [0, 1), got {self.head_dropout}.")

    def validate_decision(self) -> None:
        """Checked by `@strict` at construction."""
        if self.without_text is not None:
            if self.text_config is None:
                raise ValueError("`without_text` needs a text tower, got no `text_config`.")
            if set(self.without_text) != set(Decision._fields):
                raise ValueError(
                    f"`without_text` must hold {', '.join(Decision._fields)}, got {', '.join(self.without_text)}."
                )
        for with_text in (True, False):
            scale, _, real, generated = self.decision(with_text=with_text)
            if not scale > 0:
                raise ValueError(f"`calibration_scale` must be above 0, got {scale}.")
            if not (0 <= real <= 1 and real <= generated):
                raise ValueError(
                    "Thresholds must satisfy 0 <= `real_threshold` <= 1 and `real_threshold` <= "
                    f"`generated_threshold`, got {real} and {generated}."
                )


__all__ = ["CLASSES", "CLIP_TOWERS", "IMAGE_TOKENS", "Decision", "RobustClipConfig"]
