"""`python -m train default` on a small data set and a tiny backbone: what is done is not done again."""

import shutil
import signal

import datasets
import numpy as np
import pytest
import yaml

from modeling.embedded import DEFAULT_SOURCE, MODEL_CARD, ROOT
from tests.pictures import picture
from train.default import running
from train.default.banks import make_banks, probed_of, views_of
from train.default.options import DefaultArguments
from train.default.release import CHECKPOINT, REPORT, default_files
from train.default.running import make_default
from train.default.steps import Steps
from train.fit.options import FitArguments

HEAD_FILES = ("config.json", "head.safetensors", "known_data.safetensors", "preprocessor_config.json")
HEAD_FILES += ("expected_scores.json", "expected_embeddings.json")
RECIPE = {
    "folds": 3,
    "image_layers": [1, 2],
    "head_components": 4,
    "head_depth": 1,
    "head_width": 8,
    "max_steps": 15,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 16,
    "source_balance": 1.0,
    "disable_tqdm": True,
    "logging_strategy": "no",
    "save_strategy": "no",
}
# argv: the file that gets the number of files that the command wrote; the number at which it is killed, or 0; its own.
COUNTED = """
import os, signal, sys
from pathlib import Path
from train.__main__ import main

count, last, *arguments = sys.argv[1:]
replace, written = os.replace, []

def replace_or_die(*given, **named):
    written.append(given)
    if len(written) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*given, **named)

os.replace = replace_or_die
sys.argv = ["train", *arguments]
main()
Path(count).write_text(str(len(written)))
"""


def write_parquet(path, first, count=24):
    rows = range(first, first + count)
    columns = {
        "image": [{"bytes": picture(row, row % 2), "path": None} for row in rows],
        "id": [f"p{row}" for row in rows],
        "label": [row % 2 for row in rows],
        "source": [f"s{row % 12}" for row in rows],
        "generator": ["G" if row % 2 else "" for row in rows],
    }
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


@pytest.fixture
def run(python, backbone, tmp_path):
    """`run(killed_at=7, cache="other")` on the two Parquet files of `data`."""
    for number, name in enumerate(("first", "second")):
        write_parquet(tmp_path / "data" / f"{name}.parquet", 24 * number)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(RECIPE))

    def run(cache="cache", output="output", killed_at=0):
        return python.run(
            *("-c", COUNTED, tmp_path / "written", killed_at, "default", tmp_path / "data"),
            *("--cache", tmp_path / cache, "--output", tmp_path / output),
            *("--recipe", tmp_path / "fit.yaml", "--backbone", backbone),
        )

    return run


