"""`robust-clip PICTURE|FOLDER...`: judge pictures from a terminal, one line a picture.

A picture gets the score that the page gives it, and the verdict as it came: the page's check of copies is not made.
Runs as a plain file too: `python robust_clip.py PICTURE`.
"""

import argparse
import csv
import json
import logging
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_line import accept_any_name, clear_errors, log_to_stderr

# What counts as a picture inside a folder; a file that is named itself is judged whatever its name.
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".avifs",
    ".heic",
    ".heif",
    ".heics",
    ".hif",
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
    ".mpo",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
UNREADABLE = "unreadable"
SOME_UNREADABLE = 3
EXIT_CODES = """exit codes: 0 every picture was judged; 1 an error, in a sentence; 2 wrong usage;
3 some files could not be read, each with its reason; 130 after Ctrl+C"""
COLUMNS = (
    "name",
    "verdict",
    "probability",
    "score",
    "cautions",
    "marks",
    "error",
    "width",
    "height",
    "sha256",
    "model",
)
_WIDEST_NAME = 60


@clear_errors()
def main() -> int:
    """Judge what the command line names; return the exit code."""
    arguments = _parser().parse_args()
    accept_any_name(sys.stdout)
    log_to_stderr("INFO", "%(message)s")  # a first run says what it fetches
    logging.getLogger("httpx").setLevel(logging.WARNING)
    files, passed_over = find_pictures(arguments.pictures)
    counts: Counter[str] = Counter()
    progress = Progress(len(files))
    progress.show("loading the model ...")
    rows = _counted(judge(files, arguments.model), counts, progress)
    if arguments.json:
        write_json(rows)
    elif arguments.csv:
        write_csv(rows)
    else:
        write_table(rows, files)
    from modeling.verdicts import VERDICTS  # here, because help must not wait for transformers

    summary = ", ".join(f"{counts[name]:,} {name}" for name in (*VERDICTS, UNREADABLE))
    skipped = f"; {passed_over:,} other files in folders passed over" if passed_over else ""
    print(f"{len(files):,} {'picture' if len(files) == 1 else 'pictures'}: {summary}{skipped}", file=sys.stderr)
    return SOME_UNREADABLE if counts[UNREADABLE] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robust-clip",
        description="Tell photographs from AI-generated pictures: the verdict, the probability of being generated,\n"
        "cautions, and marks: what the file says of where it comes from. The page also scores copies\n"
        "of a picture, and calls it uncertain where these contradict: that check is not made here.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER", help="files, and folders with all they hold")
    parser.add_argument("--model", help="checkpoint by folder or Hub id (default: the embedded one)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list, with every sentence")
    form.add_argument("--csv", action="store_true", help="print CSV, one row a picture")
    return parser


def find_pictures(names: list[str]) -> tuple[list[Path], int]:
    """Files that are named, and the pictures below folders that are, in order.

    Returns:
        The files, and how many others the folders hold; hidden ones are not counted.

    Raises:
        ValueError: there is no such file or folder, or no picture in any.
    """
    files: list[Path] = []
    passed_over = 0
    for name in names:
        if not (path := Path(name)).is_dir():
            if not path.exists():
                raise ValueError(f"There is no file or folder {name!r}.")
            files.append(path)
            continue
        for parent, folders, inside in os.walk(path, onerror=_raise):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            shown = sorted(file for file in inside if not file.startswith("."))
            pictures = [file for file in shown if file.lower().endswith(SUFFIXES)]
            files += [Path(parent, file) for file in pictures]
            passed_over += len(shown) - len(pictures)
    if not files:
        raise ValueError(f"No picture in {', '.join(names)}: by their names {passed_over:,} files are something else.")
    return files, passed_over


def _raise(error: OSError) -> None:
    """A folder that cannot be read must not count as empty."""
    raise error


