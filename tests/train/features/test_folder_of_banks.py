"""A folder of banks is one bank, where they were made alike."""

import json

import pandas as pd
import pyarrow as pa
import pytest
import torch

from tests.train.tiny_bank import PICTURES, write_bank
from train.features.bank import FeatureBank, bank_folders, read_table, write_tables
from train.features.commands import count_sources


def changed(folder, **info):
    file = folder / "bank.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | info))


@pytest.fixture
def banks(tmp_path):
    """Two banks, of which the second in the order of their names was made first."""
    for name in ("later", "first"):
        (tmp_path / "banks").mkdir(exist_ok=True)
        folder = write_bank(tmp_path / "banks" / name, "none", text=False)
        rows = read_table(folder / "rows.arrow").to_pandas()
        rows["record_id"] = f"{name} " + rows["record_id"]
        table = pa.Table.from_pandas(rows, preserve_index=False)
        write_tables(folder / "rows.arrow", table.schema, [table])
        changed(folder, fingerprint=name, records_sha256=name, unreadable=[{"record_id": name, "error": "?"}])
        changed(folder, deliveries=["web"] if name == "first" else ["hard", "web"], probed=3)
    return tmp_path / "banks"


def test_rows_and_embeddings_follow_the_order_of_the_names(banks):
    bank, parts = FeatureBank.load(banks), [FeatureBank.load(banks / name) for name in ("first", "later")]
    assert bank_folders(banks) == [banks / "first", banks / "later"]
    pd.testing.assert_frame_equal(bank.rows, pd.concat([part.rows for part in parts], ignore_index=True))
    assert torch.equal(bank.image_embeds, torch.cat([part.image_embeds for part in parts]))
    assert bank.text_embeds is None
    assert (bank.info["records"], bank.info["probed"], bank.info["deliveries"]) == (2 * PICTURES, 6, ["web"])
    assert [record["record_id"] for record in bank.info["unreadable"]] == ["first", "later"]


def test_a_joined_bank_is_known_by_its_parts(banks):
    before = FeatureBank.load(banks).info
    assert FeatureBank.load(banks).info == before
    changed(banks / "later", fingerprint="another")
    after = FeatureBank.load(banks).info
    assert {key for key in before if before[key] != after[key]} == {"fingerprint"}


@pytest.mark.parametrize("key", ["backbone_sha256", "processor", "image_layers", "image_tokens", "views", "seed"])
def test_banks_that_were_made_otherwise_are_refused(banks, key):
    changed(banks / "later", **{key: "other"})
    with pytest.raises(ValueError, match=f"must be made alike: {key} of first is .*, of later 'other'"):
        FeatureBank.load(banks)


def test_a_record_in_two_banks_is_refused(banks):
    rows = read_table(banks / "first" / "rows.arrow")
    write_tables(banks / "later" / "rows.arrow", rows.schema, [rows])
    with pytest.raises(ValueError, match=r"first p0 is in two banks in .*, first and later: leave one"):
        FeatureBank.load(banks)


def test_a_folder_with_a_bank_that_is_not_finished_is_refused(banks):
    file = banks / "later" / "bank.json"
    info = json.loads(file.read_text())
    del info["fingerprint"]
    file.write_text(json.dumps(info))
    with pytest.raises(ValueError, match="later is not finished"):
        FeatureBank.load(banks)


def test_pictures_are_counted_by_class_and_source():
    rows = pd.DataFrame({"label": [0] * 5 + [1] * 2, "source": ["a", "b", "b", "c", "d", "x", "y"]})
    assert count_sources(rows) == [
        "real: 5 pictures of 4 sources, the largest b (2), a (1), c (1)",
        "generated: 2 pictures of 2 sources: every picture is its own source, so nothing is held out together",
    ]
