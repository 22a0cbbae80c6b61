"""Fifty users at once: does the page stay honest, unmixed and in its memory? With locust.

    python bench/load.py [--users 50] [--minutes 5]

Starts `python app.py` (the environment's MODEL_ID is what it loads), then locust with this file as its scenario. Each
user has a picture of its own, sends it again and again through `/detect` and checks the answer's hash against its own;
now and then it does not wait for the answer. "Queue full" is an honest answer and is counted apart; anything else but
an answer is a failure. At the end the page is stopped, and nothing may be left of it.
"""

import argparse
import hashlib
import io
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from locust import FastHttpUser, between, events, task
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = itertools.count()


class Visitor(FastHttpUser):
    """Sends its own picture, waits, sends it again."""

    wait_time = between(5, 15)
    network_timeout = connection_timeout = 600.0

    def on_start(self) -> None:
        """Make a picture that nobody else has."""
        number = next(NUMBERS)
        with Image.open(ROOT / "examples" / "china.jpg") as image:
            left = number % 100
            buffer = io.BytesIO()
            image.crop((left, 0, left + 400, 400)).save(buffer, "JPEG", quality=90, comment=f"user {number}".encode())
        self.picture = buffer.getvalue()
        self.hash = hashlib.sha256(self.picture).hexdigest()

    @task(9)
    def check(self) -> None:
        """One picture through the endpoint, as curl would."""
        start = time.perf_counter()
        outcome, error = self._ask()
        events.request.fire(
            request_type="PICTURE",
            name=outcome,
            response_time=1000 * (time.perf_counter() - start),
            response_length=0,
            exception=error,
        )

    @task(1)
    def abandon(self) -> None:
        """Ask and hang up."""
        self.client.post("/gradio_api/call/detect", json={"data": [self._upload()]}, name="/gradio_api/call/detect")

    def _upload(self) -> dict:
        upload = self.client.post("/gradio_api/upload", files={"files": ("mine.jpg", self.picture, "image/jpeg")})
        upload.raise_for_status()
        return {"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}

    def _ask(self) -> tuple[str, Exception | None]:
        data = {"data": [self._upload()]}
        with self.client.post("/gradio_api/call/detect", json=data, catch_response=True) as call:
            if call.status_code == 503 and "ueue is full" in (call.text or ""):
                call.success()  # an honest answer
                return "queue full, said at once", None
        event = call.json()["event_id"]
        stream = self.client.get(f"/gradio_api/call/detect/{event}", name="/gradio_api/call/detect/EVENT").text or ""
        found = re.findall(r"event: (\w+)\ndata: (.*)", stream)
        kind, payload = found[-1] if found else ("nothing", "")
        if kind == "complete":
            answer = json.loads(payload)[0]
            if answer["sha256"] != self.hash:
                return "mixed up", RuntimeError("the answer is about another picture")
            return "answer", None
        if "ueue is full" in payload:
            return "queue full, said at once", None
        return "error", RuntimeError(f"{kind}: {payload[:200]}")


def resident(pid: int) -> float:
    """Memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def main() -> None:
    """Start the page, load it, print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HOST": "127.0.0.1", "PORT": str(port), "GRADIO_TEMP_DIR": f"{folder}/uploads"}
        log = (Path(folder) / "log").open("w")
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_for(port)
            host = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "locust", "-f", __file__, "--headless", "--only-summary", "--host", host]
            command += ["-u", str(arguments.users), "-r", "5", "--csv", f"{folder}/load", "--stop-timeout", "120"]
            command += ["-t", f"{arguments.minutes:g}m"]
            load = subprocess.Popen(command)
            memory = []
            while load.poll() is None:
                memory.append(resident(app.pid))
                time.sleep(5)
            third = max(1, len(memory) // 3)
            print(f"memory of the page in MiB: start {memory[0]:.0f}, mean of the second third ", end="")
            print(
                f"{sum(memory[third : 2 * third]) / third:.0f}, of the last {sum(memory[-third:]) / third:.0f}, ",
                end="",
            )
            print(f"most {max(memory):.0f}; alive: {app.poll() is None}; locust's exit status {load.returncode}")
        finally:
            app.terminate()
            app.wait(timeout=60)
            log.close()
        left = [str(path) for path in Path(folder, "uploads").rglob("*")]
        print(f"stopped with status {app.returncode}; left of the page: {left}")


def wait_for(port: int) -> None:
    """Wait until the page answers."""
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError("the page did not start")


if __name__ == "__main__":
    main()
