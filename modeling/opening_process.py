"""A process of its own for the files whose reading no header bounds: what takes too long there is ended.

Pillow cannot be stopped: a TIFF may hold millions of strips or a JPEG of any number of scans, and some of its readers
(BMP, PPM) are loops in Python. So a worker (`opening_worker.py`) opens such files. It starts in a fraction of a
second, answers one file after another, and is replaced when it had to be ended or fell; a crash of native code ends
there too. As many files are open at once as there are callers, each in a worker of its own; idle ones wait for the
next file.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

TIME_LIMIT = 4.0  # seconds for one file, pixels handed over; 50 megapixels of AVIF take about one and a half
START_LIMIT = 60.0
WORKER = Path(__file__).with_name("opening_worker.py")
MAX_ANSWER = 64 * 2**20  # bytes of the line before the pixels
# Idle workers by the process that started them: one that was forked must not speak into its parent's pipes.
_idle: dict[int, list["_Worker"]] = {}


class WorkerEndedError(Exception):
    """The worker fell while it read this file.

    Args:
        too_slow: it did not fall, it was ended after `TIME_LIMIT`.
    """

    def __init__(self, *, too_slow: bool) -> None:
        super().__init__("too slow" if too_slow else "ended")
        self.too_slow = too_slow


class _Worker:
    """One running worker, used by one caller at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=2**20,  # a whole picture goes through; Linux's own pipes hold 64 KB
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin and self._process.stdout
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._was_slow = False
        timer = self._timer(START_LIMIT)
        ready = self._answers.readline()
        timer.cancel()
        if ready != b"ready\n":
            self.end()
            raise RuntimeError(f"The process that opens files did not start: run `python -P {WORKER}` to see why.")

    @property
    def runs(self) -> bool:
        """Whether it waits for a file."""
        return self._process.poll() is None

    def ask(self, task: str, data: bytes) -> tuple[dict[str, Any], bytearray]:
        """See `ask` of this module."""
        timer = self._timer(TIME_LIMIT)
        try:
            self._requests.write(json.dumps({"task": task, "bytes": len(data)}).encode() + b"\n")
            self._requests.write(data)
            self._requests.flush()
            answer = json.loads(self._answers.readline(MAX_ANSWER))
            pixels = bytearray(answer["bytes"])
            if self._answers.readinto(pixels) < len(pixels):  # type: ignore[attr-defined]
                raise EOFError
        except (OSError, EOFError, ValueError) as error:
            timer.cancel()
            timer.join()
            self.end()
            raise WorkerEndedError(too_slow=self._was_slow) from error
        timer.cancel()
        timer.join()  # so that it ends this worker now, or never
        return answer, pixels

    def _timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._stop)
        timer.daemon = True
        timer.start()
        return timer

    def _stop(self) -> None:
        self._was_slow = True
        self._process.kill()

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._answers.close()
        with suppress(OSError):  # for what it had not read yet
            self._requests.close()
        self._process.wait()


def ask(task: str, data: bytes) -> tuple[dict[str, Any], bytearray]:
    """Have a file read.

    Args:
        task: "header" or "open".
        data: the whole file.

    Returns:
        What the worker says, and the pixels.

    Raises:
        WorkerEndedError: the file took too long, or the worker fell.
        RuntimeError: no worker can be started.
    """
    mine = _idle.setdefault(os.getpid(), [])
    worker = None
    while mine and worker is None:
        try:
            worker = mine.pop()
        except IndexError:  # another thread took it
            break
        if not worker.runs:
            worker.end()
            worker = None
    worker = worker or _Worker()
    answer = worker.ask(task, data)
    mine.append(worker)
    return answer


@atexit.register
def end_workers() -> None:
    """End the idle workers of this process."""
    mine = _idle.get(os.getpid(), [])
    while mine:
        mine.pop().end()


__all__ = ["TIME_LIMIT", "WorkerEndedError", "ask", "end_workers"]
