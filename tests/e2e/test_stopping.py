"""What nobody waits for is not computed; a page that is stopped answers what is under way, and leaves nothing."""

import hashlib
import json
import random
import signal
import socket
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from modeling.embedded import ROOT
from modeling.sentences import sentence
from tests.running_page import running_page
from tests.waiting import wait_for

PHOTOGRAPH = ROOT / "examples" / "china.jpg"


def slow_page(python, folder, answer_seconds=60, patience=60):
    return running_page(python, folder, Path(__file__).with_name("slow_page.py"), answer_seconds, patience)


def look_inside(page):
    return httpx.get(f"{page.url}/look_inside").json()


def post(page, value, name="answer"):
    """Ask for an answer to a value, or to a list of them; its number."""
    spanish = {"Accept-Language": "es"}
    answer = httpx.post(
        f"{page.url}/gradio_api/call/{name}",
        json={"data": value if isinstance(value, list) else [value]},
        headers=spanish,
        timeout=60,
    )
    return answer.json()["event_id"]


def read(page, job, name="answer", timeout=60):
    """Wait for the answer; its kind and what it says."""
    stream = httpx.get(f"{page.url}/gradio_api/call/{name}/{job}", timeout=timeout).text
    kind, data = stream.strip().rsplit("event: ", 1)[1].split("\ndata: ", 1)
    return kind, json.loads(data)


def upload(page, path):
    with path.open("rb") as file:
        answer = httpx.post(f"{page.url}/gradio_api/upload", files={"files": file}, timeout=60)
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def refused(answer, code="closing"):
    kind, data = answer
    return kind == "error" and data["error"] == sentence("page", code, "es")


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as threads:
        yield threads


def test_only_what_somebody_waits_for_is_computed(python, tmp_path):
    with slow_page(python, tmp_path, patience=1) as page:
        with pytest.raises(httpx.ReadTimeout):
            read(page, post(page, "under way"), timeout=1)
        wait_for(lambda: look_inside(page)["abandoned"] == look_inside(page)["begun"] == ["under way"])
        httpx.get(f"{page.url}/let")
        first, second = post(page, "first"), post(page, "second")
        assert read(page, second) == ("complete", ["second, closing: False"])
        assert look_inside(page)["waiting"] == 1
        assert read(page, first) == ("complete", ["first, closing: False"])
        late = post(page, "late")
        wait_for(lambda: look_inside(page)["waiting"] == 0)
        assert refused(read(page, late), "nobody_waits")
        inside = look_inside(page)
        assert inside["begun"] == ["under way", "second", "first"]
        assert inside["sessions"] == inside["read"] == 0


def test_a_signal_waits_for_what_is_under_way_and_refuses_the_rest_in_words(python, tmp_path, threads):
    with slow_page(python, tmp_path) as page:
        upload(page, PHOTOGRAPH)
        reading = [threads.submit(read, page, post(page, "under way"))]
        wait_for(lambda: look_inside(page)["begun"])
        reading.append(threads.submit(read, page, post(page, "waiting")))
        wait_for(lambda: look_inside(page)["read"] == 2)
        page.send_signal(signal.SIGTERM)
        assert refused(reading[1].result())
        assert refused(read(page, post(page, "late")))
        assert files(page.uploads) == ["china.jpg", "lock"]
        httpx.get(f"{page.url}/let")
        assert reading[0].result() == ("complete", ["under way, closing: True"])
        assert page.result().returncode == 0
        assert list(page.uploads.iterdir()) == []


@pytest.mark.parametrize(("answer_seconds", "signals"), [(0, [signal.SIGINT]), (60, [signal.SIGTERM, signal.SIGINT])])
def test_what_takes_too_long_is_refused_and_a_second_signal_waits_for_nothing(
    python, tmp_path, threads, answer_seconds, signals
):
    with slow_page(python, tmp_path, answer_seconds=answer_seconds) as page:
        reading = threads.submit(read, page, post(page, "endless"))
        wait_for(lambda: look_inside(page)["begun"])
        page.send_signal(signals[0])
        for number in signals[1:]:
            wait_for(lambda: look_inside(page)["closing"])
            page.send_signal(number)
        assert refused(reading.result())
        assert page.result().returncode == 0
        assert list(page.uploads.iterdir()) == []


