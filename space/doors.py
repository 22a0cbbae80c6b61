"""Which requests reach Gradio at all: the addresses that the page and programs use, bodies within limits.

Gradio 6.31 serves some sixty addresses, among them a proxy and one that stores recordings for ever, limits one file
of an upload but not all together, and lets every web page call it from a visitor's browser.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeling.images import MAX_BYTES
from modeling.sentences import sentence

from .gate import GuardedBlocks
from .language import language_of
from .uploads import MAX_PICTURES, MAX_TOTAL_BYTES

MEBIBYTE = 2**20
MAX_CALL_BYTES = 4 * MEBIBYTE  # a thousand file objects with long names
MAX_UPLOAD_BYTES = MAX_TOTAL_BYTES + MEBIBYTE - 1  # with the headers of a thousand parts
MAX_TOOL_BYTES = MAX_BYTES * 3 // 2  # one picture as text, which takes a third more
MAX_LARGE_CALLS = 4  # of tools, at a time: they are in memory, several times, until they are answered
MAX_ADDRESS = 2000  # characters; Gradio keeps some of what stands in them
# A client that still sends when it is refused mostly reads the answer only afterwards.
LISTEN_SECONDS = 10.0

UPLOAD, FILE = "/gradio_api/upload", "/gradio_api/file={path_or_url:path}"
TOOLS = "/gradio_api/mcp"
OPEN = {
    "/": ("GET", "HEAD"),
    "/config": ("GET",),
    "/health": ("GET", "HEAD"),
    "/favicon.ico": ("GET",),
    "/robots.txt": ("GET",),
    "/theme.css": ("GET",),
    "/assets/{path:path}": ("GET",),
    "/static/{path:path}": ("GET",),
    "/gradio_api/info": ("GET",),
    "/gradio_api/startup-events": ("GET",),
    "/gradio_api/heartbeat/{session_hash}": ("GET",),
    UPLOAD: ("POST",),
    "/gradio_api/upload_progress": ("GET",),
    FILE: ("GET", "HEAD"),
    "/gradio_api/queue/join": ("POST",),
    "/gradio_api/queue/data": ("GET",),
    "/gradio_api/run/predict": ("POST",),  # what needs no queue: examples, filters, stop
    "/gradio_api/call/{api_name}": ("POST",),
    "/gradio_api/call/{api_name}/{event_id}": ("GET",),
    "/gradio_api/call/v2/{api_name}": ("POST",),
    "/gradio_api/call/v2/{api_name}/{event_id}": ("GET",),
    "/gradio_api/cancel": ("POST",),
    "/gradio_api/reset": ("POST",),
    TOOLS: ("GET", "POST", "DELETE"),
    TOOLS + "/": ("GET", "POST", "DELETE"),
    TOOLS + "/schema": ("GET",),
}
_OPEN = [(template, compile_path(template)[0], methods) for template, methods in OPEN.items()]
_SAFE = ("GET", "HEAD", "OPTIONS")
# A browser says "same-origin", and "none" where a person typed the address.
_OWN_SITE = ("same-origin", "none")

logger = logging.getLogger(__name__)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, **values: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.values = status, code, values

    def answer(self, request: Request) -> Response:
        headers = {"Allow": self.values["methods"]} if self.status == 405 else {}
        return _words(request, self.status, self.code, headers, **self.values)


def _words(request: Request, status: int, code: str, headers: dict[str, str] | None = None, **values: Any) -> Response:
    topic = "page" if code == "failed" else "requests"
    return JSONResponse({"detail": sentence(topic, code, language_of(request), **values)}, status, headers)


class Doors:
    """ASGI middleware between a client and the page's application."""

    def __init__(self, app: ASGIApp, page: GuardedBlocks) -> None:
        self.app = app
        self.page = page
        self.large_calls = 0
        self.names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in words what is refused, and let Gradio answer the rest."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(Request(scope), receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _request(self, request: Request, receive: Receive, send: Send) -> None:
        sender = _Sender(receive)
        try:
            body = _Body(self, request, sender.receive, self._door(request))
            await body.pass_to(self.app, send)
        except _RefusedError as refused:
            response = refused.answer(request)
            if request.method not in _SAFE:
                await sender.listen()
                response.headers["Connection"] = "close"
            await response(request.scope, receive, send)

    def _door(self, request: Request) -> str:
        """The template of `OPEN` that the request fits."""
        if _is_foreign(request):
            raise _RefusedError(403, "foreign")
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if max(len(path), len(request.scope["query_string"])) > MAX_ADDRESS:
            raise _RefusedError(414, "closed")
        found = [(template, match, methods) for template, pattern, methods in _OPEN if (match := pattern.match(path))]
        if not found:
            raise _RefusedError(404, "closed")
        allowed = [(template, match) for template, match, methods in found if request.method in methods]
        if not allowed:
            raise _RefusedError(405, "method", methods=", ".join(found[0][2]))
        template, match = allowed[0]
        if "api_name" in match.groupdict() and match["api_name"] not in self.names:
            raise _RefusedError(404, "no_endpoint")
        if template == FILE:
            if not self.page.has_stored(match["path_or_url"]):
                raise _RefusedError(404, "gone")
            # Gradio 6.31 fails at several ranges, and answers one with all headers of the request.
            request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
        return template


