"""The project with the packages that it requires and no others, by each Python that is declared: one answer each."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from modeling.checkpoints import default_checkpoint
from modeling.embedded import DEFAULT_SOURCE, ROOT
from tests.running_page import answers, free_port
from tests.waiting import wait_for
from train.publish.space import space_files
from train.report.documents import Published

pytestmark = pytest.mark.long


def interpreter(version):
    """A Python of this version, such as "3.12": on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for python in (f"python{version}", *pyenv.glob(f"versions/{version}.*/bin/python")):
        if (
            shutil.which(python)
            and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13"])
def run(request, tmp_path_factory):
    """`run(run.python, "-m", "modeling.check")`: in an environment outside of the project; what it says."""
    if (python := interpreter(request.param)) is None:
        pytest.skip(f"there is no Python {request.param} here")
    folder = tmp_path_factory.mktemp("fresh")
    venv, outside = folder / "venv", folder / "outside"
    outside.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    environment |= {"ROBUST_CLIP_CACHE": str(default_checkpoint().parent), "HF_HOME": str(folder / "home")}

    def run(*command, code=0, cwd=outside):
        result = subprocess.run(
            [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == code, f"{result.stdout}\n{result.stderr}"
        return result.stdout if code == 0 else result.stderr

    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "project" / name)
    run("make", f"VENV={venv}", f"PYTHON={python}", venv / ".torch", cwd=folder / "project")
    run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", folder / "project")
    run.python, run.scripts, run.environment, run.outside = venv / "bin" / "python", venv / "bin", environment, outside
    yield run
    shutil.rmtree(folder)


def test_the_check_passes_and_an_example_gets_its_answer(run):
    assert run(run.python, "-m", "modeling.check").splitlines()[-1].endswith("OK")
    code = "from modeling.embedded import EXAMPLES; print(EXAMPLES / 'flux_dev.webp')"
    picture = run(run.python, "-c", code).strip()
    assert not Path(picture).is_relative_to(ROOT)
    answer = run(run.scripts / "robust-clip", picture).splitlines()[-1].split()
    expected = Published.read(DEFAULT_SOURCE, None)
    percent = f"{100 * expected.probability('flux_dev.webp'):.1f}"
    assert answer == [expected.verdict("flux_dev.webp"), percent, "%", picture]


def test_training_says_what_it_needs(run):
    assert "publish-space" in run(run.python, "-m", "train", "--help")
    said = run(run.python, "-m", "train", "features", "--data", "x", "--output", "y", code=1)
    assert "pip install 'robust-clip-detector[train]'" in said


def test_the_files_of_a_space_are_enough_for_the_page(run, tmp_path):
    run(run.python, "-m", "pip", "uninstall", "--quiet", "--yes", "robust-clip-detector")
    for name, file in space_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, tmp_path / name)
    port = free_port()
    page = subprocess.Popen(
        [run.python, "app.py"], cwd=tmp_path, env=run.environment | {"PORT": str(port)}, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}/health"
        wait_for(lambda: page.poll() is not None or answers(url), "the page", seconds=300)
        assert page.poll() is None
    finally:
        page.terminate()
        page.wait(20)