def break_off_an_upload(page):
    """Send half of a file and hang up."""
    half = b'--x\r\nContent-Disposition: form-data; name="files"; filename="half.jpg"\r\n\r\n' + b"x" * 100_000
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: page\r\nContent-Length: 1000000\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(page.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(head.encode() + half)
        wait_for(lambda: any(name.startswith("tmp") for name in files(page.uploads)))


def test_what_a_killed_page_left_goes_with_the_next_start_and_a_stopped_one_answers(
    python, tmp_path, tiny_text_folder, threads
):
    pictures = [tmp_path / f"mine-{number}.jpg" for number in range(4)]
    for number, path in enumerate(pictures):
        path.write_bytes(PHOTOGRAPH.read_bytes() + bytes([number]))
    with running_page(python, tmp_path, MODEL_ID=str(tiny_text_folder)) as page:
        upload(page, pictures[0])
        break_off_an_upload(page)
        page.stop(signal.SIGKILL)
    # What was broken off is there or not, as the page had the time.
    assert "mine-0.jpg" in files(page.uploads)
    (page.uploads / "somebody's.jpg").write_text("not ours")
    with running_page(python, tmp_path, MODEL_ID=str(tiny_text_folder)) as page:
        assert not {name for name in files(page.uploads) if name.startswith(("mine", "tmp"))}
        uploads = [upload(page, path) for path in pictures]
        jobs = [post(page, [file, ""], "detect") for file in uploads]
        reading = [threads.submit(read, page, job, "detect") for job in jobs]
        wait_for(lambda: any(answer.done() for answer in reading))
        page.send_signal(signal.SIGTERM)
        for path, answer in zip(pictures, reading, strict=True):
            kind, data = answer.result()
            own = hashlib.sha256(path.read_bytes()).hexdigest()
            assert refused((kind, data)) or (kind == "complete" and data[0]["sha256"] == own and data[0]["complete"])
        result = page.result()
    assert result.returncode == 0 and "Traceback" not in result.stdout
    assert files(page.uploads) == ["somebody's.jpg"]


def is_own(data, own):
    """Whether an answer is about the visitor's own pictures."""
    rows = data[0] if isinstance(data[0], list) else data
    told = sentence("batch", "closing", "es")
    return len(rows) == len(own) and all(
        row["sha256"] == sha256 or row["error"] == told for row, sha256 in zip(rows, own, strict=True)
    )


def visit(page, file, own, outcomes):
    """Send a picture, or an archive, again and again until the page is gone; `outcomes` counts what came."""
    name = "detect_many" if file.suffix == ".zip" else "detect"
    while True:
        job = None
        try:
            uploaded = upload(page, file)
            job = post(page, [[uploaded]] if name == "detect_many" else [uploaded, ""], name)
            answer = read(page, job, name)
        except Exception as error:  # the page is gone: before the job was taken, or after that
            outcomes["not taken" if job is None else f"lost: {error!r}"] += 1
            return
        if refused(answer):
            outcomes["refused in words"] += 1
        elif answer[0] == "complete":
            outcomes["answered" if is_own(answer[1], own) else "mixed up"] += 1
        else:
            outcomes[str(answer)] += 1


@pytest.mark.long
def test_twenty_signals_at_random_moments_lose_nothing_and_leave_nothing(python, tmp_path, tiny_text_folder, threads):
    chance, photograph, total = random.Random(24), PHOTOGRAPH.read_bytes(), Counter()
    for number in range(20):
        kill, names, visitors = number % 2 == 0, [], []
        for visitor in range(6):
            pictures = [photograph + bytes([number, visitor, picture]) for picture in range(20 if visitor == 0 else 1)]
            file = tmp_path / f"round-{number}-{visitor}.{'zip' if visitor == 0 else 'jpg'}"
            file.write_bytes(pictures[0])
            if visitor == 0:
                with zipfile.ZipFile(file, "w") as archive:
                    for picture, data in enumerate(pictures):
                        archive.writestr(f"{picture}.jpg", data)
            visitors.append((file, [hashlib.sha256(data).hexdigest() for data in pictures]))
        with running_page(python, tmp_path, MODEL_ID=str(tiny_text_folder)) as page:
            assert len(list(page.uploads.iterdir())) == 1
            names = [name for name in files(page.uploads) if name.startswith(("round", "tmp"))]
            assert names == [], f"left by round {number - 1}"
            outcomes = Counter()
            visits = [threads.submit(visit, page, file, own, outcomes) for file, own in visitors]
            time.sleep(chance.uniform(0, 5))
            page.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            result = page.result()
            for ended in visits:
                ended.result()
        unexpected = {outcome for outcome in outcomes if outcome not in ("answered", "refused in words", "not taken")}
        if kill:
            assert result.returncode == -signal.SIGKILL
            unexpected = {outcome for outcome in unexpected if not outcome.startswith("lost")}
        else:
            assert result.returncode == 0 and list(page.uploads.iterdir()) == []
            total += outcomes
        assert unexpected == set(), result.stdout[-2000:]
    assert total["answered"] and total["refused in words"]
