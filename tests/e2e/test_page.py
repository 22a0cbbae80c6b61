"""The page in a real browser, and its API, with the real default checkpoint."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")


@pytest.fixture(scope="module")
def page_url(default_folder, tmp_path_factory):
    """`python app.py` as a user starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("app") / "log").open("w+")
    environment = os.environ | {"PORT": str(port), "HOST": "127.0.0.1"}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if app.poll() is not None:
                break
            try:
                urllib.request.urlopen(url, timeout=2).close()
            except OSError:
                time.sleep(0.5)
            else:
                yield url
                return
        log.seek(0)
        pytest.fail(f"the page did not start:\n{log.read()[-3000:]}")
    finally:
        app.terminate()
        app.wait(timeout=20)
        log.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, page_url):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.foreign = []
    page.on("request", lambda request: page.foreign.append(request.url))
    page.goto(page_url, wait_until="domcontentloaded")
    page.wait_for_selector("#check", timeout=60_000)
    yield page
    context.close()


def check(page, file):
    page.set_input_files("#picture input[type=file]", file)
    page.wait_for_selector("#picture img", state="attached", timeout=30_000)
    page.click("#check")


@needs_browser
@pytest.mark.parametrize(
    ("name", "words"), [("china.jpg", "Probably a real photograph"), ("flux_dev.webp", "Probably AI-generated")]
)
def test_an_uploaded_picture_gets_the_right_verdict(page, page_url, name, words):
    check(page, ROOT / "examples" / name)
    page.wait_for_function(
        "document.querySelector('#answer')?.innerText.match(/would be *\\d+\\.\\d %/)", timeout=60_000
    )
    assert words in page.inner_text("#answer")
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    foreign = [url for url in page.foreign if not url.startswith((page_url, "data:", "blob:"))]
    assert foreign == []


@needs_browser
def test_a_bad_file_gets_a_sentence(page, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes((ROOT / "examples" / "china.jpg").read_bytes()[:20_000])
    page.set_input_files("#picture input[type=file]", bad)
    page.wait_for_timeout(1500)
    page.click("#check")
    page.wait_for_selector(".toast-body", timeout=30_000)
    assert "damaged or incomplete" in page.inner_text(".toast-body")


def test_the_api_gives_the_detectors_answer(page_url, detector):
    from gradio_client import Client, handle_file

    picture = str(ROOT / "examples" / "china.jpg")
    words, fields = Client(page_url, verbose=False).predict(handle_file(picture), api_name="/detect")
    expected = detector.detect(picture)
    assert fields["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert fields["verdict"] == expected.verdict
    assert re.search(r"\d+\.\d %", words)
