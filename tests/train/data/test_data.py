"""The adapters, on small files of the true schemas; what ELSA_D3 names by URL comes from a loopback server."""

import json
import logging
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pytest

from modeling.images import open_image
from tests.data_sets import encoded, lock_folder, write_parquet
from tests.picture_server import is_loopback
from tests.pictures import picture
from train.data.records import DataArguments, load_records
from train.data.schema import RECORD_COLUMNS

NAMED = ("text", "label", "generator", "source", "style", "record_id")


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture
def parquet(tmp_path):
    columns = {
        "image": [encoded(i, i % 2) for i in range(6)],
        "id": [f"p{i}" for i in range(6)],
        "label": [i % 2 for i in range(6)],
        "source": [f"s{i % 3}" for i in range(6)],
        "generator": ["G" if i % 2 else "" for i in range(6)],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.Value("int64"),
            **{name: datasets.Value("string") for name in ("id", "source", "generator")},
        }
    )
    return write_parquet(tmp_path / "data.parquet", columns, features)


def load_elsa_d3(path, tmp_path, **changes):
    arguments = DataArguments(data=path, schema="elsa_d3", download_folder=str(tmp_path / "real"), **changes)
    return load_records(arguments, is_admitted=is_loopback)


def test_parquet_becomes_records(parquet):
    records = load_records(DataArguments(data=parquet))
    assert records.column_names == RECORD_COLUMNS
    assert records[1] == {
        "image": {"bytes": picture(1, 1), "path": None},
        "text": None,
        "label": 1,
        "generator": "G",
        "source": "s1",
        "style": "",
        "family": "G",
        "kind": "",
        "kind_by": "",
        "date": "",
        "record_id": "p1",
    }


def test_the_columns_of_any_table_can_be_named(tmp_path, caplog):
    columns = {
        "picture": [encoded(0), encoded(1, 1), None, encoded(3)],
        "kind": [1, 0, 0, 1],
        "caption": ["a cat", "", "a dog", None],
        "key": [7, 8, 9, 10],
        "camera": ["Leica", None, None, None],
        "made_by": ["ignored where real", "SDXL", "SDXL", None],
    }
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["fake", "real"]),
            "caption": datasets.Value("string"),
            "key": datasets.Value("int64"),
            "camera": datasets.Value("string"),
            "made_by": datasets.Value("string"),
        }
    )
    path = write_parquet(tmp_path / "table.parquet", columns, features)
    records = load_records(
        DataArguments(
            data=path,
            image_column="picture",
            label_column="kind",
            text_column="caption",
            id_column="key",
            source_column="camera",
            generator_column="made_by",
        )
    )
    found = [tuple(row[name] for name in NAMED) for row in records]
    assert found == [
        ("a cat", 0, "", "Leica", "", "7"),
        (None, 1, "SDXL", "8", "", "8"),
        (None, 0, "", "10", "", "10"),
    ]
    assert records[2]["image"]["bytes"] == picture(3)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith(
        "3 of 4 pictures have no source (`source_column` 'camera'), and each counts as its own"
    )
    assert messages[1:] == ["1 rows hold no picture and are left out."]


@pytest.fixture
def told(tmp_path):
    """A table with its own families, kinds and dates, and a function that loads it beside a `pictures.csv`."""
    columns = {
        "image": [encoded(i, i % 2) for i in range(4)],
        "id": [f"p{i}" for i in range(4)],
        "label": [0, 1, 0, 1],
        "generator": ["", "SDXL base", "ignored", "Flux"],
        "family": ["ignored", "own", None, None],
        "kind": ["people", "food", None, "night"],
        "kind_by": ["seen", "seen", None, "style"],
        "date": ["2024-12", "12/2024", None, "2025-01-31T10:00:00"],
    }
    features = datasets.Features(
        {name: datasets.Value("string") for name in columns}
        | {"image": datasets.Image(), "label": datasets.Value("int64")}
    )
    path = write_parquet(tmp_path / "parts" / "data.parquet", columns, features)

    def load(lines, data=path):
        (tmp_path / "pictures.csv").write_text(lines)
        return load_records(DataArguments(data=str(data)))

    return load


