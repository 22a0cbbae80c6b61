"""Counting the parts of a file: what honest programs write passes, what costs readers minutes is refused at once."""

import io
from contextlib import suppress

import pytest
from PIL import Image

from modeling import file_structure
from modeling.embedded import example_files
from modeling.file_structure import TooManyPartsError, check_gif, check_jpeg, check_png, check_webp
from modeling.images import ImageError, open_image, read_header
from tests import worst_files
from tests.worst_files import WORST, chunk, gif_with, jpeg, jpeg_segment, jpeg_with, many_scans, png_with

# Refused by a count; the time of all others is bounded by what the counts leave, or by the clock.
REFUSED = [
    "scans_of_a_progressive.jpg",
    "empty_scans.jpg",
    "exif_segments.jpg",
    "small_exif_segments.jpg",
    "empty_segments.jpg",
    "comments.jpg",
    "photoshop_blocks.jpg",
    "profile_pieces.jpg",
    "junk_between_markers.jpg",
    "stuffed_junk.jpg",
    "fill_bytes.jpg",
    "tables.jpg",
    "frames_of_255_layers.jpg",
    "empty_chunks.png",
    "empty_chunks_behind.png",
    "profiles_that_inflate.png",
    "texts_without_name_that_inflate.png",
    "broken_texts_that_inflate.png",
    "texts_that_inflate_behind.png",
    "long_colour_chunk.png",
    "empty_pieces.png",
    "blocks_of_a_comment.gif",
    "short_blocks_of_a_comment.gif",
    "comments.gif",
    "extensions.gif",
    "single_byte_blocks.gif",
    "comments_behind_a_frame.gif",
    "frames.webp",
    "chunks.webp",
]


def encoded(codec, **options):
    buffer = io.BytesIO()
    Image.effect_noise((200, 150), 80).convert("RGB").save(buffer, codec, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_too_many_parts_is_refused_before_a_reader_meets_it(name):
    data = WORST[name](8 * 2**20)
    for step in (open_image, read_header):
        with pytest.raises(ImageError, match="more parts than any camera"):
            step(data)


@pytest.mark.parametrize("path", example_files(), ids=lambda path: path.name)
def test_the_example_pictures_pass(path):
    assert open_image(path).mode == "RGB"


ONE_FEWER = {
    "scans": (check_jpeg, "MAX_SCANS", many_scans(64, 20), 1),
    "pixels in scans": (check_jpeg, "MAX_SCANNED_PIXELS", many_scans(64, 20), 4096),
    "segments": (check_jpeg, "MAX_SEGMENTS", jpeg_with(jpeg_segment(0xEA, b"") * 20), 1),
    "EXIF": (check_jpeg, "MAX_EXIF_SEGMENTS", jpeg_with(jpeg_segment(0xE1, b"Exif\0\0") * 20), 1),
    "resources": (check_jpeg, "MAX_RESOURCES", jpeg_with(jpeg_segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 9)), 1),
    "tables": (check_jpeg, "MAX_TABLE_BYTES", jpeg(), 1),
    "junk in a JPEG": (check_jpeg, "MAX_JUNK", jpeg_with(b"\1\2\3" * 9), 1),
    "chunks": (check_png, "MAX_CHUNKS", png_with(chunk(b"abCd", b"") * 20), 1),
    "inflated": (check_png, "MAX_INFLATED", png_with(chunk(b"zTXt", b"") * 20), 1),
    "small chunk": (check_png, "MAX_SMALL_CHUNK", png_with(chunk(b"cHRM", bytes(32))), 1),
    "blocks": (check_gif, "MAX_GIF_BLOCKS", gif_with(b"!\xff", b"\3abc" * 20), 1),
    "extensions": (check_gif, "MAX_EXTENSIONS", gif_with(b"!\1\0" * 20, b""), 1),
    "comment": (check_gif, "MAX_COMMENT", gif_with(b"!\xfe", b"\3abc" * 20), 1),
    "WebP": (check_webp, "MAX_FRAMES", encoded("WEBP") + b"abcd\0\0\0\0" * 20, 1),
    "junk in a GIF": (check_gif, "MAX_JUNK", gif_with(b"\1\2\3" * 9, b""), 1),
}


@pytest.mark.parametrize(("check", "limit", "data", "step"), ONE_FEWER.values(), ids=ONE_FEWER)
def test_each_limit_is_counted_exactly(monkeypatch, check, limit, data, step):
    """The smallest limit that lets a file pass is what it holds: one step fewer refuses it."""
    check(data)
    lowest = next(value for value in range(step, 10**6, step) if passes(monkeypatch, check, limit, data, value))
    assert lowest > step
    assert not passes(monkeypatch, check, limit, data, lowest - 1)
    assert passes(monkeypatch, check, limit, data, lowest + 1)


def passes(monkeypatch, check, limit, data, value):
    monkeypatch.setattr(file_structure, limit, value)
    try:
        check(data)
    except TooManyPartsError:
        return False
    return True


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_cut_or_scrambled_file_never_raises_anything_else(codec):
    check = {"JPEG": check_jpeg, "PNG": check_png, "GIF": check_gif, "WEBP": check_webp}[codec]
    data = encoded(codec)
    for length in range(0, len(data), 7):
        check(data[:length])
    for place in range(8, len(data), 5):
        with suppress(TooManyPartsError):  # a length that was changed may promise too much
            check(data[:place] + b"\xff" + data[place + 1 :])


def test_what_stands_behind_the_end_of_a_jpeg_is_not_counted():
    """A telephone's moving picture carries a film there, in which any bytes may stand."""
    check_jpeg(jpeg(progressive=True) + jpeg_segment(0xDA, b"") * 200_000)


def test_a_picture_in_one_scan_is_not_searched_for_others(monkeypatch):
    monkeypatch.setattr(file_structure, "MAX_SCANS", 1)
    check_jpeg(jpeg())
    with pytest.raises(TooManyPartsError):
        check_jpeg(jpeg(progressive=True))


def test_an_end_before_the_first_scan_hides_nothing():
    """Pillow reads on behind it."""
    end = b"\xff\xd9"
    with pytest.raises(TooManyPartsError):
        check_jpeg(jpeg_with(end, jpeg_segment(0xE1, b"Exif\0\0") * 100))
    again = b"\xff\xd8\xff\xf0"  # markers without a length
    with pytest.raises(TooManyPartsError):
        check_jpeg(jpeg_with(again, jpeg_segment(0xE1, b"Exif\0\0") * 100))


def test_all_kinds_of_this_file_are_among_the_worst():
    assert set(REFUSED) <= set(worst_files.WORST)
