"""What a `pictures.csv` beside the pictures tells of them: their families and kinds, joined by identifier."""

import csv
from pathlib import Path
from typing import NamedTuple

from modeling.verdicts import CLASSES

PICTURES_FILE = "pictures.csv"
NEEDED = ("id", "label", "family", "kind", "kind_by")


class Told(NamedTuple):
    """One line of the file; a text is "" where it is not known."""

    label: int
    family: str
    kind: str
    kind_by: str


def find_pictures_csv(folders: list[Path]) -> Path | None:
    """The file in the first of these folders that has it, or in the one above."""
    for folder in dict.fromkeys(folders):
        for place in (folder, folder.absolute().parent):
            if (place / PICTURES_FILE).is_file():
                return place / PICTURES_FILE
    return None


def read_pictures_csv(path: Path) -> dict[str, Told]:
    """Its lines by identifier.

    Raises:
        ValueError: a column is missing, a label is none, or an identifier is there twice.
    """
    labels = {name: label for label, name in enumerate(CLASSES)} | {"0": 0, "1": 1}
    told: dict[str, Told] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        if missing := [name for name in NEEDED if name not in (lines.fieldnames or ())]:
            raise ValueError(f"{path} must have the columns {', '.join(NEEDED)}; it lacks {', '.join(missing)}.")
        for line in lines:
            if line["label"] not in labels:
                raise ValueError(f"{path}: `label` of {line['id']} must be real or generated, got {line['label']!r}.")
            if line["id"] in told:
                raise ValueError(f"{path} has two lines for {line['id']}: leave one.")
            told[line["id"]] = Told(labels[line["label"]], *(line[name] or "" for name in NEEDED[2:]))
    return told


__all__ = ["PICTURES_FILE", "Told", "find_pictures_csv", "read_pictures_csv"]
