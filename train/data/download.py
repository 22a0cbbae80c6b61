"""Fetch pictures by URL into a folder, once: for data sets that hold only the addresses of their real pictures.

The addresses come from strangers, so nothing about them is trusted. Every host, also that of every redirect, is
resolved here and refused unless all its addresses are public; the connection then goes to a checked address, so that
a name that resolves differently a moment later changes nothing. Sizes are counted, not believed, and everything about
one picture (name look-up, TLS, headers, body) has one deadline, which a slow sender cannot stretch.

A fetched picture is kept under the hash of its URL; a failed URL is a line of failures.jsonl. Both are final: a second
run does only what is left, and so the same folder always gives the same records. Proxies are not used: behind one the
address could not be checked.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from tqdm import tqdm

from modeling.files import replacing
from modeling.images import ImageError, open_image

MAX_PICTURE_BYTES = 20 * 2**20
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 10.0
TOTAL_SECONDS = 60.0
WORKERS = 16
FAILURES_FILE = "failures.jsonl"

FETCHED = "fetched"
NO_WEB_ADDRESS = "no web address"
PRIVATE_ADDRESS = "private address"
DEAD_LINK = "dead link"
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


class _FetchError(Exception):
    """A picture cannot be had: one of the reasons above, and what came instead."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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


def download_pictures(
    urls: Iterable[str | None],
    folder: str | os.PathLike,
    *,
    total: int | None = None,
    is_admitted: AddressCheck = is_public_address,
) -> Counter[str]:
    """Fetch every picture that is not in the folder yet and has not failed before.

    Args:
        urls: http or https addresses; anything else counts as a failure. Read one by one.
        folder: created if need be. To try failed addresses again, delete its failures.jsonl.
        total: number of addresses, for the progress bar.
        is_admitted: which addresses may be connected to.

    Returns:
        How many addresses were `fetched` (now or earlier), and how many failed for each reason.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failed = _read_failures(folder / FAILURES_FILE)
    counts: Counter[str] = Counter()
    with tqdm(total=total, unit="picture", desc="download") as progress:
        asyncio.run(_download(iter(urls), folder, failed, counts, progress, is_admitted))
    return counts


async def _download(
    urls: Iterator[str | None],
    folder: Path,
    failed: dict[str, str],
    counts: Counter[str],
    progress: tqdm,
    is_admitted: AddressCheck,
) -> None:
    """Let `WORKERS` tasks take from one iterator: never more than so many pictures are in memory."""
    # Look-ups and decoding each have a thread for every worker: slow name servers must not hold up other pictures.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS))
    # No connection is used twice: two hosts can share an address, and the certificate was checked for one of them.
    limits = httpx2.Limits(max_connections=WORKERS, max_keepalive_connections=0)
    async with httpx2.AsyncHTTPTransport(limits=limits) as transport:

        async def work() -> None:
            for url in urls:
                url = url or ""
                path = picture_path(folder, url)
                if url not in failed and not path.is_file():
                    try:
                        _write_atomically(path, await _fetch(transport, url, is_admitted))
                    except _FetchError as error:
                        failed[url] = error.reason
                        _log_failure(folder / FAILURES_FILE, url, error)
                counts[failed.get(url, FETCHED)] += 1
                progress.update()

        await asyncio.gather(*(work() for _ in range(WORKERS)))


async def _fetch(transport: httpx2.AsyncHTTPTransport, url: str, is_admitted: AddressCheck) -> bytes:
    """The bytes of a picture that `open_image` can read."""
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            content = await _follow(transport, url, is_admitted)
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise _FetchError(TIME_OUT, type(error).__name__) from error
    except httpx2.InvalidURL as error:
        raise _FetchError(NO_WEB_ADDRESS, str(error)) from error
    except (httpx2.HTTPError, ValueError) as error:  # ValueError: the TLS layer, for a host name such as ".x"
        raise _FetchError(DEAD_LINK, str(error) or type(error).__name__) from error
    try:
        await asyncio.to_thread(open_image, content)
    except ImageError as error:
        raise _FetchError(NOT_A_PICTURE, str(error)) from error
    return content


async def _follow(transport: httpx2.AsyncHTTPTransport, address: str, is_admitted: AddressCheck) -> bytes:
    """The body behind at most `MAX_REDIRECTS` redirects; every hop is checked like the first."""
    url = httpx2.URL(address)
    for _ in range(MAX_REDIRECTS + 1):
        response = await _send(transport, url, is_admitted)
        async with contextlib.aclosing(response):
            if response.has_redirect_location:
                url = url.join(response.headers["Location"])
                continue
            if response.status_code != 200:
                raise _FetchError(DEAD_LINK, f"HTTP {response.status_code}")
            return await _read_body(response)
    raise _FetchError(DEAD_LINK, f"more than {MAX_REDIRECTS} redirects")


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
        raise _FetchError(NO_WEB_ADDRESS, f"expected http:// or https:// and a host, got {str(url)[:200]!r}")
    port = url.port or (443 if url.scheme == "https" else 80)
    if port > 65535:
        raise _FetchError(NO_WEB_ADDRESS, f"expected a port up to 65535, got {port}")
    try:
        # The system's resolver also reads spellings such as 0x7f.1, so that these are checked like any other.
        answers = await asyncio.get_running_loop().getaddrinfo(
            url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise _FetchError(DEAD_LINK, f"no address for host {url.host!r}: {error}") from error
    addresses = [ipaddress.ip_address(answer[4][0]) for answer in answers]
    if refused := [address for address in addresses if not is_admitted(address)]:
        raise _FetchError(PRIVATE_ADDRESS, f"{url.host} is {refused[0]}, which is not a public address")
    return list(dict.fromkeys(addresses))


async def _read_body(response: httpx2.Response) -> bytes:
    """The raw body, given up as soon as it is too large."""
    announced = response.headers.get("Content-Length", "0")
    content = bytearray()
    if not announced.isdecimal() or int(announced) <= MAX_PICTURE_BYTES:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > MAX_PICTURE_BYTES:
                break
        else:
            return bytes(content)
    raise _FetchError(TOO_LARGE, f"more than {MAX_PICTURE_BYTES} bytes")


def _write_atomically(path: Path, content: bytes) -> None:
    """A file under its final name is complete."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _log_failure(path: Path, url: str, error: _FetchError) -> None:
    with path.open("a", encoding="utf-8") as log:
        # The line break comes first: it also ends a line that an interrupted run left half-written.
        log.write("\n" + json.dumps({"url": url, "reason": error.reason, "detail": str(error)}))


def _read_failures(path: Path) -> dict[str, str]:
    """URL -> reason of what failed in earlier runs."""
    failed = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            # A run that was killed can leave half a line; that URL is tried again.
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                failed[entry["url"]] = entry["reason"]
    return failed


__all__ = ["FAILURES_FILE", "FETCHED", "AddressCheck", "download_pictures", "is_public_address", "picture_path"]
