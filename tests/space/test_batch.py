"""A batch of files: one bad file never stops another, and no archive can take the machine along."""

import csv
import dataclasses
import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling.detector import Detection
from modeling.images import ImageError
from space.batch import Row, count_outcomes, judge, select, to_csv, to_json
from space.uploads import BatchError, expand
from tests.modeling.provenance.marked_files import CAMERA, SETTINGS, encoded, with_exif, with_texts

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = [EXAMPLES / "china.jpg", EXAMPLES / "flux_dev.webp", EXAMPLES / "flower.jpg"]


def picture(seed=0, size=(48, 40), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def make_zip(tmp_path):
    def make(contents, name="archive.zip", packing=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / name, "w", packing) as archive:
            for entry, data in contents.items():
                archive.writestr(entry, data)
        return str(tmp_path / name)

    return make


def reasons(paths, **options):
    """Entry names to why they cannot be read, `None` for those that can."""
    found = {}
    with expand([str(path) for path in paths], **options) as entries:
        for entry in entries:
            try:
                entry.read()
            except ImageError as error:
                found[entry.name] = str(error)
            else:
                found[entry.name] = None
    return found


def judged(detector, paths, **options):
    with expand([str(path) for path in paths]) as entries:
        return [row for rows in judge(detector, entries, **options) for row in rows]


# Listing and unpacking


def test_pictures_and_entries_of_archives_are_listed_in_order(make_zip):
    path = make_zip({"trip/a.png": picture(1), "b.png": picture(2)})
    with expand([str(PICTURES[0]), path]) as entries:
        assert [entry.name for entry in entries] == ["china.jpg", "archive.zip/trip/a.png", "archive.zip/b.png"]
        assert [entry.read() for entry in entries] == [PICTURES[0].read_bytes(), picture(1), picture(2)]


def test_archives_are_closed_afterwards(make_zip):
    with expand([make_zip({"a.png": picture()})]) as entries:
        pass
    with pytest.raises(ImageError):
        entries[0].read()


def test_folders_and_what_systems_add_are_left_out(make_zip):
    contents = {"a/": b"", "a/b.png": picture(), "__MACOSX/a/._b.png": b"x", "a/.DS_Store": b"x", "Thumbs.db": b"x"}
    assert reasons([make_zip(contents)]) == {"archive.zip/a/b.png": None}


def test_names_inside_are_only_labels(make_zip, tmp_path):
    path = make_zip({"../../outside.png": picture(1), "/etc/absolute.png": picture(2)})
    before = sorted(tmp_path.rglob("*"))
    assert list(reasons([path]).values()) == [None, None]
    assert sorted(tmp_path.rglob("*")) == before


def test_disguising_characters_are_shown_and_long_names_cut():
    names = ["photo\u202egpj.exe\n", "x" * 500 + ".jpg"]
    with expand([str(PICTURES[0])] * 2, names) as entries:
        assert entries[0].name == "photo\ufffdgpj.exe\ufffd"
        assert len(entries[1].name) == 120
        assert entries[1].name.endswith("x.jpg")


def test_an_archive_inside_an_archive_is_refused(make_zip):
    inner = Path(make_zip({"a.png": picture()}, "inner.zip")).read_bytes()
    assert "archive inside an archive" in reasons([make_zip({"inner.jpg": inner})])["archive.zip/inner.jpg"]


@pytest.mark.parametrize("cut", [10, 200])
def test_a_damaged_archive_is_one_row(make_zip, cut):
    path = make_zip({f"{index}.png": picture(index) for index in range(3)})
    Path(path).write_bytes(Path(path).read_bytes()[:-cut])
    assert "damaged or incomplete" in reasons([path])["archive.zip"]


def test_a_damaged_entry_leaves_the_others(make_zip):
    path = make_zip({"a.png": picture(1), "b.png": picture(2)}, packing=zipfile.ZIP_STORED)
    data = Path(path).read_bytes()
    at = data.index(picture(1)) + 50
    Path(path).write_bytes(data[:at] + b"\0\0\0\0" + data[at + 4 :])
    found = reasons([path])
    assert "damaged inside the archive" in found["archive.zip/a.png"]
    assert found["archive.zip/b.png"] is None


def test_a_locked_entry_says_so(make_zip):
    path = make_zip({"a.png": picture()})
    data = bytearray(Path(path).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    Path(path).write_bytes(data)
    assert "password" in reasons([path])["archive.zip/a.png"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_cannot_be_bounded_are_refused(make_zip, packing):
    assert "ordinary zip" in reasons([make_zip({"a.png": picture()}, packing=packing)])["archive.zip/a.png"]


def test_a_bomb_is_not_opened(make_zip):
    path = make_zip({"bomb.png": bytes(40 * 2**20), "good.png": picture()})
    assert Path(path).stat().st_size < 100_000
    found = reasons([path])
    assert "far more than a picture" in found["archive.zip/bomb.png"]
    assert found["archive.zip/good.png"] is None


def test_a_lying_header_gives_no_more_than_it_promises(make_zip):
    path = make_zip({"a.png": bytes(8 * 2**20)})
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    assert struct.unpack_from("<I", data, at) == (8 * 2**20,)
    struct.pack_into("<I", data, at, 1000)
    Path(path).write_bytes(data)
    assert "damaged inside the archive" in reasons([path])["archive.zip/a.png"]


def test_an_empty_archive_and_one_with_an_empty_file(make_zip):
    found = reasons([make_zip({}, "none.zip"), make_zip({"a.png": b""})])
    assert "holds no files" in found["none.zip"]
    assert "empty" in found["archive.zip/a.png"]


def test_too_many_files_are_refused_together(make_zip):
    path = make_zip({f"{index}.png": b"x" for index in range(1000)})
    with expand([path]) as entries:
        assert len(entries) == 1000
    with pytest.raises(BatchError, match="at most 1000"), expand([path, str(PICTURES[0])]):
        pass


def test_a_huge_directory_is_never_read(make_zip):
    path = make_zip({f"{'x' * 250}{index}": b"" for index in range(16_000)})
    with pytest.raises(BatchError, match="too many"), expand([path]):
        pass


def test_too_many_bytes_are_refused_before_anything_is_unpacked(make_zip):
    """Entries that say they are large; what they hold does not matter."""
    path = make_zip({f"{index}.png": bytes(100_000) for index in range(30)})
    data = bytearray(Path(path).read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into("<I", data, at + 24, 49 * 2**20)
        at = data.find(b"PK\x01\x02", at + 4)
    Path(path).write_bytes(data)
    with pytest.raises(BatchError, match="at most 1024 MB"), expand([path]):
        pass


def test_reasons_come_in_the_language_asked_for(make_zip):
    assert "no contiene" in reasons([make_zip({})], language="es")["archive.zip"]


# Judging


def test_each_file_gets_the_detectors_own_answer(detector):
    rows = judged(detector, PICTURES, batch_size=2)
    for row, path in zip(rows, PICTURES, strict=True):
        expected = detector.detect(path)
        assert row.name == path.name
        assert row.detection.probability == pytest.approx(expected.probability, abs=1e-5)
        same = {"probability": None, "score": None}
        assert dataclasses.replace(row.detection, **same) == dataclasses.replace(expected, **same)


def test_marks_of_a_file_stand_in_its_row_and_private_content_does_not(detector, tmp_path):
    gps, secret = {1: "N", 2: (48.0, 51.0, 29.5)}, "a private wish"
    contents = {
        "plain.jpg": encoded(),
        "prompt.png": with_texts(parameters=f"{secret}\nSteps: 20, Sampler: Euler a, Model: =1+1"),
        "camera.jpg": with_exif(main={**CAMERA, 315: secret}, inner=SETTINGS, gps=gps),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    plain, prompt, camera = judged(detector, [tmp_path / name for name in contents], language="es")
    assert (plain.marks, plain.note, plain.to_dict()["marks"]) == ((), "", [])
    assert [mark["code"] for mark in prompt.to_dict()["marks"]] == ["generator_model", "prompt"]
    assert set(prompt.to_dict()["marks"][0]) == {"code", "values", "points_to", "strength"}
    assert prompt.note.startswith("El archivo lleva la marca de Stable Diffusion web UI")
    assert camera.to_dict()["marks"][0]["values"] == {"camera": "Canon EOS R5", "lens": "RF50mm F1.2L USM"}
    table, objects = to_csv([prompt, camera]), to_json([prompt, camera])
    assert "generator_model (Stable Diffusion web UI, =1+1), prompt" in table
    assert not [text for text in (secret, "29.5", "2024") if text in table + objects]


def test_bad_files_never_stop_the_rest(detector, make_zip, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(PICTURES[0].read_bytes()[:20_000])
    archive = make_zip({"notes.txt": b"hello", "good.png": picture()})
    paths = [tmp_path / "text.jpg", PICTURES[0], tmp_path / "cut.jpg", tmp_path / "missing.jpg", archive]
    rows = judged(detector, paths)
    assert [row.detection.error is None for row in rows] == [False, True, False, False, False, True]
    assert "damaged or incomplete" in rows[2].detection.error
    assert "no longer on the server" in rows[3].detection.error
    assert count_outcomes(rows)["unreadable"] == 4
    assert sum(count_outcomes(rows).values()) == len(rows)


def test_the_same_file_is_judged_once_and_listed_each_time(detector, make_zip, monkeypatch):
    passes = []
    forward = detector.detect_prepared
    monkeypatch.setattr(detector, "detect_prepared", lambda pixels: passes.append(len(pixels)) or forward(pixels))
    archive = make_zip({f"{index}.jpg": PICTURES[0].read_bytes() for index in range(5)})
    rows = judged(detector, [PICTURES[0], archive], batch_size=4)
    assert passes == [1]
    assert [row.name for row in rows] == ["china.jpg", *[f"archive.zip/{index}.jpg" for index in range(5)]]
    digest = hashlib.sha256(PICTURES[0].read_bytes()).hexdigest()
    assert {row.detection.sha256 for row in rows} == {digest}


def test_thumbnails_are_small(detector):
    row = judged(detector, [PICTURES[0]])[0]
    with Image.open(io.BytesIO(row.thumbnail)) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) == 96
    assert len(row.thumbnail) < 8000


def test_a_run_stops_when_its_time_is_over(detector):
    rows = judged(detector, PICTURES, batch_size=1, seconds=-1)
    assert [row.name for row in rows] == [path.name for path in PICTURES]
    assert all("time for one run was over" in row.detection.error for row in rows)


def test_nothing_is_read_ahead(detector, make_zip):
    """Stopping after one batch leaves the others unread."""
    read = []
    with expand([make_zip({f"{index}.png": picture(index) for index in range(6)})]) as entries:
        watched = [dataclasses.replace(e, read=lambda e=e: read.append(e.name) or e.read()) for e in entries]
        run = judge(detector, watched, batch_size=2)
        next(run)
        run.close()
    assert len(read) == 2


# Filters and downloads

ROWS = [
    Row("holiday.jpg", Detection(verdict="real", probability=0.1, sha256="ab")),
    Row("=HYPERLINK(1).png", Detection(verdict="generated", probability=0.9)),
    Row('Été, "2".png', Detection(error="This file is empty.")),
]


@pytest.mark.parametrize(
    ("outcome", "text", "indices"),
    [
        ("all", "", [0, 1, 2]),
        ("real", "", [0]),
        ("unreadable", "", [2]),
        ("all", " PNG ", [1, 2]),
        ("real", "png", []),
    ],
)
def test_rows_are_selected_by_outcome_and_name(outcome, text, indices):
    assert select(ROWS, outcome, text) == [ROWS[index] for index in indices]


@pytest.mark.parametrize(
    ("order", "indices"),
    [("given", [0, 1, 2]), ("generated_first", [1, 0, 2]), ("real_first", [0, 1, 2]), ("by_name", [1, 0, 2])],
)
def test_rows_are_sorted_with_the_unreadable_ones_last(order, indices):
    assert select(ROWS, order=order) == [ROWS[index] for index in indices]


def test_csv_has_the_fields_of_a_detection():
    lines = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert list(lines[0]) == ["name", *Detection().to_dict(), "marks"]
    assert lines[0]["probability"] == "0.1"
    assert lines[0]["error"] == ""
    assert lines[2]["name"] == 'Été, "2".png'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_becomes_a_formula(start):
    line = list(csv.reader(io.StringIO(to_csv([Row(f"{start}1+1.jpg", Detection())]))))[1]
    assert line[0] == f"'{start}1+1.jpg"


def test_a_negative_score_stays_a_number():
    line = list(csv.DictReader(io.StringIO(to_csv([Row("a", Detection(score=-2.5))]))))[0]
    assert line["score"] == "-2.5"


def test_json_has_the_fields_of_a_detection():
    expected = [{"name": row.name, **row.detection.to_dict(), "marks": []} for row in ROWS]
    assert json.loads(to_json(ROWS)) == expected


def test_the_crc_of_an_entry_is_checked(make_zip):
    """A CRC that is wrong means that other bytes than the archive's maker meant would be judged."""
    path = make_zip({"a.png": picture()}, packing=zipfile.ZIP_STORED)
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"PK\x01\x02") + 16
    assert struct.unpack_from("<I", data, at) == (zlib.crc32(picture()),)
    data[at] ^= 1
    Path(path).write_bytes(data)
    assert "damaged inside the archive" in reasons([path])["archive.zip/a.png"]
