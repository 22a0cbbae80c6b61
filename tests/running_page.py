"""A page in a process of its own, as a user or a Space starts it."""

import socket
import urllib.request
from contextlib import contextmanager

from tests.waiting import wait_for


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
