"""`Detector`: pictures, and captions where the checkpoint reads them, in; `Detection` out.

The one door for the app, programs and checks: it opens pictures with `open_image`, prepares them with the
checkpoint's processor and turns the score into a verdict with the thresholds stored in the checkpoint.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer

from . import RobustClipForImageClassification, RobustClipImageProcessor
from .checkpoints import load_processor, resolve_checkpoint
from .images import MAX_BYTES, ImageError, open_image

MAX_TOKENS = 77  # CLIP's context length

Source = str | os.PathLike | bytes | Image.Image


@dataclass(frozen=True)
class Detection:
    """The answer about one picture.

    Args:
        verdict: "real", "generated" or "uncertain"; `None` with an error.
        probability: calibrated P(generated) in [0, 1].
        score: raw score, higher is more likely generated.
        probability_without_caption: the same picture without its caption; `None` where no caption was used.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.
        width: pixels, after applying the orientation.
        height: pixels.
        sha256: of the file's bytes; `None` for a PIL image.
        model: what answered.
        error: why there is no answer, in words for a person; `None` otherwise.
    """

    verdict: str | None = None
    probability: float | None = None
    score: float | None = None
    probability_without_caption: float | None = None
    real_threshold: float | None = None
    generated_threshold: float | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    model: str | None = None
    error: str | None = None

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)


class Detector:
    """Judges pictures with one checkpoint.

    Args:
        model: in evaluation mode.
        processor: the checkpoint's.
        tokenizer: where the checkpoint has a text tower.
        name: what `Detection.model` says.

    Example:
        >>> Detector.from_pretrained().detect("photo.jpg").verdict
    """

    def __init__(
        self,
        model: RobustClipForImageClassification,
        processor: RobustClipImageProcessor,
        tokenizer: Any = None,
        name: str = "",
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike | None = None) -> "Detector":
        """Load a checkpoint.

        Args:
            model: `None` for the embedded default, a folder, or a Hub id.

        Raises:
            CheckpointError: there is no such checkpoint, or the default one cannot be assembled.
            OSError: a Hub id that cannot be loaded.
        """
        checkpoint = resolve_checkpoint(model)
        network = RobustClipForImageClassification.from_pretrained(checkpoint)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint) if network.config.text_config is not None else None
        name = Path(checkpoint).name if Path(checkpoint).is_dir() else checkpoint
        return cls(network, load_processor(checkpoint), tokenizer, name)

    @property
    def reads_captions(self) -> bool:
        """Whether a caption can be given."""
        return self.tokenizer is not None

    def detect(self, image: Source, caption: str | None = None) -> Detection:
        """Judge one picture.

        Args:
            image: a path, the file's bytes, or a PIL image.
            caption: a text that goes with the picture; only where the checkpoint reads captions.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: a caption for a checkpoint that reads none.
        """
        data = _read(image)
        picture = open_image(data)
        return self._judge([picture], [data], [caption])[0]

    def detect_many(
        self, images: Sequence[Source], captions: Sequence[str | None] | None = None, *, batch_size: int = 16
    ) -> list[Detection]:
        """Judge many pictures, `batch_size` at a time.

        Args:
            images: as in `detect`.
            captions: one for each picture, or `None`.
            batch_size: pictures a forward pass.

        Returns:
            One `Detection` a picture, in order; those that cannot be read carry an `error`.

        Raises:
            ValueError: `batch_size` under 1, another number of captions, or captions that cannot be read.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be 1 or more, got {batch_size}.")
        captions = [None] * len(images) if captions is None else list(captions)
        if len(captions) != len(images):
            raise ValueError(f"`captions` must be as many as the {len(images)} pictures, got {len(captions)}.")
        results: list[Detection] = []
        for start in range(0, len(images), batch_size):
            results += self._detect_batch(images[start : start + batch_size], captions[start : start + batch_size])
        return results

    def _detect_batch(self, images: Sequence[Source], captions: Sequence[str | None]) -> list[Detection]:
        answers: list[Detection | None] = [None] * len(images)
        readable, pictures, contents = [], [], []
        for index, image in enumerate(images):
            try:
                data = _read(image)
                pictures.append(open_image(data))
            except ImageError as error:
                answers[index] = Detection(error=str(error), model=self.name)
            else:
                readable.append(index)
                contents.append(data)
        if readable:
            judged = self._judge(pictures, contents, [captions[index] for index in readable])
            for index, detection in zip(readable, judged, strict=True):
                answers[index] = detection
        return [answer for answer in answers if answer is not None]

    def _judge(
        self, pictures: list[Image.Image], contents: list[bytes | Image.Image], captions: Sequence[str | None]
    ) -> list[Detection]:
        """Score opened pictures in one batch."""
        if any(captions) and not self.reads_captions:
            raise ValueError("This checkpoint has no text tower: leave the caption out.")
        with torch.inference_mode():
            outputs = self.model(**self.processor(images=pictures, return_tensors="pt"))
            score, probability = outputs.score, outputs.logits.softmax(-1)[:, 1]
            without = probability
            if any(captions):
                with_text = self.model(
                    image_embeds=outputs.image_embeds, **tokenize_captions(self.tokenizer, captions)
                )
                score, probability = with_text.score, with_text.logits.softmax(-1)[:, 1]
        config = self.model.config
        return [
            Detection(
                verdict=self._verdict(probability[i].item()),
                probability=probability[i].item(),
                score=score[i].item(),
                probability_without_caption=without[i].item() if captions[i] else None,
                real_threshold=config.real_threshold,
                generated_threshold=config.generated_threshold,
                width=picture.width,
                height=picture.height,
                sha256=None if isinstance(content, Image.Image) else hashlib.sha256(content).hexdigest(),
                model=self.name,
            )
            for i, (picture, content) in enumerate(zip(pictures, contents, strict=True))
        ]

    def _verdict(self, probability: float) -> str:
        if probability >= self.model.config.generated_threshold:
            return "generated"
        return "real" if probability <= self.model.config.real_threshold else "uncertain"


def tokenize_captions(tokenizer: Any, captions: Sequence[str | None]) -> dict[str, torch.Tensor]:
    """Turn captions into `input_ids` and `attention_mask`, (B, L) int64, long ones cut to CLIP's 77 tokens.

    The mask is all zeros where there is no caption: the model's learned no-text embedding stands in there.
    """
    tokens = tokenizer(
        [caption or "" for caption in captions],
        padding=True,
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    mask = tokens["attention_mask"] * torch.tensor([[bool(caption)] for caption in captions])
    return {"input_ids": tokens["input_ids"], "attention_mask": mask}


def _read(image: Source) -> bytes | Image.Image:
    """The file's bytes, so that what is hashed is what is judged; errors are left to `open_image`."""
    if isinstance(image, str | os.PathLike) and Path(image).is_file():
        with Path(image).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    if isinstance(image, str | os.PathLike):
        open_image(image)  # no such file: raises with the reason
    return image  # type: ignore[return-value]


__all__ = ["Detection", "Detector", "tokenize_captions"]
