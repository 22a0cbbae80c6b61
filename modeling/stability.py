"""Does the answer hold? The picture is scored again after ways on which pictures really travel, in one batch.

A picture of the web has been resized, cropped and compressed, often more than once. Where an answer turns into its
opposite on one of these ways, the picture as it came cannot carry it: the verdict becomes "uncertain".

A verdict that only becomes "uncertain" is told and not counted. Counting it (see `bench/stability.py`) would cost a
fifth of the generated pictures found, and spare no more false alarms than a higher threshold does.
"""

from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from PIL import Image

from .deliveries import STANDARD_DELIVERIES
from .detector import Detection, Detector
from .sentences import sentence
from .verdicts import OPPOSITE, UNCERTAIN

# One for each thing that happens to a picture on its way: a page's smaller compressed copy, a screenshot, a cut, and a
# screenshot of a post that is posted again. Each is one more picture for the backbone.
STABILITY_DELIVERIES = ("web", "screenshot", "crop_80", "reposted")
# A large photograph is shrunk before it is delivered, but no further than this: copies on the web rarely are larger,
# and four ways of 12 megapixels would cost as much as the backbone.
COPY_LONG_SIDE, COPY_SHORT_SIDE = 1536, 224
CLEAN = "clean"


@dataclass(frozen=True)
class Stability:
    """The answers to one picture, as it came and as delivered.

    Args:
        probabilities: delivery to calibrated P(generated); "clean", the picture as it came, first.
        verdicts: delivery to the verdict for that probability.
        flipped: the deliveries that turn the clean verdict into its opposite. A verdict that becomes "uncertain" has
            weakened, not flipped.
        verdict: the clean verdict, or "uncertain" where a delivery flips it.
    """

    probabilities: dict[str, float]
    verdicts: dict[str, str]
    flipped: tuple[str, ...]
    verdict: str

    def sentence(self, language: str = "en") -> str:
        """What was found, for a person."""
        clean = self.verdicts[CLEAN]
        changed = tuple(name for name, verdict in self.verdicts.items() if verdict != clean)
        if self.flipped:
            code, names = "flips", self.flipped
        elif clean == UNCERTAIN:
            code, names = "starts_uncertain", ()
        elif changed:
            code, names = "weakens", changed
        else:
            code, names = "holds", tuple(name for name in self.verdicts if name != CLEAN)
        separator = sentence("stability", "separator", language)
        deliveries = separator.join(sentence("stability", name, language) for name in names)
        return sentence("stability", code, language, deliveries=deliveries)

    def to_dict(self) -> dict:
        """All fields and the English sentence, ready for JSON."""
        return {**asdict(self), "flipped": list(self.flipped), "sentence": self.sentence()}


def measure_stability(
    detector: Detector, picture: Image.Image, detection: Detection, caption: str | None = None
) -> Stability:
    """Score a picture again under `STABILITY_DELIVERIES`. The same picture gives the same numbers.

    Args:
        detector: what gave `detection`.
        picture: from `open_image`.
        detection: the answer to the picture as it came; it is not computed again.
        caption: the one that `detection` was made with.

    Raises:
        ValueError: `detection` holds an error instead of an answer, or a caption that cannot be read.
    """
    if detection.verdict is None or detection.probability is None:
        raise ValueError(f"`detection` must hold an answer, got the error {detection.error!r}.")
    picture = shrink_for_copies(picture)
    # Each delivery starts from the same seed, so that one more in the list does not move the others.
    delivered = [STANDARD_DELIVERIES[name](picture, np.random.default_rng(0)) for name in STABILITY_DELIVERIES]
    pixel_values = detector.processor(images=delivered, return_tensors="pt")["pixel_values"]
    judged = detector.detect_prepared(pixel_values, [caption] * len(delivered))
    answers = {CLEAN: detection, **dict(zip(STABILITY_DELIVERIES, judged, strict=True))}
    opposite = OPPOSITE.get(detection.verdict)
    flipped = tuple(name for name, answer in answers.items() if answer.verdict == opposite)
    probabilities = {name: cast(float, answer.probability) for name, answer in answers.items()}
    verdicts = {name: str(answer.verdict) for name, answer in answers.items()}
    return Stability(probabilities, verdicts, flipped, UNCERTAIN if flipped else detection.verdict)


def shrink_for_copies(picture: Image.Image) -> Image.Image:
    """Average whole blocks of pixels of a large picture; a small one stays as it is."""
    factor = min(max(picture.size) // COPY_LONG_SIDE, min(picture.size) // COPY_SHORT_SIDE)
    return picture.reduce(factor) if factor > 1 else picture


__all__ = ["STABILITY_DELIVERIES", "Stability", "measure_stability"]