def test_what_pictures_csv_says_goes_before_the_columns(told, caplog):
    records = told(
        "id,label,evidence,family,kind,kind_by\n"
        "p0,real,seen,,landscape,predicted\np1,generated,,SDXL,,\np2,0,,,macro,seen\nother,real,,,food,seen\n"
    )
    found = [tuple(row[name] for name in ("family", "kind", "kind_by", "date")) for row in records]
    assert found == [
        ("", "landscape", "predicted", "2024-12"),
        ("SDXL", "food", "seen", ""),
        ("", "macro", "seen", ""),
        ("Flux", "night", "style", "2025-01-31T10:00:00"),
    ]
    dates, sources, lines = (record.getMessage() for record in caplog.records)
    assert dates.startswith("1 of 4 rows have a `date_column` 'date' that is no ISO date")
    assert sources.startswith("All pictures have no source")
    assert lines.startswith("1 of 4 pictures have no line in ")


def test_pictures_csv_is_found_in_the_folder_and_beside_or_above_the_files(told, tmp_path):
    lines = "id,label,family,kind,kind_by\n" + "".join(f"p{i},{i % 2},,vehicle,seen\n" for i in range(4))
    for data in (tmp_path, tmp_path / "parts", tmp_path / "parts" / "*.parquet"):
        assert set(told(lines, data)["kind"]) == {"vehicle"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("id,label,family,kind,kind_by\np1,real,,,\n", "p1 is generated in the data and real in pictures.csv"),
        ("id,label\np1,real\n", "must have the columns .*; it lacks family, kind, kind_by"),
        ("id,label,family,kind,kind_by\np1,fake,,,\n", "`label` of p1 must be real or generated, got 'fake'"),
        ("id,label,family,kind,kind_by\np0,0,,,\np0,0,,,\n", "two lines for p0"),
    ],
)
def test_a_pictures_csv_that_does_not_fit_is_refused(told, lines, message):
    with pytest.raises(ValueError, match=message):
        told(lines)


def test_a_folder_of_pictures_becomes_records_with_the_label_of_its_name(tmp_path):
    for name, seed in (("real/camera/a.png", 0), ("generated/sdxl/b.png", 1), ("real/c.png", 2)):
        file = tmp_path / "pictures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(seed))
    records = load_records(DataArguments(data=str(tmp_path / "pictures")))
    found = {row["record_id"]: (row["label"], row["source"], row["generator"]) for row in records}
    assert found == {
        "real/camera/a.png": (0, "real/camera", ""),
        "real/c.png": (0, "real", ""),
        "generated/sdxl/b.png": (1, "generated/sdxl", "sdxl"),
    }


def pictures_in(folder, *names):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed))
    return str(folder)


def test_a_class_folder_may_be_named_as_labels_are_in_tables(tmp_path):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "rows.arrow").write_bytes(b"no picture")
    records = load_records(DataArguments(data=pictures_in(tmp_path, "Real/a.png", "fake/flux/b.png", ".hidden/c.png")))
    found = {row["record_id"]: (row["label"], row["source"], row["family"]) for row in records}
    assert found == {"Real/a.png": (0, "Real", ""), "fake/flux/b.png": (1, "fake/flux", "flux")}


def test_a_folder_of_pictures_that_is_no_class_is_named(tmp_path):
    folder = pictures_in(tmp_path, "real/a.png", "ai/b.png", "photos/deep/c.JPG")
    with pytest.raises(
        ValueError, match=r"must hold the folders real and generated \(or fake\); ai, photos are no class"
    ):
        load_records(DataArguments(data=folder))


def test_a_folder_that_cannot_be_read_is_said_and_counted(tmp_path, caplog):
    folder = pictures_in(tmp_path, "real/a.png")
    lock_folder(tmp_path / "real")
    assert load_records(DataArguments(data=folder))["record_id"][:] == ["real/a.png"]
    assert f"1 folders below {tmp_path / 'real'} could not be read, and what they hold is left out" in caplog.text
    assert "(File name too long)" in caplog.text


