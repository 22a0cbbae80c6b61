"""`python` for the commands of a document: a process with the heavy libraries imported, forked for each command.

`WarmPython(environment, folder)` puts a program named `python` into a folder. Run by bash like the real one, it hands
its arguments, environment, working folder and streams to the process that waits, whose fork then runs them: no
command waits for the import of PyTorch, and none sees what another one has left. Only libraries are imported before,
never the project, so that a document must import what it needs.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "accelerate",
    "datasets",
    "gradio",
    "gradio_client",
    "imagehash",
    "matplotlib.pyplot",
    "onnx",
    "pandas",
    "scipy.stats",
    "sklearn.covariance",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "torch",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "transformers.pipelines",
    "transformers.trainer",
)
# Without site and its packages it starts in a moment. argv[0] is not needed.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = [sys.argv[1:], os.getcwd(), dict(os.environ)]
socket.send_fds(connection, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
answers = connection.makefile()
child = int(answers.readline())
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
sys.exit(int(answers.readline() or 1))
"""


class WarmPython:
    """Start it with `with WarmPython(environment, folder) as python`; `python.environment` is for `bash`."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.address = str(folder / "socket")
        program = folder / "bin" / "python"
        program.parent.mkdir()
        program.write_text(CLIENT.format(python=sys.executable, address=self.address))
        program.chmod(0o755)
        self.environment = environment | {
            "PATH": os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), environment["PATH"]]),
            "PYTHONPATH": str(ROOT),
        }

    def __enter__(self) -> "WarmPython":
        command = [sys.executable, "-m", "tests.warm_python", self.address]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *exception: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)  # and what still runs
        self.process.wait(10)
        self.process.stdout.close()


def _serve(address: str) -> None:
    """Fork for every connection."""
    for name in LIBRARIES:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave no trace
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Run one command in this process, tell how it ended, and end."""
    request, streams, *_ = socket.recv_fds(connection, 2**16, 3)
    while not request.endswith(b"\n"):
        request += connection.recv(2**16)
    connection.sendall(f"{os.getpid()}\n".encode())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    status = 1
    try:
        _run(*json.loads(request))
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        status = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{status}\n".encode())
    os._exit(status)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """As `python -m NAME`, `python -c CODE` and `python FILE` would."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    option, *rest = arguments
    if option == "-m":
        sys.argv, sys.path[0] = rest, folder
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = arguments, str(Path(option).resolve().parent)
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1])
