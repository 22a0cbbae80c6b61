"""Data sets by their names on the Hub: the real client against a loopback server that answers as the Hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modeling.embedded import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import json, sys
from train.data import DataArguments, load_records
records = load_records(DataArguments(**json.loads(sys.argv[1])))
print(json.dumps([[row["record_id"], row["label"], row["text"], len(row["image"]["bytes"])] for row in records]))
"""
OPENFAKE_CARD = """---
configs:
- config_name: core
  default: true
  data_files:
  - split: test
    path: core/test-*
- config_name: reddit
  data_files:
  - split: test
    path: reddit/test-*
---
"""


class Hub(BaseHTTPRequestHandler):
    """Serves `server.files`, {"owner/name/path": content}, by the calls that `datasets` makes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = urlsplit(self.path).path
        for repository in sorted({"/".join(name.split("/")[:2]) for name in self.server.files}):
            names = [name for name in self.server.files if name.startswith(f"{repository}/")]
            inner = {name.removeprefix(f"{repository}/"): self.server.files[name] for name in names}
            entries = [
                {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}
                for name, content in inner.items()
            ]
            folders = sorted({name.split("/")[0] for name in inner if "/" in name})
            entries += [{"type": "directory", "oid": COMMIT, "size": 0, "path": folder} for folder in folders]
            api = f"/api/datasets/{repository}"
            if path == api or path.startswith(f"{api}/revision/"):
                siblings = [{"rfilename": name} for name in inner]
                return self.answer_json({"id": repository, "sha": COMMIT, "private": False, "siblings": siblings})
            if path.startswith(f"{api}/tree/"):
                inside = "/".join(path.removeprefix(f"{api}/tree/").split("/")[1:])
                return self.answer_json([entry for entry in entries if entry["path"].startswith(inside)])
            if path.startswith(f"{api}/paths-info/"):
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                return self.answer_json([entry for entry in entries if entry["path"] in asked])
            for name, content in inner.items():
                if path.startswith(f"/datasets/{repository}/resolve/") and path.endswith(f"/{name}"):
                    return self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"')
        self.server.unknown.append(f"{self.command} {self.path}")
        return self.answer(404, b"", **{"X-Error-Code": "EntryNotFound"})

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.do_GET()

    def answer_json(self, content):
        self.answer(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def hub(elsa_d3, openfake):
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    hub.unknown = []
    hub.files = {
        "elsaEU/ELSA_D3/data/train-00000-of-00001.parquet": b"not asked for",
        "elsaEU/ELSA_D3/data/validation-00000-of-00001.parquet": Path(elsa_d3).read_bytes(),
        "ComplexDataLab/OpenFake/README.md": OPENFAKE_CARD.encode(),
        "ComplexDataLab/OpenFake/core/test-00000-of-00001.parquet": Path(openfake).read_bytes(),
    }
    threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


def load(hub, tmp_path, **arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, (result.stderr, hub.unknown)
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def test_elsa_d3_by_the_url_of_some_of_its_files(hub, tmp_path):
    url = "hf://datasets/elsaEU/ELSA_D3/data/validation-*.parquet"
    records, log = load(hub, tmp_path, data=url, schema="elsa_d3", download_folder=str(tmp_path / "real"))
    assert [record[0] for record in records] == [f"r{row}/gen{i}" for i in range(4) for row in range(3)]
    assert all(size > 1000 for *_, size in records)
    # The first address is this machine's, which is refused.
    assert "3 of 3 real pictures could not be fetched (no web address 1, private address 2)" in log


def test_openfake_by_its_name(hub, tmp_path):
    records, _ = load(
        hub, tmp_path, data="ComplexDataLab/OpenFake", config_name="core", split="test", schema="openfake"
    )
    assert [record[:3] for record in records] == [["0", 0, "a caption"], ["1", 1, "a prompt"], ["2", 1, "another"]]
