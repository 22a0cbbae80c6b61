"""How the records of a bank are divided: into parts, among processes, and into the shards of an unfinished bank."""

from types import SimpleNamespace

import datasets
import pytest
from tqdm import tqdm

from modeling.checkpoints import load_processor
from modeling.deliveries import STANDARD_DELIVERIES
from train.data.records import DataArguments, load_records
from train.features import making, shards
from train.features.backbone import load_backbone
from train.features.embedder import Embedder, Part
from train.features.making import _only_maker, build_feature_bank
from train.features.shards import list_shards, missing_records, share_of, write_shards

RECORDS = datasets.Dataset.from_dict({"record_id": [f"p{i}" for i in range(20)]})


@pytest.fixture
def embedder(backbone):
    settings = {"batch_size": 8, "views": 2, "seed": 0, "probed": {"p3", "p10"}, "deliveries": ["web", "clean"]}
    return Embedder(load_backbone(str(backbone)), None, load_processor(str(backbone)), **settings)


def test_parts_are_of_a_batch_of_views_and_a_probed_record_is_one_of_its_own(embedder):
    parts = embedder.divide(RECORDS, [range(20)])
    assert [list(part.records) for part in parts[:4]] == [[0, 1], [2], [3], [4, 5]]
    probed = 2 + len(STANDARD_DELIVERIES) - 1
    assert [part.views for part in parts[:4]] == [6, 3, probed, 6]
    assert sum(part.views for part in parts) == 18 * 3 + 2 * probed
    assert [index for part in parts for index in part.records] == list(range(20))


def test_parts_of_what_is_left_are_those_of_an_uninterrupted_run(embedder):
    parts = embedder.divide(RECORDS, [range(20)])
    left = [range(parts[1].records.start, parts[3].records.stop), range(parts[6].records.start, 20)]
    assert embedder.divide(RECORDS, left) == parts[1:4] + parts[6:]


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 40])
def test_every_part_is_one_process_es_and_their_views_are_about_equal(embedder, processes):
    parts = embedder.divide(RECORDS, [range(20)])
    shares = [share_of(parts, process, processes) for process in range(processes)]
    assert [part for share in shares for part in share] == parts
    total, most = sum(part.views for part in parts), max(part.views for part in parts)
    assert all(sum(part.views for part in share) <= total / processes + most for share in shares)
    assert share_of([], 0, processes) == []


def test_records_that_no_shard_holds_are_missing(tmp_path):
    assert missing_records(tmp_path, 10) == [range(10)]
    for start, stop in ((6, 8), (2, 3), (3, 5)):
        (tmp_path / f"shard-{start:09d}-{stop:09d}.arrow").touch()
    assert missing_records(tmp_path, 10) == [range(2), range(5, 6), range(8, 10)]
    (tmp_path / ".shard-000000008-000000010.arrow.partial").touch()  # it was being written
    assert missing_records(tmp_path, 8) == [range(2), range(5, 6)]


def test_a_shard_ends_in_time_and_before_records_that_another_holds(embedder, tmp_path, monkeypatch):
    times = iter([0, *(4, 8, 12), 12, *(16, 24), 24, 25, 26, 27])
    monkeypatch.setattr(shards.time, "monotonic", lambda: next(times))
    parts = [Part(range(start, start + 2), 4) for start in (0, 2, 4, 6, 8, 14, 16)]
    with tqdm(total=28) as progress:
        write_shards(parts, tmp_path, embedder, progress)
        assert progress.n == 28
    assert [(shard.start, shard.stop) for shard in list_shards(tmp_path)] == [(0, 6), (6, 10), (14, 18)]


def test_how_many_views_and_how_long_is_said_before_a_long_run(parquet, backbone, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(making, "LONG_VIEWS", 48)
    records = load_records(DataArguments(data=str(parquet)))
    with caplog.at_level("INFO", "train.features"):
        build_feature_bank(records, tmp_path / "long", backbone=str(backbone), views=2)
        build_feature_bank(records, tmp_path / "short", backbone=str(backbone), views=1)
    said = [record.getMessage() for record in caplog.records if " a second: about " in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("48 views at ")


def test_two_commands_on_one_folder_say_so_and_one_job_shares_it(tmp_path):
    output = tmp_path / "bank"
    main, other = SimpleNamespace(is_main_process=True), SimpleNamespace(is_main_process=False)
    with _only_maker(output, main), _only_maker(output, other):
        message = rf"Another command is making the bank {output}: wait until it has ended, or choose another"
        with pytest.raises(ValueError, match=message), _only_maker(output, main):
            pass
    assert not list(output.iterdir())
    with _only_maker(output, main):
        pass