def _is_foreign(request: Request) -> bool:
    """Whether another web page asks, from a visitor's browser, for more than a link or a picture would.

    As `CrossOriginProtection` of Go's net/http: browsers name the relation to the page that asks; older ones, and all
    where there is no encryption, at least its origin. A program names neither.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITE and (origin is not None or request.method not in _SAFE)
    # Not X-Forwarded-Host: another page may send that, too.
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


class _Sender:
    """A client that sends a body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_ended = False

    async def receive(self) -> Message:
        """The next message."""
        message = await self._receive()
        self._has_ended = not message.get("more_body", False)
        return message

    async def listen(self) -> None:
        """Forget what still comes, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_SECONDS):
                while not self._has_ended:
                    await self.receive()


class _Body:
    """A request's body, counted while it comes in; an upload's parts as well."""

    def __init__(self, doors: Doors, request: Request, receive: Receive, template: str) -> None:
        self._doors, self._scope, self._receive = doors, request.scope, receive
        self._is_upload, self._is_large_call = template == UPLOAD, False
        limits = {UPLOAD: MAX_UPLOAD_BYTES, TOOLS: MAX_TOOL_BYTES, TOOLS + "/": MAX_TOOL_BYTES}
        self._limit = limits.get(template, MAX_CALL_BYTES)
        self._parts = _Parts(request) if self._is_upload else None
        self._bytes = 0
        self._refused: _RefusedError | None = None
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            raise _RefusedError(413, "too_large", limit=self._limit // MEBIBYTE)

    async def pass_to(self, app: ASGIApp, send: Send) -> None:
        """Let the application answer, unless the body turns out to be refused."""

        async def send_unless_refused(message: Message) -> None:
            if self._refused is None:
                await send(message)

        try:
            await app(self._scope, self.receive, send_unless_refused)
        except Exception:
            if self._refused is None:
                raise
        finally:
            self._doors.large_calls -= self._is_large_call
        if self._refused is not None:
            raise self._refused

    async def receive(self) -> Message:
        """The next message. Gradio deletes what it has stored of an upload where reading fails in this way."""
        message = await self._receive()
        if self._is_upload and message["type"] == "http.disconnect":
            raise MultiPartException("The client left.")
        data = message.get("body", b"")
        self._bytes += len(data)
        try:
            self._check(self._bytes)
            if self._parts is not None:
                self._parts.write(data)
        except _RefusedError as refused:
            self._refused = refused
            raise MultiPartException(refused.code) from refused
        return message

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise _RefusedError(413, "too_large", limit=self._limit // MEBIBYTE)
        if size > MAX_CALL_BYTES and not self._is_upload and not self._is_large_call:
            if self._doors.large_calls >= MAX_LARGE_CALLS:
                raise _RefusedError(503, "busy")
            self._doors.large_calls += 1
            self._is_large_call = True


class _Parts:
    """Counts an upload's files; Gradio keeps every other part in memory, whatever its size."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _RefusedError(400, "files_only")
        self._field, self._value, self._disposition = b"", b"", b""
        self._files = 0
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
        }
        try:
            self.write = MultipartParser(options[b"boundary"], callbacks).write
        except FormParserError as error:  # a boundary that is too long
            raise _RefusedError(400, "files_only") from error

    def _begin(self) -> None:
        self._disposition = b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            raise _RefusedError(400, "files_only")
        self._files += 1
        if self._files > MAX_PICTURES:
            raise _RefusedError(413, "too_many_files", limit=MAX_PICTURES)


async def _no_endpoint(request: Request, error: Exception) -> Response:
    return _words(request, 404, "no_endpoint")


async def _unreadable(request: Request, error: Exception) -> Response:
    logger.warning("A request could not be read: %.200r", error)
    return _words(request, 400, "unreadable")


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    return _words(request, 500, "failed")


def application_options(page: GuardedBlocks, routes: list[BaseRoute], lifespan: Any = None) -> dict[str, Any]:
    """For `launch(app_kwargs=...)` of the page.

    Args:
        page: whose functions and files clients ask for.
        routes: beside Gradio's, with an address in `OPEN`.
        lifespan: what runs while the page is served, as Starlette takes it.
    """
    return {
        "lifespan": lifespan,
        "routes": routes,
        "openapi_url": None,
        "middleware": [Middleware(Doors, page=page)],
        # Gradio looks up what a client names in dictionaries, and calls with what it sends.
        "exception_handlers": {
            FnIndexInferError: _no_endpoint,
            KeyError: _no_endpoint,
            TypeError: _unreadable,
            RequestValidationError: _unreadable,
            ClientDisconnect: _left,
            Exception: _failed,
        },
    }


__all__ = ["MAX_TOOL_BYTES", "OPEN", "TOOLS", "application_options"]
