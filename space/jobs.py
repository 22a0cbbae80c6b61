"""The page's queue: what nobody waits for is not computed, and a page that closes answers what is under way.

`Jobs` follows `gradio.queueing.Queue` of Gradio 6.31.
"""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from gradio.context import LocalContext
from gradio.queueing import Event, Queue
from gradio.server_messages import EventMessage, ProcessCompletedMessage, UnexpectedErrorMessage
from gradio.utils import error_payload
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modeling.sentences import sentence

from .language import language_of

# A program asks for its job's answer as soon as it has the job's number; a browser and Gradio's client do it before.
PATIENCE = 10.0
# After the last answer: until those who were refused have read why.
READING_SECONDS = 3.0
_STREAM = re.compile(r"/gradio_api/(?:call/(?:v2/)?[^/]+/(?P<job>[^/]+)/?|queue/data)$")


class Jobs(Queue):
    """A queue that knows who waits for which answer."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.closing = False
        self.streams: Counter[str] = Counter()  # how many read the answers to a session
        self._refused: set[str] = set()  # sessions that are told that the page closes

    def start(self) -> None:
        """Within the server's event loop."""
        self.loop = asyncio.get_running_loop()
        super().start()

    def awaits(self, event: Event) -> bool:
        """Whether anybody reads its answer."""
        return self.streams[event.session_hash] > 0

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """Send it, where Gradio still knows the session: an error here would end the queue, and with it the page."""
        with suppress(KeyError):
            super().send_message(event, event_message)

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The next job, of those whose answer somebody reads."""
        if self.closing:
            return None
        waiting = list(self.event_queue_per_concurrency_id.items())
        for concurrency_id, jobs in random.sample(waiting, len(waiting)):
            for event in [event for event in jobs.queue if not self.awaits(event)]:
                if time.monotonic() > event.enqueue_time + PATIENCE:
                    self._refuse(event, "nobody_waits")
            if jobs.concurrency_limit is None or jobs.current_concurrency < jobs.concurrency_limit:
                for event in filter(self.awaits, jobs.queue):
                    jobs.queue.remove(event)
                    return [event], False, concurrency_id
        return None

    async def process_events(self, events: list[Event], *arguments: Any, **named: Any) -> None:
        """Compute, then forget the session of a program, which Gradio makes for one job and keeps: 100 KiB each."""
        await super().process_events(events, *arguments, **named)
        for event in events:
            if event.session_hash == event._id and self.server_app is not None:
                self.server_app.state_holder.session_data.pop(event._id, None)
                self.server_app.state_holder.time_last_used.pop(event._id, None)
        self._forget_undelivered()

    async def finish(self, seconds: float, in_a_hurry: Callable[[], bool]) -> bool:
        """Answer what is under way and refuse the rest in words.

        Args:
            seconds: how long answers may take; what takes longer is refused as well.
            in_a_hurry: whether to wait no longer for them.

        Returns:
            Whether nothing is computed any more.
        """
        self.closing = True
        until = time.monotonic() + seconds
        while self._under_way() and time.monotonic() < until and not in_a_hurry():
            self._refuse_waiting()
            await asyncio.sleep(0.05)
        for event in self._under_way():
            self._refuse(event, "closing")
            event.alive = False
        until = time.monotonic() + READING_SECONDS
        while True:
            self._refuse_waiting()
            if time.monotonic() > until or not self._unread():
                break
            await asyncio.sleep(0.05)
        self.stopped = True  # at once, so that nobody gets a job's number that stands for nothing
        return not self._under_way()

    def _unread(self) -> bool:
        """Whether somebody still reads, or has a job's number and is about to."""
        unread = (self.pending_messages_per_session.get(session) for session in self._refused)
        return bool(self.streams) or any(messages is not None and messages.qsize() for messages in unread)

    def _under_way(self) -> list[Event]:
        return [event for job in self.active_jobs if job for event in job]

    def _refuse_waiting(self) -> None:
        for jobs in self.event_queue_per_concurrency_id.values():
            for event in list(jobs.queue):
                self._refuse(event, "closing")

    def _refuse(self, event: Event, code: str) -> None:
        """End a job with a sentence in its owner's language."""
        jobs = self.event_queue_per_concurrency_id[event.concurrency_id]
        if event in jobs.queue:
            jobs.queue.remove(event)
            self.event_ids_to_events.pop(event._id, None)
        words = sentence("page", code, language_of(gr.Request(event.request)))
        output = error_payload(gr.Error(words, print_exception=False), show_error=True)
        self.send_message(event, ProcessCompletedMessage(output=output, success=False))
        if self.closing:
            self._refused.add(event.session_hash)
        self._forget_undelivered()

    def _forget_undelivered(self) -> None:
        """Gradio keeps the messages of its last 2,000 sessions, and the numbers of the jobs of all."""
        if len(self.pending_event_ids_session) > 2 * self.pending_messages_per_session.max_size:
            known = self.pending_messages_per_session
            kept = {session: jobs for session, jobs in self.pending_event_ids_session.items() if session in known}
            self.pending_event_ids_session = kept


