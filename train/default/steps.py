"""Steps of a long work that are skipped while their inputs and their outputs are what they were.

What is kept of a step that was done is a file: digests of its inputs, and of the bytes that it left. A step that was
interrupted has none, and is begun again; what it finds of its own unfinished work is its own concern.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from modeling.files import write_json

logger = logging.getLogger(__name__)


class Steps:
    """Runs steps, and remembers those that are done.

    Args:
        folder: of the files that say which are done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float | None] = {}

    def run(self, name: str, inputs: dict, outputs: Sequence[Path], work: Callable[[], object]) -> str:
        """Do a step, unless it is done.

        Args:
            name: of the step, and of the file that says that it is done.
            inputs: what decides its result, for JSON.
            outputs: files, or folders of files, that it writes.
            work: does it.

        Returns:
            A digest of the outputs: an input of later steps.
        """
        path = self.folder / f"{name}.json"
        done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if done.get("inputs") == inputs and done.get("outputs") == digests(outputs):
            logger.info("%s: unchanged.", name)
            self.seconds[name] = None
        else:
            begin = time.perf_counter()
            work()
            self.seconds[name] = time.perf_counter() - begin
            done = {"inputs": inputs, "outputs": digests(outputs)}
            write_json(path, done)
            logger.info("%s: %s.", name, duration(self.seconds[name]))
        return hashlib.sha256(json.dumps(done["outputs"], sort_keys=True).encode()).hexdigest()

    def table(self) -> str:
        """How long each step took, a line a step."""
        width = max(len(name) for name in self.seconds)
        taken = sum(seconds or 0 for seconds in self.seconds.values())
        lines = [f"{name:{width}}  {duration(seconds)}" for name, seconds in self.seconds.items()]
        return "\n".join([*lines, f"{'together':{width}}  {duration(taken)}"])


def digests(outputs: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of every file, by its name below its output; hidden files are unfinished, and left out."""
    found = {}
    for output in outputs:
        files = sorted(path for path in output.rglob("*") if path.is_file()) if output.is_dir() else [output]
        for file in files:
            if file.is_file() and not file.name.startswith("."):
                found[str(Path(output.name) / file.relative_to(output))] = sha256(file)
    return found


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def duration(seconds: float | None) -> str:
    """A time in words; `None` is a step that was not done anew."""
    if seconds is None:
        return "unchanged"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


__all__ = ["Steps", "digests", "duration", "sha256"]