def files_of(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


def times(*folders):
    return {path: path.stat().st_mtime_ns for folder in folders for path in files_of(folder).values()}


def test_a_recipe_that_joins_sources_of_other_data_is_refused_before_anything_is_embedded(tmp_path):
    write_parquet(tmp_path / "data" / "first.parquet", 0)
    recipe = FitArguments(bank="", merge_sources=["s1=s2", "s3=elsewhere"])
    with pytest.raises(ValueError, match="names 'elsewhere', which is no source of these files: take 's3=elsewhere'"):
        make_banks(tmp_path / "data", tmp_path / "bank", recipe, "no backbone", Steps(tmp_path / "done"))


def test_what_is_done_is_not_done_again_and_a_new_file_is_embedded_alone(run, backbone, tmp_path):
    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert "To embed: 180 views of 48 pictures in 2 of 2 files." in result.stderr
    made = files_of(tmp_path / "output")
    assert {"config.json", "model.safetensors", "evaluation.json", "README.md", "report/report.html"} <= made.keys()
    before = times(tmp_path / "cache", tmp_path / "output")

    backbone.rename(tmp_path / "away")  # whoever computes anything needs it
    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert "written: nothing, all is as it was" in result.stdout
    assert times(tmp_path / "cache", tmp_path / "output") == before

    (tmp_path / "away").rename(backbone)
    write_parquet(tmp_path / "data" / "third.parquet", 48)
    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert "To embed: 90 views of 24 pictures in 1 of 3 files." in result.stderr
    assert "bank first: unchanged." in result.stderr and "bank second: unchanged." in result.stderr
    now = times(tmp_path / "cache" / "bank")
    assert {path: time for path, time in before.items() if "bank" in path.parts[len(tmp_path.parts) + 1]} == {
        path: time for path, time in now.items() if "third" not in path.parts
    }
    assert '"real": 36' in (tmp_path / "output" / "evaluation.json").read_text()


@pytest.mark.long
def test_killed_at_five_random_moments_it_goes_on_to_the_same_bytes(run, tmp_path):
    result = run(cache="whole", output="expected")
    assert result.returncode == 0, result.stderr[-3000:]
    written = int((tmp_path / "written").read_text())
    rng = np.random.default_rng(0)
    for moment in rng.integers(1, written // 5, size=4).tolist():
        result = run(killed_at=moment)
        assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    # The fifth while the files that ship get their names, which are the last that a run writes.
    shipped = len(files_of(tmp_path / "expected"))
    shutil.copytree(tmp_path / "cache", tmp_path / "rehearsal")
    assert run(cache="rehearsal", output="rehearsed").returncode == 0
    last = int((tmp_path / "written").read_text())
    result = run(killed_at=last - int(rng.integers(1, shipped)))
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert contents(tmp_path / "output") == contents(tmp_path / "expected")
    for folder in ("bank", "done"):
        assert contents(tmp_path / "cache" / folder) == contents(tmp_path / "whole" / folder)
    assert not [name for name in files_of(tmp_path / "output") if name.endswith(".partial")]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gone", r"is the bank of second\.parquet, which is not in .*: bring the file back"),
        ("other pictures", r"first\.parquet is not what .*first was made of .*: give it another name"),
        ("two of a name", "must have different names: each names a bank"),
        ("nothing", "must be a folder of Parquet files of labelled pictures"),
    ],
)
def test_files_that_do_not_fit_the_banks_are_named(kind, message, backbone, tmp_path):
    data, folder = tmp_path / "data", tmp_path / "bank"
    recipe, steps = FitArguments(bank=str(folder)), Steps(tmp_path / "done")
    for number, name in enumerate(("first", "second")):
        write_parquet(data / f"{name}.parquet", 4 * number, count=4)
    banks = make_banks(data, folder, recipe, str(backbone), steps)
    assert list(banks) == ["first", "second"]
    before = times(folder)
    if kind == "gone":
        (data / "second.parquet").unlink()
    elif kind == "other pictures":
        write_parquet(data / "first.parquet", 40, count=4)
    elif kind == "two of a name":
        write_parquet(data / "more" / "first.parquet", 40, count=4)
    else:
        data = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=message):
        make_banks(data, folder, recipe, str(backbone), steps)
    assert times(folder) == before


def test_the_embedded_default_has_the_embedded_backbone(tmp_path):
    with pytest.raises(ValueError, match="name an --output of your own"):
        make_default(DefaultArguments(data=str(tmp_path), backbone="owner/clip"))


@pytest.mark.parametrize("name", ["measure.py", "study/nested.yaml", "report/templates/model_card.md"])
def test_other_code_another_plan_or_template_makes_its_steps_again(name, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "ROOT", tmp_path)
    file = tmp_path / "train" / name
    file.parent.mkdir(parents=True)
    file.write_text("before")
    before = running.code()
    file.write_text("after")
    assert running.code() != before


def test_about_300_of_4800_pictures_are_probed_half_of_each_class():
    counts = [1033, 774, 1369, 1087, 560]
    assert sum(map(probed_of, counts)) == 66 + 50 + 86 + 68 + 36
    assert sum(map(views_of, counts)) == 2 * 4823 + 21 * 306


def test_the_committed_default_is_what_the_command_would_write(tmp_path):
    """With what was fitted for it in the cache, nothing of it differs."""
    fitted = tmp_path / "fitted"
    for name in (*HEAD_FILES, "evaluation.json"):
        copy(DEFAULT_SOURCE / name, fitted / CHECKPOINT / name)
    for file in (ROOT / "docs" / "evaluation").iterdir():
        copy(file, fitted / REPORT / file.name)
    contents = default_files(fitted, tmp_path / "no pages")
    assert {MODEL_CARD, ROOT / "README.md", ROOT / "docs" / "evaluation" / "report.html"} <= contents.keys()
    for path, content in contents.items():
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content.read_bytes()), path


def copy(file, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
