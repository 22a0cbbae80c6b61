"""One child process that runs commands of `python -m train` one after the other, with the real huggingface_hub.

HF_ENDPOINT is read at import and the suite itself is offline, so that a Hub's client must be another process; one that
stays spares every test the import of PyTorch.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Result:
    returncode: int
    stdout: str
    error: str


class CommandProcess:
    """`run("publish", folder, "ann/name")` returns what the command printed and how it ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "tests.command_process"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, **environment: str) -> Result:
        """`environment` holds for this call; an empty value takes a variable away."""
        self.start(*arguments, **environment)
        return self.result()

    def start(self, *arguments: object, **environment: str) -> None:
        self.process.stdin.write(json.dumps([[*map(str, arguments)], environment]) + "\n")
        self.process.stdin.flush()

    def result(self) -> Result:
        return Result(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def _run(arguments: list[str], environment: dict[str, str]) -> list:
    """One command, as `python -m train` would run it."""
    from train.__main__ import main

    before, sys.argv = dict(os.environ), ["train", *arguments]
    os.environ.update(environment)
    for name in [name for name, value in environment.items() if not value]:
        del os.environ[name]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            main()
    except SystemExit as end:
        return [0 if end.code in (None, 0) else 1, output.getvalue(), str(end.code)]
    finally:
        os.environ.clear()
        os.environ.update(before)
    return [0, output.getvalue(), ""]


def _serve() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(level=logging.WARNING)
    for line in sys.stdin:
        answers.write(json.dumps(_run(*json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
