"""The words and the HTML of the answer."""

import dataclasses
import re

import pytest
from PIL import Image

from modeling.detector import Detection
from modeling.examination import Examination
from modeling.provenance.content_credentials import TRUST_LIST_DATE
from modeling.provenance.reading import read_provenance
from modeling.provenance.searched import SYNTHID_CHECKS, searched
from modeling.sentences import LANGUAGES, sentence
from modeling.stability import Stability
from space.result_card import card_html, error_rates, provenance_html, stability_html
from tests.modeling.provenance.marked_files import COMFY, with_texts
from train.measure.conformal import as_field, conformal_operating_point

RATES = {"false_positive_rate": 0.03, "true_positive_rate": 0.47, "false_negative_rate": 0.18}
MEASURED = {name: {"value": value, "interval": [0, 1]} for name, value in RATES.items()}


def examination(operating_point=None, stability=None, **fields):
    values = {
        "verdict": "uncertain",
        "probability": 0.8562,
        "real_threshold": 0.3,
        "generated_threshold": 0.8563,
        "width": 64,
        "height": 48,
        "sha256": "ab" * 32,
        "model": "mine",
    }
    picture = Image.new("RGB", (64, 48))
    return Examination(
        Detection(**(values | fields)), picture, "JPEG", 1000, "0123456789ab", operating_point, stability=stability
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_looked_for_is_listed_with_who_writes_it(language):
    found = dataclasses.replace(examination(), provenance=read_provenance(with_texts(prompt=COMFY)))
    html = provenance_html(found, language).replace("&#39;", "'")
    codes = ("credentials", "labels", "settings", "hidden_settings", "aigc")
    assert [kind.code for kind in searched(found.provenance.evidence) if kind.found] == ["settings"]
    for code in codes:
        beginning = sentence("marks", code, language, generators="|").partition("|")[0]
        assert beginning in words(html)
    assert words(html).count(sentence("marks", "not_found", language)) >= 4
    assert sentence("marks", "absence", language) in words(html)
    assert TRUST_LIST_DATE in html
    for address in SYNTHID_CHECKS.values():
        assert f'href="{address}" target="_blank" rel="noopener noreferrer"' in html


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_an_uncertain_answer_stays_below_the_threshold_that_is_shown():
    html = card_html(examination(probability=0.852), "en")
    assert "would be 85.2 %" in words(html)
    assert "this picture is at 85.2. Called real up to 30.0, called generated from 85.6" in html
    assert "left:85.2%" in html
    assert sentence("card", "uncertain") in words(html)
    assert "was not measured" in words(html)


def test_both_errors_of_the_checkpoint_are_said():
    text = error_rates(MEASURED, "en")
    assert "called 3 of 100 real ones generated" in text
    assert "it called 47 generated and 18 real, and was uncertain about the rest" in text


@pytest.mark.parametrize("photographs", [30, 200])
def test_a_threshold_of_ones_own_says_what_it_promises(photographs):
    point = conformal_operating_point([index / photographs for index in range(photographs)], 0.01)
    html = card_html(examination(as_field(point), generated_threshold=point.threshold), "en")
    assert f"was set on {photographs} photographs of the user's own, so that at most 1 in 100" in words(html).replace(
        "&#39;", "'"
    )
    assert ("never called generated" in html) == (photographs == 30)


def test_the_part_of_a_caption_is_said():
    html = card_html(examination(probability_without_caption=0.123), "en")
    assert "Without the caption it would be 12.3 %." in words(html)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_verdict_that_does_not_survive_becomes_uncertain_and_says_why(language):
    stability = Stability(
        {"clean": 0.9, "web": 0.2}, {"clean": "generated", "web": "real"}, flipped=("web",), verdict="uncertain"
    )
    answer = examination(MEASURED, stability, verdict="generated", probability=0.9)
    html = card_html(answer, language)
    assert sentence("card", "uncertain", language) in words(html)
    assert stability.sentence(language) in words(html)
    assert answer.to_dict()["verdict"] == "uncertain"
    assert answer.to_dict()["verdict_as_it_came"] == "generated"


def test_the_stability_chart_shows_each_delivery_without_relying_on_colour():
    stability = Stability({"clean": 0.1, "web": 0.5}, {"clean": "real", "web": "uncertain"}, (), "real")
    text = words(stability_html(examination(stability=stability), "en"))
    assert f"{sentence('stability', 'clean')} 10.0 % ● real" in text
    assert f"{sentence('stability', 'web')} 50.0 % ◐ uncertain" in text


def test_parts_that_are_not_there_yet_say_so():
    assert sentence("card", "working") in words(stability_html(examination(), "en"))


def test_the_models_name_is_never_taken_for_html():
    assert "<b>" not in card_html(examination(model="<b>bold</b>"), "en")
