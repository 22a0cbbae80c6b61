"""A running page as a user starts it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from modeling.embedded import ROOT


@contextmanager
def running(command, folder, **environment):
    """A page in a process of its own on a free port (PORT) of the loopback interface; gives its URL and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uploads = folder / "uploads"
    settings = {"PORT": str(port), "HOST": "127.0.0.1", "GRADIO_TEMP_DIR": str(uploads)} | environment
    with (folder / "log").open("w+") as log:
        app = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log)
        app.url, app.uploads, app.log = f"http://127.0.0.1:{port}", uploads, folder / "log"
        try:
            for _ in range(600):  # a busy machine takes minutes
                if app.poll() is not None:
                    break
                try:
                    urllib.request.urlopen(app.url, timeout=2).close()
                except OSError:
                    time.sleep(0.5)
                else:
                    yield app
                    return
            pytest.fail(f"the page did not start:\n{app.log.read_text()[-3000:]}")
        finally:
            if app.poll() is None:
                app.terminate()
                app.wait(timeout=30)


def running_app(folder, **environment):
    """`python app.py` as a user starts it."""
    return running(["app.py"], folder, **environment)
