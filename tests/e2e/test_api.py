"""The page's endpoints for programs: schema, safety, tools."""

import json
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from modeling.embedded import ROOT
from modeling.sentences import sentence
from modeling.stability import STABILITY_DELIVERIES

PHOTOGRAPH = ROOT / "examples" / "china.jpg"
NUMBER = (int, float)
# The answer's fields and their types: part of the public interface. Add, never rename.
SCHEMA = {
    "schema_version": int,
    "verdict": str,
    "reason": (str, type(None)),
    "verdict_as_it_came": str,
    "probability": NUMBER,
    "probability_without_caption": (*NUMBER, type(None)),
    "score": NUMBER,
    "real_threshold": NUMBER,
    "generated_threshold": NUMBER,
    "operating_point": (dict, type(None)),
    "width": int,
    "height": int,
    "sha256": str,
    "model": str,
    "model_version": str,
    "backend": str,
    "error": (str, type(None)),
    "file": {"format": str, "bytes": int},
    "cautions": list,
    "provenance": {"evidence": list, "has_location": bool, "searched": list, "trust_list_date": str},
    "stability": {"probabilities": dict, "verdicts": dict, "flipped": list, "verdict": str, "sentence": str},
    "explanation": {"regions": list, "box": list, "method": str},
    "milliseconds": dict,
    "complete": bool,
}


def assert_schema(answer, schema, where="answer"):
    assert set(answer) == set(schema), where
    for name, kind in schema.items():
        if isinstance(kind, dict):
            assert_schema(answer[name], kind, f"{where}.{name}")
        else:
            assert isinstance(answer[name], kind), f"{where}.{name}"


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False)


def test_one_picture_gives_every_field(client, detector, app):
    answer = client.predict(handle_file(str(PHOTOGRAPH)), api_name="/detect")
    assert_schema(answer, SCHEMA)
    expected = detector.detect(PHOTOGRAPH)
    assert answer["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert answer["verdict_as_it_came"] == expected.verdict and answer["complete"] is True
    assert answer["sha256"] == expected.sha256
    assert answer["model_version"] == detector.version
    assert set(answer["stability"]["probabilities"]) == {"clean", *STABILITY_DELIVERIES}
    assert len(answer["explanation"]["regions"]) == 14
    assert set(answer["milliseconds"]) == {"open", "score", "file", "stability", "explanation"}


def test_curl_gets_the_same_answer(app, detector):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    upload = subprocess.run(
        ["curl", "-sf", "-F", f"files=@{PHOTOGRAPH}", f"{app.url}/gradio_api/upload"], capture_output=True, check=True
    )
    body = json.dumps({"data": [{"path": json.loads(upload.stdout)[0], "meta": {"_type": "gradio.FileData"}}]})
    call = ["curl", "-sf", "-H", "Content-Type: application/json", "-d", body, f"{app.url}/gradio_api/call/detect"]
    event = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)["event_id"]
    stream = ["curl", "-sfN", f"{app.url}/gradio_api/call/detect/{event}"]
    lines = subprocess.run(stream, capture_output=True, check=True, text=True).stdout.splitlines()
    data = json.loads(next(line for line in reversed(lines) if line.startswith("data: "))[6:])
    assert data[0]["verdict_as_it_came"] == detector.detect(PHOTOGRAPH).verdict


