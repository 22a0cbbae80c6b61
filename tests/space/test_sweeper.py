"""The page's folder: what is too old goes, what killed pages left goes, and nothing else."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

from space.sweeper import KEEP_SECONDS, LOOK_SECONDS, PREFIX, PageFolder, own_uploads


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")
    return path


def test_the_folder_is_its_owners_alone_and_goes_with_the_page(parent):
    with PageFolder(own_uploads()) as folder:
        assert folder.path.parent == parent and folder.path.stat().st_mode & 0o77 == 0
        write(folder.uploads / "hash" / "picture.jpg")
        with tempfile.NamedTemporaryFile(delete=False) as temporary:
            assert os.path.dirname(temporary.name).startswith(str(folder.path))
    assert list(parent.iterdir()) == []
    assert not tempfile.gettempdir().startswith(str(parent))


def test_an_upload_is_gone_within_twenty_minutes_however_often_it_is_used(parent, monkeypatch):
    assert KEEP_SECONDS + LOOK_SECONDS <= 20 * 60 - 30
    with PageFolder(own_uploads()) as folder:
        own = write(folder.uploads / "example" / "example.jpg")
        folder.keep_what_is_there()
        old = [
            write(folder.uploads / "hash" / "picture.jpg"),
            write(folder.uploads / "tmpaborted"),
            write(folder.uploads.parent / "tmp" / "tmprecording"),
        ]
        os.utime(old[0], (time.time() + 3600, time.time() + 3600))  # as a copy keeps it
        assert folder.sweep() == set()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + KEEP_SECONDS + 1)
        assert folder.sweep() == {str(path) for path in old}
        assert own.exists() and not (folder.uploads / "hash").exists()


def test_what_is_young_or_no_file_stays(parent):
    with PageFolder(own_uploads()) as folder:
        elsewhere = write(parent / "somebody's.jpg")
        link = folder.uploads / "link"
        link.symlink_to(elsewhere)
        young = write(folder.uploads / "hash" / "picture.jpg")
        assert folder.sweep() == set() and young.exists()
        assert folder.sweep(-1) == {str(young)}
        assert link.is_symlink()
    assert elsewhere.exists()


KILLED = """
import os, signal, sys
from space.sweeper import PageFolder, own_uploads
with PageFolder(own_uploads()) as folder:
    (folder.uploads / "picture.jpg").write_bytes(b"picture")
    print(folder.path, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_page_left_goes_and_what_lives_stays(parent):
    foreign = [write(parent / "gradio" / "picture.jpg"), write(parent / "robust-clip-pages" / "picture.jpg")]
    (parent / f"{PREFIX}link").symlink_to(parent / "gradio")
    killed, alive = (
        subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    left, living = (page.stdout.readline().strip() for page in (killed, alive))
    killed.communicate()
    assert os.path.exists(os.path.join(left, "uploads", "picture.jpg"))
    with PageFolder(own_uploads()) as folder:
        assert not os.path.exists(left) and os.path.exists(os.path.join(living, "uploads", "picture.jpg"))
        alive.communicate()
        folder.sweep()
        assert not os.path.exists(living)
        assert all(path.exists() for path in foreign)
