"""The tab for many pictures: choose files, watch the table fill, filter it, take the answers home.

The rows of a run live in the state of its visitor's session and nowhere else: they go when the page is closed, or
after a while. Uploads and downloads are files of Gradio's cache, which `sweeper.py` empties.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import gradio as gr
from gradio.context import Context

from modeling.detector import Detector
from modeling.sentences import sentence

from .batch import ORDERS, OUTCOMES, Row, judge, select
from .batch_view import COLUMNS, KEPT_SECONDS, Speak, counts, downloads, labels, progress_bar, table_value
from .jobs import is_awaited, is_closing
from .uploads import BatchError, expand

FILE_TYPES = [
    "image",
    *(".avif", ".heic", ".heif", ".hif", ".zip"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
]
DATATYPES: list[Literal["str", "number", "html"]] = ["html", "str", "number", "str", "str", "str"]
EMPTY = "batch-empty"
WIDTHS: list[str | int] = [84, 136, 120, 250, 120, 490]


class _Results(list[Row]):
    """The rows of one run, and whether its visitor stopped it. A plain list cannot be referred to weakly."""

    stopped = False


def _english(request: gr.Request) -> str:
    return "en"


@dataclass(frozen=True)
class _Parts:
    """The components of the tab."""

    files: gr.File
    check: gr.Button
    stop: gr.Button
    progress: gr.HTML
    summary: gr.Markdown
    answers: gr.Column
    outcome: gr.Dropdown
    name: gr.Textbox
    order: gr.Dropdown
    table: gr.Dataframe
    save_csv: gr.DownloadButton
    save_json: gr.DownloadButton
    results: gr.State


def build_batch_tab(
    detector: Detector,
    say: Callable[[str], Any] | None = None,
    language: Callable[[gr.Request], str] = _english,
) -> None:
    """Build the tab inside an open `gr.Blocks`, with the API endpoint `/detect_many`.

    Args:
        detector: judges the pictures.
        say: gives the label for a code of `batch_view.labels`, a text or a `gr.I18n` key; English by default.
        language: which language the answers to a request are in.

    Raises:
        RuntimeError: no `gr.Blocks` is open.
    """
    page = Context.root_block
    if page is None:
        raise RuntimeError("`build_batch_tab` must be called inside `with gr.Blocks():`.")
    parts = _lay_out(say or labels(detector).__getitem__)
    actions = _Actions(detector, parts, language)
    outputs = [getattr(parts, name) for name in vars(parts) if name != "files"]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    running = parts.check.click(
        actions.run,
        parts.files,
        outputs,
        preprocess=False,  # gr.File's own would leave one empty file a picture behind
        show_progress="minimal",
        show_progress_on=parts.progress,
        concurrency_limit=1,
        concurrency_id="batch",
        api_visibility="private",
    )
    running.failure(actions.fail, parts.results, outputs, **quiet)
    parts.stop.click(actions.stop, parts.results, outputs, cancels=[running], queue=False, **quiet)
    gr.on(
        # Not the textbox's `input`: in Gradio 6.31 it falls silent after the first answer.
        [parts.outcome.input, parts.name.change, parts.order.input],
        actions.show,
        [parts.results, parts.outcome, parts.name, parts.order],
        [parts.table, parts.summary],
        queue=False,
        trigger_mode="always_last",
        **quiet,
    )
    page.unload(actions.forget)
    _build_api(detector, parts.files, language)


def _lay_out(say: Callable[[str], Any]) -> _Parts:
    """The components, top to bottom."""
    files = gr.File(
        file_count="multiple", file_types=FILE_TYPES, label=say("files"), elem_id="batch-files", height=220
    )
    gr.Markdown(say("limits"), elem_id="batch-limits")
    with gr.Row():
        check = gr.Button(say("check"), variant="primary", elem_id="batch-check")
        stop = gr.Button(say("stop"), variant="stop", visible=False, elem_id="batch-stop")
    progress = gr.HTML(label=say("progress"), padding=False, elem_id="batch-progress")
    summary = gr.Markdown(label=say("summary"), elem_id="batch-summary")
    # Hidden, not absent: a table that is only just being built misses the first rows that are sent to it. In Gradio
    # 6.31 a column does not know visible="hidden", so a class does it.
    with gr.Column(elem_id="batch-answers", elem_classes=EMPTY) as answers:
        gr.HTML(f"<style>#batch-answers.{EMPTY} {{ display: none }}</style>", padding=False)
        gr.Markdown(say("caution"), elem_id="batch-caution")
        with gr.Row():
            outcome = _choice(("all", *OUTCOMES), "outcome_filter", "batch-outcome", say)
            name = gr.Textbox(label=say("name_filter"), max_length=100, elem_id="batch-name")
            order = _choice(ORDERS, "order", "batch-order", say)
        table = gr.Dataframe(
            datatype=DATATYPES,
            column_count=len(COLUMNS),
            column_widths=WIDTHS,
            wrap=True,
            interactive=False,
            buttons=["fullscreen"],
            label=say("table"),
            elem_id="batch-table",
        )
        with gr.Row():
            save_csv = gr.DownloadButton(say("csv"), interactive=False, elem_id="batch-csv")
            save_json = gr.DownloadButton(say("json"), interactive=False, elem_id="batch-json")
    results = gr.State(_Results(), time_to_live=KEPT_SECONDS)
    return _Parts(
        files, check, stop, progress, summary, answers, outcome, name, order, table, save_csv, save_json, results
    )


def _choice(codes: Sequence[str], label: str, elem_id: str, say: Callable[[str], Any]) -> gr.Dropdown:
    choices = [(say(code), code) for code in codes]
    return gr.Dropdown(choices, value=codes[0], filterable=False, label=say(label), elem_id=elem_id)


class _Actions:
    """What the buttons and filters do. Each answers with new values by component."""

    def __init__(self, detector: Detector, parts: _Parts, language: Callable[[gr.Request], str]) -> None:
        self.detector = detector
        self.parts = parts
        self.language = language
        self.held: WeakValueDictionary[str, _Results] = WeakValueDictionary()  # the last run of each session

    def run(self, uploads: list[dict] | None, request: gr.Request) -> Iterator[dict]:
        """Judge the files and show each batch as it is done."""
        speak, session = self._speak(request), str(request.session_hash)
        rows = self.held[session] = _Results()
        yield self._busy(rows, 0, speak)
        trouble = ""
        try:
            with expand(*_paths_and_names(uploads), language=self.language(request)) as entries:
                if not entries:
                    raise BatchError(speak("no_files"))
                for new in judge(self.detector, entries, is_closing=is_closing, language=self.language(request)):
                    if self.held.get(session) is not rows or not is_awaited():  # closed, or another run began
                        return
                    rows += new
                    yield self._busy(rows, len(entries), speak)
        except BatchError as error:
            trouble = str(error)
        yield self._idle(rows, trouble, speak)

    def stop(self, rows: _Results, request: gr.Request) -> dict:
        """After the run was cancelled: keep what there is."""
        speak = self._speak(request)
        rows.stopped = True
        return self._idle(rows, speak("stopped" if rows else "stopped_early"), speak)

    def fail(self, rows: _Results, request: gr.Request) -> dict:
        """After an error that nobody foresaw, or when Gradio no longer has the uploads."""
        if rows.stopped:  # Gradio may count a run that was cancelled as one that failed
            return self.stop(rows, request)
        speak = self._speak(request)
        return self._idle(rows, speak("failed"), speak)

    def show(self, rows: _Results, outcome: str, text: str, order: str, request: gr.Request) -> tuple[Any, Any]:
        """Filter and sort the table; nothing is judged again."""
        speak = self._speak(request)
        if self.held.get(str(request.session_hash)) is not rows:
            return gr.skip(), speak("expired")
        if not rows:  # a run begins and has emptied the filters
            return gr.skip(), gr.skip()
        shown = select(rows, outcome, text, order)
        words = counts(rows, speak)
        if len(shown) < len(rows):
            words += " " + speak("shown", shown=len(shown), total=len(rows))
        return table_value(shown, speak), words

    def forget(self, request: gr.Request) -> None:
        """Gradio keeps the state of a closed page for an hour; its pictures go at once."""
        rows = self.held.pop(str(request.session_hash), None)
        if rows is not None:
            rows.clear()

    def _speak(self, request: gr.Request) -> Speak:
        return partial(sentence, "batch", language=self.language(request))

    def _answers(self, rows: Sequence[Row], speak: Speak) -> dict:
        return {
            self.parts.answers: gr.update(elem_classes=[] if rows else [EMPTY]),
            self.parts.table: table_value(rows, speak),
        }

    def _busy(self, rows: _Results, total: int, speak: Speak) -> dict:
        """A run goes on.

        Complete each time: of messages in quick succession the page of Gradio 6.31 drops all but the last.
        """
        parts = self.parts
        return self._answers(rows, speak) | {
            parts.results: rows,
            parts.progress: progress_bar(len(rows), total, speak),
            parts.summary: counts(rows, speak) if rows else "",
            parts.check: gr.update(interactive=False),
            parts.stop: gr.update(visible=True),
            parts.outcome: gr.update(value="all", interactive=False),
            parts.name: gr.update(value="", interactive=False),
            parts.order: gr.update(value=ORDERS[0], interactive=False),
            parts.save_csv: gr.update(value=None, interactive=False),
            parts.save_json: gr.update(value=None, interactive=False),
        }

    def _idle(self, rows: Sequence[Row], lead: str, speak: Speak) -> dict:
        """Nothing runs: all rows, their downloads and the filters can be used."""
        parts = self.parts
        csv_path, json_path = downloads(rows, parts.save_csv.GRADIO_CACHE) if rows else (None, None)
        return self._answers(rows, speak) | {
            parts.progress: "",
            parts.summary: "\n\n".join(filter(None, (lead, counts(rows, speak) if rows else ""))),
            parts.check: gr.update(interactive=True),
            parts.stop: gr.update(visible=False),
            parts.outcome: gr.update(interactive=True),
            parts.name: gr.update(interactive=True),
            parts.order: gr.update(interactive=True),
            parts.save_csv: gr.update(value=csv_path, interactive=bool(rows)),
            parts.save_json: gr.update(value=json_path, interactive=bool(rows)),
        }


def _build_api(detector: Detector, files: gr.File, language: Callable[[gr.Request], str]) -> None:
    """The endpoint for programs, behind a button that nobody sees."""

    def detect_many(files: list[dict] | None, request: gr.Request) -> list[dict]:
        """Judge many pictures, or those inside zip archives.

        Args:
            files: pictures and zip archives, at most 1,000 pictures of 50 MB each and 1 GB in total.
            request: filled in by Gradio, not sent.

        Returns:
            One object a picture, in order, with `name` and the fields of `/detect`: `verdict` ("real", "generated",
            "uncertain"), `probability` (calibrated, that it is generated), `score` (raw), `real_threshold`,
            `generated_threshold`, `width`, `height`, `sha256`, `model`, and `error`: why a file could not be judged
            (the answer is then null). A file that cannot be read does not stop the rest; after eight minutes the
            remaining ones are returned with an error.
        """
        spoken = language(request)
        try:
            with expand(*_paths_and_names(files), language=spoken) as entries:
                judged = judge(detector, entries, is_closing=is_closing, language=spoken)
                batches = list(takewhile(lambda _: is_awaited(), judged))
        except BatchError as error:
            raise gr.Error(str(error), print_exception=False) from error
        if not batches:
            raise gr.Error(sentence("batch", "no_files", spoken), print_exception=False)
        return [row.to_dict() for rows in batches for row in rows]

    button, answer = gr.Button(visible=False), gr.JSON(visible=False, label="rows")
    button.click(
        detect_many,
        files,
        answer,
        preprocess=False,
        api_name="detect_many",
        concurrency_limit=1,
        concurrency_id="batch",
    )


def _paths_and_names(uploads: list[dict] | None) -> tuple[list[str], list[str]]:
    """Of Gradio's file objects; the name is what the visitor's machine calls the file."""
    uploads = uploads or []
    return [file["path"] for file in uploads], [file.get("orig_name") or Path(file["path"]).name for file in uploads]


__all__ = ["build_batch_tab"]
