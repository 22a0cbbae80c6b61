"""Cautions beside an answer: what about this picture makes the answer less certain than the figures say.

They never change the score, and only one the verdict (see `content`). Each is a code with values; the words are in
`languages`. What is measured, and how often each is said of ordinary photographs, is printed by `python
bench/cautions.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from PIL import Image

from ..compression import jpeg_quality
from ..file_metadata import read_metadata
from ..images import ImageError, read_header
from ..sentences import sentence
from .content import NO_CONTENT
from .flatness import is_flat
from .known_data import FAR, KnownData
from .pages import PageProbe
from .screenshot import has_screen_size, says_screenshot

# Of the default checkpoint's evaluation (robustness): AUC 0.020 [0.006, 0.038] lower at quality 30, 0.011 at 40. What
# people send each other is 60 and better.
MAX_POOR_QUALITY = 40
# Of 60 photographs of the development set none has so few bits at quality 60, 5 % at 40, 98 % (AVIF) and 27 % (WebP)
# at 5, by bench/cautions.py: a smooth picture needs few bits at any quality, so only the extreme is named.
MAX_POOR_BITS = {"WEBP": 0.15, "AVIF": 0.15}
MIN_SEEN = 0.5


@dataclass(frozen=True)
class Caution:
    """One reason to trust an answer less.

    Args:
        code: a key of the topic "cautions" in `languages`.
        values: what the sentence's fields stand for: numbers only, nothing that the file says of a person.
    """

    code: str
    values: dict[str, int | float] = field(default_factory=dict)

    def sentence(self, language: str = "en") -> str:
        """The words, in one of `modeling.sentences.LANGUAGES`."""
        return sentence("cautions", self.code, language, **self.values)

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return {"code": self.code, "values": self.values, "sentence": self.sentence()}


def find_cautions(
    data: bytes | None,
    picture: Image.Image,
    *,
    model_side: int,
    embedding: torch.Tensor | None = None,
    known_data: KnownData | None = None,
    pages: PageProbe | None = None,
    has_content: bool = True,
) -> tuple[Caution, ...]:
    """What a person should know before trusting the answer about a picture.

    Args:
        data: the file's bytes; `None` for a picture that came without a file.
        picture: the same, opened by `open_image`.
        model_side: side in pixels of the square that the model sees: its processor's `size`.
        embedding: (D,) or (1, D), the backbone's, not normalised; `None` where it is not known.
        known_data: of the checkpoint that judged; `None` where it has none.
        pages: of the backbone that made the embedding; `None` where it has none.
        has_content: whether the model sees anything, as `content.has_content` says; it decides the verdict.

    Returns:
        The most important first; empty for an ordinary photograph. Nothing is raised for damaged metadata.
    """
    flat = is_flat(picture)
    found = [*_of_opening(picture), *_of_file(data, flat), *_of_picture(picture, model_side)]
    if not has_content:
        return Caution(NO_CONTENT), *found  # drawing, page or far would be said of nothing
    if embedding is not None and pages is not None and pages.is_page(embedding):
        return Caution("document"), *found  # that it is far, or flat, would say the same with less
    if flat and not any(caution.code == "screenshot" for caution in found):
        found.insert(0, Caution("drawing"))
    if embedding is not None and known_data is not None:
        percentile = known_data.percentile(embedding)
        if percentile >= FAR:
            found.append(Caution("far", {"percent": min(99, int(100 * percentile))}))
    return tuple(found)


def _of_opening(picture: Image.Image) -> Iterator[Caution]:
    """What the picture is not of the file."""
    if picture.info.get("incomplete") is True:
        yield Caution("incomplete")
    if picture.info.get("preview") is True:
        yield Caution("raw_preview")


def _of_file(data: bytes | None, flat: bool) -> Iterator[Caution]:
    """Screenshot, first frame and compression."""
    if data is None:
        return
    try:
        header, metadata = read_header(data), read_metadata(data)
    except ImageError:
        return
    if says_screenshot(metadata) or (flat and has_screen_size(metadata, header.size)):
        yield Caution("screenshot")
    if header.is_animated:
        yield Caution("first_frame" if header.format != "TIFF" else "first_page")
    quality = jpeg_quality(header)
    bits = 8 * len(data) / (header.width * header.height)
    if quality is not None and quality <= MAX_POOR_QUALITY:
        yield Caution("compressed_jpeg", {"quality": int(quality)})
    elif bits <= MAX_POOR_BITS.get(header.format, 0.0) and not flat:  # flat areas take few bits at any quality
        yield Caution("compressed", {"bits": round(bits, 2)})


def _of_picture(picture: Image.Image, model_side: int) -> Iterator[Caution]:
    """Size and shape."""
    width, height = picture.size
    short, long = sorted(picture.size)
    if short < model_side:
        yield Caution("small", {"width": width, "height": height, "side": model_side})
    if short / long < MIN_SEEN:
        yield Caution("elongated", {"percent": round(100 * short / long)})


__all__ = ["Caution", "find_cautions"]
