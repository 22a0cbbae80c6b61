"""How every command of this project ends: an error is one sentence, Ctrl+C and a closed pipe are quiet.

app.py, robust_clip.py, `python -m train` and `python -m modeling.check` share it. It stands beside them and imports
nothing heavy, so that it holds while PyTorch is still being imported.
"""

import errno
import io
import logging
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger(__name__)

# What a user, a file or a network can be the cause of, where our own code says so. Of everything else, which may be a
# bug, the traceback is kept.
EXPECTED = (ValueError, OSError, RuntimeError, FloatingPointError, ModuleNotFoundError)
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 and the number of the signal, as shells count
_OURS = ("__main__", "app", "command_line", "modeling", "robust_clip", "space", "train")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS = tuple(map(os.strerror, _NO_ROOM))  # of libraries in Rust and C++, whose errors have no number


def log_to_stderr(level: str, text: str = "%(levelname)s %(name)s: %(message)s") -> None:
    """Log from this level on, or from the environment's LOG_LEVEL: `debug` shows where an error came from."""
    asked = os.environ.get("LOG_LEVEL", "").upper()  # a common name: a value for another program must not stop ours
    logging.basicConfig(level=asked if asked in logging.getLevelNamesMapping() else level, format=text)


def accept_any_name(stream: TextIO) -> None:
    """Escape what the stream's encoding lacks: a name of another script must not end the run."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Around, or as a decorator of, what a command does.

    Raises:
        SystemExit: with a sentence, which Python prints to stderr before it ends with 1; with 130 after Ctrl+C; with
            141 where nobody reads the output any more.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _give_up_output()
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        logger.debug("Where it came from:", exc_info=True)
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_output()
        sys.exit(f"error: {sentence_of(error)}")


def _give_up_output() -> None:
    """What still waits in the buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sentence_of(error: Exception) -> str:
    """What went wrong and what to do; of what may be a bug, also in which file its traceback is kept."""
    if any(_says_no_room(cause) for cause in chain_of(error)):
        name = getattr(error, "filename", None)
        return (
            f"There is no room left on the disk{f' for {name}' if name else ''}: free some, or choose another folder, "
            "and run the same command again."
        )
    if isinstance(error, MemoryError):
        return "The memory of this machine is not enough: close other programs, or take smaller batches."
    if isinstance(error, ModuleNotFoundError) and str(error) == f"No module named {error.name!r}":
        return (
            f"The package {error.name} is not installed: pip install -r requirements.txt, or for `python -m train` "
            "pip install 'robust-clip-detector[train]'."
        )
    if isinstance(error, OSError) and error.strerror:
        names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{error.strerror}{f': {names}' if names else ''}."
    if isinstance(error, EXPECTED) and _is_raised_by_us(error):
        return str(error)
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {said}' if said else ''}. {_keep_traceback(error)}"


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, one after the other."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_no_room(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in _NO_ROOM) or any(
        words in str(error) for words in _NO_ROOM_WORDS
    )


def _is_raised_by_us(error: Exception) -> bool:
    """Whether the sentence is ours: what a library says of its insides helps nobody without the traceback."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not frames or frames[-1].f_globals.get("__name__", "").split(".")[0] in _OURS


def _keep_traceback(error: Exception) -> str:
    """Write a log for whoever looks for the cause; where that is not possible either, show it."""
    told = [f"{' '.join(sys.argv)}\nPython {platform.python_version()}, {platform.platform()}\n"]
    told += traceback.format_exception(error)
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="robust-clip-", suffix=".log", delete=False
        ) as log:
            log.writelines(told)
    except OSError:
        return "The traceback:\n" + "".join(told)
    return f"If this looks like a bug, report it with {log.name}, which holds the traceback."


__all__ = ["EXPECTED", "accept_any_name", "chain_of", "clear_errors", "log_to_stderr", "sentence_of"]
