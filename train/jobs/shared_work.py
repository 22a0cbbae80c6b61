"""Long work that processes on one folder share: every piece is a file, made by whoever comes to it first."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from modeling.files import replacing


def share_work(tasks: Mapping[Path, Callable[[], dict[str, Tensor]]], desc: str, unit: str) -> None:
    """Write every file that is not there, with one progress bar.

    A file that another process is at is left to it, and waited for at the end; of one that was killed, too, the next
    takes over. An interrupted run goes on where it stopped.

    Args:
        tasks: for each safetensors file, what makes its tensors.
        desc: of the bar.
        unit: of the bar.
    """
    pending = {path: make for path, make in tasks.items() if not path.is_file()}
    with tqdm(total=len(pending), desc=desc, unit=unit) as progress:
        while pending:
            number = len(pending)
            for path, make in list(pending.items()):
                if _made(path, make):
                    del pending[path]
                    progress.update()
            if len(pending) == number:  # other processes are at all of them
                time.sleep(1)


def _made(path: Path, make: Callable[[], dict[str, Tensor]]) -> bool:
    """Make a file, unless it is there or another process is at it: whether it is there now."""
    if path.is_file():
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            if not path.is_file():
                tensors = make()
                with replacing(path) as temporary:
                    save_file(tensors, temporary)
    except Timeout:
        return False
    lock.unlink(missing_ok=True)
    return True


__all__ = ["share_work"]
