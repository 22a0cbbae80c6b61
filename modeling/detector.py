"""`Detector`: pictures, and captions where the checkpoint reads them, in; `Detection` out.

The one door for the app, programs and checks: it opens pictures with `open_image`, prepares them with the
checkpoint's processor, scores them with a backend (see `backends`) and turns the score into a verdict with the
thresholds that the checkpoint stores for its input: a picture with a caption, or alone.
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
from transformers import AutoTokenizer, PreTrainedConfig

from . import RobustClipForImageClassification, RobustClipImageProcessor
from .backends import TORCH, Backend, Outputs, check_backend, compute_with_torch, load_backend
from .cautions.content import NO_CONTENT, has_content
from .cautions.known_data import KnownData
from .cautions.pages import probe_for
from .checkpoints import resolve_checkpoint
from .hub import hub_errors
from .images import ImageError, open_image, read_bytes
from .proof import load_checkpoint
from .verdicts import UNCERTAIN, verdict

MAX_TOKENS = 77  # CLIP's context length
NO_TEXT_TOWER = "This checkpoint has no text tower: leave the caption out."

Source = str | os.PathLike | bytes | Image.Image


@dataclass(frozen=True)
class Detection:
    """The answer about one picture.

    Args:
        verdict: "real", "generated" or "uncertain"; `None` with an error.
        reason: code of the caution that makes the verdict "uncertain" whatever the probability: "no_content" for a
            picture of one colour, an even gradient or noise. `None` where the probability decides.
        probability: calibrated P(generated) in [0, 1].
        score: raw score, higher is more likely generated.
        probability_without_caption: of the same picture without its caption, by the calibration for pictures alone;
            `None` where no caption was used.
        real_threshold: "real" at or below this probability.
        generated_threshold: "generated" at or above it.
        width: pixels, after applying the orientation.
        height: pixels.
        sha256: of the file's bytes; `None` for a PIL image.
        model: what answered, with the date of each correction that it carries (`corrected_name`).
        backend: what computed it: one of `backends.BACKENDS`.
        error: why there is no answer, in words for a person; `None` otherwise.
    """

    verdict: str | None = None
    reason: str | None = None
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
        self.pages = probe_for(model.config, processor.size)
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
            CheckpointError: there is no such checkpoint, the Hub does not give it, the default one cannot be
                assembled, or it is not what it was when it was made (see `proof`).
            ValueError: there is no such backend.
            ModuleNotFoundError: the backend's package is not installed.
        """
        check_backend(backend)
        checkpoint = resolve_checkpoint(model)
        with nullcontext() if Path(checkpoint).is_dir() else hub_errors(checkpoint):
            network, processor = load_checkpoint(checkpoint)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint) if network.config.text_config is not None else None
        name = Path(checkpoint).name if Path(checkpoint).is_dir() else checkpoint
        name = corrected_name(name, network.config)
        known_data = KnownData.load(checkpoint, network.config)
        graph = load_backend(backend, network, processor, checkpoint)
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
        if config.without_text is not None:
            digest.update(repr(config.decision(with_text=False)).encode())
        return digest.hexdigest()[:12]

    @property
    def corrections(self) -> list[dict]:
        """What was done to the head after it was fitted, as `RobustClipConfig.corrections` has it."""
        return self.model.config.corrections or []

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
        detections, embeddings = self._judge(self._prepare([picture]), [caption])
        return _with_file(detections[0], picture, data), embeddings[0]

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

    def detect_prepared(
        self, pixel_values: torch.Tensor, captions: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """Judge pictures that the processor has prepared, in one forward pass.

        For callers that cannot hold a whole batch of opened pictures in memory. What only the file tells (width,
        height, sha256) is left for them to add.

        Args:
            pixel_values: float32 [B, 3, size, size], from `processor`; the model may be on another device.
            captions: one for each picture, or `None`.

        Raises:
            ValueError: captions for a checkpoint that reads none.
        """
        return self._judge(pixel_values, captions or [None] * len(pixel_values))[0]

    def embed_captions(self, captions: Sequence[str | None]) -> torch.Tensor | None:
        """Text embeddings (B, D_text) of captions, zeros where there is none; `None` where nobody has one.

        The model takes zeros for "no text" and puts its learned embedding there. A caption that comes several times
        is embedded once.

        Raises:
            ValueError: a caption for a checkpoint that reads none.
        """
        given = list(dict.fromkeys(caption for caption in captions if caption))
        if not given:
            return None
        if not self.reads_captions:
            raise ValueError(NO_TEXT_TOWER)
        tokens = {name: ids.to(self.model.device) for name, ids in tokenize_captions(self.tokenizer, given).items()}
        with torch.no_grad():  # no inference mode: an explanation differentiates what follows
            embeds = self.model.backbone.text_tower(**tokens).text_embeds
        of_caption = dict(zip(given, embeds, strict=True))
        return torch.stack([of_caption[text] if text else torch.zeros_like(embeds[0]) for text in captions])

    def _judge(
        self, pixel_values: torch.Tensor, captions: Sequence[str | None]
    ) -> tuple[list[Detection], torch.Tensor]:
        """Every score goes this way: answers to a batch, and the tower's own embeddings of it, (B, D)."""
        text_embeds = self.embed_captions(captions)
        outputs = self.compute(pixel_values)
        scores, logits = outputs.score, outputs.logits
        without = logits.softmax(-1)[:, 1].tolist()
        if text_embeds is not None:
            with torch.inference_mode():
                with_text = self.model(image_embeds=outputs.image_embeds, text_embeds=text_embeds)
            scores, logits = with_text.score, with_text.logits
        detections = [
            self._detection(probability, score, alone if caption else None, with_text=bool(caption))
            for score, probability, alone, caption in zip(
                scores.tolist(), logits.softmax(-1)[:, 1].tolist(), without, captions, strict=True
            )
        ]
        for index, something in enumerate(has_content(pixel_values, self.processor.image_std)):
            if not something:
                detections[index] = dataclasses.replace(detections[index], verdict=UNCERTAIN, reason=NO_CONTENT)
        return detections, outputs.image_embeds[:, : self.model.config.embedding_dim]

    def _detection(self, probability: float, score: float, alone: float | None, *, with_text: bool) -> Detection:
        """The answer by the thresholds that belong to the input."""
        decision = self.model.config.decision(with_text=with_text)
        return Detection(
            verdict=verdict(probability, decision.real_threshold, decision.generated_threshold),
            probability=probability,
            score=score,
            probability_without_caption=alone,
            real_threshold=decision.real_threshold,
            generated_threshold=decision.generated_threshold,
            model=self.name,
            backend=self.backend,
        )

    def _prepare(self, pictures: list[Image.Image]) -> torch.Tensor:
        return self.processor(images=pictures, return_tensors="pt")["pixel_values"]

    def _detect_batch(self, images: Sequence[Source], captions: Sequence[str | None]) -> list[Detection]:
        answers: dict[int, Detection] = {}
        opened: dict[int, tuple[Image.Image, bytes | Image.Image]] = {}
        for index, image in enumerate(images):
            try:
                data = _read(image)
                opened[index] = open_image(data), data
            except ImageError as error:
                answers[index] = Detection(error=str(error), model=self.name)
        if opened:
            pixel_values = self._prepare([picture for picture, _ in opened.values()])
            judged = self.detect_prepared(pixel_values, [captions[index] for index in opened])
            for (index, file), detection in zip(opened.items(), judged, strict=True):
                answers[index] = _with_file(detection, *file)
        return [answers[index] for index in range(len(images))]


def corrected_name(name: str, config: PreTrainedConfig) -> str:
    """A checkpoint's name, and when its head was corrected by a user's pictures (`python -m train refit`)."""
    corrections = config.corrections or []
    return name + "".join(f" + correction of {correction.get('date', 'no date')}" for correction in corrections)


def _with_file(detection: Detection, picture: Image.Image, data: bytes | Image.Image) -> Detection:
    """Add what the opened picture and its file's bytes tell; a picture that came without a file has no hash."""
    sha256 = None if isinstance(data, Image.Image) else hashlib.sha256(data).hexdigest()
    return dataclasses.replace(detection, width=picture.width, height=picture.height, sha256=sha256)


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


__all__ = ["Detection", "Detector", "corrected_name", "tokenize_captions"]
