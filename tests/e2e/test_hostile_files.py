"""Two hundred hostile files through the running page's endpoint: a clear error or the right answer, never a fall."""

import json
import re
import urllib.request

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from modeling.detector import Detector
from modeling.images import ImageError
from tests.hostile_files import hostile_files
from tests.running_page import running_page

MEBIBYTE = 1024


def resident(process):
    """Memory of a process in MiB."""
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / MEBIBYTE


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about damaged metadata, as in modeling.images
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_each_hostile_file_gets_an_error_or_the_right_answer(python, tiny_text_folder, tmp_path, every):
    detector = Detector.from_pretrained(tiny_text_folder)
    files = [*hostile_files().items()]
    assert len(files) >= 200
    files = files[::every]
    memory, answered = [], 0
    with running_page(python, tmp_path, MODEL_ID=str(tiny_text_folder)) as app:
        client = Client(app.url, verbose=False)
        for number, (name, data) in enumerate(files):
            path = tmp_path / name
            path.write_bytes(data)
            try:
                answer = client.predict(handle_file(str(path)), "", api_name="/detect")
            except AppError as error:
                with pytest.raises(ImageError) as expected:
                    detector.detect(data)
                assert str(error) == str(expected.value), name
            else:
                answered += 1
                assert answer["probability"] == pytest.approx(detector.detect(data).probability, abs=1e-5), name
                assert answer["complete"], name
            if number % 20 == 19:
                memory.append(resident(app))
                assert json.load(urllib.request.urlopen(f"{app.url}/health", timeout=10))["status"] == "ok", name
        assert "Traceback" not in app.log.read_text()
    assert len(files) / 4 < answered < 3 * len(files) / 4
    assert memory[-1] - memory[0] < 150, f"MiB after each 20 files: {memory}"
