"""The one way to run a command: a process with the heavy libraries imported, forked for each command.

`WarmPython(environment, folder)` is called like the interpreter:

    python.run("-m", "train", "publish", folder, "ann/name").stdout

No command waits for the import of PyTorch, and none sees what another one has left. Only libraries are imported
before, never the project, so that a command must import what it needs. `python.environment` puts a program named
`python` first in the path, which does the same for commands that a shell runs.

What is shown with a process that shares nothing with this one (torchrun, an interpreter that starts) stays with
`subprocess`.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
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
    "torch._dynamo",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "transformers.pipelines",
    "transformers.trainer",
)
# A command that has not ended by then never will.
LONGEST = 300
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


@dataclass
class Result:
    """How a command ended; a negative `returncode` is the signal that killed it."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """A command that was started."""

    def __init__(self, address: str, request: list, output: Path | None) -> None:
        # Both are read when the command has ended, so that none waits for a reader of its pipe.
        self._output = output.open("w+") if output else tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._errors = self._output if output else tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._result = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        self._connection.settimeout(LONGEST)
        with open(os.devnull) as nothing:
            streams = [stream.fileno() for stream in (nothing, self._output, self._errors)]
            socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], streams)
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    @property
    def has_ended(self) -> bool:
        return self._result is not None or bool(select.select([self._connection], [], [], 0)[0])

    def send_signal(self, number: int) -> None:
        if not self.has_ended:
            os.kill(self.pid, number)

    def result(self) -> Result:
        """Wait for the end."""
        if self._result is None:
            self._result = self._wait()
        return self._result

    def _wait(self) -> Result:
        try:
            status = self._answers.readline()
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            status = str(-signal.SIGKILL)  # with what it has printed
        self._answers.close()
        self._connection.close()
        printed = []
        for stream in (self._output, self._errors):
            stream.seek(0)
            printed.append(stream.read())
        self._output.close()
        self._errors.close()
        return Result(int(status), *printed)

    def stop(self, number: int = signal.SIGTERM) -> Result:
        """End it by a signal."""
        self.send_signal(number)
        return self.result()


class WarmPython:
    """Start it with `with WarmPython(environment, folder) as python`; commands run in that environment."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.address = str(folder / "socket")
        program = folder / "bin" / "python"
        program.parent.mkdir()
        program.write_text(CLIENT.format(python=sys.executable, address=self.address))
        program.chmod(0o755)
        console_command = program.with_name("robust-clip")
        console_command.write_text('#!/bin/sh\nexec python -m robust_clip "$@"\n')
        console_command.chmod(0o755)
        self.environment = environment | {
            "PATH": os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), environment["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]),
        }

    def run(self, *arguments: object, cwd: Path = ROOT, **environment: str) -> Result:
        """Run a command to its end. An empty value takes a variable of the environment away."""
        return self.start(*arguments, cwd=cwd, **environment).result()

    def start(self, *arguments: object, cwd: Path = ROOT, output: Path | None = None, **environment: str) -> Running:
        """Start a command; both of its streams go to the file `output` where one is named."""
        wanted = {name: str(value) for name, value in (self.environment | environment).items() if value != ""}
        return Running(self.address, [[*map(str, arguments)], str(cwd), wanted], output)

    def __enter__(self) -> "WarmPython":
        command = [sys.executable, "-m", "tests.warm_python", self.address]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *exception: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)  # and what still runs
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def _serve(address: str) -> None:
    """Fork for every connection."""
    for name in LIBRARIES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave no trace
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # stdin ends with the process that started this one, also where that one was killed.
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:  # the command's parent, which waits for it
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Fork once more for the command, tell its number and how it ended, and end."""
    request, streams, *_ = socket.recv_fds(connection, 2**16, 3)
    while not request.endswith(b"\n"):
        request += connection.recv(2**16)
    if (child := os.fork()) == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_status(*json.loads(request)))
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):  # of who is gone
        connection.sendall(f"{child}\n".encode())
        connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
    os._exit(0)


def _status(arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run one command in this process; its exit status."""
    status = 1
    try:
        _run(arguments, folder, environment)
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
    return status


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """As `python -m NAME`, `python -c CODE` and `python FILE` would."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _read_environment_again()
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


def _read_environment_again() -> None:
    """The Hub's address, cache and token are read from the environment when the libraries are imported."""
    import datasets.config
    import huggingface_hub.constants
    import transformers

    importlib.reload(huggingface_hub.constants)
    importlib.reload(datasets.config)
    huggingface_hub.hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT
    modules = os.path.join(huggingface_hub.constants.HF_HOME, "modules")
    for module in (transformers.utils, transformers.utils.hub, transformers.dynamic_module_utils):
        module.HF_MODULES_CACHE = modules


if __name__ == "__main__":
    _serve(sys.argv[1])
