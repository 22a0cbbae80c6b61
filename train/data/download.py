"""Fetch pictures by URL into a folder, once: for data sets that hold only the addresses of their real pictures.

The addresses come from strangers, so nothing about them is trusted. Every host, also that of every redirect, is
resolved here and refused unless all its addresses are public; the connection then goes to a checked address, so that
a name that resolves differently a moment later changes nothing. Sizes are counted, not believed, and everything about
one picture (name look-up, TLS, headers, body) has one deadline, which a slow sender cannot stretch.

A server that is busy or has a problem of its own is asked again a little later. A fetched picture is kept under the
hash of its URL; a failed URL is a line of failures.jsonl. Both are final: a second run does only what is left, and so
the same folder always gives the same records. Only where a caller asks for several attempts at whatever is temporary,
what failed for such a reason is tried again by the next run. Proxies are not used: behind one the
address could not be checked.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tqdm import tqdm

from modeling.files import replacing
from modeling.images import ImageError, open_image

MAX_PICTURE_BYTES = 20 * 2**20
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 10.0
TOTAL_SECONDS = 60.0
WORKERS = 16
# Before the second attempt, doubled for each further one; a server may ask for more, up to the second figure.
WAIT_SECONDS, MOST_WAIT_SECONDS = 1.0, 60.0
BUSY_ATTEMPTS = 4
_ASKED_TO_WAIT, _NEVER_DONE = (408, 425, 429), (501, 505)
FAILURES_FILE = "failures.jsonl"

FETCHED = "fetched"
NO_WEB_ADDRESS = "no web address"
PRIVATE_ADDRESS = "private address"
DEAD_LINK = "dead link"
BUSY_SERVER = "busy server"
TIME_OUT = "time-out"
TOO_LARGE = "too large"
NOT_A_PICTURE = "not a picture"

# `*/*`: servers that convert on the fly send WebP or AVIF only to those who ask for it, and a detector should see the
# file as it was published. `identity`: a body that unpacks to something larger would escape the count of bytes.
HEADERS = {
    "User-Agent": "robust-clip-detector (data set download)",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")

AddressCheck = Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]
Keep = Callable[[str, bytes], bytes]


class FetchError(Exception):
    """A picture cannot be had: the reason in a word or two, and what came instead.

    Args:
        reason: one of those above, or one of the caller's `keep`.
        detail: what came instead.
        temporary: whether the same address may give it a little later.
        wait: seconds that the server asks for before the next attempt.
    """

    def __init__(self, reason: str, detail: str, *, temporary: bool = False, wait: float = 0.0) -> None:
        super().__init__(detail)
        self.reason, self.temporary, self.wait = reason, temporary, wait


@dataclass(frozen=True)
class _Manner:
    """How addresses are asked, and what is kept of the answers."""

    is_admitted: AddressCheck
    keep: Keep
    workers: int
    attempts: int
    max_bytes: int


def is_public_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, multicast or reserved."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    # Outside 2000::/3 and in 6to4 and Teredo an IPv6 address can be another spelling of a private IPv4 one.
    return address in GLOBAL_UNICAST and address.sixtofour is None and address.teredo is None


def picture_path(folder: str | os.PathLike, url: str) -> Path:
    """Where the picture of `url` is kept in `folder`, whether it is there or not."""
    name = hashlib.sha256(url.encode()).hexdigest()
    return Path(folder) / name[:2] / name


def _whole_file(_: str, content: bytes) -> bytes:
    """The file as it was published, if `open_image` can read it."""
    open_image(content)
    return content


def download_pictures(
    urls: Iterable[str | None],
    folder: str | os.PathLike,
    *,
    total: int | None = None,
    is_admitted: AddressCheck = is_public_address,
    keep: Keep = _whole_file,
    workers: int | None = None,
    attempts: int = 1,
    max_bytes: int | None = None,
) -> Counter[str]:
    """Fetch every picture that is not in the folder yet and has not failed before.

    Args:
        urls: http or https addresses; anything else counts as a failure. Read one by one.
        folder: created if need be. To try failed addresses again, delete its failures.jsonl.
        total: number of addresses, for the progress bar.
        is_admitted: which addresses may be connected to.
        keep: (address, bytes) -> the bytes to keep; raises ImageError or FetchError where there is nothing to keep.
        workers: pictures at a time, `WORKERS` by default.
        attempts: how often an address is asked that fails for any temporary reason; a busy server is always asked
            `BUSY_ATTEMPTS` times. With more than one such a failure is not final: the next run asks again.
        max_bytes: of a picture, `MAX_PICTURE_BYTES` by default.

    Returns:
        How many addresses were `fetched` (now or earlier), and how many failed for each reason.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manner = _Manner(is_admitted, keep, workers or WORKERS, attempts, max_bytes or MAX_PICTURE_BYTES)
    entries = read_failures(folder)
    failed = {url: e["reason"] for url, e in entries.items() if attempts == 1 or not e.get("temporary")}
    counts: Counter[str] = Counter()
    with tqdm(total=total, unit="picture", desc="download") as progress:
        asyncio.run(_download(iter(urls), folder, failed, counts, progress, manner))
    return counts


