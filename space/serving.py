"""Serving the page until it is asked to stop; answers under way are given first, and all uploads are deleted."""

import asyncio
import logging
import os
import signal
import sys
from queue import Empty, SimpleQueue
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from .jobs import Jobs, WatchStreams
from .sweeper import LOOK_SECONDS, PageFolder

# Most systems that stop a program kill it after ten or thirty seconds.
ANSWER_SECONDS = 25.0
# Gradio keeps 100 KiB for each, whether it is still open or not.
MAX_SESSIONS = 1000

logger = logging.getLogger(__name__)


def serve(page: gr.Blocks, folder: PageFolder, app_kwargs: dict[str, Any], **settings: Any) -> None:
    """Serve the page until SIGINT or SIGTERM; a second one ends it without waiting for answers.

    Args:
        page: from `build_page`.
        folder: its own; nothing that was uploaded stays in it longer than `KEEP_SECONDS`.
        app_kwargs: of `page.launch`.
        settings: of `page.launch`.
    """
    folder.keep_what_is_there()
    # Unlike an Event, it may be set by a handler that interrupts the one who waits for it.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.put(number))
    watch = Middleware(WatchStreams, blocks=page)
    app_kwargs = app_kwargs | {"middleware": [watch, *app_kwargs.get("middleware", [])]}
    page.launch(prevent_thread_lock=True, state_session_capacity=MAX_SESSIONS, app_kwargs=app_kwargs, **settings)
    while not _asked_to_stop(signals):
        try:
            deleted = folder.sweep()
        except OSError:
            logger.exception("Not all old uploads could be deleted")
        else:
            gone = {path for path in deleted if not os.path.exists(path)}  # not what just came again
            for files in page.temp_file_sets:
                files -= gone
    _close(page, folder, signals)


def _asked_to_stop(signals: SimpleQueue[int]) -> bool:
    """Waits for as long as uploads may stay unseen."""
    try:
        signals.get(timeout=LOOK_SECONDS)
    except Empty:
        return False
    return True


def _close(page: gr.Blocks, folder: PageFolder, signals: SimpleQueue[int]) -> None:
    jobs = page._queue
    done = True
    if isinstance(jobs, Jobs):
        finishing = jobs.finish(ANSWER_SECONDS, in_a_hurry=lambda: not signals.empty())
        done = asyncio.run_coroutine_threadsafe(finishing, jobs.loop).result()
    page.server.config.timeout_graceful_shutdown = 1  # Gradio's streams end only where their reader goes
    page.close(verbose=False)
    if not done:  # Python would wait for what is still computed, or PyTorch abort
        folder.delete()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


__all__ = ["serve"]
