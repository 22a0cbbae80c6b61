"""The queue outlives sessions that Gradio has forgotten, and a job that nobody knows gets words."""

import asyncio
import json

import gradio as gr
import pytest
from starlette.testclient import TestClient

from modeling.sentences import sentence
from space.doors import application_options
from space.gate import GuardedBlocks
from space.jobs import PATIENCE, WatchStreams, attend


@pytest.fixture(scope="module")
def application():
    return asyncio.run(build())


async def build():
    """In a loop: Gradio would leave the one that it makes open."""
    with GuardedBlocks() as page:
        gr.Button().click(lambda: "done", None, gr.JSON(), api_name="detect")
    page.queue()
    attend(page)
    return gr.routes.App.create_app(page, app_kwargs=application_options(page, []), mcp_server=False)


@pytest.fixture(scope="module")
def client(application):
    return TestClient(WatchStreams(application, application.get_blocks()))


def test_a_session_that_is_forgotten_does_not_end_the_queue(application, client):
    jobs = application.get_blocks()._queue
    assert client.post("/gradio_api/call/detect", json={"data": []}).status_code == 200
    (event,) = jobs.event_ids_to_events.values()
    jobs.pending_messages_per_session.clear()  # as Gradio does when a reader goes, and for all but 2,000 sessions
    event.enqueue_time -= PATIENCE + 1
    assert jobs.get_events() is None
    assert not len(jobs)


def test_an_answer_that_was_read_does_not_keep_who_asks_again(application, client):
    job = client.post("/gradio_api/call/detect", json={"data": []}).json()["event_id"]
    queue = application.get_blocks()._queue
    queue.event_ids_to_events.pop(job)  # as after the answer
    while queue.pending_messages_per_session[job].qsize():
        queue.pending_messages_per_session[job].get_nowait()
    assert sentence("requests", "no_job") in client.get(f"/gradio_api/call/detect/{job}").text


def test_a_job_that_is_unknown_gets_words(client):
    words = sentence("requests", "no_job", "es")
    answer = client.get("/gradio_api/call/detect/nope", headers={"accept-language": "es"}).text
    assert answer.startswith("event: error\ndata: ")
    assert json.loads(answer.partition("data: ")[2]) == {"error": words}
    answer = client.get("/gradio_api/queue/data?session_hash=nobody", headers={"accept-language": "es"}).text
    message = json.loads(answer.removeprefix("data: "))
    assert (message["msg"], message["message"], message["session_not_found"]) == ("unexpected_error", words, True)