async def _download(
    urls: Iterator[str | None],
    folder: Path,
    failed: dict[str, str],
    counts: Counter[str],
    progress: tqdm,
    manner: _Manner,
) -> None:
    """Let the workers take from one iterator: never more pictures than workers are in memory."""
    # Look-ups and decoding each have a thread for every worker: slow name servers must not hold up other pictures.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(manner.workers))
    # No connection is used twice: two hosts can share an address, and the certificate was checked for one of them.
    limits = httpx2.Limits(max_connections=manner.workers, max_keepalive_connections=0)
    async with httpx2.AsyncHTTPTransport(limits=limits) as transport:

        async def work() -> None:
            for url in urls:
                url = url or ""
                path = picture_path(folder, url)
                if url not in failed and not path.is_file():
                    try:
                        _write_atomically(path, await _fetch(transport, url, manner))
                    except FetchError as error:
                        failed[url] = error.reason
                        _log_failure(folder / FAILURES_FILE, url, error)
                counts[failed.get(url, FETCHED)] += 1
                progress.update()

        await asyncio.gather(*(work() for _ in range(manner.workers)))


async def _fetch(transport: httpx2.AsyncHTTPTransport, url: str, manner: _Manner) -> bytes:
    """What is kept of the picture at `url`."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.temporary),
        stop=lambda state: state.attempt_number >= _attempts(state, manner),
        wait=_wait,
        reraise=True,
    )
    content: bytes = await retrying(_ask, transport, url, manner)
    try:
        return await asyncio.to_thread(manner.keep, url, content)
    except ImageError as error:
        raise FetchError(NOT_A_PICTURE, str(error)) from error


def _attempts(state: RetryCallState, manner: _Manner) -> int:
    """How often an address is asked: a dead host, of which old data sets hold many, must not cost minutes."""
    return max(manner.attempts, BUSY_ATTEMPTS) if _failure(state).reason == BUSY_SERVER else manner.attempts


def _wait(state: RetryCallState) -> float:
    """Seconds: longer each time, and as long as the server asks for."""
    return max(_failure(state).wait, WAIT_SECONDS * 2 ** (state.attempt_number - 1) * random.uniform(1, 1.5))


def _failure(state: RetryCallState) -> FetchError:
    error = None if state.outcome is None else state.outcome.exception()
    return error if isinstance(error, FetchError) else FetchError(DEAD_LINK, "")


async def _ask(transport: httpx2.AsyncHTTPTransport, url: str, manner: _Manner) -> bytes:
    """The body, or whatever is wrong as a `FetchError`."""
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            return await _follow(transport, url, manner)
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise FetchError(TIME_OUT, type(error).__name__, temporary=True) from error
    except httpx2.InvalidURL as error:
        raise FetchError(NO_WEB_ADDRESS, str(error)) from error
    except (httpx2.HTTPError, ValueError) as error:  # ValueError: the TLS layer, for a host name such as ".x"
        detail = str(error) or type(error).__name__
        raise FetchError(DEAD_LINK, detail, temporary=isinstance(error, httpx2.TransportError)) from error


async def _follow(transport: httpx2.AsyncHTTPTransport, address: str, manner: _Manner) -> bytes:
    """The body behind at most `MAX_REDIRECTS` redirects; every hop is checked like the first."""
    url = httpx2.URL(address)
    for _ in range(MAX_REDIRECTS + 1):
        response = await _send(transport, url, manner.is_admitted)
        async with contextlib.aclosing(response):
            if response.has_redirect_location:
                url = url.join(response.headers["Location"])
                continue
            if is_busy(response.status_code):
                wait = asked_wait(response.headers)
                raise FetchError(BUSY_SERVER, f"HTTP {response.status_code}", temporary=True, wait=wait)
            if response.status_code != 200:
                raise FetchError(DEAD_LINK, f"HTTP {response.status_code}")
            return await _read_body(response, manner.max_bytes)
    raise FetchError(DEAD_LINK, f"more than {MAX_REDIRECTS} redirects")


async def _send(transport: httpx2.AsyncHTTPTransport, url: httpx2.URL, is_admitted: AddressCheck) -> httpx2.Response:
    """Ask for `url` at an address that was checked; the certificate must still be that of the host's name."""
    addresses = await _resolve(url, is_admitted)
    timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS).as_dict()
    extensions = {"timeout": timeout, "sni_hostname": url.raw_host.decode("ascii")}
    for number, address in enumerate(addresses, start=1):
        target = url.copy_with(host=str(address), userinfo=b"")
        headers = {"Host": url.netloc.decode("ascii"), **HEADERS}
        try:
            return await transport.handle_async_request(
                httpx2.Request("GET", target, headers=headers, extensions=extensions)
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if number == len(addresses):
                raise
    raise AssertionError("a resolved name has at least one address")


async def _resolve(url: httpx2.URL, is_admitted: AddressCheck) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """All addresses of the host, each of them admitted."""
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise FetchError(NO_WEB_ADDRESS, f"expected http:// or https:// and a host, got {str(url)[:200]!r}")
    port = url.port or (443 if url.scheme == "https" else 80)
    if port > 65535:
        raise FetchError(NO_WEB_ADDRESS, f"expected a port up to 65535, got {port}")
    try:
        # The system's resolver also reads spellings such as 0x7f.1, so that these are checked like any other.
        answers = await asyncio.get_running_loop().getaddrinfo(
            url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise FetchError(DEAD_LINK, f"no address for host {url.host!r}: {error}", temporary=True) from error
    addresses = [ipaddress.ip_address(answer[4][0]) for answer in answers]
    if refused := [address for address in addresses if not is_admitted(address)]:
        raise FetchError(PRIVATE_ADDRESS, f"{url.host} is {refused[0]}, which is not a public address")
    return list(dict.fromkeys(addresses))


def is_busy(status: int) -> bool:
    """Whether the same server may give what it refuses with this status a little later."""
    return status in _ASKED_TO_WAIT or (500 <= status < 600 and status not in _NEVER_DONE)


def asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds of the header Retry-After; the date that may stand there in their place counts as none."""
    asked = headers.get("Retry-After", "")
    return min(float(asked), MOST_WAIT_SECONDS) if asked.isdecimal() else 0.0


async def _read_body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The raw body, given up as soon as it is too large."""
    announced = response.headers.get("Content-Length", "0")
    content = bytearray()
    if not announced.isdecimal() or int(announced) <= max_bytes:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > max_bytes:
                break
        else:
            return bytes(content)
    raise FetchError(TOO_LARGE, f"more than {max_bytes} bytes")


def _write_atomically(path: Path, content: bytes) -> None:
    """A file under its final name is complete."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _log_failure(path: Path, url: str, error: FetchError) -> None:
    entry = {"url": url, "reason": error.reason, "detail": str(error), "temporary": error.temporary}
    with path.open("a", encoding="utf-8") as log:
        # The line break comes first: it also ends a line that an interrupted run left half-written.
        log.write("\n" + json.dumps(entry))


def read_failures(folder: str | os.PathLike) -> dict[str, dict]:
    """URL -> reason, detail and whether that is temporary, of what failed in earlier runs; the last one counts."""
    failed = {}
    path = Path(folder) / FAILURES_FILE
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            # A run that was killed can leave half a line; that URL is tried again.
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                failed[entry["url"]] = entry
    return failed


__all__ = [
    "FAILURES_FILE",
    "FETCHED",
    "AddressCheck",
    "FetchError",
    "asked_wait",
    "download_pictures",
    "is_busy",
    "is_public_address",
    "picture_path",
    "read_failures",
]
