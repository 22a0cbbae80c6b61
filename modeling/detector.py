"""`Detector`: pictures, and captions where the checkpoint reads them, in; `Detection` out.

The one door for the app, programs and checks: it opens pictures with `open_image`, prepares them with the
checkpoint's processor, scores them with a backend (see `backends`) and turns the score into a verdict with the
thresholds stored in the checkpoint.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer

from . import RobustClipForImageClassification, RobustClipImageProcessor
from .backends import TORCH, Backend, Outputs, check_backend, compute_with_torch, load_backend
from .cautions.known_data import KnownData
from .checkpoints import load_processor, resolve_checkpoint
from .hub import hub_errors
from .images import ImageError, open_image, read_bytes
from .verdicts import verdict

MAX_TOKENS = 77  # CLIP's context length
NO_TEXT_TOWER = "This checkpoint has no text tower: leave the caption out."

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
        backend: what computed it: one of `backends.BACKENDS`.
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
    backend: str | None = None
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
        known_data: tells pictures that are far from what the head was fitted on; `None` where the checkpoint has none.
        backend: what scores pictures; `None` for PyTorch. Captions, explanations and gradients use the model.

    Example:
        >>> Detector.from_pretrained().detect("photo.jpg").verdict
    """

    def __init__(
        self,
        model: RobustClipForImageClassification,
        processor: RobustClipImageProcessor,
        tokenizer: Any = None,
        name: str = "",
        known_data: KnownData | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.tokenizer = tokenizer
        self.name = name
        self.known_data = known_data
        self.backend = TORCH if backend is None else backend.name
        self._graph = None if backend is None else backend.compute

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike | None = None, backend: str = TORCH) -> "Detector":
        """Load a checkpoint.

        Args:
            model: `None` for the embedded default, a folder, or a Hub id.
            backend: what scores pictures, one of `backends.BACKENDS`; "auto" measures which is the fastest here. Where
                it does not agree with PyTorch, PyTorch answers and the log says so.

        Raises:
            CheckpointError: there is no such checkpoint, the Hub does not give it, or the default one cannot be
                assembled.
            ValueError: there is no such backend.
            ModuleNotFoundError: the backend's package is not installed.
        """
        check_backend(backend)
        checkpoint = resolve_checkpoint(model)
        with nullcontext() if Path(checkpoint).is_dir() else hub_errors(checkpoint):
            network = RobustClipForImageClassification.from_pretrained(checkpoint)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint) if network.config.text_config is not None else None
            processor = load_processor(checkpoint)
        name = Path(checkpoint).name if Path(checkpoint).is_dir() else checkpoint
        known_data = KnownData.load(checkpoint, network.config)
        graph = load_backend(backend, network.eval(), processor, checkpoint)
        return cls(network, processor, tokenizer, name, known_data, graph)

    @cached_property
    def version(self) -> str:
        """A fingerprint of the head, the calibration and the thresholds: 12 hexadecimal digits.

        The backbone is frozen and named in the config, so it is not hashed.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            if not name.startswith("backbone."):
                digest.update(name.encode())
                digest.update(tensor.contiguous().cpu().numpy().tobytes())
        config = self.model.config
        fields = ("backbone_name", "calibration_scale", "calibration_bias", "real_threshold", "generated_threshold")
        digest.update(repr([getattr(config, field) for field in fields]).encode())
        return digest.hexdigest()[:12]

    @property
    def reads_captions(self) -> bool:
        """Whether a caption can be given."""
        return self.tokenizer is not None

    def compute(self, pixel_values: torch.Tensor) -> Outputs:
        """Scores, logits and image embeddings of prepared pictures without captions, by the backend.

        Args:
            pixel_values: float32 [B, 3, size, size], from `processor`.
        """
        return compute_with_torch(self.model, pixel_values) if self._graph is None else self._graph(pixel_values)

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
        return self.judge_opened(open_image(data), data, caption)[0]

    def judge_opened(
        self, picture: Image.Image, data: bytes | Image.Image, caption: str | None = None
    ) -> tuple[Detection, torch.Tensor]:
        """Judge one picture that `open_image` opened.

        Args:
            picture: upright RGB.
            data: the file's bytes, which are hashed, or the picture itself where there is no file.
            caption: as in `detect`.

        Returns:
            The detection, and the image embedding, (D,) float32.

        Raises:
            ValueError: a caption for a checkpoint that reads none.
        """
        detections, embeddings = self._judge([picture], [data], [caption])
        return detections[0], embeddings[0]

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

    def detect_prepared(self, pixel_values: torch.Tensor) -> list[Detection]:
        """Judge pictures that the processor has prepared, in one forward pass and without captions.

        For callers that cannot hold a whole batch of opened pictures in memory. What only the file tells (width,
        height, sha256) is left for them to add.

        Args:
            pixel_values: float32 [B, 3, size, size], from `processor`; the model may be on another device.
        """
        outputs = self.compute(pixel_values)
        return [
            self._detection(score, probability)
            for score, probability in zip(
                outputs.score.tolist(), outputs.logits.softmax(-1)[:, 1].tolist(), strict=True
            )
        ]

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
            judged, _ = self._judge(pictures, contents, [captions[index] for index in readable])
            for index, detection in zip(readable, judged, strict=True):
                answers[index] = detection
        return [answer for answer in answers if answer is not None]

    def _judge(
        self, pictures: list[Image.Image], contents: list[bytes | Image.Image], captions: Sequence[str | None]
    ) -> tuple[list[Detection], torch.Tensor]:
        """Score opened pictures in one batch; also the tower's embeddings of them, (B, D)."""
        if any(captions) and not self.reads_captions:
            raise ValueError(NO_TEXT_TOWER)
        outputs = self.compute(self.processor(images=pictures, return_tensors="pt")["pixel_values"])
        score, probability = outputs.score, outputs.logits.softmax(-1)[:, 1]
        without = probability
        if any(captions):
            tokens = tokenize_captions(self.tokenizer, captions)
            with torch.inference_mode():
                with_text = self.model(image_embeds=outputs.image_embeds, **tokens)
            score, probability = with_text.score, with_text.logits.softmax(-1)[:, 1]
        detections = [
            self._detection(
                score[i].item(),
                probability[i].item(),
                probability_without_caption=without[i].item() if captions[i] else None,
                width=picture.width,
                height=picture.height,
                sha256=None if isinstance(content, Image.Image) else hashlib.sha256(content).hexdigest(),
            )
            for i, (picture, content) in enumerate(zip(pictures, contents, strict=True))
        ]
        return detections, outputs.image_embeds[:, : self.model.config.embedding_dim]

    def _detection(self, score: float, probability: float, **facts: Any) -> Detection:
        """What every answer of this checkpoint says."""
        return Detection(
            verdict=self.verdict_at(probability),
            probability=probability,
            score=score,
            real_threshold=self.model.config.real_threshold,
            generated_threshold=self.model.config.generated_threshold,
            model=self.name,
            backend=self.backend,
            **facts,
        )

    def verdict_at(self, probability: float) -> str:
        """The verdict for a calibrated probability, by the checkpoint's thresholds."""
        config = self.model.config
        return verdict(probability, config.real_threshold, config.generated_threshold)

    def score_pictures(self, pictures: Sequence[Image.Image], caption: str | None = None) -> list[float]:
        """Calibrated P(generated) of opened pictures that share a caption, in one batch.

        Args:
            pictures: from `open_image`, at least one.
            caption: as in `detect`.

        Raises:
            ValueError: a caption for a checkpoint that reads none.
        """
        text_embeds = self.embed_caption(caption)
        outputs = self.compute(self.processor(images=list(pictures), return_tensors="pt")["pixel_values"])
        if text_embeds is not None:
            with torch.inference_mode():
                text_embeds = text_embeds.expand(len(pictures), -1)
                outputs = self.model(image_embeds=outputs.image_embeds, text_embeds=text_embeds)
        return outputs.logits.softmax(-1)[:, 1].tolist()

    def embed_caption(self, caption: str | None) -> torch.Tensor | None:
        """Text embedding (1, D_text) of a caption; `None` without one, where the no-text embedding stands in.

        Raises:
            ValueError: a caption for a checkpoint that reads none.
        """
        if not caption:
            return None
        if not self.reads_captions:
            raise ValueError(NO_TEXT_TOWER)
        with torch.no_grad():
            return self.model.backbone.text_tower(**tokenize_captions(self.tokenizer, [caption])).text_embeds


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
    """The file's bytes, so that what is hashed is what is judged."""
    return image if isinstance(image, Image.Image) else read_bytes(image)


__all__ = ["Detection", "Detector", "tokenize_captions"]
