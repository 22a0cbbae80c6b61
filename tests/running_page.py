"""A page in a process of its own, as a user or a Space starts it."""

import random
import socket
import urllib.request
from contextlib import contextmanager, suppress

from tests.waiting import wait_for


def free_port():
    """Under those that a system gives to whoever asks for any port, so that it is still free a moment later."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("None of 100 ports is free.")


def answers(url):
    """Whether anybody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def running_page(python, folder, *command, **settings):
    """`python COMMAND` on a free port of the loopback interface; yields it with `url`, `uploads` and `log`."""
    port, uploads, log = free_port(), folder / "uploads", folder / "log"
    settings |= {"PORT": str(port), "HOST": "127.0.0.1", "GRADIO_TEMP_DIR": uploads}
    page = python.start(*(command or ["app.py"]), output=log, **settings)
    page.url, page.uploads, page.log = f"http://127.0.0.1:{port}", uploads, log
    try:
        wait_for(lambda: page.has_ended or answers(page.url), f"a page:\n{log.read_text()[-3000:]}", seconds=300)
        assert not page.has_ended, log.read_text()[-3000:]
        yield page
    finally:
        page.stop()
