"""Every file of a folder of cases has the pixels that a viewer shows: Chromium, libheif's and libtiff's own tools.

`python -m pytest -m "long or not long" -s tests/e2e/test_shown_pictures.py` prints a line for each file, and
Chromium's version.
"""

import base64
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from modeling.images import open_image
from tests import colour_profiles, shown_cases

MAX_MEAN = 2.0
HEAD = "| file | mean without | mean now | 99.9 % under |\n|---|---|---|---|\n"
BLOCK = 8  # pixels of a side, in a JPEG


def row(name, before, ours, theirs):
    """A line of the table; the mean difference. `before` is what Pillow alone gives, if anything."""
    difference = np.abs(np.asarray(ours, float) - theirs)
    ignored = "-" if before is None else f"{np.abs(np.asarray(before, float) - theirs).mean():.2f}"
    sys.stdout.write(f"| {name} | {ignored} | {difference.mean():.2f} | {np.percentile(difference, 99.9):.0f} |\n")
    return difference.mean()


def without_declaration(data):
    """What Pillow alone gives."""
    image = Image.open(io.BytesIO(data))
    if image.mode in ("RGBA", "LA"):
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


# What a page gets of a picture once it is decoded, [height, width, RGBA]: a screenshot cannot tell white from nothing.
PIXELS = """async (address) => {
    const image = new Image()
    await new Promise((shown, failed) => { image.onload = shown; image.onerror = failed; image.src = address })
    await image.decode()
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d")
    canvas.drawImage(image, 0, 0)
    const { data } = canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight)
    let bytes = ""
    for (let start = 0; start < data.length; start += 8192)
        bytes += String.fromCharCode(...data.subarray(start, start + 8192))
    return btoa(bytes)
}"""


@pytest.fixture(scope="module")
def in_browser(browser):
    """From a name and the bytes of a file to the browser's pixels: on white, and how opaque each is."""
    page = browser.new_page()
    sys.stdout.write(
        f"\nChromium {browser.version}\n| file | mean without | mean now | 99.9 % under |\n|---|---|---|---|\n"
    )

    def in_browser(name, data):
        kind = {"jpg": "jpeg"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1])
        answer = page.evaluate(PIXELS, f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
        width, height = shown_cases.SIZE
        pixels = np.frombuffer(base64.b64decode(answer), np.uint8).reshape(height, width, 4).astype(float)
        opaque = pixels[..., 3:] / 255
        return pixels[..., :3] * opaque + 255 * (1 - opaque), opaque[..., 0]

    yield in_browser
    page.close()


@pytest.mark.long
def test_browser_shows_the_same_pixels(in_browser):
    far = {}
    for name, data in shown_cases.shown_by_browsers().items():
        shown, _ = in_browser(name, data)
        difference = row(name, without_declaration(data), open_image(data), shown)
        if difference > MAX_MEAN:
            far[name] = difference
    assert not far


@pytest.mark.long
def test_browser_shows_the_same_rows_of_a_file_that_ends_early(in_browser):
    """A browser leaves away a row of blocks that is not whole; here what was read of it is shown, and grey."""
    for name, (data, whole) in shown_cases.ending_early().items():
        shown, opaque = in_browser(name, data)
        ours, painted = np.asarray(open_image(data)), opaque.min(axis=1) == 1
        row(name, None, ours, shown)
        assert np.abs(ours[painted] - shown[painted]).mean() < 0.1, name
        rest, right = ours[~painted].astype(int), np.asarray(open_image(whole))[~painted]
        as_whole = (rest == right).all(-1) | (np.abs(rest - 128) <= 1).all(-1)
        as_whole[BLOCK:] = False
        other = ~(as_whole | (rest == 255).all(-1))
        assert other.sum() <= BLOCK**2, name  # the block in which the file ends


@pytest.mark.long
def test_browser_takes_the_levels_of_a_sequence_for_limited_ones(in_browser):
    """If this fails, the browser has been mended: its sequences of full range can join the other files."""
    data = shown_cases.avif_sequence(shown_cases.photograph(), "full")
    shown, _ = in_browser("full.avif", data)
    ours, right = np.asarray(open_image(data), float), np.asarray(shown_cases.photograph(), float)
    assert np.abs(ours - right).mean() < MAX_MEAN
    assert np.abs(shown - right).mean() > 5
    assert np.abs(np.clip((ours - 16) * 255 / 219, 0, 255) - shown).mean() < 1


@pytest.mark.skipif(shutil.which("heif-convert") is None, reason="apt-get install libheif-examples")
@pytest.mark.parametrize("space", ["srgb", "p3", "adobe_rgb"])
def test_heic_has_the_pixels_of_libheifs_own_tool(space, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = shown_cases.photograph()
    picture.info["icc_profile"] = colour_profiles.matrix_profile(space)
    pillow_heif.from_pillow(picture).save(tmp_path / "a.heic", quality=90, chroma=420)
    subprocess.run(["heif-convert", tmp_path / "a.heic", tmp_path / "a.png"], check=True, capture_output=True)
    decoded = Image.open(tmp_path / "a.png").convert("RGB")
    right = colour_profiles.expected(decoded, space)
    assert row(f"{space} profile.heic", decoded, open_image(tmp_path / "a.heic"), right) < MAX_MEAN


@pytest.mark.skipif(shutil.which("tiff2rgba") is None, reason="apt-get install libtiff-tools")
@pytest.mark.parametrize("space", ["p3", "adobe_rgb", "prophoto", None])
@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", None])
def test_tiff_has_the_pixels_of_libtiffs_own_tool(space, compression, tmp_path):
    options = {"icc_profile": colour_profiles.matrix_profile(space)} if space else {}
    shown_cases.photograph().save(tmp_path / "a.tif", compression=compression, **options)
    subprocess.run(
        ["tiff2rgba", "-c", "none", tmp_path / "a.tif", tmp_path / "b.tif"], check=True, capture_output=True
    )
    decoded = Image.open(tmp_path / "b.tif").convert("RGB")
    right = colour_profiles.expected(decoded, space) if space else np.asarray(decoded, float)
    name = f"{space or 'no'} profile, {compression or 'not compressed'}.tif"
    assert row(name, decoded, open_image(tmp_path / "a.tif"), right) < MAX_MEAN
