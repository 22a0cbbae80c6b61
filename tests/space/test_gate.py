"""What a client may send: only uploads of this page, in every place, and texts of a bounded length."""

import asyncio

import gradio as gr
import pytest

from modeling.sentences import sentence
from space.gate import GuardedBlocks
from tests.pictures import noise


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """An upload of the page, in the folder of its uploads."""
    path = tmp_path_factory.mktemp("uploads") / "a b.jpg"
    noise().save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(path.parent))
        yield str(path)


@pytest.fixture(scope="module")
def page(stored):
    return asyncio.run(build(stored))


async def build(stored):
    """In a loop: Gradio would leave the one that it makes open."""
    with GuardedBlocks() as page:
        image, files, caption, state = gr.Image(), gr.File(file_count="multiple"), gr.Textbox(), gr.State("mine")
        answer, button = gr.JSON(), gr.Button()

        def echo(image, files, caption, state):
            return [image, files, caption, state]

        def fall():
            raise ZeroDivisionError("a secret of the server")

        button.click(echo, [image, files, caption, state], answer, preprocess=False, api_name="echo")
        button.click(fall, None, answer, api_name="fall")
        button.click(None, None, None, js="() => {}")
        examples = gr.Dataset(components=[gr.Textbox(visible=False)], samples=[["one"], ["two"]])
        button.click(lambda number: [number], examples, answer, preprocess=False)
    page.upload_file_set.add(stored)
    return page


def call(page, inputs, number=0):
    return asyncio.run(page.process_api(number, inputs))["data"][0].root


def refused(page, inputs, number=0):
    with pytest.raises(gr.Error) as error:
        call(page, inputs, number)
    return error.value.message


def test_an_upload_arrives_without_what_a_client_says_of_it(page, stored):
    said = {"path": stored, "url": "http://evil/", "is_stream": True, "size": -1, "orig_name": "my.jpg", "meta": []}
    image, files, caption, state = call(page, [said, [{"path": stored}], "text", "theirs"])
    assert (image["path"], image["orig_name"], image["is_stream"], image["size"]) == (stored, "my.jpg", False, None)
    assert [file["orig_name"] for file in files] == ["a b.jpg"]
    assert (caption, state) == ("text", "mine")


@pytest.mark.parametrize("place", ["path", "url"])
def test_the_address_of_an_upload_stands_for_it(page, stored, place):
    address = "http://somewhere:7860/gradio_api/file=" + stored.replace(" ", "%20")
    assert call(page, [{place: address}, None, None, None])[0]["path"] == stored


def test_a_single_file_is_a_list_of_one(page, stored):
    assert [file["path"] for file in call(page, [None, {"path": stored}, None, None])[1]] == [stored]


@pytest.mark.parametrize("beside", ["", "/../uploads0/a b.jpg", "/.", "x", "\0"])
def test_only_exactly_what_the_upload_answered_is_taken(page, stored, beside):
    for path in (f"{stored}{beside}" if beside else "/etc/passwd", "file://" + stored, stored.encode().hex()):
        message = refused(page, [{"path": path}, None, None, None])
        assert message in (sentence("requests", "gone"), sentence("requests", "no_addresses"))


def test_an_existing_file_and_a_missing_one_get_the_same_answer(page, stored, tmp_path):
    (tmp_path / "private.jpg").write_bytes(b"private")
    messages = {
        refused(page, [{"path": str(tmp_path / name)}, None, None, None])
        for name in ("private.jpg", "missing.jpg", "")
    }
    assert messages == {sentence("requests", "gone")}


def test_a_deleted_upload_is_told_as_such(page, tmp_path):
    gone = tmp_path / "gone.jpg"
    page.upload_file_set.add(str(gone))
    assert refused(page, [{"path": str(gone)}, None, None, None]) == sentence("requests", "gone")


META = {"_type": "gradio.FileData"}


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd",
        ["/etc/passwd"],
        7,
        {},
        {"path": {"path": "/etc/passwd"}},
        {"path": ["/etc/passwd"], "meta": META},
        {"path": None, "meta": META},
        [[{"path": "/etc/passwd", "meta": META}]],
        {"image": {"path": "/etc/passwd", "meta": META}},
        {"value": {"path": "/etc/passwd"}, "__type__": "update"},
    ],
)
def test_what_is_no_file_gets_a_sentence(page, value):
    for inputs in ([value, None, None, None], [None, value, None, None]):
        assert refused(page, inputs) == sentence("requests", "no_file")


@pytest.mark.parametrize("value", [{"path": "/etc/passwd", "meta": META}, [], 7, True])
def test_a_text_is_a_text(page, value):
    assert refused(page, [None, None, value, None]) == sentence("requests", "no_text")


def test_texts_and_lists_are_bounded(page, stored):
    assert refused(page, [None, None, "x" * 1001, None]) == sentence("requests", "text_too_long", limit=1000)
    files = [{"path": stored}] * 1001
    assert refused(page, [None, files, None, None]) == sentence("requests", "too_many_files", limit=1000)


def test_half_a_character_is_no_text(page):
    assert refused(page, [None, None, "\ud800", None]) == sentence("requests", "no_text")


def test_too_few_inputs_get_a_sentence(page):
    assert refused(page, [None]) == sentence("requests", "too_few_inputs", expected=4, given=1)


def test_an_unforeseen_error_says_nothing_of_the_server(page, caplog):
    assert refused(page, [], number=1) == sentence("page", "failed")
    assert "a secret of the server" in caplog.text


def test_what_the_browser_runs_is_no_function_of_the_server(page):
    assert refused(page, [], number=2) == sentence("requests", "no_endpoint")


def test_an_example_is_one_of_those_shown(page):
    assert call(page, [1], number=3) == [1]
    for number in (2, -1, [0], {"path": "/etc/passwd"}):
        assert refused(page, [number], number=3) == sentence("requests", "no_text")
