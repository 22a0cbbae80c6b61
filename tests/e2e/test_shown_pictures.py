"""Every file of a folder of cases has the pixels that a viewer shows: Chromium, libheif's and libtiff's own tools.

`python -m pytest -m long -s tests/e2e/test_shown_pictures.py` prints the table of docs/formats.md.
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

pytestmark = pytest.mark.long
MAX_MEAN = 2.0


def row(name, before, ours, theirs):
    """A line of the table; the mean difference."""
    difference = np.abs(np.asarray(ours, float) - theirs)
    ignored = np.abs(np.asarray(before, float) - theirs).mean()
    sys.stdout.write(f"| {name} | {ignored:.2f} | {difference.mean():.2f} | {np.percentile(difference, 99.9):.0f} |\n")
    return difference.mean()


def without_declaration(data):
    """What Pillow alone gives."""
    image = Image.open(io.BytesIO(data))
    if image.mode in ("RGBA", "LA"):
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def test_browser_shows_the_same_pixels(browser):
    width, height = shown_cases.SIZE
    page = browser.new_page(viewport={"width": width, "height": height})
    sys.stdout.write("\n| file | mean without | mean now | 99.9 % under |\n|---|---|---|---|\n")
    far = {}
    for name, data in shown_cases.shown_by_browsers().items():
        kind = {"jpg": "jpeg"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1])
        address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        page.set_content(f'<body style="margin:0;background:#fff"><img style="display:block" src="{address}">')
        page.wait_for_function("document.images[0].complete && document.images[0].decode()")
        shown = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), float)
        try:
            before = without_declaration(data)
        except OSError:
            before = Image.new("RGB", shown_cases.SIZE, "white")
        if row(name, before, open_image(data), shown) > MAX_MEAN:
            far[name] = True
    page.close()
    assert not far


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
