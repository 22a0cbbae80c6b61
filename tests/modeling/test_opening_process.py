"""Files that are opened in a process of their own: the same picture, and an end for what takes too long."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling import images, opening_process
from modeling.file_header import Header, pack, unpack
from modeling.images import ImageError, header_here, open_here, open_image, read_header
from modeling.opening_process import WorkerEndedError, ask, end_workers
from tests.waiting import wait_for
from tests.worst_files import WORST

MEBIBYTE = 2**20


# Imports `modeling.images` without what the package's own __init__ loads.
LIGHT = f"""
import os, sys, types
package = types.ModuleType("modeling")
package.__path__ = [{str(opening_process.WORKER.parent)!r}]
sys.modules["modeling"] = package
from modeling import opening_process as process
from modeling.images import open_image
data = sys.stdin.buffer.read()
"""


@pytest.fixture(scope="module", autouse=True)
def no_worker_left():
    yield
    end_workers()


def encoded(codec, size=(80, 60), **options):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*reversed(size), 3), dtype=np.uint8)).save(buffer, codec, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
OTHERS = {
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw", "exif": EXIF},
    "PPM": {},
    "AVIF": {"exif": EXIF.tobytes(), "icc_profile": b"profile", "xmp": b"<x/>"},
}


@pytest.mark.parametrize(("codec", "options"), OTHERS.items(), ids=OTHERS)
def test_picture_and_header_are_those_that_this_process_would_read(codec, options):
    data = encoded(codec, **options)
    here, there = open_here(data), open_image(data)
    assert (there.mode, there.size) == ("RGB", here.size)
    np.testing.assert_array_equal(np.asarray(there), np.asarray(here))
    expected, header = header_here(data), read_header(data)
    assert (header.format, header.size, header.is_animated) == (codec, expected.size, expected.is_animated)
    assert header.info == unpack(pack(expected.info))
    assert header.info.get("exif") == expected.info.get("exif")
    assert opening_process._idle[os.getpid()]


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "GIF", "WEBP"])
def test_files_whose_header_bounds_their_cost_are_opened_here(codec):
    end_workers()
    assert open_image(encoded(codec)).size == read_header(encoded(codec)).size
    assert not opening_process._idle.get(os.getpid())


def test_a_very_large_picture_goes_to_the_other_process_too(monkeypatch):
    data = encoded("JPEG")
    here = open_image(data)
    monkeypatch.setattr(images, "MAX_PIXELS_HERE", 4_799)
    there = open_image(data)
    assert opening_process._idle[os.getpid()]
    np.testing.assert_array_equal(np.asarray(there), np.asarray(here))


def test_an_error_is_the_same_as_here_in_every_language():
    small, damaged = encoded("BMP", size=(80, 8)), encoded("TIFF")[:3000]
    for data in (small, damaged):
        with pytest.raises(ImageError) as here:
            open_here(data)
        with pytest.raises(ImageError) as there:
            open_image(data)
        assert (there.value.code, there.value.values) == (here.value.code, here.value.values)
        assert there.value.sentence("zh") == here.value.sentence("zh")


@pytest.mark.parametrize("name", ["plain_grey.pgm", "jpeg_of_many_scans.tiff", "strips.tiff"])
def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_is_opened(monkeypatch, name):
    good = encoded("BMP")
    open_image(good)
    monkeypatch.setattr(opening_process, "TIME_LIMIT", 0.3)
    with pytest.raises(ImageError, match="takes too long to open"):
        open_image(WORST[name](8 * MEBIBYTE))
    monkeypatch.undo()
    assert open_image(good).size == (80, 60)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs /proc")
def test_a_worker_may_take_only_so_much_memory():
    open_image(encoded("BMP"))
    worker = opening_process._idle[os.getpid()][-1]
    limits = Path(f"/proc/{worker._process.pid}/limits").read_text()
    assert re.search(r"Max address space +4294967296 ", limits)


def test_a_worker_that_falls_costs_its_file_only():
    data = encoded("BMP")
    open_image(data)
    (worker,) = opening_process._idle[os.getpid()]
    worker._process.kill()
    worker._process.wait()
    assert open_image(data).size == (80, 60)  # a fresh one is started
    (worker,) = opening_process._idle[os.getpid()]
    worker._process.send_signal(signal.SIGSTOP)
    threading.Timer(0.2, worker._process.kill).start()
    with pytest.raises(WorkerEndedError) as error:
        ask("open", data)
    assert not error.value.too_slow
    assert open_image(data).size == (80, 60)


def test_callers_at_once_have_a_worker_each_and_their_own_answer():
    end_workers()
    files = {side: encoded("BMP", size=(side, 50)) for side in range(40, 60)}
    with ThreadPoolExecutor(3) as callers:
        for side, picture in zip(files, callers.map(open_image, files.values()), strict=True):
            assert picture.size == (side, 50)
    assert len(opening_process._idle[os.getpid()]) <= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_use_its_parents_workers():
    data = encoded("BMP")
    open_image(data)
    program = LIGHT + (
        "open_image(data); child = os.fork()\n"
        "if child == 0:\n"
        "    open_image(data); assert [len(mine) for mine in process._idle.values()] == [1, 1]\n"
        "    process.end_workers(); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0; open_image(data); assert len(process._idle[os.getpid()]) == 1"
    )
    subprocess.run([sys.executable, "-P", "-c", program], input=data, check=True)


def test_a_worker_ends_with_its_owner():
    program = LIGHT + (
        "open_image(data); print(process._idle[os.getpid()][0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], input=encoded("BMP"), stdout=subprocess.PIPE)
    status = Path(f"/proc/{int(done.stdout)}/status")
    wait_for(lambda: not status.exists() or "zombie" in status.read_text())


def test_the_worker_loads_neither_torch_nor_transformers():
    program = (
        "import runpy, sys, io; sys.argv = ['x']; sys.stdin = io.TextIOWrapper(io.BytesIO())\n"
        f"runpy.run_path({str(opening_process.WORKER)!r}, run_name='__main__')\n"
        "sys.exit(any(name.split('.')[0] in ('torch', 'transformers') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], stdout=subprocess.DEVNULL).returncode == 0


def test_a_header_survives_the_way_between_processes():
    info = {
        "exif": b"\0\xff",
        "comment": "a\u00e9",
        "dpi": (72.0, 72.5),
        "loop": 0,
        "none": None,
        "odd": object(),
        7: 1,
    }
    header = Header("TIFF", 3, 4, info, {0: [1, 2]}, True)
    again = Header.unpacked(json.loads(json.dumps(header.packed() | {"info": pack(info)})))
    kept = {name: info[name] for name in ("exif", "comment", "dpi", "loop", "none")}
    assert again == Header("TIFF", 3, 4, kept, {0: [1, 2]}, True)
