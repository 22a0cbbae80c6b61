"""`python -m train publish-space`: what is uploaded starts, elsewhere and by itself."""

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml
from gradio_client import Client, handle_file

from modeling.checkpoints import default_checkpoint
from modeling.embedded import ROOT
from tests.hub_server import OTHER, checkpoint_folder
from train.publish.space import space_files

NAME, MODEL = "ann/page", "ann/detector"
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], repo_type="space", local_dir=sys.argv[2])
"""

# `python app.py`, where neither training nor tests can be imported from an installation of the project.
START = """
import runpy, sys
sys.modules["train"] = sys.modules["tests"] = None
runpy.run_path("app.py", run_name="__main__")
"""


def front_matter():
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_the_spaces_settings_agree_with_the_requirements():
    settings = front_matter()
    requirements = (ROOT / "requirements.txt").read_text()
    (gradio,) = re.findall(r"^gradio==(\S+)$", requirements, re.MULTILINE)
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == gradio
    assert (ROOT / settings["app_file"]).is_file()
    assert settings["license"] == "mit"
    assert settings["python_version"] == "3.11"
    assert len(settings["short_description"]) <= 60  # the Hub's limit


def test_only_tracked_files_are_uploaded(tmp_path):
    project = tmp_path / "project"
    (project / "modeling").mkdir(parents=True)
    for name in ("app.py", "modeling/model.py", "modeling/secret.txt", "train.py"):
        (project / name).write_text("")
    with pytest.raises(ValueError, match="must be a git checkout of the project"):
        space_files(project)
    for command in (["init", "-q"], ["add", "app.py", "modeling/model.py", "train.py"]):
        subprocess.run(["git", "-C", str(project), *command], check=True)
    assert sorted(space_files(project)) == ["app.py", "modeling/model.py"]


def test_publishing_a_space_again_makes_no_commit_and_the_model_is_a_variable(hub, command, tiny_config, tmp_path):
    first = command.run("publish-space", NAME)
    assert first.returncode == 0, first.error
    space = hub.spaces[NAME]
    assert space.private
    assert set(space.files) == set(space_files()) | {".gitattributes"}
    assert {"app.py", "README.md", "requirements.txt", "checkpoints/default/head.safetensors"} <= set(space.files)
    assert space.variables == {"HOST": "0.0.0.0", "MODEL_ID": "default"}
    assert f"published: {hub.url}/spaces/{NAME} (private)" in first.stdout
    assert "fetches the backbone when it starts" in first.stdout
    assert "already up to date" in command.run("publish-space", NAME).stdout

    missing = command.run("publish-space", NAME, "--model", MODEL)
    assert f"There is no {MODEL} on the Hub" in missing.error
    folder = checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False))
    command.run("publish", folder, MODEL)
    space.commit("an old file of ours", space.files | {"modeling/gone.py": b"", "by-hand.txt": b""})
    with_model = command.run("publish-space", NAME, "--model", MODEL)
    assert space.variables["MODEL_ID"] == MODEL
    assert f"{MODEL} is private: give the Space a secret HF_TOKEN" in with_model.stdout
    assert "deleted there: modeling/gone.py" in with_model.stdout
    assert "by-hand.txt" in space.files
    refused = command.run("publish-space", NAME, HF_TOKEN=OTHER)
    assert f"Your token may not do this with {NAME} (403)" in refused.error


@contextlib.contextmanager
def started(folder, environment, variables):
    """The page in a process of its own; yields its address and the seconds until it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder.parent / "page.log"
    address, begin = f"http://127.0.0.1:{port}", time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", START],
            cwd=folder,
            env=environment | variables | {"HOST": "127.0.0.1", "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - begin < 300, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
                assert answer.status == 200
                break
            time.sleep(0.2)
        yield address, time.monotonic() - begin
    finally:
        process.terminate()
        process.wait(20)


def downloaded(hub, tmp_path):
    """The Space's files in a folder of their own, and an environment without this project."""
    folder = tmp_path / "space" / "app"
    environment = hub.environment(tmp_path / "home")
    subprocess.run([sys.executable, "-c", DOWNLOAD, NAME, str(folder)], env=environment, cwd=tmp_path, check=True)
    return folder, environment


def verdict(address, picture):
    client = Client(address, verbose=False)
    try:
        return client.predict(handle_file(str(picture)), api_name="/detect")
    finally:
        client.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_space_starts_with_the_embedded_default_and_judges_an_example(
    hub, command, detector, tmp_path, record_property
):
    assert command.run("publish-space", NAME).returncode == 0
    folder, environment = downloaded(hub, tmp_path)
    environment["ROBUST_CLIP_CACHE"] = str(default_checkpoint().parent)
    with started(folder, environment, {"MODEL_ID": "default"}) as (address, seconds):
        answer = verdict(address, folder / "examples" / "flux_dev.webp")
    expected = detector.detect(ROOT / "examples" / "flux_dev.webp")
    assert answer["verdict"] == expected.verdict
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
    record_property("cold_start_seconds", round(seconds, 1))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_space_serves_a_model_of_the_hub(hub, command, tiny_config, tmp_path):
    command.run("publish", checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False)), MODEL)
    command.run("publish-space", NAME, "--model", MODEL)
    folder, environment = downloaded(hub, tmp_path)
    with started(folder, environment, dict(hub.spaces[NAME].variables)) as (address, _):
        answer = verdict(address, folder / "examples" / "china.jpg")
    assert answer["model"] == MODEL
    assert answer["score"] is not None
