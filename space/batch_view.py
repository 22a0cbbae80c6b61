"""What the tab for many pictures shows: its words, the progress bar, the table and the files to download.

Names and reasons are texts in the table; only what is made here is HTML.
"""

import base64
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gradio.processing_utils import save_file_to_cache

from modeling.detector import Detector
from modeling.images import MAX_BYTES
from modeling.sentences import sentence

from .batch import MAX_SECONDS, ORDERS, OUTCOMES, Row, count_outcomes, to_csv, to_json
from .uploads import MAX_PICTURES, MAX_TOTAL_BYTES

COLUMNS = ("picture", "outcome", "probability", "name", "size", "note")
KEPT_SECONDS = 1200
LABELS: tuple[str, ...] = ("tab", "files", "check", "stop", "progress", "summary", "table", "csv", "json")
LABELS += ("outcome_filter", "name_filter", "order", "all", *OUTCOMES, *ORDERS)

Speak = Callable[..., str]


def labels(detector: Detector, language: str = "en") -> dict[str, str]:
    """All words that stand in the tab before anything is judged, by code."""
    say = partial(sentence, "batch", language=language)
    limits = say(
        "limits",
        pictures=MAX_PICTURES,
        megabytes=MAX_BYTES // 2**20,
        total=MAX_TOTAL_BYTES // 2**20,
        minutes=round(MAX_SECONDS / 60),
        kept=KEPT_SECONDS // 60,
    )
    return {code: say(code) for code in LABELS} | {"limits": limits, "caution": _caution(detector, say)}


def _caution(detector: Detector, say: Speak) -> str:
    """What a list of answers is worth, with the checkpoint's own rate of false alarms where it was measured."""
    rate = (detector.model.config.measured(with_text=False) or {}).get("false_positive_rate")
    if rate is None:
        return f"{say('caution')} {say('false_alarms_unknown')}"
    return f"{say('caution')} {say('false_alarms', false_alarms=round(100 * rate['value']))}"


def progress_bar(done: int, total: int, speak: Speak) -> str:
    """How far a run is; before its files are counted, `total` is 0."""
    words = speak("done", done=done, total=total) if total else speak("reading")
    percent = 100 * done // max(total, 1)
    return (
        f'<div role="status">{words}</div>'
        f'<div role="progressbar" aria-label="{words}" aria-valuenow="{percent}" '
        'style="height: 8px; border-radius: 4px; overflow: hidden; background: var(--border-color-primary)">'
        f'<div style="height: 100%; width: {percent}%; background: var(--color-accent)"></div></div>'
    )


def counts(rows: Sequence[Row], speak: Speak) -> str:
    """How many files have each answer, as a sentence."""
    return speak("counts", **count_outcomes(rows))


def table_value(rows: Sequence[Row], speak: Speak) -> dict:
    """The value of the table."""
    return {
        "headers": [speak(f"column_{column}") for column in COLUMNS],
        "data": [
            [
                _thumbnail(row.thumbnail),
                speak(row.outcome),
                None if row.detection.probability is None else round(100 * row.detection.probability, 1),
                row.name,
                f"{row.detection.width} × {row.detection.height}" if row.detection.width else "",
                row.detection.error or row.note,
            ]
            for row in rows
        ],
    }


def _thumbnail(jpeg: bytes | None) -> str:
    if jpeg is None:
        return ""
    data = base64.b64encode(jpeg).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="" style="max-width: 64px; max-height: 64px">'


def downloads(rows: Sequence[Row], cache: str) -> tuple[str, str]:
    """Write both files into Gradio's cache, where a secret in their address keeps other visitors out."""
    with tempfile.TemporaryDirectory() as folder:
        table, objects = Path(folder) / "pictures.csv", Path(folder) / "pictures.json"
        # With the mark by which spreadsheets know UTF-8.
        table.write_text(to_csv(rows), encoding="utf-8-sig", newline="")
        objects.write_text(to_json(rows), encoding="utf-8")
        return save_file_to_cache(table, cache), save_file_to_cache(objects, cache)


__all__ = [
    "COLUMNS",
    "KEPT_SECONDS",
    "Speak",
    "counts",
    "downloads",
    "labels",
    "progress_bar",
    "table_value",
]
