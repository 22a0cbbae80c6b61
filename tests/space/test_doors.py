"""Which requests reach Gradio: a list that is complete, bodies within limits, no other web page, errors in words."""

import asyncio
import re

import gradio as gr
import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from modeling.detector import Detector
from modeling.sentences import sentence
from space import doors
from space.page import build_page
from space.tools import Tools
from tests.pictures import picture

# What Gradio 6.31 serves besides. A new version's new address belongs here, or, where the page needs it, in `OPEN`.
CLOSED = [
    "/config/",
    "/login",
    "/login/",
    "/logout",
    "/manifest.json",
    "/monitoring",
    "/monitoring/summary",
    "/monitoring/{key}",
    "/pwa_icon",
    "/pwa_icon/{size}",
    "/svelte/{path:path}",
    "/gradio_api/api/{api_name}",
    "/gradio_api/api/{api_name}/",
    "/gradio_api/app_id",
    "/gradio_api/app_id/",
    "/gradio_api/call/v2/{api_name}/",
    "/gradio_api/call/{api_name}/",
    "/gradio_api/component_server",
    "/gradio_api/component_server/",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}",
    "/gradio_api/deep_link",
    "/gradio_api/dev/reload",
    "/gradio_api/file/{path:path}",
    "/gradio_api/info/",
    "/gradio_api/login_check",
    "/gradio_api/login_check/",
    "/gradio_api/openapi.json",
    "/gradio_api/process_recording",
    "/gradio_api/proxy={url_path:path}",
    "/gradio_api/queue/status",
    "/gradio_api/reset/",
    "/gradio_api/run-history/buckets",
    "/gradio_api/run-history/connect",
    "/gradio_api/run-history/records",
    "/gradio_api/run-history/records/{endpoint}/{record_id}/assets/{asset_id}",
    "/gradio_api/run/{api_name}",
    "/gradio_api/run/{api_name}/",
    "/gradio_api/runs",
    "/gradio_api/runs/",
    "/gradio_api/stream/{event_id}",
    "/gradio_api/stream/{event_id}/close",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}",
    "/gradio_api/theme.css",
    "/gradio_api/token",
    "/gradio_api/token/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/undo-vibe-edit/",
    "/gradio_api/user",
    "/gradio_api/user/",
    "/gradio_api/vibe-code",
    "/gradio_api/vibe-code/",
    "/gradio_api/vibe-edit",
    "/gradio_api/vibe-edit/",
    "/gradio_api/vibe-starter-queries",
    "/gradio_api/vibe-starter-queries/",
]
TOO_NARROW = {"/gradio_api/run/predict"}  # of /gradio_api/run/{api_name}
MEBIBYTE = 2**20


def templates(routes, prefix=""):
    """Every address that an application serves, with those of the applications and routers within."""
    for route in routes:
        if inner := getattr(route, "original_router", None):
            yield from templates(inner.routes, prefix)
        elif isinstance(route, Mount):
            yield from templates(route.routes, prefix + route.path)
        else:
            yield prefix + route.path


async def build(folder):
    """In a loop: Gradio would leave the one that it makes open."""
    page = build_page(Detector.from_pretrained(folder), None, is_default=False)
    page.max_file_size = None
    routes = [Route("/health", lambda request: None), *Tools(page, reads_captions=True).routes()]
    options = doors.application_options(page, routes)
    return gr.routes.App.create_app(page, app_kwargs=options, mcp_server=False)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def application(tiny_text_folder, uploads):
    return asyncio.run(build(tiny_text_folder))


@pytest.fixture
def client(application):
    return TestClient(application, raise_server_exceptions=False)


def words(answer):
    return answer.status_code, answer.json()["detail"]


def test_every_address_is_known(application):
    assert set(templates(application.routes)) | TOO_NARROW == set(doors.OPEN) | set(CLOSED)


@pytest.mark.parametrize("template", CLOSED)
def test_a_closed_address_says_so(client, template):
    address = re.sub(r"{\w+(:path)?}", "detect", template)
    for method in ("GET", "POST", "HEAD", "DELETE"):
        answer = client.request(method, address, follow_redirects=False)
        assert answer.status_code == 404
    assert words(client.post(address))[1] in (sentence("requests", "closed"), sentence("requests", "no_endpoint"))


