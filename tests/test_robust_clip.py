"""The console command: one line a picture, in three forms, and an exit code that says whether all could be read."""

import contextlib
import csv
import io
import json
import subprocess
import sys

import pytest

from command_line import accept_any_name
from modeling.detector import Detection, Detector
from robust_clip import COLUMNS, find_pictures, printable, write_csv
from tests.modeling.provenance.marked_files import encoded, with_texts
from tests.pictures import picture
from tests.warm_python import ROOT

CAMERA = {271: "Canon", 272: "Canon EOS R5"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures, a damaged one, and what is no picture by its name."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    (folder / "in" / "side").mkdir(parents=True)
    exif = Image.Exif()
    exif.update(CAMERA)
    (folder / "camera.jpg").write_bytes(encoded(exif=exif, quality=20))
    (folder / "in" / "=1+1.png").write_bytes(picture())
    (folder / "in" / "side" / "prompt.PNG").write_bytes(with_texts(Software="NovelAI"))
    (folder / "in" / "broken.webp").write_bytes(b"no picture")
    (folder / "in" / "notes.txt").write_text("no picture by its name")
    (folder / ".hidden.png").write_bytes(picture())
    return folder


@pytest.fixture(scope="module")
def run(python, tiny_text_folder):
    return lambda *arguments: python.run("robust_clip.py", *arguments, "--model", tiny_text_folder)


def test_the_table_has_a_line_a_picture_and_says_what_its_words_mean(run, folder):
    result = run(folder)
    table, words = result.stdout.split("\n\n")
    lines = table.splitlines()
    assert lines[0].split()[:3] == ["VERDICT", "PROBABILITY", "PICTURE"]
    assert [line.split()[0] for line in lines[1:]].count("unreadable") == 1
    assert "camera.jpg" in lines[1] and "camera_name (Canon EOS R5)" in lines[1] and "compressed_jpeg" in lines[1]
    assert "This file is not a picture that can be read." in lines[3]
    assert f"of {folder}/camera.jpg: The file names a camera (Canon EOS R5), but" in words
    assert result.stderr.startswith("4 pictures: ")
    assert result.stderr.endswith("1 unreadable; 1 other files in folders passed over\n")
    assert result.returncode == 3


def test_json_has_the_figures_that_a_program_gets(run, folder, tiny_text_folder):
    result = run(folder, "--json")
    rows = json.loads(result.stdout)
    assert [row["name"].removeprefix(f"{folder}/") for row in rows] == [
        "camera.jpg",
        "in/=1+1.png",
        "in/broken.webp",
        "in/side/prompt.PNG",
    ]
    detector = Detector.from_pretrained(tiny_text_folder)
    for row in rows:
        assert set(row) == {"name", "cautions", "provenance", *Detection().to_dict()}
        if row["error"] is None:
            assert detector.detect(row["name"]).to_dict().items() <= row.items()
    assert rows[2]["verdict"] is None and rows[2]["provenance"] is None
    assert rows[3]["provenance"]["evidence"][0]["code"] == "generator"
    assert "compressed_jpeg" in [caution["code"] for caution in rows[0]["cautions"]]


def test_csv_has_a_row_a_picture_and_no_formula(python, folder, tiny_text_folder):
    names = ["=1+1.png", "side", "broken.webp"]
    command = [ROOT / "robust_clip.py", *names, "--csv", "--model", tiny_text_folder]
    result = python.run(*command, cwd=folder / "in")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["name"] for row in rows] == ["'=1+1.png", "side/prompt.PNG", "broken.webp"]
    assert rows[1]["marks"] == "generator (NovelAI)" and rows[1]["error"] == ""
    assert rows[2]["probability"] == "" and "not a picture" in rows[2]["error"]


def test_a_run_in_which_all_is_read_ends_with_zero(run, folder):
    result = run(folder / "camera.jpg")
    assert result.returncode == 0
    assert result.stderr.startswith("1 picture: ") and ", 0 unreadable" in result.stderr


def test_files_are_found_below_folders_by_their_names(folder, tmp_path):
    files, passed_over = find_pictures([str(folder), str(folder / "in" / "notes.txt")])
    assert [file.name for file in files] == ["camera.jpg", "=1+1.png", "broken.webp", "prompt.PNG", "notes.txt"]
    assert passed_over == 1
    with pytest.raises(ValueError, match="There is no file or folder 'none'"):
        find_pictures(["none"])
    with pytest.raises(ValueError, match="No picture in"):
        find_pictures([str(tmp_path)])


def test_a_name_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\n\udc80é") == "a\\x1b[2Jb\\n\\udc80é"


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("utf-8", "Screenshot 10.30\u202fAM \u7167.png", "Screenshot 10.30\u202fAM \u7167.png"),
        ("utf-8", "a\nb\udc80.png", "a\\nb\\udc80.png"),
        ("ascii", "\u7167.png", "\\u7167.png"),
    ],
)
def test_csv_keeps_names_that_the_output_can_hold(encoding, name, shown):
    output = io.BytesIO()
    stream = io.TextIOWrapper(output, encoding=encoding)
    accept_any_name(stream)
    row = {"name": name, "cautions": [], "provenance": None, "verdict": None, "error": "e"}
    with contextlib.redirect_stdout(stream):
        write_csv(iter([row]))
    assert output.getvalue().decode(encoding).splitlines()[1].split(",")[0] == shown


@pytest.mark.parametrize(("arguments", "code", "words"), [(["--help"], 0, "exit codes: "), (["none"], 1, "'none'")])
def test_help_and_a_wrong_name_need_no_model(arguments, code, words):
    program = (
        "import sys, robust_clip\n"
        "try: robust_clip.main()\n"
        "finally: assert not {'torch', 'transformers', 'modeling', 'PIL', 'numpy'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == code
    assert words in result.stdout + result.stderr
