"""`python -m train publish-space`: what is uploaded starts, elsewhere and by itself."""

import re
import subprocess

import pytest
import yaml
from gradio_client import Client, handle_file

from modeling.checkpoints import default_checkpoint
from modeling.embedded import ROOT, example_files
from space.about import PLOTS
from tests.hub_server import OTHER, checkpoint_folder
from tests.running_page import running_page
from train.publish.space import space_files

NAME, MODEL = "ann/page", "ann/detector"
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], repo_type="space", local_dir=sys.argv[2])
"""

# `python app.py`, where nothing of the project can be imported from an installation.
START = f"""
import runpy, sys
sys.path = [path for path in sys.path if path != {str(ROOT)!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in finder.__module__]
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


def test_what_the_page_does_not_read_is_not_uploaded():
    names = {*space_files()}
    # The README, which is the Space's, shows the page.
    assert {f"docs/evaluation/{name}" for name in PLOTS} | {"docs/page.png"} == {
        name for name in names if name.startswith("docs/")
    }
    assert {f"examples/{path.name}" for path in example_files()} <= names
    assert "examples/third_party.py" not in names
    assert {name.split("/")[0] for name in names if "/" in name} == {
        "modeling",
        "space",
        "checkpoints",
        "examples",
        "docs",
    }


def test_publishing_a_space_again_makes_no_commit_and_the_model_is_a_variable(hub, train, tiny_config, tmp_path):
    first = train("publish-space", NAME)
    assert first.returncode == 0, first.stderr
    space = hub.spaces[NAME]
    assert space.private
    assert set(space.files) == set(space_files()) | {".gitattributes"}
    assert {"app.py", "README.md", "requirements.txt", "checkpoints/default/head.safetensors"} <= set(space.files)
    assert space.variables == {"HOST": "0.0.0.0", "MODEL_ID": "default"}
    assert f"published: {hub.url}/spaces/{NAME} (private)" in first.stdout
    assert "fetches the backbone when it starts" in first.stdout
    assert "already up to date" in train("publish-space", NAME).stdout

    missing = train("publish-space", NAME, "--model", MODEL)
    assert f"There is no {MODEL} on the Hub" in missing.stderr
    folder = checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False))
    train("publish", folder, MODEL)
    space.commit("an old file of ours", space.files | {"modeling/gone.py": b"", "by-hand.txt": b""})
    with_model = train("publish-space", NAME, "--model", MODEL)
    assert space.variables["MODEL_ID"] == MODEL
    assert f"{MODEL} is private: give the Space a secret HF_TOKEN" in with_model.stdout
    assert "deleted there: modeling/gone.py" in with_model.stdout
    assert "by-hand.txt" in space.files
    refused = train("publish-space", NAME, HF_TOKEN=OTHER)
    assert f"Your token may not do this with {NAME} (403)" in refused.stderr


def started(python, folder, home, **variables):
    """The page of a Space whose cache is at `home`."""
    variables = {"HF_HOME": home} | variables
    return running_page(python, folder.parent, "-c", START, cwd=folder, **variables)


def downloaded(python, tmp_path):
    """The Space's files in a folder of their own."""
    folder = tmp_path / "space" / "app"
    assert python.run("-c", DOWNLOAD, NAME, folder, cwd=tmp_path, HF_HOME=tmp_path / "home").returncode == 0
    return folder


def verdict(address, picture):
    client = Client(address, verbose=False)
    try:
        return client.predict(handle_file(str(picture)), api_name="/detect")
    finally:
        client.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_space_starts_with_the_embedded_default_and_judges_an_example(hub, python, train, detector, tmp_path):
    assert train("publish-space", NAME).returncode == 0
    folder = downloaded(python, tmp_path)
    cache = default_checkpoint().parent
    with started(python, folder, tmp_path / "home", MODEL_ID="default", ROBUST_CLIP_CACHE=cache) as page:
        answer = verdict(page.url, folder / "examples" / "flux_dev.webp")
    expected = detector.detect(ROOT / "examples" / "flux_dev.webp")
    assert answer["verdict_as_it_came"] == expected.verdict
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_space_serves_a_model_of_the_hub(hub, python, train, tiny_config, tmp_path):
    train("publish", checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False)), MODEL)
    train("publish-space", NAME, "--model", MODEL)
    folder = downloaded(python, tmp_path)
    with started(python, folder, tmp_path / "home", **hub.spaces[NAME].variables) as page:
        answer = verdict(page.url, folder / "examples" / "china.jpg")
    assert answer["model"] == MODEL
    assert answer["score"] is not None