def test_the_endpoints_are_documented_with_samples_that_run(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    for name in ("/detect", "/detect_many"):
        (field,) = named[name]["parameters"]
        (file,) = field["example_input"] if name == "/detect_many" else [field["example_input"]]
        assert (ROOT / file["url"]).is_file()
        assert field["label"] == field["parameter_name"]
    assert {"/detect", "/detect_many"} <= set(named)
    assert "/check" not in named
    assert [field["parameter_name"] for field in named["/detect"]["parameters"]] == ["image"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff" + b"x" * 1000, PHOTOGRAPH.read_bytes()[:20_000]])
def test_a_bad_file_gets_a_sentence_and_no_traceback(client, tmp_path, content):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(content)
    with pytest.raises(AppError) as error:
        client.predict(handle_file(str(bad)), api_name="/detect")
    assert str(error.value).endswith(".") and "Traceback" not in str(error.value)


def send(app, data, name="detect"):
    """Call an endpoint with exactly this input; returns the stream's last event and the stream."""
    return post(app, {"data": [data]}, name)


def post(app, body, name):
    body = json.dumps(body).encode()
    request = urllib.request.Request(
        f"{app.url}/gradio_api/call/{name}", body, {"Content-Type": "application/json"}, method="POST"
    )
    event = json.load(urllib.request.urlopen(request, timeout=30))["event_id"]
    stream = urllib.request.urlopen(f"{app.url}/gradio_api/call/{name}/{event}", timeout=60).read().decode()
    kind = [line[7:] for line in stream.splitlines() if line.startswith("event: ")][-1]
    return kind, stream


def test_an_address_is_never_opened(app):
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/picture.jpg"
    try:
        for data in (
            {"path": url, "meta": {"_type": "gradio.FileData"}},
            {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}},
            {"url": url, "meta": {"_type": "gradio.FileData"}},
        ):
            kind, stream = send(app, data)
            assert kind == "error"
            assert sentence("requests", "no_addresses")[:40] in stream
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


PRIVATE = ROOT / "examples" / "flower.jpg"
META = {"_type": "gradio.FileData"}


@pytest.mark.parametrize("name", ["detect", "detect_many"])
@pytest.mark.parametrize("path", [str(PRIVATE), "/missing.jpg", "app.py", "../../../../../../etc/passwd"])
def test_a_path_of_the_server_is_never_opened(app, path, name):
    """And nobody learns whether the file exists."""
    for file in ({"path": path, "meta": META}, {"path": path}, {"path": path, "is_stream": True, "meta": META}):
        kind, stream = send(app, [file] if name == "detect_many" else file, name)
        assert kind == "error"
        assert json.loads(stream.split("data: ")[-1])["error"] == sentence("requests", "gone")


@pytest.mark.parametrize("path", [str(PRIVATE), "/missing.jpg"])
def test_nor_by_a_function_of_the_page_itself(app, path):
    """The page's own button would answer with the heat map, and so with the picture."""
    config = json.load(urllib.request.urlopen(f"{app.url}/config", timeout=5))
    (number,) = [fn["id"] for fn in config["dependencies"] if fn["api_name"] == "check"]
    for file in ({"path": path, "meta": META}, {"path": path}):
        body = json.dumps({"data": [file], "fn_index": number, "session_hash": "attack"}).encode()
        join = urllib.request.Request(f"{app.url}/gradio_api/queue/join", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(join, timeout=30).close()
        stream = urllib.request.urlopen(f"{app.url}/gradio_api/queue/data?session_hash=attack", timeout=60)
        *_, end = [answer for line in stream if (answer := line.removeprefix(b"data: ")).startswith(b"{")][:-1]
        assert json.loads(end)["output"]["error"] == sentence("requests", "gone")


@pytest.mark.parametrize("data", [[], [7], ["/etc/passwd"], [{}], [[]], [{"path": 7}], [{"path": {"path": "/"}}]])
def test_what_an_endpoint_cannot_take_gets_a_sentence(app, data):
    for name in ("detect", "detect_many"):
        kind, stream = post(app, {"data": data}, name)
        assert kind == "error"
        assert json.loads(stream.split("data: ")[-1])["error"].endswith(".")


def test_health_names_the_model(app, detector):
    answer = json.load(urllib.request.urlopen(f"{app.url}/health", timeout=5))
    model = {"model": detector.name, "model_version": detector.version, "backend": "torch"}
    model["corrections"] = []
    assert answer == {"status": "ok"} | model
