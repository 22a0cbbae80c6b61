"""Labelled pictures as records, whatever layout they come in: `load_records`."""

from .records import ENCODED, METADATA_FILES, RECORD_COLUMNS, DataArguments, is_hub_name, load_records, parquet_files

__all__ = [
    "ENCODED",
    "METADATA_FILES",
    "RECORD_COLUMNS",
    "DataArguments",
    "is_hub_name",
    "load_records",
    "parquet_files",
]
