"""The page in a real browser with the real default checkpoint: what a visitor sees."""

import json
import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, PngImagePlugin

from modeling.embedded import ROOT, example_files
from modeling.examination import examine
from modeling.sentences import sentence
from modeling.stability import STABILITY_DELIVERIES
from tests.running_page import running_page

PHOTOGRAPH = ROOT / "examples" / "china.jpg"
GENERATED = ROOT / "examples" / "flux_dev.webp"


def screenshot(page, name):
    """For a person to look at: SCREENSHOTS=folder pytest tests/e2e."""
    if folder := os.environ.get("SCREENSHOTS"):
        wait_until_still(page)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def wait_until_still(page):
    """No animation runs that ends by itself."""
    page.wait_for_function(
        "document.getAnimations().every(a => a.playState !== 'running' ||"
        " a.effect.getComputedTiming().iterations === Infinity)"
    )


@pytest.mark.parametrize(
    ("file", "width", "scheme"),
    [
        (PHOTOGRAPH, 390, "light"),
        (GENERATED, 1440, "dark"),
        pytest.param(PHOTOGRAPH, 1440, "dark", marks=pytest.mark.long),
        pytest.param(GENERATED, 390, "light", marks=pytest.mark.long),
    ],
)
def test_a_picture_gets_the_whole_answer_and_every_tab_is_accessible(
    open_page, app, check, detector, file, width, scheme
):
    page = open_page(width=width, scheme=scheme)
    check(page, file)
    expected, config = detector.detect(file), detector.model.config
    percent = round(100 * expected.probability, 1)
    card = page.inner_text("#answer")
    assert sentence("card", final_verdict(detector, file)) in card
    assert f"would be {percent} %" in card
    false_alarms = config.operating_point["false_positive_rate"]["value"]
    assert f"called {100 * false_alarms:.0f} of 100 real ones generated" in card
    assert expected.sha256 in card and detector.version in card
    scale = page.get_attribute("#answer .scale", "aria-label")
    assert (
        f"this picture is at {percent}" in scale
        and f"called generated from {round(100 * config.generated_threshold, 1)}" in scale
    )
    assert page.locator("#stability tbody tr").count() == len(STABILITY_DELIVERIES) + 1
    assert sentence("card", "provenance_title") in page.inner_text("#provenance")
    assert page.locator("#explanation img").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    foreign = [url for url in page.requests if not url.startswith((app.url, "data:", "blob:"))]
    assert foreign == [] and page.problems == []
    screenshot(page, f"{file.stem}-{width}-{scheme}")
    for tab, part in (("tab_one", "#check"), ("tab_many", "#batch-check"), ("tab_about", "#about-card")):
        open_tab(page, tab, part)
        assert serious_violations(page) == [], tab
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        screenshot(page, f"{tab}-{width}-{scheme}")


def final_verdict(detector, file):
    """After the stability check."""
    *_, answer = examine(detector, file)
    return answer.verdict


def open_tab(page, tab, part):
    """Click on a tab, which may be in the menu of a narrow page, and wait until its part is shown."""
    button = page.get_by_role("tab", name=sentence("page", tab))
    if not button.is_visible():
        page.locator(".overflow-menu button").first.click()
        button = page.get_by_role("button", name=sentence("page", tab))
    button.first.click()
    page.wait_for_selector(part, state="visible", timeout=20_000)
    wait_until_still(page)


def serious_violations(page):
    """What the accessibility checker finds."""
    return [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("locale", "language"), [("es-MX", "es"), ("zh-CN", "zh"), ("fr-FR", "en")])
def test_the_page_speaks_the_visitors_language(open_page, locale, language):
    page = open_page(locale=locale)
    page.wait_for_function(
        "text => document.querySelector('#check').innerText.trim() === text",
        arg=sentence("page", "check", language),
        timeout=20_000,
    )
    assert sentence("page", "tab_many", language) in page.inner_text("body")


@pytest.mark.parametrize(
    ("locale", "language"), [("es-MX", "es"), pytest.param("zh-CN", "zh", marks=pytest.mark.long)]
)
def test_the_answer_speaks_the_visitors_language(open_page, check, locale, language):
    page = open_page(locale=locale)
    check(page, PHOTOGRAPH, whole=False)
    assert sentence("card", "not_mean_title", language) in page.inner_text("#answer")
    assert page.get_attribute("#answer .card", "lang") == language


