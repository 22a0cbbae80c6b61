"""A page with only the tab for many pictures: `python batch_page.py CACHE_SECONDS`.

`/look_inside` tells the tests what no visitor can see, and `/allow` says how many batches may still be judged.
"""

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import gradio as gr

from modeling.detector import Detector
from space.batch_tab import build_batch_tab

port, cache_seconds = int(os.environ["PORT"]), int(sys.argv[1])
passes = []
gate, allowed = threading.Condition(), [sys.maxsize]


class GatedDetector(Detector):
    def detect_prepared(self, pixel_values):
        with gate:
            gate.wait_for(lambda: allowed[0] > 0)
            allowed[0] -= 1
        passes.append(len(pixel_values))
        return super().detect_prepared(pixel_values)


def look_inside() -> dict:
    sessions = list(demo.state_holder.session_data.values())
    rows = sum(len(value) for session in sessions for value in session.state_data.values())
    return {"passes": len(passes), "rows_held": rows}


def allow(batches: int) -> int:
    with gate:
        allowed[0] = batches
        gate.notify_all()
    return batches


with gr.Blocks(analytics_enabled=False, delete_cache=(cache_seconds, cache_seconds)) as demo:
    build_batch_tab(GatedDetector.from_pretrained())
    gr.api(look_inside, api_name="look_inside")
    gr.api(allow, api_name="allow")
demo.queue().launch(server_name="127.0.0.1", server_port=port, run_history=False, max_file_size="1gb")
