"""A page with only the tab for many pictures: `python batch_page.py SECONDS_A_BATCH CACHE_SECONDS`.

`/look_inside` tells the tests what no visitor can see.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import gradio as gr

from modeling.detector import Detector
from space.batch_tab import build_batch_tab

port, pause, cache_seconds = int(os.environ["PORT"]), float(sys.argv[1]), int(sys.argv[2])
passes = []


class SlowDetector(Detector):
    def detect_prepared(self, pixel_values):
        time.sleep(pause)
        passes.append(len(pixel_values))
        return super().detect_prepared(pixel_values)


def look_inside() -> dict:
    sessions = list(demo.state_holder.session_data.values())
    rows = sum(len(value) for session in sessions for value in session.state_data.values())
    return {"passes": len(passes), "rows_held": rows}


with gr.Blocks(analytics_enabled=False, delete_cache=(cache_seconds, cache_seconds)) as demo:
    build_batch_tab(SlowDetector.from_pretrained())
    gr.api(look_inside, api_name="look_inside")
demo.queue().launch(server_name="127.0.0.1", server_port=port, run_history=False, max_file_size="1gb")