def test_another_method_than_the_pages_is_refused(client):
    answer = client.get("/gradio_api/upload", headers={"accept-language": "es"})
    assert words(answer) == (405, sentence("requests", "method", "es", methods="POST"))
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("name", ["check", "run", "show", "forget", "load_example", "lambda", "unnamed", "nothing"])
def test_a_function_of_the_page_is_no_endpoint(client, name):
    for version in ("", "v2/"):
        answer = client.post(f"/gradio_api/call/{version}{name}", json={"data": []})
        assert words(answer) == (404, sentence("requests", "no_endpoint"))


def test_the_queue_cannot_be_passed_by(client):
    for number, fn in client.app.get_blocks().fns.items():
        if fn.queue and fn.inputs:
            answer = client.post("/gradio_api/run/predict", json={"data": [None] * 9, "fn_index": number})
            assert answer.status_code == 404, fn.api_name


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py", "http://127.0.0.1/", "https://example.com/a.png", ""])
def test_only_files_that_the_page_stored_are_served(client, path):
    assert words(client.get(f"/gradio_api/file={path}")) == (404, sentence("requests", "gone"))


def test_an_endless_address_is_refused(client):
    for address in ("/gradio_api/heartbeat/" + "x" * 3000, "/gradio_api/upload_progress?upload_id=" + "x" * 3000):
        assert client.get(address).status_code == 414


def upload(client, *files, name="files", **fields):
    parts = [(name, (f"{number}.png", data)) for number, data in enumerate(files)]
    return client.post("/gradio_api/upload", files=parts, data=fields)


def test_an_upload_is_served_and_one_of_before_a_restart_is_not(client, uploads):
    (path,) = upload(client, picture()).json()
    assert client.get(f"/gradio_api/file={path}").content == picture()
    old = uploads / "old.png"
    old.write_bytes(picture(1))
    assert client.get(f"/gradio_api/file={old}").status_code == 404


@pytest.mark.parametrize(
    "wanted", ["bytes=0-9", "bytes=0-1,3-4", "bytes=1-2-3", "bytes=\xb2-\xb3", "bytes=" + "9" * 5000 + "-1"]
)
def test_a_part_of_a_file_is_the_file_and_no_header_comes_back(client, wanted):
    (path,) = upload(client, picture()).json()
    headers = {"range": wanted.encode("latin-1"), "x-own": "secret"}
    answer = client.get(f"/gradio_api/file={path}", headers=headers)
    assert (answer.status_code, answer.content) == (200, picture())
    assert "x-own" not in answer.headers


def test_a_boundary_that_is_too_long_is_refused_in_words(client):
    kind = {"content-type": "multipart/form-data; boundary=" + "b" * 300}
    answer = client.post("/gradio_api/upload", content=b"x", headers=kind)
    assert words(answer) == (400, sentence("requests", "files_only"))


@pytest.fixture
def no_trace(uploads):
    """Afterwards the folder of uploads is as it was."""
    before = sorted(uploads.rglob("*"))
    yield
    assert sorted(uploads.rglob("*")) == before


def test_the_total_of_an_upload_is_bounded_while_it_comes_in(client, monkeypatch, no_trace):
    monkeypatch.setattr(doors, "MAX_UPLOAD_BYTES", MEBIBYTE)
    expected = (413, sentence("requests", "too_large", limit=1))
    assert words(upload(client, *[b"x" * 300_000] * 4)) == expected
    boundary = "--b\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"

    def endless():
        yield boundary.encode()
        for _ in range(100):
            yield b"x" * 2**16

    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert words(client.post("/gradio_api/upload", content=endless(), headers=kind)) == expected


def test_a_thousand_files_and_one_are_refused(client, no_trace):
    assert words(upload(client, *[b"x"] * 1001)) == (413, sentence("requests", "too_many_files", limit=1000))


