"""What ships: the files of the checkpoint, its report, its card, and the documents with figures."""

from pathlib import Path

from modeling.embedded import CARD_FILE, DEFAULT_SOURCE, MODEL_CARD, ROOT

from ..report.card import folder_card, read_notes
from ..report.documents import figured_documents, with_figures

CHECKPOINT, REPORT = "checkpoint", "report"
# Tables of the report that name single pictures; those of the default stay in the cache.
OF_PICTURES = ("pictures.csv", "duplicates.csv")
DOCUMENTS = ROOT / "docs"


def default_files(fitted: Path, pages: Path) -> dict[Path, Path | str]:
    """What the embedded default consists of: checkpoints/default, and every page that shows its figures or its data.

    Args:
        fitted: folder that holds the checkpoint and its report.
        pages: folder with the pages about the data.

    Returns:
        For each file its text, or the file of which it is a copy.
    """
    checkpoint, notes = fitted / CHECKPOINT, read_notes(DEFAULT_SOURCE)
    contents: dict[Path, Path | str] = {MODEL_CARD: folder_card(checkpoint, notes)}
    contents |= _copies(checkpoint, DEFAULT_SOURCE)
    report = _copies(fitted / REPORT, DOCUMENTS / "evaluation")
    contents |= {path: file for path, file in report.items() if path.name not in OF_PICTURES}
    contents |= _copies(pages, DOCUMENTS)
    return contents | with_figures(figured_documents(), checkpoint, notes)


def detector_files(fitted: Path, output: Path) -> dict[Path, Path | str]:
    """The same for a detector of one's own, in a folder: its files, its card and its report."""
    checkpoint = fitted / CHECKPOINT
    contents: dict[Path, Path | str] = {output / CARD_FILE: folder_card(checkpoint, read_notes(output))}
    return contents | _copies(checkpoint, output) | _copies(fitted / REPORT, output / REPORT)


def _copies(folder: Path, target: Path) -> dict[Path, Path]:
    """All files below a folder but a card, which has notes to add."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / CARD_FILE)
    return {target / file.relative_to(folder): file for file in files if not file.name.startswith(".")}


__all__ = ["CHECKPOINT", "REPORT", "default_files", "detector_files"]
