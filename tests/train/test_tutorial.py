"""docs/train-your-own.md, followed to the letter with real weights on crops of the example pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "train-your-own.md"
# Two pictures of each class give three sources each: an upper left, an upper right and a lower left part.
PICTURES = {"real": ("china.jpg", "flower.jpg"), "generated": ("flux_dev.webp", "z_image_turbo.webp")}
SOURCES = {"real": ("my-camera", "press-agency", "archive"), "generated": ("sdxl", "flux-1", "another")}


@pytest.fixture
def folder(tmp_path):
    for label, names in PICTURES.items():
        for index, source in enumerate(SOURCES[label]):
            target = tmp_path / "pictures" / label / source
            target.mkdir(parents=True)
            for letter, name in zip("ab", names, strict=True):
                with Image.open(ROOT / "examples" / name) as image:
                    width, height = image.size
                    left, top = (width // 3 if index == 1 else 0), (height // 3 if index == 2 else 0)
                    part = image.convert("RGB").crop((left, top, left + 2 * width // 3, top + 2 * height // 3))
                    part.resize((384, 384 * height // width)).save(target / f"{letter}.jpg", quality=90)
    for name in ("train", "modeling", "examples", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_tutorial_ends_in_a_folder_that_pipeline_loads(folder, default_folder):
    commands = re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert len(commands) == 4
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = []
    for command in commands:
        result = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stderr[-3000:]}"
        printed.append(result.stdout)
    features, fit, evaluate, use = printed
    assert "36 views of 12 pictures in bank; 0 pictures were unreadable" in features
    assert "auc: " in fit
    assert "logistic regression" in fit
    assert "auc: " in evaluate
    assert {"real", "generated"} == set(re.findall(r"'label': '(\w+)'", use))
