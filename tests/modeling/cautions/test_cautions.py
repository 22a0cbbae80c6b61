"""Each caution is given where it should be, and an ordinary photograph gets none."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFilter
from PIL.PngImagePlugin import PngInfo

from modeling.cautions.finding import find_cautions
from modeling.cautions.flatness import common_colours, hard_edges, is_flat
from modeling.cautions.known_data import KnownData
from modeling.cautions.screenshot import has_screen_size, says_screenshot
from modeling.compression import jpeg_quality
from modeling.embedded import ROOT
from modeling.file_metadata import read_metadata
from modeling.images import open_image, read_header
from modeling.sentences import LANGUAGES, all_sentences
from tests.pictures import encoded

PHOTOGRAPH = ROOT / "examples" / "china.jpg"
KNOWN = KnownData(torch.zeros(2), torch.eye(2), torch.linspace(0, 10, 1001), ("", ""), {})


def codes(data, **options):
    return [caution.code for caution in find_cautions(data, open_image(data), model_side=224, **options)]


def photograph(size=(640, 427)):
    return open_image(PHOTOGRAPH).resize(size, Image.Resampling.LANCZOS)


def drawing(size=(640, 480)):
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 60, 300, 200), fill="navy")
    for top in range(220, size[1], 12):
        draw.line((20, top, size[0] - 20, top), fill="black", width=3)
    return picture


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.*p*g")), ids=lambda path: path.name)
def test_an_ordinary_photograph_gets_none(path):
    assert codes(path.read_bytes()) == []


@pytest.mark.parametrize(("side", "small"), [(100, True), (223, True), (224, False)])
def test_a_picture_smaller_than_the_models_input_is_small(side, small):
    picture = photograph((300, side))
    found = [caution for caution in find_cautions(None, picture, model_side=224) if caution.code != "elongated"]
    assert [caution.code for caution in found] == (["small"] if small else [])
    if small:
        assert found[0].values == {"width": 300, "height": side, "side": 224}
    assert find_cautions(None, picture, model_side=301)[0].values["side"] == 301


@pytest.mark.parametrize(("quality", "poor"), [(10, True), (30, True), (40, True), (45, False), (75, False)])
def test_a_strongly_compressed_jpeg_is_named_with_its_quality(quality, poor):
    data = encoded(photograph(), "JPEG", quality=quality)
    found = find_cautions(data, open_image(data), model_side=224)
    assert [caution.code for caution in found] == (["compressed_jpeg"] if poor else [])
    assert jpeg_quality(read_header(data)) == pytest.approx(quality, abs=2)  # tables end at 255
    if poor:
        assert found[0].values == {"quality": jpeg_quality(read_header(data))}


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF"])
def test_few_bits_a_pixel_are_strong_compression(file_format):
    blurred = photograph().filter(ImageFilter.GaussianBlur(4))
    assert codes(encoded(blurred, file_format, quality=1)) == ["compressed"]
    assert codes(encoded(photograph(), file_format, quality=80)) == []
    assert "compressed" not in codes(encoded(drawing(), file_format, quality=80))


@pytest.mark.parametrize(("size", "percent"), [((640, 300), 47), ((300, 640), 47), ((640, 330), None)])
def test_a_picture_of_which_the_square_is_less_than_half_is_elongated(size, percent):
    found = find_cautions(None, photograph(size), model_side=224)
    assert [caution.values for caution in found] == ([{"percent": percent}] if percent else [])


def test_a_drawing_is_flat_with_hard_edges_and_a_photograph_is_not():
    assert common_colours(drawing()) > 0.99 > common_colours(photograph())
    assert hard_edges(drawing()) > 0.5 > hard_edges(photograph())
    assert codes(encoded(drawing(), "PNG")) == ["drawing"]
    assert codes(encoded(drawing(), "JPEG", quality=85)) == ["drawing"]


@pytest.mark.parametrize("size", [(32, 32), (32, 5000), (5000, 40)])
def test_measures_of_flatness_bear_every_size_and_one_colour(size):
    for picture in (Image.new("RGB", size, "red"), photograph(size)):
        assert 0 < common_colours(picture) <= 1
        assert 0 <= hard_edges(picture) <= 1
        assert is_flat(picture) in (True, False)


def test_a_file_that_says_so_is_a_screenshot():
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0Screenshot"
    assert codes(encoded(photograph(), "JPEG", exif=exif)) == ["screenshot"]
    for key, value in (("Software", "gnome-screenshot"), ("XML:com.adobe.xmp", "<x>Screenshot</x>")):
        text = PngInfo()
        text.add_itxt(key, value)
        assert codes(encoded(photograph(), "PNG", pnginfo=text)) == ["screenshot"]
    text = PngInfo()
    text.add_text("Software", "screenshotter")
    assert not says_screenshot(read_metadata(encoded(photograph(), "PNG", pnginfo=text)))


def test_a_flat_lossless_file_of_a_screens_size_is_a_screenshot():
    assert codes(encoded(drawing((1366, 768)), "PNG")) == ["screenshot"]
    assert codes(encoded(drawing((1365, 768)), "PNG")) == ["drawing"]
    assert codes(encoded(photograph((1366, 768)), "PNG")) == []
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    assert not has_screen_size(read_metadata(encoded(drawing((1366, 768)), "PNG", exif=exif)), (1366, 768))
    assert has_screen_size(read_metadata(encoded(drawing((768, 1366)), "PNG")), (768, 1366))


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_judged(file_format):
    frames = [photograph(), photograph().rotate(180)]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert "first_frame" in codes(data)
    assert "first_frame" not in codes(encoded(frames[0], file_format))


def test_of_a_document_the_first_page_is_judged():
    assert codes(encoded(photograph(), "TIFF", save_all=True, append_images=[photograph()])) == ["first_page"]
    assert codes(encoded(photograph(), "TIFF")) == []


def test_a_picture_beyond_nearly_all_held_out_ones_is_far():
    def found(distance, known_data=KNOWN):
        return find_cautions(
            None, photograph(), embedding=torch.tensor([[0.0, distance]]), known_data=known_data, model_side=224
        )

    assert found(9.5) == ()
    assert found(9.95)[0].to_dict()["values"] == {"percent": 99}
    assert found(500.0)[0].code == "far"
    assert found(500.0, None) == ()
    assert found(float("nan")) == ()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_metadata_and_foreign_bytes_raise_nothing():
    assert find_cautions(b"no picture", photograph(), model_side=224) == ()
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0Screenshot"
    whole = encoded(photograph(), "JPEG", exif=exif)
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(20, 110, 6):  # within the EXIF block
            data[place] = rng.integers(256)
        assert isinstance(find_cautions(bytes(data), Image.new("RGB", (300, 300)), model_side=224), tuple)


def test_a_caution_has_words_in_every_language_and_its_values_are_numbers():
    pictures = [encoded(photograph((900, 100)), "JPEG", quality=10), encoded(drawing(), "PNG")]
    for data in pictures:
        for caution in find_cautions(
            data, open_image(data), embedding=torch.ones(2) * 99, known_data=KNOWN, model_side=224
        ):
            assert all(isinstance(value, int | float) for value in caution.values.values())
            assert len({caution.sentence(language) for language in LANGUAGES}) == len(LANGUAGES)
            assert caution.to_dict()["sentence"] == caution.sentence("en")


def test_every_sentence_is_of_a_code_that_is_given():
    assert set(all_sentences()["cautions"]) == {
        *("small", "compressed_jpeg", "compressed", "elongated", "screenshot", "drawing", "first_frame"),
        *("first_page", "far", "document", "incomplete", "raw_preview", "no_content"),
    }
