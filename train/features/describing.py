"""What a bank's rows say of their records: it can change, and no picture has to be embedded again."""

import hashlib
import json
import logging
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from modeling.files import write_json

from ..data.schema import DESCRIBED
from .bank import INFO_FILE, META_SCHEMA, ROWS_FILE, file_sha256, read_table, write_tables

logger = logging.getLogger(__name__)

ROWS_A_BATCH = 65_536  # a constant, so that equal rows are equal files


def describe(rows: pa.Table, records: datasets.Dataset) -> pa.Table:
    """Rows with what the records say; a row's record is found by its identifier.

    Args:
        rows: of `META_SCHEMA`, or of an earlier one that lacks columns of `DESCRIBED`.
        records: all records of the rows, in the record schema.
    """
    told = records.select_columns(["record_id", *DESCRIBED]).with_format("arrow")[:]
    of_row = pc.index_in(rows["record_id"], value_set=told["record_id"].combine_chunks())
    columns = [told[field.name].take(of_row) if field.name in DESCRIBED else rows[field.name] for field in META_SCHEMA]
    return pa.table(columns, META_SCHEMA.names).cast(META_SCHEMA)


def write_rows(folder: Path, rows: pa.Table) -> str:
    """Write rows.arrow; SHA-256 of the file."""
    batches = rows.combine_chunks().to_batches(max_chunksize=ROWS_A_BATCH)
    write_tables(folder / ROWS_FILE, META_SCHEMA, (pa.Table.from_batches([batch]) for batch in batches))
    return file_sha256(folder / ROWS_FILE)


def fingerprint(embeds_sha256: str, rows_sha256: str) -> str:
    """What tells two banks apart."""
    return hashlib.sha256(f"{embeds_sha256} {rows_sha256}".encode()).hexdigest()


def describe_again(folder: Path, records: datasets.Dataset, records_sha256: str) -> None:
    """Give the rows of a finished bank what the records say now; no picture is embedded.

    The rows are written first: until bank.json names them too, the bank is refused, and the next call mends it.
    """
    info = json.loads((folder / INFO_FILE).read_text())
    rows_sha256 = write_rows(folder, describe(read_table(folder / ROWS_FILE), records))
    hashes = {"records_sha256": records_sha256, "rows_sha256": rows_sha256}
    write_json(folder / INFO_FILE, info | hashes | {"fingerprint": fingerprint(info["embeds_sha256"], rows_sha256)})
    logger.info("%s: the pictures are the same, what is told of them has changed: nothing was embedded again.", folder)


__all__ = ["describe", "describe_again", "fingerprint", "write_rows"]
