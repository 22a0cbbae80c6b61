"""Settings in the lowest bits of the pixels: every variant, what is not there, and hostile lengths and contents."""

import io
import json
import tracemalloc

import pytest
from PIL import Image

from modeling.provenance import hidden_settings
from modeling.provenance.hidden_settings import read_hidden_settings
from modeling.provenance.reading import read_provenance
from tests.modeling.provenance.marked_files import PROMPT, WEBUI, encoded, found, with_hidden

NOVELAI = json.dumps(
    {"Description": PROMPT, "Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Comment": '{"uncond_scale": 1}'}
)
WAYS = [("alpha", "RGBA"), ("rgb", "RGB"), ("rgb", "RGBA")]


@pytest.mark.parametrize("codec", ["PNG", "WEBP"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(("way", "mode"), WAYS)
def test_each_variant_is_read_and_the_prompt_stays_private(way, mode, compress, codec):
    data = with_hidden(WEBUI, way, compress, codec, mode)
    assert read_hidden_settings(data) == WEBUI
    evidence = {item.code: item for item in read_provenance(data).evidence}
    assert evidence.keys() == {"hidden_settings", "generator_model", "prompt"}
    assert evidence["generator_model"].values == {"tool": "Stable Diffusion web UI", "model": "sdxl_base_1.0"}
    assert PROMPT not in json.dumps(read_provenance(data).to_dict())


def test_novelai_names_its_model_in_the_alpha_bits():
    evidence = {item.code: item.values for item in read_provenance(with_hidden(NOVELAI)).evidence}
    assert evidence["generator_model"] == {"tool": "NovelAI", "model": "NovelAI Diffusion V4"}


def test_settings_of_an_unknown_program_are_a_mark_too():
    assert found(with_hidden("only some words")) == {"hidden_settings": ("generated", "moderate")}


@pytest.mark.parametrize("codec", ["PNG", "WEBP", "JPEG", "GIF"])
def test_an_ordinary_picture_hides_nothing(codec):
    assert read_hidden_settings(encoded(codec)) is None


def test_transparent_picture_hides_nothing():
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64)).save(buffer, "PNG")
    assert read_hidden_settings(buffer.getvalue()) is None


@pytest.mark.parametrize("length", [0, 7, 2**32 - 1])
@pytest.mark.parametrize("compress", [True, False])
def test_a_length_that_is_a_lie_costs_nothing(length, compress):
    assert found(with_hidden(WEBUI, compress=compress, length=length))["hidden_settings"] == ("generated", "moderate")


def test_a_bomb_is_unpacked_within_bounds():
    data = with_hidden("\0" * 1_200_000)
    tracemalloc.start()
    assert read_hidden_settings(data) == ""
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_damaged_pixels_hide_nothing():
    assert read_hidden_settings(with_hidden(WEBUI)[:2000]) is None


def test_a_picture_beyond_the_limit_is_not_decoded_again(monkeypatch):
    data = with_hidden(WEBUI)
    monkeypatch.setattr(hidden_settings, "MAX_PIXELS", 96 * 128 - 1)
    assert read_hidden_settings(data) is None
