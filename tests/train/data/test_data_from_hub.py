"""Data sets by their names on the Hub: the real client against a loopback server that answers as the Hub does."""

import json
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from train.data import DataArguments, load_records
records = load_records(DataArguments(**json.loads(sys.argv[1])))
print(json.dumps([[row["record_id"], row["label"], row["text"], len(row["image"]["bytes"])] for row in records]))
"""
OPENFAKE_CARD = """---
configs:
- config_name: core
  default: true
  data_files:
  - split: test
    path: core/test-*
- config_name: reddit
  data_files:
  - split: test
    path: reddit/test-*
---
"""


@pytest.fixture
def load(hub, python, elsa_d3, openfake, tmp_path):
    """Records as a program reads them from a Hub that has both data sets."""
    validation = {"data/validation-00000-of-00001.parquet": Path(elsa_d3)}
    hub.add_dataset("elsaEU/ELSA_D3", {"data/train-00000-of-00001.parquet": b"not asked for"} | validation)
    test = {"core/test-00000-of-00001.parquet": Path(openfake)}
    hub.add_dataset("ComplexDataLab/OpenFake", {"README.md": OPENFAKE_CARD.encode()} | test)

    def load(**arguments):
        result = python.run("-c", PROGRAM, json.dumps(arguments), HF_HOME=tmp_path / "home")
        assert result.returncode == 0, (result.stderr, hub.requests)
        return json.loads(result.stdout.splitlines()[-1]), result.stderr

    return load


def test_elsa_d3_by_the_url_of_some_of_its_files(load, tmp_path):
    url = "hf://datasets/elsaEU/ELSA_D3/data/validation-*.parquet"
    records, log = load(data=url, schema="elsa_d3", download_folder=str(tmp_path / "real"))
    assert [record[0] for record in records] == [f"r{row}/gen{i}" for i in range(4) for row in range(3)]
    assert all(size > 1000 for *_, size in records)
    # The first address is this machine's, which is refused.
    assert "3 of 3 real pictures could not be fetched (no web address 1, private address 2)" in log


def test_openfake_by_its_name(load, tmp_path):
    records, _ = load(data="ComplexDataLab/OpenFake", config_name="core", split="test", schema="openfake")
    assert [record[:3] for record in records] == [["0", 0, "a caption"], ["1", 1, "a prompt"], ["2", 1, "another"]]
