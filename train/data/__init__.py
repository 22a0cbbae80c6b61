"""Labelled pictures as records, whatever layout they come in: `load_records`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .options import DataArguments

if TYPE_CHECKING:
    from .records import load_records
    from .schema import RECORD_COLUMNS

_MODULES = {"load_records": ".records", "RECORD_COLUMNS": ".schema"}
__all__ = ["RECORD_COLUMNS", "DataArguments", "load_records"]


def __getattr__(name: str) -> Any:
    """Import a module when a name of it is first asked for: `datasets` takes seconds, and help needs none of it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