def test_a_file_whose_name_is_no_utf_8_is_a_record(tmp_path):
    folder = pictures_in(tmp_path, "real/a.png", "generated/one/b.png")
    os.rename(tmp_path / "real" / "a.png", os.fsencode(tmp_path / "real") + b"/\xc3.png")
    os.rename(tmp_path / "generated" / "one", os.fsencode(tmp_path / "generated") + b"/\xff")
    records = load_records(DataArguments(data=folder))
    assert records["record_id"][:] == ["generated/\\xff/b.png", "real/\\xc3.png"]
    assert records["source"][:] == ["generated/\\xff", "real"]
    assert [open_image(image["bytes"]).size for image in records["image"]] == [(48, 40), (48, 40)]


@pytest.mark.parametrize("column", ["image", "label", "source", "id", "generator", "style", "text"])
def test_a_column_of_lists_is_refused_by_its_name(tmp_path, column):
    rows = {"image": [picture(0), picture(1)], "label": [0, 1], "source": ["a", "b"], "id": ["x", "y"]}
    rows |= {"generator": ["", "g"], "style": ["s", "s"], "text": ["t", "t"]}
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_dict(rows | {column: [[value] for value in rows[column]]}).to_parquet(path)
    with pytest.raises(ValueError, match=rf"`{column}_column` '{column}' must hold one .* a row.*, got List\("):
        load_records(DataArguments(data=str(path), text_column="text"))


def test_a_link_to_a_folder_is_said(tmp_path, caplog):
    folder = pictures_in(tmp_path / "p", "real/a.png")
    (tmp_path / "p" / "real" / "more").symlink_to(tmp_path / "p" / "real")
    assert load_records(DataArguments(data=folder))["record_id"][:] == ["real/a.png"]
    assert f"1 links to folders below {tmp_path / 'p' / 'real'} are not followed; first " in caplog.text


# `datasets` 5.2 does not close a metadata.csv that it has read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_with_metadata_becomes_records(tmp_path, suffix):
    folder = tmp_path / "pictures"
    names = ["train_1.png", "test/2.png", "test/validation/3.png"]  # `datasets` would take these for three splits
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed))
    metadata = pd.DataFrame({"file_name": names, "label": ["real", "fake", "generated"], "caption": ["x", "y", "z"]})
    if suffix == "jsonl":
        metadata.to_json(folder / "metadata.jsonl", orient="records", lines=True)
    else:
        getattr(metadata, f"to_{suffix}")(folder / f"metadata.{suffix}", index=False)
    records = load_records(DataArguments(data=str(folder), text_column="caption"))
    found = {(row["text"], row["label"], Path(row["image"]["path"]).name) for row in records}
    assert found == {("x", 0, "train_1.png"), ("y", 1, "2.png"), ("z", 1, "3.png")}
    assert open_image(records[0]["image"]["bytes"] or records[0]["image"]["path"]).size == (48, 40)


def test_a_saved_data_set_becomes_records(parquet, tmp_path):
    table = datasets.load_dataset("parquet", data_files=parquet, split="train")
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select([3])}).save_to_disk(tmp_path / "splits")
    assert load_records(DataArguments(data=str(tmp_path / "one")))["record_id"][:] == [f"p{i}" for i in range(6)]
    test = load_records(DataArguments(data=str(tmp_path / "splits"), split="test"))
    assert test["record_id"][:] == ["p3"]


