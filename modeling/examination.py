"""Everything that can be said about one picture, quickest part first: verdict, file, stability, explanation.

`examine` yields the same growing `Examination` after each part, so that a page shows the verdict while the rest is
still computed. A program takes the last one.
"""

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from PIL import Image

from .cautions.content import NO_CONTENT
from .cautions.finding import Caution, find_cautions
from .detector import Detection, Detector
from .explanation import Explanation, can_explain, explain
from .images import open_image, read_bytes, read_header
from .provenance.reading import Provenance, read_provenance
from .stability import Stability, measure_stability

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Examination:
    """The full answer about one picture; parts that are not computed yet are `None`.

    Args:
        detection: of the picture as it came.
        picture: upright RGB; not part of `to_dict`.
        file_format: such as "JPEG".
        file_bytes: the file's size.
        model_version: fingerprint of the head and its thresholds, so that an answer can be traced.
        operating_point: what is known about the checkpoint's errors on such input, from its config; may be `None`.
        cautions: why this picture may be judged badly.
        provenance: what the file itself says; never part of the score.
        stability: the picture under standard deliveries.
        explanation: what moved the score; `None` for an image tower that is not built as CLIP's.
        milliseconds: time of each part.
        complete: whether all parts are there.
    """

    detection: Detection
    picture: Image.Image = field(repr=False, compare=False)
    file_format: str
    file_bytes: int
    model_version: str
    operating_point: dict | None
    cautions: tuple[Caution, ...] = ()
    provenance: Provenance | None = None
    stability: Stability | None = None
    explanation: Explanation | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    complete: bool = False

    @property
    def verdict(self) -> str:
        """The answer: the picture's verdict, "uncertain" where it does not survive a standard delivery."""
        return self.stability.verdict if self.stability else str(self.detection.verdict)

    def to_dict(self) -> dict:
        """All fields, ready for JSON: those of `Detection.to_dict`, then the other parts.

        `verdict` is the final one; `verdict_as_it_came` the one before the stability check.
        """
        return self.detection.to_dict() | {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "verdict_as_it_came": self.detection.verdict,
            "model_version": self.model_version,
            "operating_point": self.operating_point,
            "file": {"format": self.file_format, "bytes": self.file_bytes},
            "cautions": [caution.to_dict() for caution in self.cautions],
            "provenance": self.provenance.to_dict() if self.provenance else None,
            "stability": self.stability.to_dict() if self.stability else None,
            "explanation": self.explanation.to_dict() if self.explanation else None,
            "milliseconds": self.milliseconds,
            "complete": self.complete,
        }


def examine(
    detector: Detector, source: str | os.PathLike | bytes | IO[bytes], caption: str | None = None
) -> Iterator[Examination]:
    """Examine one picture.

    Args:
        detector: loaded.
        source: a local file, its bytes or a binary file object.
        caption: only where the checkpoint reads captions.

    Yields:
        The examination so far: with the verdict; with what the file says and the cautions; with the stability; with
        the explanation (then `complete`).

    Raises:
        ImageError: the picture cannot be read.
        ValueError: a caption for a checkpoint that reads none.
    """
    start = time.perf_counter()
    data = read_bytes(source)
    picture = open_image(data)
    file_format = read_header(data).format
    opened = time.perf_counter()
    detection, embedding = detector.judge_opened(picture, data, caption)
    times = {"open": 1000 * (opened - start), "score": 1000 * (time.perf_counter() - opened)}
    measured = detector.model.config.measured(with_text=bool(caption))
    answer = Examination(detection, picture, file_format, len(data), detector.version, measured, milliseconds=times)
    yield answer

    def timed(part: str, begin: float) -> dict[str, float]:
        return answer.milliseconds | {part: 1000 * (time.perf_counter() - begin)}

    begin = time.perf_counter()
    provenance = read_provenance(data)
    side, known_data = detector.processor.size, detector.known_data
    cautions = find_cautions(
        data,
        picture,
        model_side=side,
        embedding=embedding,
        known_data=known_data,
        pages=detector.pages,
        has_content=detection.reason != NO_CONTENT,
    )
    answer = dataclasses.replace(answer, provenance=provenance, cautions=cautions, milliseconds=timed("file", begin))
    yield answer
    begin = time.perf_counter()
    stability = measure_stability(detector, picture, detection, caption)
    answer = dataclasses.replace(answer, stability=stability, milliseconds=timed("stability", begin))
    yield answer
    begin = time.perf_counter()
    explanation = explain(detector, picture, caption) if can_explain(detector.model) else None
    answer = dataclasses.replace(
        answer, explanation=explanation, milliseconds=timed("explanation", begin), complete=True
    )
    yield answer


__all__ = ["SCHEMA_VERSION", "Examination", "examine"]