def judge(files: list[Path], model: str | None = None) -> Iterator[dict[str, Any]]:
    """A row for each file, ready for JSON: the fields of `Detection`, cautions and provenance, or an error."""
    from transformers.utils.logging import disable_progress_bar

    from modeling.detector import Detection, Detector
    from modeling.examination import examine
    from modeling.images import ImageError

    disable_progress_bar()  # of loading the weights: a moment
    detector = Detector.from_pretrained(model)
    for file in files:
        row: dict[str, Any] = {"name": str(file), "cautions": [], "provenance": None}
        try:
            # After the verdict come the file and the cautions; the parts after these are for the page.
            steps = examine(detector, file)
            next(steps)
            answer = next(steps)
        except ImageError as error:
            yield row | Detection(error=str(error), model=detector.name).to_dict()
            continue
        found = answer.to_dict()
        yield row | answer.detection.to_dict() | {name: found[name] for name in ("cautions", "provenance")}


class Progress:
    """A line on stderr that says how far it is, where stderr is a terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.is_shown = total, sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self.is_shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away, so that a row of the table can stand there."""
        self.show("")


def _counted(rows: Iterator[dict], counts: Counter[str], progress: Progress) -> Iterator[dict]:
    """Count the verdicts of rows as they pass."""
    for done, row in enumerate(rows, 1):
        counts[row["verdict"] or UNREADABLE] += 1
        progress.clear()
        yield row
        progress.show(f"{done:,} of {progress.total:,}" if done < progress.total else "")


def write_table(rows: Iterator[dict], files: list[Path]) -> None:
    """A line a picture as it is judged; below, a sentence for each word that was used."""
    width = min(_WIDEST_NAME, max(len(printable(str(file))) for file in files))
    line = f"{{:<10}}  {{:>11}}  {{:<{width}}}  {{:<22}}  {{}}"
    words: dict[str, str] = {}
    print(line.format("VERDICT", "PROBABILITY", "PICTURE", "CAUTIONS", "MARKS OF THE FILE").rstrip())
    for row in rows:
        name = printable(row["name"])
        if row["error"] is not None:
            text = f"{line.format(UNREADABLE, '', name, '', '').rstrip():<{25 + width}}  {row['error']}"
        else:
            found = row["cautions"] + _marks(row)
            words |= {item["code"]: f"of {name}: {item['sentence']}" for item in found if item["code"] not in words}
            shown = line.format(row["verdict"], f"{100 * row['probability']:.1f} %", name, *_cells(row))
            text = shown.rstrip()
        print(text, flush=True)
    if words:
        print("\nWhat the words mean, each with the first picture it was said of:")
        for code, sentence in words.items():
            print(f"  {code:<22}  {sentence}")


def _marks(row: dict) -> list[dict]:
    """The findings of a file that says something of itself."""
    evidence = row["provenance"]["evidence"] if row["provenance"] else []
    return [item for item in evidence if item["code"] != "absent"]


def _cells(row: dict) -> tuple[str, str]:
    """Cautions by code, and marks by code with what they name."""
    marks = []
    for item in _marks(row):
        named = ", ".join(str(value) for value in item["values"].values())
        marks.append(f"{item['code']} ({named})" if named else item["code"])
    return ", ".join(item["code"] for item in row["cautions"]), ", ".join(marks)


def printable(text: str) -> str:
    """A file's name without what would move a terminal's cursor or is no character."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def write_json(rows: Iterator[dict]) -> None:
    """A list of objects, each written when it is known."""
    before = "["
    for row in rows:
        print(f"{before}\n{json.dumps(row, ensure_ascii=True)}", end="", flush=True)
        before = ","
    print("\n]")


def write_csv(rows: Iterator[dict]) -> None:
    """A row a picture, with the names in the first line."""
    from modeling.spreadsheets import unlike_formula

    writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cautions, marks = _cells(row)
        # Only what a table cannot hold is escaped, so that a row can be joined to its file.
        name = "".join(printable(c) if unicodedata.category(c) in ("Cc", "Cs") else c for c in row["name"])
        values = row | {"name": name, "cautions": cautions, "marks": marks}
        writer.writerow({name: unlike_formula(value) for name, value in values.items()})
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
