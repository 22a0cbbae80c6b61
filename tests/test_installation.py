"""Installing the project: what its wheel holds, which PyTorch `make` takes, what an interruption leaves."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from types import SimpleNamespace

import pytest

from modeling.embedded import ROOT

VERSION = "2.13.5"  # no real one


BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def tracked(*names):
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--", *names], capture_output=True, check=True)
    return {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_every_file_of_the_packages(tmp_path):
    """Recipes, templates, sentences, the default's checkpoint and card, the examples."""
    for name in tracked():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / "project" / name)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == tracked(
        "*.py", "model_card.md", "modeling", "space", "train", "checkpoints", "examples"
    ) - tracked("bench", "browser", "docs", "experiments", "tests")


def write_wheel(folder, version):
    """A wheel of a `torch` that has nothing but its version."""
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """make's step for PyTorch against an index on loopback; `choose(builds)` says what would be installed."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    folder = tmp_path_factory.mktemp("installation")
    handler = functools.partial(QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    environment["PIP_INDEX_URL"] = f"http://127.0.0.1:{server.server_port}/index"
    venv = folder / "venv"

    def make(**variables):
        (venv / ".torch").unlink(missing_ok=True)
        path = f"{folder / 'tools'}{os.pathsep}{environment['PATH']}"
        command = ["make", f"VENV={venv}", f"PYTHON={sys.executable}", str(venv / ".torch")]
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment | variables | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def offer(*builds):
        shutil.rmtree(folder / "index", ignore_errors=True)
        (folder / "index" / "torch").mkdir(parents=True)
        for build in builds:
            write_wheel(folder / "index" / "torch", build)

    def choose(*builds, accelerator=False):
        offer(*builds)
        tool = folder / "tools" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.unlink(missing_ok=True)
        if accelerator:
            tool.write_text("#!/bin/sh\n")
            tool.chmod(0o755)
        return make(PIP_DRY_RUN="1")

    yield SimpleNamespace(choose=choose, offer=offer, make=make, venv=venv)
    server.shutdown()
    server.server_close()


def test_the_cpu_build_is_taken_without_an_accelerator(installation):
    printed = installation.choose(VERSION, f"{VERSION}+cpu", f"{VERSION}+cu130", "2.12.0+cpu", "2.14.0+cpu")
    assert f"Would install torch-{VERSION}+cpu" in printed
    assert printed.index("MB to download") < printed.index("Would install")


def test_pip_chooses_where_there_is_an_accelerator(installation):
    printed = installation.choose(f"{VERSION}+cpu", f"{VERSION}+cu130", accelerator=True)
    assert f"Would install torch-{VERSION}+cu130" in printed
    assert "accelerator" in printed


def test_an_index_without_a_cpu_build_gives_its_own_and_how_to_get_the_other_is_said(installation):
    printed = installation.choose(VERSION, "2.14.0+cpu")
    assert f"Would install torch-{VERSION}\n" in printed
    assert "PIP_EXTRA_INDEX_URL=" in printed


@pytest.mark.long
def test_what_an_interrupted_installation_left_is_finished(installation):
    installation.offer(f"{VERSION}+cpu")
    python = installation.venv / "bin" / "python"

    def installed():
        found = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
        return found.stdout.split()

    installation.make()
    assert installed() == [f"torch=={VERSION}+cpu"]
    # Ended while the environment was made: pip is there in part.
    packages = next(installation.venv.glob("lib/python*/site-packages"))
    shutil.rmtree(packages / "pip" / "_internal")
    installation.make()
    assert installed() == [f"torch=={VERSION}+cpu"]
    # The interpreter that the environment was made of is gone.
    for link in installation.venv.glob("bin/python*"):
        link.unlink()
    python.symlink_to("/nowhere/python")
    installation.make()
    assert installed() == [f"torch=={VERSION}+cpu"]
