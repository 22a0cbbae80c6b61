"""Labelled pictures as records, whatever layout they come in: `load_records`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .options import DataArguments

if TYPE_CHECKING:
    from .records import RECORD_COLUMNS, load_records

__all__ = ["RECORD_COLUMNS", "DataArguments", "load_records"]


def __getattr__(name: str) -> Any:
    """Import `records` when a name of it is first asked for: `datasets` takes seconds, and help needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".records", __name__), name)
