"""The page's own folder, which holds all that uploads can leave: swept by age, deleted with the page.

A page holds a lock in its folder for as long as it lives. By that every start and every sweep tell what a killed page
left from the folder of one that runs beside it. Nothing outside such folders is ever deleted.
"""

import logging
import os
import secrets
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

# Together less than the 20 minutes that visitors are promised.
KEEP_SECONDS, LOOK_SECONDS = 1080, 60
PREFIX = "robust-clip-page-"
_LOCK = "lock"

logger = logging.getLogger(__name__)


def own_uploads() -> str:
    """A new name for the folder of a page's uploads, which must be in GRADIO_TEMP_DIR before gradio is imported.

    It lies in what GRADIO_TEMP_DIR names before, or where the system keeps such files.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()
    return str(Path(parent).absolute() / f"{PREFIX}{secrets.token_hex(4)}" / "uploads")


class PageFolder:
    """A folder that only its owner can read; used with `with`, at whose end it is deleted.

    Args:
        uploads: from `own_uploads`; a folder within it.
    """

    def __init__(self, uploads: str) -> None:
        self.uploads = Path(uploads)
        self.path = self.uploads.parent
        self._temporary = self.path / "tmp"  # for whatever asks this process for a temporary file
        self._lock = FileLock(self.path / _LOCK)
        self._kept: set[Path] = set()

    def __enter__(self) -> Self:
        """Delete what killed pages left, then make this one's folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._delete_dead()
        while True:  # a sweep of another page may come between
            self.path.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):
                self._lock.acquire()
                if (self.path / _LOCK).exists():
                    break
                self._lock.release()
        self.uploads.mkdir()
        self._temporary.mkdir()
        tempfile.tempdir = str(self._temporary)
        return self

    def __exit__(self, *exception: object) -> None:
        tempfile.tempdir = None
        self.delete()

    def delete(self) -> None:
        """With all that is in it."""
        for _ in range(3):  # something may still be writing
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def keep_what_is_there(self) -> None:
        """The page's own files, such as its example pictures, are not deleted by age."""
        self._kept = set(_files(self.path))

    def sweep(self, keep_seconds: float = KEEP_SECONDS) -> set[str]:
        """Delete what is too old, and what killed pages left.

        Args:
            keep_seconds: the age at which a file goes, counted from when it was written: its use does not renew it.

        Returns:
            The paths of the deleted files.
        """
        self._delete_dead()
        oldest = time.time() - keep_seconds
        deleted = set()
        for path in set(_files(self.path)) - self._kept:
            with suppress(FileNotFoundError):
                status = path.lstat()
                # Gradio moves and copies files with the date of their content; the inode's tells when they came.
                if stat.S_ISREG(status.st_mode) and status.st_ctime < oldest:
                    path.unlink()
                    deleted.add(str(path))
        for folder in {Path(path).parent for path in deleted} - {self.uploads, self._temporary}:
            with suppress(OSError):  # Gradio names it by the upload's hash; another file is in it
                folder.rmdir()
        return deleted

    def _delete_dead(self) -> None:
        for folder in self.path.parent.glob(f"{PREFIX}*"):
            if folder != self.path and _is_ours(folder):
                with suppress(Timeout, OSError), FileLock(folder / _LOCK, timeout=0):
                    logger.info("Deleting what a page left that was killed")
                    shutil.rmtree(folder)


def _files(folder: Path) -> list[Path]:
    """All files in it but the lock; links are not followed."""
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return [file for file in files if file != folder / _LOCK]


def _is_ours(folder: Path) -> bool:
    """Whether it is a real folder that this user made: others can write where temporary files lie."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and (os.name == "nt" or status.st_uid == os.getuid())


__all__ = ["KEEP_SECONDS", "LOOK_SECONDS", "PREFIX", "PageFolder", "own_uploads"]
