"""The page's tools, used by a real client of the Model Context Protocol, which uploads as such clients do."""

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from modeling.embedded import ROOT
from modeling.sentences import sentence
from tests.running_page import running_page

PHOTOGRAPH = ROOT / "examples" / "china.jpg"
FLOWER = ROOT / "examples" / "flower.jpg"


@pytest.fixture(scope="module")
def tools_page(python, tiny_text_folder, graph_folder, tmp_path_factory):
    """Also with another backend than usual, to spare a second start."""
    settings = {"MODEL_ID": str(tiny_text_folder), "BACKEND": "onnx", "ROBUST_CLIP_CACHE": str(graph_folder)}
    with running_page(python, tmp_path_factory.mktemp("tools"), MCP_SERVER="1", **settings) as app:
        yield app


@pytest.fixture(scope="module")
def use(tools_page):
    """Do something with a client's session."""

    async def within(todo, path, headers):
        client = httpx.AsyncClient(headers=headers, timeout=60, follow_redirects=True)
        address = f"{tools_page.url}/gradio_api/mcp{path}"
        async with (
            client,
            streamable_http_client(address, http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await todo(session)

    # In a thread of its own: a browser that other tests share keeps an event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        yield lambda todo, path="/", **headers: thread.submit(asyncio.run, within(todo, path, headers)).result()


@pytest.fixture(scope="module")
def call(use):
    def call(name, **arguments):
        return use(lambda session: session.call_tool(name, arguments))

    return call


def upload(page, path):
    with path.open("rb") as file:
        return httpx.post(f"{page.url}/gradio_api/upload", files={"files": file}).json()[0]


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def refusal(result):
    assert result.isError, result
    return result.content[0].text


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("detect", {"image": ["x" * 10_000]}, "no_file"),
        ("detect", {}, "no_file"),
        ("detect_many", {"files": "one"}, "no_file"),
        ("detect_many", {"files": [encoded(FLOWER)[:600]] * 1001}, "too_many_files"),
    ],
)
def test_arguments_of_another_form_are_refused_in_words_and_not_repeated(call, tools_page, name, arguments, code):
    def stored():
        return set(tools_page.uploads.rglob("*"))

    before = stored()
    assert refusal(call(name, **arguments)) == sentence("requests", code, limit=1000)
    assert stored() == before


@pytest.mark.parametrize("path", ["/", ""])
def test_the_tools_ask_for_what_they_take(use, path):
    tools = {tool.name: tool for tool in use(lambda session: session.list_tools(), path).tools}
    assert set(tools) == {"detect", "detect_many"}
    assert "photograph or was generated" in tools["detect"].description
    fields = tools["detect"].inputSchema["properties"]
    assert set(fields) == {"image", "caption"} and tools["detect"].inputSchema["required"] == ["image"]
    files = tools["detect_many"].inputSchema["properties"]["files"]
    for field in (fields["image"], files["items"]):
        assert field["type"] == "string" and "/gradio_api/upload" in field["description"]
        assert "base64" in field["description"] and "not opened" in field["description"]


def test_one_picture_in_every_form_gets_the_same_answer(call, tools_page):
    path = upload(tools_page, PHOTOGRAPH)
    address = f"{tools_page.url}/gradio_api/file={path}"  # what `gradio upload-mcp` answers
    answers = [
        call("detect", image=image)
        for image in (path, address, encoded(PHOTOGRAPH), f"data:image/jpeg;base64,{encoded(PHOTOGRAPH)}")
    ]
    for result in answers:
        assert not result.isError, result
        assert json.loads(result.content[0].text) == result.structuredContent
        answer = result.structuredContent
        assert answer["verdict"] in ("real", "generated", "uncertain") and answer["backend"] == "onnx"
        assert answer["sha256"] == answers[0].structuredContent["sha256"]
        assert answer["probability"] == answers[0].structuredContent["probability"]


def test_a_caption_may_be_given(call):
    answer = call("detect", image=encoded(PHOTOGRAPH), caption="a b c").structuredContent
    assert answer["probability_without_caption"] is not None


def test_many_pictures_are_judged_in_order(call, tools_page):
    bad = base64.b64encode(b"no picture" * 100).decode()
    answer = call("detect_many", files=[upload(tools_page, FLOWER), encoded(PHOTOGRAPH), bad]).structuredContent
    flower, photograph, unreadable = answer["answers"]
    assert (flower["name"], photograph["name"], unreadable["name"]) == ("flower.jpg", "picture 2", "picture 3")
    assert flower["verdict"] and photograph["verdict"] and flower["sha256"] != photograph["sha256"]
    assert unreadable["error"].endswith(".")


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("https://example.com/a.jpg", "no_addresses"),
        ("http://127.0.0.1:1/a.jpg", "no_addresses"),
        ("file:///etc/passwd", "no_addresses"),
        ("/etc/passwd", "gone"),
        (str(PHOTOGRAPH), "gone"),
        ("http://127.0.0.1/gradio_api/file=/etc/passwd", "gone"),
        ("data:image/jpeg;base64,???", "no_base64"),
    ],
)
def test_everything_else_is_refused_in_words(call, image, code):
    assert refusal(call("detect", image=image)) == sentence("requests", code)
    assert refusal(call("detect_many", files=[image])) == sentence("requests", code)


def test_a_client_reads_the_reason_in_its_language(use):
    def ask(session):
        return session.call_tool("detect", {"image": "/etc/passwd"})

    assert refusal(use(ask, **{"accept-language": "es"})) == sentence("requests", "gone", "es")


def test_a_picture_larger_than_a_call_of_a_program_is_taken(call):
    large = PHOTOGRAPH.read_bytes() + b"\0" * 5_000_000
    assert call("detect", image=base64.b64encode(large).decode()).structuredContent["file"]["bytes"] == len(large)


def test_gradios_page_about_the_interface_shows_the_tools(tools_page):
    tools = httpx.get(f"{tools_page.url}/gradio_api/mcp/schema").json()
    assert [tool["name"] for tool in tools] == ["detect", "detect_many"]