def test_what_is_no_file_is_refused_before_it_is_kept(client, no_trace):
    refused = (400, sentence("requests", "files_only"))
    assert words(upload(client, picture(), name="others")) == refused
    assert words(upload(client, picture(), more="x" * MEBIBYTE)) == refused
    assert words(client.post("/gradio_api/upload", content=b"x" * 10)) == refused
    assert words(client.post("/gradio_api/upload", data={"files": "x"})) == refused


def test_a_call_is_bounded(client):
    answer = client.post("/gradio_api/call/detect", content=b"[" * (5 * MEBIBYTE))
    assert words(answer) == (413, sentence("requests", "too_large", limit=4))


@pytest.mark.parametrize("length", [None, 5 * MEBIBYTE])
def test_few_large_calls_of_tools_are_read_at_a_time(length):
    """Each waits for the rest of its body; the next one is refused in words, also where it says no length."""
    answers = asyncio.run(large_calls(doors.MAX_LARGE_CALLS + 1, length))
    assert answers == [200] * doors.MAX_LARGE_CALLS + [503]


async def large_calls(count, length):
    gate, answers = asyncio.Event(), []

    async def application(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    entrance = doors.Doors(application, gr.Blocks())

    async def call():
        messages = [b"x" * 5 * MEBIBYTE, b""]

        async def receive():
            if len(messages) == 1:
                await gate.wait()
            body = messages.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(messages)}

        async def send(message):
            if "status" in message:
                answers.append(message["status"])

        headers = [(b"host", b"page")] + ([(b"content-length", str(length).encode())] if length else [])
        scope = {"type": "http", "method": "POST", "path": doors.TOOLS, "query_string": b"", "headers": headers}
        await entrance(scope, receive, send)

    calls = [asyncio.create_task(call()) for _ in range(count)]
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(*calls)
    assert entrance.large_calls == 0
    return sorted(answers)


def test_an_aborted_upload_leaves_nothing(application, no_trace):
    head = b"--b\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
    messages = [
        {"type": "http.request", "body": head + b"x" * 100_000, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/gradio_api/upload",
        "query_string": b"",
        "headers": [(b"host", b"page"), (b"content-type", b"multipart/form-data; boundary=b")],
    }
    asyncio.run(application(scope, receive, send))
    assert messages == []


OWN = [
    {},  # a program
    {"origin": "http://testserver"},
    {"sec-fetch-site": "same-origin", "origin": "https://page.example"},  # behind a proxy that keeps no Host
]
FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://["},
    {"origin": "http://evil.example", "x-forwarded-host": "evil.example"},
    {"origin": "http://testserver.evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
    {"sec-fetch-site": "same-site", "origin": "http://other.testserver"},
]


@pytest.mark.parametrize("headers", OWN)
def test_the_page_itself_and_programs_may_call(client, headers):
    assert upload(TestClient(client.app, headers=headers), picture()).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_no_other_web_page_may_call(client, headers, no_trace):
    client = TestClient(client.app, headers=headers)
    for answer in (client.get("/config"), client.get("/health"), upload(client, picture())):
        assert words(answer) == (403, sentence("requests", "foreign"))


def test_a_link_from_another_page_works(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/robots.txt", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"data": "x"}',
        '{"data": {"image": 1}}',
        '{"data": [], "fn_index": 1000, "session_hash": "s"}',
        '{"data": [], "fn_index": "x"}',
        '{"data": [], "session_hash": 7}',
        '{"data": [' + "[" * 5000,
        '{"data": [' + "[" * 5000 + "]" * 5000 + '], "session_hash": "s"}',
        '{"image": {"path": "/etc/passwd"}, "more": 1}',
        "\xff",
    ],
)
def test_a_call_that_cannot_be_read_gets_a_sentence(client, body):
    for address in ("call/v2/detect", "queue/join", "run/predict", "cancel"):
        kind = {"content-type": "application/json"}
        answer = client.post(f"/gradio_api/{address}", content=body.encode("latin-1"), headers=kind)
        assert answer.status_code in (200, 400, 404), (address, answer.text)
        if answer.status_code != 200:
            assert len(answer.json()["detail"].split()) > 3  # one of them is FastAPI's
