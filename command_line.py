"""How every command of this project ends: an expected error is one sentence, Ctrl+C and a closed pipe are quiet.

app.py, robust_clip.py, `python -m train` and `python -m modeling.check` share it. It stands beside them and imports
nothing heavy, so that it holds while PyTorch is still being imported.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# What a user, a file or a network can be the cause of. Everything else is a bug, and shows its traceback.
EXPECTED = (ValueError, OSError, RuntimeError, FloatingPointError, ModuleNotFoundError)
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 and the number of the signal, as shells count


def log_to_stderr(level: str, text: str = "%(levelname)s %(name)s: %(message)s") -> None:
    """Log from this level on, or from the environment's LOG_LEVEL: `debug` shows where an error came from."""
    asked = os.environ.get("LOG_LEVEL", "").upper()  # a common name: a value for another program must not stop ours
    logging.basicConfig(level=asked if asked in logging.getLevelNamesMapping() else level, format=text)


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
        # What still waits in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except EXPECTED as error:
        logger.debug("Where it came from:", exc_info=True)
        sys.exit(f"error: {error}")


__all__ = ["EXPECTED", "clear_errors", "log_to_stderr"]