class WatchStreams:
    """Counts who reads answers: ASGI middleware."""

    def __init__(self, app: ASGIApp, blocks: gr.Blocks) -> None:
        self.app = app
        self.blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; while a stream of answers is read, its session counts as awaited."""
        jobs = self.blocks._queue
        if not isinstance(jobs, Jobs) or (session := _session(scope, jobs)) is None:
            return await self.app(scope, receive, send)
        if _is_over(scope["path"], session, jobs):
            return await _no_job(Request(scope))(scope, receive, send)
        jobs.streams[session] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            jobs.streams -= Counter([session])  # drops what is zero


def _session(scope: Scope, jobs: Jobs) -> str | None:
    """The session whose answers a request reads."""
    if scope["type"] != "http" or scope["method"] != "GET" or not (found := _STREAM.search(scope["path"])):
        return None
    if job := found["job"]:
        event = jobs.event_ids_to_events.get(job)
        return event.session_hash if event else job
    return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])), None)


def _is_over(path: str, session: str, jobs: Jobs) -> bool:
    """Whether no answer will ever come: nobody knows the session, or its one job was answered and read."""
    messages = jobs.pending_messages_per_session.get(session)
    is_waiting = path.endswith("/queue/data") or session in jobs.event_ids_to_events
    return messages is None or (not is_waiting and not messages.qsize())


def _no_job(request: Request) -> Response:
    """The stream of a job that is unknown; Gradio breaks it off, with a traceback in the log."""
    words = sentence("requests", "no_job", language_of(request))
    if request.url.path.endswith("/queue/data"):
        stream = f"data: {UnexpectedErrorMessage(message=words, session_not_found=True).model_dump_json()}\n\n"
    else:
        stream = f"event: error\ndata: {json.dumps({'error': words})}\n\n"
    return Response(stream, media_type="text/event-stream")


def attend(page: gr.Blocks) -> None:
    """Give the page this queue in the place of the one that `page.queue()` has made."""
    plain = page._queue
    page._queue = Jobs(
        live_updates=plain.live_updates,
        concurrency_count=plain.max_thread_count,
        update_intervals=plain.update_intervals,
        max_size=plain.max_size,
        blocks=page,
    )


def is_awaited() -> bool:
    """Within a handler: whether anybody still reads the answer."""
    jobs = _jobs()
    if jobs is None:
        return True
    event = jobs.event_ids_to_events.get(LocalContext.event_id.get(None) or "")
    return event is None or jobs.awaits(event)


def is_closing() -> bool:
    """Within a handler: whether the page is being stopped."""
    jobs = _jobs()
    return jobs is not None and jobs.closing


def _jobs() -> Jobs | None:
    jobs = getattr(LocalContext.blocks.get(None), "_queue", None)
    return jobs if isinstance(jobs, Jobs) else None


__all__ = ["Jobs", "WatchStreams", "attend", "is_awaited", "is_closing"]
