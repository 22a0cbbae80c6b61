"""The tab for many pictures in a real browser, alone on a page, with the real default checkpoint."""

import csv
import io
import json
import shutil
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.running_page import running_page
from tests.waiting import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
CHANCE, NAME, NOTE = 2, 3, 5  # columns of the table
STRANGE = "<img src=x onerror=alert(1)>.jpg"


def serve(python, folder, cache_seconds=600):
    """batch_page.py, with an empty folder for uploads."""
    return running_page(python, folder, Path(__file__).with_name("batch_page.py"), cache_seconds)


def look_inside(served):
    return json.loads(call(served.url, "look_inside", []).split("data: ", 1)[1])[0]


@pytest.fixture(scope="module")
def served(python, default_folder, tmp_path_factory):
    with serve(python, tmp_path_factory.mktemp("page")) as served:
        yield served


@pytest.fixture
def open_page(browser):
    """Opens a page; all of them are closed afterwards, whatever happens."""
    contexts = []

    def open_page(url, width=1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        return loaded(contexts[-1], url)

    yield open_page
    for context in contexts:
        context.close()


def loaded(context, url):
    page = context.new_page()
    page.seen = []
    page.on("request", lambda request: page.seen.append(request.url))
    page.on("dialog", lambda dialog: page.seen.append("dialog:" + dialog.message))
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector("#batch-check", timeout=60_000)
    return page


def check(page, files):
    page.set_input_files("#batch-files input[type=file]", files)
    page.wait_for_selector("#batch-files .file-preview", timeout=30_000)
    page.click("#batch-check")


def wait_until_done(page, words="Could not be read:"):
    page.wait_for_function(
        "words => document.querySelector('#batch-summary')?.innerText.includes(words)", arg=words, timeout=120_000
    )
    page.wait_for_selector("#batch-stop", state="hidden", timeout=30_000)
    page.wait_for_selector("#batch-table [data-testid=cell-0-3]", timeout=30_000)


def column(page, index):
    """The texts of one column of the table, top to bottom."""
    cells = page.query_selector_all(f"#batch-table [data-testid^=cell-][data-col='{index}']")
    return [cell.inner_text().strip() for cell in cells]


def noise(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def files(tmp_path):
    """A zip of two pictures, a picture with a name that is HTML, and a text."""
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(EXAMPLES / "flower.jpg", "flower.jpg")
        archive.write(EXAMPLES / "flux_dev.webp", "folder/flux_dev.webp")
    shutil.copy(EXAMPLES / "china.jpg", tmp_path / STRANGE)
    (tmp_path / "text.jpg").write_text("no picture")
    return [tmp_path / "two.zip", tmp_path / STRANGE, tmp_path / "text.jpg"]


def test_the_table_fills_and_is_filtered_sorted_and_downloaded(served, open_page, files, detector):
    page = open_page(served.url)
    assert page.is_hidden("#batch-table")
    check(page, files)
    wait_until_done(page)
    assert "Could not be read: 1." in page.inner_text("#batch-summary")
    names = ["two.zip/flower.jpg", "two.zip/folder/flux_dev.webp", STRANGE, "text.jpg"]
    assert column(page, NAME) == names
    assert "not a picture" in column(page, NOTE)[3]
    chances = [
        100 * detector.detect(EXAMPLES / name).probability for name in ("flower.jpg", "flux_dev.webp", "china.jpg")
    ]
    assert [float(text) for text in column(page, CHANCE)[:3]] == pytest.approx(chances, abs=0.06)
    widths = page.evaluate("[...document.querySelectorAll('#batch-table img')].map(image => image.naturalWidth)")
    assert sorted(widths)[-3:] == [96, 96, 96]

    page.fill("#batch-name textarea, #batch-name input", "FLOWER")
    page.wait_for_function("document.querySelector('#batch-summary').innerText.includes('1 of 4 files')")
    assert column(page, NAME) == names[:1]
    page.fill("#batch-name textarea, #batch-name input", "")
    choose(page, "#batch-outcome", "Could not be read")
    page.wait_for_function("document.querySelector('#batch-summary').innerText.includes('1 of 4 files')")
    assert column(page, NAME) == ["text.jpg"]
    choose(page, "#batch-outcome", "All")
    choose(page, "#batch-order", "Highest AI chance first")
    highest = [name for _, name in sorted(zip(chances, names, strict=False), reverse=True)]
    page.wait_for_function(
        "name => document.querySelector('#batch-table [data-testid=cell-0-3]').innerText.includes(name)",
        arg=highest[0],
    )
    assert column(page, NAME)[:3] == highest

    rows = json.loads(download(page, "#batch-json"))
    assert [row["name"] for row in rows] == names
    assert rows[2] | {"name": "", "probability": 0, "score": 0, "marks": []} == detector.detect(
        EXAMPLES / "china.jpg"
    ).to_dict() | {
        "name": "",
        "probability": 0,
        "score": 0,
        "marks": [],
    }
    lines = list(csv.DictReader(io.StringIO(download(page, "#batch-csv"))))
    assert [line["name"] for line in lines] == names
    assert [url for url in page.seen if not url.startswith((served.url, "data:", "blob:"))] == []


def choose(page, box, words):
    page.click(f"{box} input")
    page.get_by_role("option", name=words, exact=True).click()


def download(page, button):
    with page.expect_download() as started:
        page.click(button)
    return Path(started.value.path()).read_text(encoding="utf-8-sig")


def test_a_narrow_page_does_not_overflow(served, open_page, files):
    page = open_page(served.url, width=390)
    check(page, files)
    wait_until_done(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.fixture
def gated(served):
    """Only one batch may be judged until `allow` is called."""
    call(served.url, "allow", [1])
    yield served
    call(served.url, "allow", [10**6])


def passes_after_another_run(served, file):
    """Lets everything be judged; a run by a program begins only when the one of a page is over."""
    call(served.url, "allow", [10**6])
    client = Client(served.url, verbose=False)
    (row,) = client.predict([handle_file(str(file))], api_name="/detect_many")
    client.close()
    assert row["error"] is None
    return look_inside(served)["passes"]


def begin_many(page, tmp_path):
    """Start a run over 80 pictures in an archive, and wait for its first eight."""
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for seed in range(80):
            archive.writestr(f"{seed}.png", noise(seed))
    check(page, [tmp_path / "many.zip"])
    page.wait_for_function("/\\b8 of 80/.test(document.querySelector('#batch-progress').innerText)", timeout=60_000)


def test_stopping_keeps_what_was_judged_and_judges_no_more(gated, open_page, tmp_path):
    page = open_page(gated.url)
    before = look_inside(gated)["passes"]
    begin_many(page, tmp_path)
    assert page.get_attribute("#batch-progress [role=progressbar]", "aria-valuenow") == "10"
    assert not page.is_enabled("#batch-check")
    page.click("#batch-stop")
    wait_until_done(page)
    assert "Stopped." in page.inner_text("#batch-summary")
    # The first batch, the one that was being judged, and the other run's.
    assert passes_after_another_run(gated, EXAMPLES / "china.jpg") <= before + 3
    assert "of 80" not in page.inner_text("#batch-progress")
    kept = json.loads(download(page, "#batch-json"))
    assert [row["name"] for row in kept] == [f"many.zip/{index}.png" for index in range(len(kept))]
    assert 8 <= len(kept) < 80
    assert page.is_enabled("#batch-check")


def test_the_rows_of_a_closed_page_are_forgotten(served, open_page, files):
    page = open_page(served.url)
    check(page, files)
    wait_until_done(page)
    assert look_inside(served)["rows_held"] >= 4
    page.context.close()
    wait_for(lambda: look_inside(served)["rows_held"] == 0)


def test_closing_the_page_ends_its_run(gated, open_page, tmp_path):
    page = open_page(gated.url)
    before = look_inside(gated)["passes"]
    begin_many(page, tmp_path)
    page.context.close()
    wait_for(lambda: look_inside(gated)["rows_held"] == 0)
    assert passes_after_another_run(gated, EXAMPLES / "china.jpg") <= before + 3
    assert look_inside(gated)["rows_held"] == 0


def test_uploads_are_deleted_and_their_loss_is_a_sentence(python, default_folder, open_page, files, tmp_path):
    with serve(python, tmp_path, cache_seconds=1) as served:
        page = open_page(served.url)
        page.set_input_files("#batch-files input[type=file]", files)
        page.wait_for_selector("#batch-files .file-preview", timeout=30_000)
        wait_for(lambda: uploads_in(served.uploads) == [])
        page.click("#batch-check")
        wait_until_done(page, "Could not be read: 3.")
        assert "no longer on the server" in column(page, NOTE)[0]
        assert "Traceback" not in page.inner_text("body")


def uploads_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_programs_get_the_same_answers(served, files, detector):
    client = Client(served.url, verbose=False)
    rows = client.predict([handle_file(str(path)) for path in files], api_name="/detect_many")
    assert [row["verdict"] for row in rows][:3] == [
        detector.detect(EXAMPLES / name).verdict for name in ("flower.jpg", "flux_dev.webp", "china.jpg")
    ]
    assert set(rows[0]) == {"name", "marks", *detector.detect(EXAMPLES / "china.jpg").to_dict()}
    assert "not a picture" in rows[3]["error"]
    client.close()


@pytest.mark.parametrize(
    "payload",
    [
        [{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}],
        [{"path": "/etc/hostname"}],
        [{"path": str(EXAMPLES / "china.jpg")}],
    ],
)
def test_files_that_were_not_uploaded_are_never_read(served, payload):
    assert "sha256" not in call(served.url, "detect_many", [payload])


def test_no_files_is_a_sentence(served):
    assert "Please choose pictures or a zip archive first." in call(served.url, "detect_many", [[]])


def call(url, name, data):
    """An endpoint by hand, without the client's own checks; the events as text."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/gradio_api/call/{name}", json.dumps({"data": data}).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}/gradio_api/call/{name}/{event}", timeout=60) as reply:
        return reply.read().decode()
