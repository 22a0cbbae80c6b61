"""Judging many files: rows that never stop one another, and what can be downloaded of them.

Pictures are opened one at a time and kept only as the small tensor that the model reads and as a thumbnail, so the
memory of a batch does not depend on how large the pictures are. The forward pass takes a batch at once.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from modeling.detector import Detection, Detector
from modeling.images import ImageError, open_image
from modeling.provenance import Evidence, read_provenance
from modeling.sentences import sentence
from modeling.spreadsheets import unlike_formula
from modeling.verdicts import GENERATED, REAL, UNCERTAIN

from .uploads import Entry

BATCH_SIZE = 8
# Much shorter than the life of an upload: what is chosen and judged at once never disappears under a running batch.
MAX_SECONDS = 480.0
THUMBNAIL_SIDE = 96
UNREADABLE = "unreadable"
OUTCOMES = (GENERATED, UNCERTAIN, REAL, UNREADABLE)
ORDERS = ("given", "generated_first", "real_first", "by_name")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: a label, not a path.
        detection: the answer, or why there is none.
        marks: what the file says of itself; never part of the score.
        thumbnail: JPEG data, at most 96 pixels a side; `None` where the picture could not be read.
        note: why nothing could be judged, or the strongest mark that points somewhere, as a sentence for the table.
    """

    name: str
    detection: Detection
    thumbnail: bytes | None = None
    marks: tuple[Evidence, ...] = ()
    note: str = ""

    @property
    def outcome(self) -> str:
        """The verdict, or "unreadable"."""
        return self.detection.verdict or UNREADABLE

    def to_dict(self) -> dict:
        """The name, the fields of `Detection.to_dict()` and the marks without their sentences, ready for JSON."""
        return {"name": self.name, **self.detection.to_dict(), "marks": [mark.to_dict() for mark in self.marks]}


def judge(
    detector: Detector,
    entries: Sequence[Entry],
    *,
    batch_size: int = BATCH_SIZE,
    seconds: float = MAX_SECONDS,
    is_closing: Callable[[], bool] = lambda: False,
    language: str = "en",
) -> Iterator[list[Row]]:
    """Judge files, a batch at a time.

    Args:
        detector: of the page.
        entries: from `expand`.
        batch_size: files between two results, and pictures a forward pass.
        seconds: when they have passed no further batch is started; the rest is listed as not judged.
        is_closing: whether the page is being stopped; then the rest is listed as well.
        language: of that reason, and of a picture's error.

    Yields:
        The rows of one batch, in order. A picture that comes twice is judged once.
    """
    deadline = time.monotonic() + seconds
    known: dict[str, Row] = {}
    for start in range(0, len(entries), batch_size):
        closing = is_closing()
        if closing or time.monotonic() > deadline:
            words = sentence("batch", "closing" if closing else "time_over", language)
            reason = Detection(error=words, model=detector.name)
            yield [Row(entry.name, reason) for entry in entries[start:]]
            return
        yield _judge_batch(detector, entries[start : start + batch_size], known, language)


@dataclass(frozen=True)
class _Opened:
    """What is kept of a picture until its batch is full; `pixel_values` is [1, 3, size, size]."""

    pixel_values: torch.Tensor
    width: int
    height: int
    thumbnail: bytes
    marks: tuple[Evidence, ...]


def _judge_batch(detector: Detector, entries: Sequence[Entry], known: dict[str, Row], language: str) -> list[Row]:
    """The rows of one batch; `known` maps the SHA-256 of all pictures so far to their row and is added to."""
    fresh: dict[str, _Opened] = {}
    outcomes: list[str | Detection] = []  # the picture's SHA-256, or its error
    for entry in entries:
        try:
            data = entry.read()
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 not in known and sha256 not in fresh:
                fresh[sha256] = _open(detector, data)
        except ImageError as error:
            outcomes.append(Detection(error=error.sentence(language), model=detector.name))
        else:
            outcomes.append(sha256)
    if fresh:
        detections = detector.detect_prepared(torch.cat([opened.pixel_values for opened in fresh.values()]))
        for (sha256, opened), detection in zip(fresh.items(), detections, strict=True):
            detection = dataclasses.replace(detection, width=opened.width, height=opened.height, sha256=sha256)
            known[sha256] = Row(
                "", detection, opened.thumbnail, opened.marks, _note(detection, opened.marks, language)
            )
    return [
        dataclasses.replace(known[outcome], name=entry.name) if isinstance(outcome, str) else Row(entry.name, outcome)
        for entry, outcome in zip(entries, outcomes, strict=True)
    ]


def _note(detection: Detection, marks: Sequence[Evidence], language: str) -> str:
    """Why the verdict is not that of the probability, else the strongest mark that points somewhere, in words."""
    if detection.reason is not None:
        return sentence("cautions", detection.reason, language)
    return next((mark.sentence(language) for mark in marks if mark.points_to != "nothing"), "")


def _open(detector: Detector, data: bytes) -> _Opened:
    picture = open_image(data)
    pixel_values = detector.processor(images=picture, return_tensors="pt")["pixel_values"]
    width, height = picture.size
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=75)
    return _Opened(pixel_values, width, height, jpeg.getvalue(), read_provenance(data).marks)


def select(rows: Iterable[Row], outcome: str = "all", text: str = "", order: str = "given") -> list[Row]:
    """Some of the rows, in some order.

    Args:
        rows: of a run.
        outcome: "all", a verdict or "unreadable".
        text: what the name must contain, in upper or lower case.
        order: one of `ORDERS`; files without an answer come last where it goes by probability.
    """
    text = text.strip().casefold()
    chosen = [row for row in rows if outcome in ("all", row.outcome) and text in row.name.casefold()]
    if order == "by_name":
        return sorted(chosen, key=lambda row: row.name.casefold())
    if order == "given":
        return chosen
    sign = {"generated_first": -1.0, "real_first": 1.0}[order]
    return sorted(
        chosen, key=lambda row: math.inf if row.outcome == UNREADABLE else sign * (row.detection.probability or 0.0)
    )


def count_outcomes(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows have each outcome, zeros included."""
    counts = Counter(row.outcome for row in rows)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV, with the names of `Detection`'s fields in the first line.

    A text that a spreadsheet would run as a formula gets an apostrophe in front: file names come from strangers.
    """
    file = io.StringIO(newline="")
    columns = ["name", *(field.name for field in dataclasses.fields(Detection)), "marks"]
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    for row in rows:
        values = row.to_dict() | {"marks": ", ".join(mark.short for mark in row.marks)}
        writer.writerow({column: _cell(value) for column, value in values.items()})
    return file.getvalue()


def _cell(value: Any) -> Any:
    return unlike_formula(json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value)


def to_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON list of objects with the fields of `Row.to_dict()`."""
    return json.dumps([row.to_dict() for row in rows], ensure_ascii=False, indent=1)


__all__ = [
    "BATCH_SIZE",
    "MAX_SECONDS",
    "ORDERS",
    "UNREADABLE",
    "Row",
    "count_outcomes",
    "judge",
    "select",
    "to_csv",
    "to_json",
]
