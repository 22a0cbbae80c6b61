"""Tar archives, as WebDataset writes them: local or by URL, read as a stream, one shard an archive."""

import glob
import io
import logging
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from modeling.images import MAX_BYTES

from ..data.download import asked_wait, is_busy
from ..data.picture_folder import printable
from .picture import Picture, count_words, files_fingerprint, may_be_picture, without_query

logger = logging.getLogger(__name__)

TAR = (".tar", ".tar.gz", ".tgz")
SECONDS = 60  # without a byte
# Of a connection that is lost or refused for a temporary reason; before the second, doubled for each further one.
ATTEMPTS, WAIT_SECONDS = 5, 1.0


class _Entry(tarfile.TarInfo):
    """A header that cannot be read is an error; `tarfile` takes it for the end, and would lose the rest silently."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Entry":
        """Read the next header."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error


class _Download(io.RawIOBase):
    """A web address as a stream, which goes on where a lost connection or a busy server left off.

    Where it is lost for good that is an error here and no end: the archive is not damaged.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.name = url, without_query(url)
        self.pending, self.position, self.version = b"", 0, ""
        self.exits = ExitStack()
        self.chunks: Iterator[bytes] = iter(())
        with self._errors():
            self.pending = self._patiently(self._ask)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next."""
        if not self.pending:
            with self._errors():
                self.pending = self._next()
        part, self.pending = self.pending[: len(buffer)], self.pending[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Leave the connection."""
        self.exits.close()
        super().close()

    def _next(self) -> bytes:
        """The next bytes, none at the end."""
        try:
            return self._counted(next(self.chunks, b""))
        except httpx2.TransportError:
            return self._patiently(self._ask)

    def _counted(self, chunk: bytes) -> bytes:
        self.position += len(chunk)
        return chunk

    def _patiently(self, ask: Callable[[], bytes]) -> bytes:
        retrying = Retrying(
            retry=retry_if_exception(_is_temporary),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            before_sleep=self._say,
            reraise=True,
        )
        return retrying(ask)

    def _say(self, state: RetryCallState) -> None:
        seconds = 0.0 if state.next_action is None else state.next_action.sleep
        logger.info("%s: lost after %d bytes, asked again in %.0f s.", self.name, self.position, seconds)

    def _ask(self) -> bytes:
        """Ask for what is left, and give its first bytes."""
        self.exits.close()
        headers = {"Accept-Encoding": "identity"}
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
        stream = httpx2.stream("GET", self.url, headers=headers, follow_redirects=True, timeout=SECONDS)
        response = self.exits.enter_context(stream).raise_for_status()
        version = response.headers.get("ETag", response.headers.get("Last-Modified", ""))
        if self.position and version != self.version:
            raise OSError(f"{self.name} was changed while it was read: score it again into a new folder.")
        self.version, self.chunks = version, response.iter_bytes()
        behind = self.position if response.status_code == httpx2.codes.OK else 0  # the server knows no ranges
        chunk = next(self.chunks, b"")
        while chunk and len(chunk) <= behind:
            behind -= len(chunk)
            chunk = next(self.chunks, b"")
        return self._counted(chunk[behind:])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            # httpx2's own words hold the whole address, with its signature.
            reason = error.response.status_code if isinstance(error, httpx2.HTTPStatusError) else type(error).__name__
            raise OSError(f"{self.name} could not be read ({reason}): run the same command again to go on.") from None


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return is_busy(error.response.status_code)
    return isinstance(error, httpx2.TransportError)


def _wait(state: RetryCallState) -> float:
    """Seconds: longer each time, and as long as the server asks for."""
    error = None if state.outcome is None else state.outcome.exception()
    asked = asked_wait(error.response.headers) if isinstance(error, httpx2.HTTPStatusError) else 0.0
    return max(asked, WAIT_SECONDS * 2 ** (state.attempt_number - 1))


class TarShards:
    """One shard an archive."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.identity = {"kind": "tar", "shards": len(files), "files_sha256": files_fingerprint(files)}

    def __len__(self) -> int:
        """Number of archives."""
        return len(self.files)

    def size(self, shard: int) -> None:
        """Only reading an archive tells."""

    def read(self, shard: int, skip: int) -> Iterator[Picture]:
        """Read an archive from its start; of a local one without compression, what is skipped is not read.

        The pictures of a damaged archive are followed by one that carries the error.
        """
        file, source = self.files[shard], without_query(self.files[shard])
        beside: Counter[str] = Counter()
        try:
            with _open_binary(file) as stream, _open_archive(stream, file) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # all headers of a huge archive would be kept
                    if not member.isfile():
                        continue
                    name = member.name.encode("utf-8", "surrogateescape")
                    if not may_be_picture(name):
                        beside[Path(member.name).suffix] += 1
                    elif skip:
                        skip -= 1
                    else:
                        content: Any = archive.extractfile(member)
                        yield Picture(printable(name), source, content.read(MAX_BYTES + 1))
        except tarfile.TarError as error:
            message = f"The archive is damaged, pictures may be missing: {error}."
            logger.warning("%s: %s", source, message)
            yield Picture(source, source, None, message)
        if beside:
            logger.info("%s: passed over %s", source, count_words(beside))


def tar_files(location: str) -> list[str]:
    """The archives that a name, a pattern {000..119} or a glob stands for.

    Raises:
        ValueError: one is not there.
    """
    files: list[str] = []
    for name in _expand(location):
        if "://" not in name:
            files += sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        elif "*" in name:
            system, path = fsspec.core.url_to_fs(name)
            files += sorted(system.unstrip_protocol(found) for found in system.glob(path))
        else:
            files.append(name)
    missing = [name for name in files if "://" not in name and not Path(name).is_file()]
    if not files or missing:
        raise ValueError(f"There is no tar archive {missing[0] if missing else location!r}.")
    return files


def _expand(location: str) -> list[str]:
    """WebDataset's way to name many archives: a{00..02}.tar is a00.tar, a01.tar and a02.tar."""
    if (numbers := re.search(r"\{(\d+)\.\.(\d+)\}", location)) is None:
        return [location]
    first, last = numbers.groups()
    before, after = location[: numbers.start()], location[numbers.end() :]
    return [
        name
        for number in range(int(first), int(last) + 1)
        for name in _expand(f"{before}{number:0{len(first)}d}{after}")
    ]


def _open_binary(file: str) -> IO[bytes]:
    """Bytes from start to end, or from anywhere where the file is local."""
    if file.startswith(("https://", "http://")):
        return _Download(file)  # type: ignore[return-value]
    return fsspec.open(file, "rb").open() if "://" in file else open(file, "rb")  # noqa: SIM115 (closed by the caller)


def _open_archive(stream: IO[bytes], file: str) -> closing[tarfile.TarFile]:
    """Seek in a local archive; read others, and compressed ones, from start to end."""
    mode: Any = "r:" if "://" not in file and file.endswith(".tar") else "r|*"
    return closing(tarfile.open(fileobj=stream, mode=mode, tarinfo=_Entry))


__all__ = ["TAR", "TarShards", "tar_files"]
