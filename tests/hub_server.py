"""A Hub on the loopback interface for the real huggingface_hub: repositories with commits, LFS, accounts, failures.

It answers what the tests' clients ask, in the Hub's own words (status codes and X-Error-Code headers), and keeps
everything in memory. Clients find it by HF_ENDPOINT, which is read when huggingface_hub is imported: see
`HubServer.environment`.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER, OTHER, USER = "hf_writer", "hf_reader", "hf_other", "hf_user"
# Token -> (account, may write).
ACCOUNTS = {WRITER: ("ann", True), READER: ("ann", False), OTHER: ("bob", True), USER: ("user", True)}
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".jpg", ".webp", ".png", ".parquet")


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[Commit] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def commit(self, message: str, files: dict[str, bytes]) -> Commit:
        content = "".join(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items()))
        parent = self.commits[-1].oid if self.commits else ""
        oid = hashlib.sha1(f"{parent} {len(self.commits)} {message} {content}".encode()).hexdigest()
        self.commits.append(Commit(oid, message, files))
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == revision), None)


class HubServer:
    """Start it with `with HubServer() as hub`; `hub.models["ann/name"]` is then what was published."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.repos: dict[str, dict[str, Repo]] = {"models": {}, "spaces": {}, "datasets": {}}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        # How many of the next requests of a kind lose their connection: "upload" in its middle, "commit" before it is
        # made, "answer" after that.
        self.cuts: dict[str, int] = {}
        self.before_commit: Callable[[], object] | None = None  # called when somebody is about to commit
        self.hold_uploads = threading.Event()  # set: an upload stops in the middle and waits
        self.upload_held = threading.Event()

    @property
    def models(self) -> dict[str, Repo]:
        return self.repos["models"]

    @property
    def spaces(self) -> dict[str, Repo]:
        return self.repos["spaces"]

    def add_model(self, name: str, files: dict[str, bytes | Path], revision: str | None = None, **fields) -> Repo:
        """A repository that is there already, at a commit of this id where one is named."""
        return self._add("models", name, files, revision, **fields)

    def add_dataset(self, name: str, files: dict[str, bytes | Path]) -> Repo:
        """A data set that is there already."""
        return self._add("datasets", name, files)

    def _add(
        self, kind: str, name: str, files: dict[str, bytes | Path], revision: str | None = None, **fields
    ) -> Repo:
        repo = self.repos[kind][name] = Repo(**fields)
        repo.commit("initial", {key: v if isinstance(v, bytes) else v.read_bytes() for key, v in files.items()})
        if revision is not None:
            repo.commits[-1].oid = revision
        return repo

    def environment(self, home: Path, token: str | None = WRITER) -> dict[str, str]:
        """Environment of a client process: this Hub, no other settings, an empty cache in `home`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # this server has no Xet storage
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            "OMP_NUM_THREADS": "1",
        }
        return environment | ({"HF_TOKEN": token} if token else {})

    @contextmanager
    def unreachable(self):
        """Nobody listens."""
        host = self.server.server_address
        self._stop()
        try:
            yield
        finally:
            replacement = ThreadingHTTPServer(host, _Handler)
            replacement.daemon_threads, replacement.hub = True, self
            self.server = replacement
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> "HubServer":
        self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.hold_uploads.clear()
        self._stop()


class _RefusedError(Exception):
    def __init__(self, status: int, code: str | None = None, message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class _CutError(Exception):
    """Close the connection without an answer."""


_API = re.compile(r"/api/(models|spaces|datasets)/([\w.-]+/[\w.-]+)(/.*)?$")
_RESOLVE = re.compile(r"/(?:(spaces|datasets)/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)$")
_LFS_BATCH = re.compile(r"/(?:(spaces|datasets)/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch$")


class _Handler(BaseHTTPRequestHandler):
    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        try:
            self._account()  # a wrong token is refused everywhere
            if self.command in ("GET", "HEAD"):
                self._read(path)
            else:
                self._write(path)
        except _RefusedError as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send(json.dumps({"error": refusal.message}).encode(), refusal.status, headers)
        except (_CutError, ConnectionError):
            self.close_connection = True
            self.connection.close()

    # --- reading

    def _read(self, path: str) -> None:
        if path == "/api/whoami-v2":
            name, may_write = self._account(required=True)
            role = "write" if may_write else "read"
            auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
            self._json({"type": "user", "name": name, "orgs": [], "auth": auth})
        elif match := _API.match(path):
            kind, name, rest = match.group(1), match.group(2), match.group(3) or ""
            repo = self._repo(kind, name)
            if rest == "/variables":
                self._json({key: {"key": key, "value": value} for key, value in repo.variables.items()})
            elif rest.startswith("/tree/"):
                revision, _, folder = rest[6:].partition("/")
                self._json(_tree(self._commit(repo, revision).files, folder))
            elif rest == "" or rest.startswith("/revision/"):
                self._json(self._info(kind, name, repo, rest.removeprefix("/revision/") or "main"))
            else:
                raise _RefusedError(404, "EntryNotFound", "Not Found")
        elif match := _RESOLVE.match(path):
            kind, name, revision, file = match.groups()
            repo = self._repo(kind or "models", name)
            if repo.gated and self._owner(name) != (self._account() or ("",))[0]:
                raise _RefusedError(403 if self._account() else 401, "GatedRepo", "Access to model is restricted")
            self._file(self._commit(repo, revision), file)
        else:
            raise _RefusedError(404, None, "Not Found")

    def _info(self, kind: str, name: str, repo: Repo, revision: str) -> dict:
        commit = self._commit(repo, revision)
        info = {"_id": name, "id": name, "sha": commit.oid, "private": repo.private, "tags": [], "author": "x"}
        info |= {"gated": "auto" if repo.gated else False, "downloads": 0, "likes": 0, "disabled": False}
        return info | {"siblings": [{"rfilename": file} for file in commit.files], "sdk": "gradio", "type": kind}

    def _file(self, commit: Commit, file: str) -> None:
        if file not in commit.files:
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        data = commit.files[file]
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{_oid(file, data)}"', "Accept-Ranges": "bytes"}
        if _is_lfs(file):
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
        self._send(data, 200, headers)

    # --- writing

    def _write(self, path: str) -> None:
        if self.command == "PUT" and path.startswith("/lfs/"):
            self._upload(path.removeprefix("/lfs/"))
            return
        body = self._body()
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.startswith("/lfs-verify/"):
            if path.removeprefix("/lfs-verify/") not in self.hub.lfs:
                raise _RefusedError(404, None, "object is not there")
            self._json({})
        elif match := _LFS_BATCH.match(path):
            self._repo(match.group(1) or "models", match.group(2), write=True)
            self._json({"transfer": "basic", "objects": [self._lfs(o) for o in json.loads(body)["objects"]]})
        elif match := _API.match(path):
            kind, name, rest = match.group(1), match.group(2), match.group(3) or ""
            if rest.startswith("/paths-info/"):
                files, asked = self._commit(self._repo(kind, name), rest[12:]).files, parse_qs(body.decode())["paths"]
                self._json([entry for entry in _tree(files) if entry["path"] in asked])
                return
            repo = self._repo(kind, name, write=True)
            if rest.startswith("/preupload/"):
                self._json({"files": [self._mode(repo, file["path"]) for file in json.loads(body)["files"]]})
            elif rest.startswith("/commit/"):
                self._cut("commit")
                if self.hub.before_commit is not None:
                    self.hub.before_commit()
                answer = self._new_commit(kind, name, repo, body)
                self._cut("answer")
                self._json(answer)
            elif rest == "/settings":
                repo.private = json.loads(body)["visibility"] == "private"
                self._json({})
            elif rest == "/variables":
                variable = json.loads(body)
                repo.variables[variable["key"]] = variable["value"]
                self._json({key: {"key": key, "value": value} for key, value in repo.variables.items()})
        else:
            raise _RefusedError(501, None, "Not implemented")

    def _create(self, wanted: dict) -> None:
        account, may_write = self._account(required=True)
        owner = wanted.get("organization") or account
        name, kind = f"{owner}/{wanted['name']}", (wanted.get("type") or "model") + "s"
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if owner != account or not may_write:
            raise _RefusedError(403, None, "You don't have the rights to create a model under this namespace")
        if name in self.hub.repos[kind]:
            self._json({"url": url, "error": "You already created this repo"}, 409)
            return
        repo = self.hub.repos[kind][name] = Repo(private=wanted.get("visibility") == "private")
        repo.commit("initial commit", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self._json({"url": url, "name": name})

    def _lfs(self, wanted: dict) -> dict:
        if wanted["oid"] in self.hub.lfs:
            return wanted
        links = {
            "upload": f"{self.hub.url}/lfs/{wanted['oid']}",
            "verify": f"{self.hub.url}/lfs-verify/{wanted['oid']}",
        }
        return wanted | {"actions": {name: {"href": link} for name, link in links.items()}}

    def _mode(self, repo: Repo, path: str) -> dict:
        oid = _oid(path, repo.files[path]) if path in repo.files else None
        mode = "lfs" if _is_lfs(path) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _upload(self, oid: str) -> None:
        if self.hub.cuts.get("upload", 0) or self.hub.hold_uploads.is_set():
            self.rfile.read(1000)
            self.hub.upload_held.set()
            while self.hub.hold_uploads.is_set():
                self.hub.hold_uploads.wait(0.05)
                threading.Event().wait(0.05)
            self._cut("upload")
            raise _CutError
        data = self._body()
        if hashlib.sha256(data).hexdigest() != oid:
            raise _RefusedError(400, None, "another content than its hash")
        self.hub.lfs[oid] = data
        self._send(b"", 200)

    def _new_commit(self, kind: str, name: str, repo: Repo, body: bytes) -> dict:
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.commits[-1].oid):
            raise _RefusedError(412, None, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.lfs:
                    raise _RefusedError(400, None, "Your push was rejected because an LFS pointer has no file")
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif files.pop(value["path"], None) is None:
                raise _RefusedError(404, "EntryNotFound", "A file with this name doesn't exist")
        commit = repo.commit(header["summary"], files)
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}/commit/{commit.oid}"
        return {"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""}

    # --- shared

    def _account(self, required: bool = False) -> tuple[str, bool] | None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in ACCOUNTS:
            raise _RefusedError(401, None, "Invalid credentials in Authorization header")
        if required and not token:
            raise _RefusedError(401, None, "Invalid username or password.")
        return ACCOUNTS.get(token)

    @staticmethod
    def _owner(name: str) -> str:
        return name.split("/")[0]

    def _repo(self, kind: str, name: str, write: bool = False) -> Repo:
        account, repo = self._account(), self.hub.repos[kind].get(name)
        if repo is None or (repo.private and (account or ("",))[0] != self._owner(name)):
            raise _RefusedError(404 if account else 401, "RepoNotFound", "Repository not found")
        if write and (account is None or account[0] != self._owner(name) or not account[1]):
            raise _RefusedError(403, None, "you must use a write token to upload to a repository")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _cut(self, kind: str) -> None:
        if self.hub.cuts.get(kind, 0):
            self.hub.cuts[kind] -= 1
            raise _CutError

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, content: object, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

    def _send(self, data: bytes, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def _oid(path: str, data: bytes) -> str:
    """SHA-256 of an LFS file, else git's own hash of a blob."""
    if _is_lfs(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _tree(files: dict[str, bytes], folder: str = "") -> list[dict]:
    """Files and folders below a folder, as the Hub lists them recursively."""
    inside = {name: data for name, data in files.items() if not folder or name.startswith(f"{folder}/")}
    folders = {str(parent) for name in inside for parent in PurePosixPath(name).parents} - {".", folder}
    listed = [{"type": "directory", "path": path, "size": 0, "oid": _oid(path, b"")} for path in sorted(folders)]
    return listed + [_entry(name, data) for name, data in inside.items()]


def _entry(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _oid(path, data)}
    if _is_lfs(path):
        entry["lfs"] = {"oid": _oid(path, data), "size": len(data), "pointerSize": 134}
    return entry


def checkpoint_folder(folder: Path, config: object, seed: int = 0) -> Path:
    """A complete checkpoint with random weights, to publish."""
    import torch

    from modeling import RobustClipForImageClassification, RobustClipImageProcessor

    torch.manual_seed(seed)
    RobustClipForImageClassification(config).eval().save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    return folder


__all__ = ["OTHER", "READER", "USER", "WRITER", "HubServer", "Repo", "checkpoint_folder"]
