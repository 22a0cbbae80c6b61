"""The records that the benches make by hand are records."""

import hashlib

from bench.sample import example_records
from modeling.images import open_image
from train.data.schema import RECORD_COLUMNS


def test_records_of_the_examples_have_every_column_of_a_record():
    records = example_records(20)
    assert set(records.column_names) == set(RECORD_COLUMNS)
    assert records["label"] == [0, 1] * 10
    contents = [image["bytes"] for image in records["image"]]
    open_image(contents[0])
    assert 1 < len({hashlib.sha256(content).hexdigest() for content in contents}) < 20  # the examples come in turn
