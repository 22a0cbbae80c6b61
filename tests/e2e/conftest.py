"""A running page as a user starts it, and a real browser."""

import shutil

import pytest

from tests.running_page import running_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def app(python, default_folder, tmp_path_factory):
    with running_page(python, tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="module")
def browser():
    """Closed after each file: while it is open, an event loop runs in this thread, and no test may start another."""
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, app):
    """Open the page; width, colour scheme and language as wanted. `page.requests` lists every URL asked for."""
    contexts = []

    def open_page(width=1440, height=1000, scheme="light", locale="en-US", url=None):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.requests, page.problems = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(url or app.url, wait_until="domcontentloaded")
        page.wait_for_selector("#check", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def check():
    """Upload a picture, press the button and wait for the whole answer."""

    def check(page, file, whole=True):
        page.set_input_files("#picture input[type=file]", file)
        page.wait_for_selector("#picture img", state="attached", timeout=30_000)
        page.click("#check")
        page.wait_for_selector("#answer .card", timeout=60_000)
        if whole:
            page.wait_for_selector("#explanation img", timeout=60_000)

    return check