def test_elsa_d3_gives_four_generated_pictures_a_row_and_the_real_ones_that_are_left(elsa_d3, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        records = load_elsa_d3(elsa_d3, tmp_path)
    assert records.column_names == RECORD_COLUMNS
    rows = {row["record_id"]: row for row in records}
    assert set(rows) == {"r0/real", *(f"r{row}/gen{i}" for row in range(3) for i in range(4))}
    assert rows["r2/gen3"] == {
        "image": {"bytes": picture(32, 1), "path": None},
        "text": "a photo of 2",
        "label": 1,
        "generator": "SDXL",
        "source": "r2",
        "style": "",
        "family": "SDXL",
        "kind": "",
        "kind_by": "",
        "date": "",
        "record_id": "r2/gen3",
    }
    real = rows["r0/real"]
    assert Path(real["image"]["path"]).read_bytes() == picture(0)
    assert (real["text"], real["label"], real["generator"], real["source"]) == ("a photo of 0", 0, "", "r0")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("2 of 3 real pictures could not be fetched (dead link 1, no web address 1); ")
    listed = [json.loads(line) for line in (tmp_path / "real" / "failures.jsonl").read_text().split("\n") if line]
    assert sorted(entry["reason"] for entry in listed) == ["dead link", "no web address"]


def test_elsa_d3_gives_the_same_records_again_without_asking(elsa_d3, tmp_path, server):
    first = load_elsa_d3(elsa_d3, tmp_path)
    asked = len(server.requests)
    assert load_elsa_d3(elsa_d3, tmp_path)[:] == first[:]
    assert len(server.requests) == asked == 2


def test_different_text_columns_are_used_and_warned_of(elsa_d3, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        records = load_elsa_d3(elsa_d3, tmp_path, generated_text_column="positive_prompt")
    texts = {row["record_id"]: row["text"] for row in records}
    assert texts["r0/real"] == "a photo of 0"
    assert texts["r0/gen1"] == "a photo of 0, best quality"
    message = caplog.records[0].getMessage()
    assert message.startswith("Real pictures take their text from 'original_prompt' and generated ones from 'positive")
    assert "can give the label away" in message


def test_elsa_d3_real_pictures_are_never_fetched_from_this_machine_by_default(elsa_d3, tmp_path, server):
    arguments = DataArguments(data=elsa_d3, schema="elsa_d3", download_folder=str(tmp_path / "real"))
    assert set(load_records(arguments)["label"]) == {1}
    assert server.requests == []


def test_openfake_has_prompts_for_both_classes(openfake, caplog):
    records = load_records(DataArguments(data=openfake, schema="openfake"))
    found = [tuple(row[name] for name in NAMED) for row in records]
    assert found == [
        ("a caption", 0, "", "pexels", "", "0"),
        ("a prompt", 1, "flux.1-dev", "flux.1-dev", "", "1"),
        ("another", 1, "gpt-image-1", "gpt-image-1", "", "2"),
    ]
    assert not caplog.records


def test_pictures_of_a_large_file_stay_on_disk(tmp_path):
    rows, size = 60, 500_000
    contents = [np.random.default_rng(i).bytes(size) for i in range(rows)]
    columns = {
        "image": [{"bytes": content, "path": None} for content in contents],
        "label": [i % 2 for i in range(rows)],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    path = write_parquet(tmp_path / "large.parquet", columns, features)
    load_records(DataArguments(data=path))  # writes the Arrow file that the second call maps
    before = pyarrow.total_allocated_bytes()
    records = load_records(DataArguments(data=path))
    assert pyarrow.total_allocated_bytes() - before < size
    assert records.cache_files
    assert records[rows - 1]["image"]["bytes"] == contents[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nowhere"}, "must name Parquet files"),
        ({"image_column": "picture"}, "`image_column` 'picture' is not in the data"),
        ({"text_column": "prompt"}, "`text_column` 'prompt' is not among"),
        ({"generated_text_column": "prompt"}, "`generated_text_column` 'prompt' is not among"),
        ({"id_column": "source"}, "must be unique: 3 repeated"),
        ({"label_column": "source"}, "must hold 0/1 or real/generated"),
        ({"schema": "elsa_d3", "download_folder": "real"}, "needs the columns .* are not in the data"),
        ({"schema": "openfake", "label_column": "kind"}, "`label_column` is fixed by `schema` openfake, got 'kind'"),
        ({"schema": "openfake", "text_column": "prompt"}, "`text_column` 'prompt' is not among"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(parquet, changes, message):
    with pytest.raises(ValueError, match=message):
        load_records(DataArguments(**({"data": parquet} | changes)))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no Parquet file and no picture"):
        load_records(DataArguments(data=str(tmp_path)))


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"PAR1 not any more")
    with pytest.raises(ValueError, match="could not be read"):
        load_records(DataArguments(data=str(tmp_path / "data.parquet")))


def test_elsa_d3_asks_for_a_folder(elsa_d3):
    with pytest.raises(ValueError, match="`download_folder` is not set"):
        load_records(DataArguments(data=elsa_d3, schema="elsa_d3"))
