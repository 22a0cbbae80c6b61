"""A page whose one answer comes when `/let` was asked for: `python slow_page.py ANSWER_SECONDS PATIENCE`."""

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from space.sweeper import PageFolder, own_uploads

os.environ["GRADIO_TEMP_DIR"] = own_uploads()

import gradio as gr
from starlette.responses import JSONResponse
from starlette.routing import Route

from space import jobs, serving
from space.jobs import attend, is_awaited, is_closing

serving.ANSWER_SECONDS, jobs.PATIENCE = map(float, sys.argv[1:])
begun, abandoned, let_go = [], [], threading.Event()


def answer(word: str) -> str:
    begun.append(word)
    while is_awaited() and not let_go.wait(0.02):
        pass
    if not is_awaited():
        abandoned.append(word)
    return f"{word}, closing: {is_closing()}"


async def look_inside(request):
    queue = page._queue
    sessions = len(page.app.state_holder.session_data)
    inside = {"begun": begun, "abandoned": abandoned, "waiting": len(queue), "sessions": sessions}
    return JSONResponse(inside | {"closing": queue.closing, "read": len(queue.streams)})


async def let(request):
    let_go.set()
    return JSONResponse(None)


with PageFolder(os.environ["GRADIO_TEMP_DIR"]) as folder:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.api(answer, api_name="answer", concurrency_limit=1)
    page.queue()
    attend(page)
    routes = [Route("/look_inside", look_inside), Route("/let", let)]
    serving.serve(page, folder, {"routes": routes}, server_port=int(os.environ["PORT"]), run_history=False)
