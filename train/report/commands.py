"""`python -m train audit`, `card` and `manifest`."""

from pathlib import Path

from ..data.options import DataArguments
from ..data.records import load_records
from ..measure.bias_audit import audit_records
from .audit import audit_summary, write_audit
from .data_pages import write_data_pages
from .documents import update_documents
from .options import AuditArguments, CardArguments, ManifestArguments


def audit(data: DataArguments, arguments: AuditArguments) -> None:
    """Audit a data set's files, and print what was found."""
    found, unreadable = audit_records(load_records(data))
    write_audit(Path(arguments.output), found, unreadable)
    print(audit_summary(found))
    print(f"written: {Path(arguments.output) / 'audit.md'}; {len(unreadable)} pictures were unreadable")


def card(arguments: CardArguments) -> None:
    """Write the card and the documents, and print which."""
    print(f"written: {', '.join(map(str, update_documents(arguments)))}")


def manifest(arguments: ManifestArguments) -> None:
    """Write the manifest and the page of a data set, and print which files."""
    print(f"written: {', '.join(map(str, write_data_pages(Path(arguments.data), Path(arguments.output))))}")