def test_everything_can_be_reached_by_keyboard(open_page, check):
    page = open_page()
    check(page, PHOTOGRAPH, whole=False)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert "check" in reached and "SUMMARY" in reached
    page.focus("#answer summary")
    page.keyboard.press("Enter")
    assert sentence("card", "not_mean_2") in page.inner_text("#answer details")


def test_a_small_picture_comes_with_a_warning(open_page, check, tmp_path):
    small = tmp_path / "small.png"
    Image.open(PHOTOGRAPH).resize((120, 80)).save(small)
    page = open_page()
    check(page, small, whole=False)
    page.wait_for_selector("#answer .cautions", timeout=20_000)
    assert "120" in page.inner_text("#answer .cautions") or "80" in page.inner_text("#answer .cautions")


def test_what_the_file_says_stands_beside_the_score(open_page, check, tmp_path, detector):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: dreamshaper")
    file = tmp_path / "claims.png"
    Image.open(PHOTOGRAPH).save(file, pnginfo=notes)
    page = open_page()
    check(page, file, whole=False)
    page.wait_for_function("document.querySelector('#provenance').innerText.includes('dreamshaper')", timeout=60_000)
    shown = page.inner_text("#provenance")
    assert sentence("card", "points_generated") in shown
    assert "castle" not in shown
    assert f"would be {round(100 * detector.detect(PHOTOGRAPH).probability, 1)} %" in page.inner_text("#answer")


def test_a_files_text_is_never_taken_for_html(open_page, check, tmp_path):
    notes = PngImagePlugin.PngInfo()
    evil = "<img src=x onerror=window.hurt=1>"
    notes.add_text("parameters", f"x\nSteps: 20, Sampler: {evil}, CFG scale: 7, Model: {evil}")
    notes.add_text("Software", evil)
    file = tmp_path / "evil.png"
    Image.open(PHOTOGRAPH).save(file, pnginfo=notes)
    page = open_page()
    check(page, file, whole=False)
    page.wait_for_function("document.querySelector('#provenance').innerText.includes('onerror')", timeout=60_000)
    assert page.evaluate("window.hurt") is None


def test_a_bad_file_gets_a_sentence_in_the_visitors_language(open_page, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(PHOTOGRAPH.read_bytes()[:20_000])
    page = open_page(locale="es-ES")
    page.set_input_files("#picture input[type=file]", bad)
    page.wait_for_selector("#picture img", state="attached", timeout=30_000)
    page.click("#check")
    page.wait_for_selector(".toast-body", timeout=30_000)
    assert sentence("image", "damaged", "es") in page.inner_text(".toast-body")
    assert "Traceback" not in page.inner_text("body")


def test_the_about_tab_shows_the_measured_card(open_page):
    page = open_page()
    page.get_by_role("tab", name=sentence("page", "tab_about")).click()
    page.wait_for_selector("#about-card h3", timeout=20_000)
    figures = json.loads((ROOT / "checkpoints" / "default" / "evaluation.json").read_text())
    assert f"{figures['auc']['value']:.3f}" in page.inner_text("#about-card")
    assert "model-index" not in page.inner_text("#about-card")
    assert "train calibrate" in page.inner_text("#about-calibrate")
    page.wait_for_selector("#about-plots img", timeout=20_000)


def test_a_checkpoint_that_reads_captions_shows_the_box_and_its_effect(python, open_page, tiny_text_folder, tmp_path):
    with running_page(python, tmp_path, MODEL_ID=str(tiny_text_folder)) as app:
        page = open_page(url=app.url)
        page.set_input_files("#picture input[type=file]", PHOTOGRAPH)
        page.wait_for_selector("#picture img", state="attached", timeout=30_000)
        page.fill("#caption textarea", "a b c")
        page.click("#check")
        page.wait_for_selector("#answer .card", timeout=60_000)
        assert "Without the caption it would be" in page.inner_text("#answer")
        assert "was not measured" in page.inner_text("#answer")


def test_the_examples_answer_at_a_click(open_page, detector):
    page = open_page()
    page.locator("#examples button.gallery-item").first.click()
    page.wait_for_selector("#picture img", state="attached", timeout=30_000)
    page.click("#check")
    page.wait_for_selector("#answer .card", timeout=60_000)
    assert sentence("card", final_verdict(detector, example_files()[0])) in page.inner_text("#answer")
