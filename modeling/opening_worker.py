"""The process in which `opening_process` has files opened: one after another, each within a limit of memory.

Run by path, never imported. It must start fast, so it takes `images` without this package's `__init__`, which loads
torch and transformers. Standard input: a line of JSON {"task", "bytes"}, then the file. Standard output: a line of
JSON, {"header", "size", "info", "bytes"} or {"error": a code, "message", "values", "bytes": 0}, then the pixels.
"""

import importlib
import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

MEMORY_LIMIT = 4 * 2**30  # bytes of address space; 50 megapixels of 16 bits take about 1.5 GB
ALARM = 30  # seconds; ends a worker whose owner was killed before it could end it


def main() -> None:
    """Answer until the owner closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not speak into the answers
    # Signals to a whole group stop the owner, who first answers what is under way; this process ends with the pipe.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit_memory()
    package = types.ModuleType("modeling")
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules["modeling"] = package
    images = importlib.import_module("modeling.images")
    pack = importlib.import_module("modeling.file_header").pack
    answers.write(b"ready\n")
    answers.flush()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        data = sys.stdin.buffer.read(request["bytes"])
        if hasattr(signal, "alarm"):
            signal.alarm(ALARM)  # by default it ends the process, even within a library
        try:
            answer, pixels = _read(images, pack, request["task"], data)
        except images.ImageError as error:
            answer, pixels = {"error": error.code, "message": str(error), "values": error.values}, b""
        answers.write(json.dumps(answer | {"bytes": len(pixels)}).encode() + b"\n")
        answers.write(pixels)
        answers.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        del data, answer, pixels


def _read(images: Any, pack: Any, task: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The answer and the pixels of one file."""
    header = images.header_here(data)
    if task == "header":
        return {"header": header.packed()}, b""
    picture = images.open_here(data)
    return {"header": header.packed(), "size": picture.size, "info": pack(picture.info)}, picture.tobytes()


def _limit_memory() -> None:
    """Keep a hostile file from taking the machine's memory (where the system has such limits)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
