"""The page of a data set says what its manifest says, and the project's own page is the one of its manifest."""

import pandas as pd
import pytest

from tests.warm_python import ROOT
from train.data.evidence import GENERATED_BY_REPOSITORY, REAL_BY_DATE, SOURCE_ALONE, known_by
from train.data.manifest import COLUMNS, read_manifest
from train.report.data_pages import data_page, sources_of, write_data_pages

ROW = dict.fromkeys(COLUMNS, "") | {"width": 336, "height": 336, "part": "new", "licence": "MIT", "commit": "c" * 40}


def manifest(*rows):
    lines = [
        {**ROW, "id": f"id-{number}", "perceptual_hash": f"{number:064x}" if number else "f" * 64, **row}
        for number, row in enumerate(rows)
    ]
    return pd.DataFrame(lines)


SET = manifest(
    {"repository": "a/a", "label": "real", "date": "2016-03", "kind": "food", "kind_by": "seen", "width": 504},
    {
        "repository": "a/a",
        "label": "real",
        "date": "2023-01",
        "kind": "food",
        "kind_by": "predicted",
        "licence": "none",
    },
    {"repository": "b/b", "label": "generated", "family": "SDXL", "generator": "SDXL (x)", "date": "2024-05"},
    {"repository": "b/b", "label": "generated", "family": "SDXL", "evidence": "README names it", "commit": "d" * 40},
)


def test_the_project_s_page_is_what_the_command_writes_from_its_manifest(tmp_path):
    written = write_data_pages(ROOT / "docs" / "data" / "manifest.csv", tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in written] == ["data.md", "data/sources.csv"]
    for file in written:
        committed = ROOT / "docs" / file.relative_to(tmp_path)
        assert file.read_text() == committed.read_text(), "run `python -m train manifest docs/data/manifest.csv docs`"


def test_the_project_s_manifest_keeps_the_limits_of_the_pipeline_and_is_small():
    path = ROOT / "docs" / "data" / "manifest.csv"
    rows = read_manifest(path)
    short, long = rows[["width", "height"]].min(axis=1), rows[["width", "height"]].max(axis=1)
    assert short.max() <= 336 and long.max() <= 672
    assert rows["perceptual_hash"].str.fullmatch("[0-9a-f]{64}").all()
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all() and rows["path"].ne("").all()
    assert set(rows.loc[rows["label"] == "real", "family"]) == {""}
    assert path.stat().st_size < 1_500_000


def test_sources_are_listed_with_counts_licences_and_dates():
    first, second = sources_of(SET).to_dict("records")
    assert first == {
        "repository": "a/a",
        "commit": "c" * 40,
        "parts": "new",
        "real": 2,
        "generated": 0,
        "licence": "MIT; none",
        "generators": "",
        "first_date": "2016-03",
        "last_date": "2023-01",
    }
    assert (second["generated"], second["generators"], second["first_date"]) == (2, "SDXL (x)", "2024-05")
    assert second["commit"] == f"{'c' * 40}; {'d' * 40}"


@pytest.mark.parametrize(
    "words",
    [
        "4 pictures of 2 public repositories: 2 real ones of 1, and 2 generated ones of 1",
        "1 of them come from 1 repositories that state no licence",
        "3 pictures of 2 sources (part `new`) have no evidence",
        "1 real pictures of 1 sources date from 2022-07 or later",
        "| square | 1 | 50.0 % | 2 | 100.0 % |",
        "find 100.0 % of the generated pictures and flag 50.0 % of the real ones",
        "| SDXL | 2 | 1 | 2024-05 to 2024-05 | 1 |",
        "| food | 2 | 0 | 1 | 50.0 % |",
        "| 2016 | 1 | 50.0 % | 0 | 0.0 % |",
        "| not told | 0 | 0.0 % | 1 | 50.0 % |",
        "| 2 to 4 | 2 | 2 | 2 |",
        "3 pairs of pictures are nearly the same",
    ],
)
def test_the_page_counts(words):
    assert words in " ".join(data_page(SET).split())


def test_a_name_from_the_data_cannot_end_a_cell():
    page = data_page(SET.assign(family=SET["family"].replace("SDXL", "a|b<script>")))
    assert "a\\|b\\<script\\>" in page


@pytest.mark.parametrize(
    ("label", "evidence", "expected"),
    [
        ("real", "", SOURCE_ALONE),
        ("real", "photographer's site; last commit 2019; blobs first committed 2019-01..2019-03", REAL_BY_DATE),
        (
            "real",
            "album; committed later but EXIF of the camera (maker) is whole",
            "whole camera EXIF in that very file",
        ),
        ("generated", "README: all pictures generated with FLUX.1", GENERATED_BY_REPOSITORY),
        (
            "generated",
            "Midjourney default file name (user, prompt, job id)",
            "the file's name: a generator's own, or one that names it",
        ),
        (
            "generated",
            "ComfyUI prompt metadata in the picture file names the checkpoint",
            "prompt, job or checkpoint in the file's metadata",
        ),
        (
            "generated",
            "default file name image_fx_ and Google C2PA with trainedAlgorithmicMedia in the file",
            "Content Credentials or a generator's mark, in the file or in files beside it",
        ),
    ],
)
def test_evidence_is_put_into_the_strongest_class(label, evidence, expected):
    assert known_by(label, evidence) == expected
