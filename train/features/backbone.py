"""The backbone that makes a bank: loading it, and fingerprints that tell whether another is the same."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig

from modeling import RobustClipConfig, RobustClipImageProcessor, RobustClipModel
from modeling.checkpoints import check_finite
from modeling.proof import load_checkpoint


def load_backbone(
    folder: str,
    image_layers: Sequence[int] = (),
    image_tokens: Sequence[str] = (),
    image_size: int | None = None,
) -> RobustClipModel:
    """A backbone, or that of one of our checkpoints, by folder or Hub id, in evaluation mode.

    Args:
        folder: where it is.
        image_layers: as `RobustClipConfig`'s; a checkpoint's own by default.
        image_tokens: as `RobustClipConfig`'s.
        image_size: side of the square that it sees, in pixels, as `from_backbone` takes it; its own by default.

    Raises:
        ValueError: another size is asked of a checkpoint of ours, or one that the backbone cannot see; or the
            backbone lacks tensors, or blocks that are asked for.
        CheckpointError: a checkpoint of ours is not what it was when it was made, or weights are not finite.
    """
    given = {"image_layers": list(image_layers), "image_tokens": list(image_tokens)}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    config = AutoConfig.from_pretrained(folder)
    if config.model_type != RobustClipConfig.model_type:
        backbone = RobustClipModel.from_backbone(folder, image_size=image_size, **fields).eval()
        check_finite(folder, backbone)
        return backbone
    if image_size not in (None, config.vision_config.image_size):
        raise ValueError(
            f"`image_size` of {folder} is {config.vision_config.image_size}, got {image_size}: leave it out, or name "
            "the backbone of that checkpoint."
        )
    # Made anew, so that it is looked at: `from_pretrained` takes single fields as they come.
    config = RobustClipConfig.from_dict(config.to_dict() | fields)
    backbone = load_checkpoint(folder)[0].backbone  # a backbone alone could not show that it is the right one
    backbone.config = config
    return backbone


def weights_fingerprint(model: RobustClipModel) -> str:
    """SHA-256 over the towers' parameters: two banks may meet only if it is equal."""
    return state_fingerprint({name: value for name, value in model.state_dict().items() if "tower" in name})


def state_fingerprint(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the names and values of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def processor_settings(processor: RobustClipImageProcessor) -> dict:
    """What decides the pixels that a backbone sees."""
    return {"size": processor.size, "image_mean": processor.image_mean, "image_std": processor.image_std}


__all__ = ["load_backbone", "processor_settings", "state_fingerprint", "weights_fingerprint"]
