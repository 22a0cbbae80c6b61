"""What a data set is, for people: data.md, and its sources as a table, both from the manifest alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modeling.files import write_text
from modeling.verdicts import CLASSES, GENERATED, REAL

from ..data.collect import MOST_BITS, MOST_PIXELS
from ..data.evidence import SOURCE_ALONE, known_by
from ..data.manifest import EVIDENCE_FILE, MANIFEST_FILE, manifest_of, read_manifest, write_manifest
from ..data.pipeline import CUT, EARLIER, STORED, SUBSAMPLING
from ..measure.contents import NEWER
from ..measure.duplicates import find_duplicates
from ..measure.shapes import SHAPES, shape_of
from .card import card_templates
from .markdown import share, table

PAGE, FOLDER, SOURCES_FILE = "data.md", "data", "sources.csv"
FIRST_YEAR = "2015"
LARGEST = 12
# A licence of fewer pictures stands in one row with the others like it.
RARE = 20
NOT_TOLD = "not told"


def write_data_pages(source: Path, output: Path) -> list[Path]:
    """Write data.md, and manifest.csv, evidence.csv and sources.csv into data/ beside it.

    Args:
        source: a data folder (Parquet files and, where there is one, pictures.csv), or a manifest.csv, which is then
            not written again.
        output: the folder; `docs` for the project's own.

    Returns:
        What was written. The same pictures give the same bytes.

    Raises:
        ValueError: `source` is neither.
    """
    folder = output / FOLDER
    written = [output / PAGE, folder / SOURCES_FILE]
    if source.is_dir():
        rows = manifest_of(source)
        write_manifest(folder, rows)
        written += [folder / MANIFEST_FILE, folder / EVIDENCE_FILE]
    else:
        rows = read_manifest(source)
    write_text(output / PAGE, data_page(rows))
    write_text(folder / SOURCES_FILE, sources_of(rows).to_csv(index=False, lineterminator="\n"))
    return written


def sources_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a source in alphabetical order: commit, pictures of each class, licence, generators and dates."""
    by_source = rows.groupby("repository")
    lines = pd.DataFrame(
        {
            "commit": by_source["commit"].agg(_listed),
            "parts": by_source["part"].agg(_listed),
            **{name: (rows["label"] == name).groupby(rows["repository"]).sum() for name in CLASSES},
            "licence": by_source["licence"].agg(_listed),
            "generators": by_source["generator"].agg(_listed),
            "first_date": by_source["date"].agg(lambda dates: min(filter(None, dates), default="")),
            "last_date": by_source["date"].agg("max"),
        }
    )
    return lines.reset_index()


def _listed(names: pd.Series) -> str:
    return "; ".join(sorted({name for name in names if name}))


def data_page(rows: pd.DataFrame) -> str:
    """The page as Markdown.

    Args:
        rows: as `train.data.manifest.manifest_of` gives them.
    """
    rows = rows.assign(
        shape=shape_of(rows["width"], rows["height"]),
        known_by=list(map(known_by, rows["label"], rows["evidence"])),
        year=rows["date"].str[:4].map(_year),
        family=rows["family"].replace("", NOT_TOLD),
        kind=rows["kind"].replace("", NOT_TOLD),
    )
    sources = sources_of(rows)
    return (
        card_templates()
        .get_template("data.md")
        .render(
            total=_numbers(rows),
            real=_numbers(rows[rows["label"] == REAL]),
            generated=_numbers(rows[rows["label"] == GENERATED]),
            both=sources.loc[(sources[REAL] > 0) & (sources[GENERATED] > 0), "repository"].tolist(),
            twins=[sorted(names) for _, names in sources.groupby("commit")["repository"] if len(names) > 1],
            unlicensed=_numbers(rows[_states_no_licence(rows["licence"])]),
            newer=_numbers(rows[(rows["label"] == REAL) & (rows["date"] >= NEWER)]),
            newer_from=NEWER,
            source_alone=_numbers(rows[rows["known_by"] == SOURCE_ALONE]),
            source_alone_parts=sorted(set(rows.loc[rows["known_by"] == SOURCE_ALONE, "part"])),
            predicted=_numbers(rows[rows["kind_by"] == "predicted"]),
            blobs=int((rows["blob"] != "").sum()),
            cut=CUT,
            stored=STORED,
            earlier=EARLIER,
            subsampling=SUBSAMPLING,
            most_bits=MOST_BITS,
            most_pixels=MOST_PIXELS,
            square={name: _share(rows[rows["label"] == name]["shape"] == "square") for name in CLASSES},
            duplicates=_duplicates(rows),
            parts=_parts(rows),
            shapes=_by_class(rows, "shape", SHAPES, "shape"),
            styles=_by_class(rows, "style", _most_first(rows["style"]), "style"),
            evidence=_evidence(rows),
            kinds=_kinds(rows),
            families=_families(rows[rows["label"] == GENERATED]),
            years=_by_class(rows, "year", sorted(set(rows["year"]), key=_year_order), "year of the file"),
            sizes=_sizes_of_sources(sources),
            largest=_largest(sources),
            licences=_licences(rows),
        )
    )


def _year(year: str) -> str:
    return NOT_TOLD if not year else year if year >= FIRST_YEAR else f"before {FIRST_YEAR}"


def _year_order(year: str) -> tuple[bool, bool, str]:
    return year == NOT_TOLD, year.isdecimal(), year


def _numbers(rows: pd.DataFrame) -> dict[str, int]:
    return {"pictures": len(rows), "sources": rows["repository"].nunique()}


def _states_no_licence(licences: pd.Series) -> pd.Series:
    return licences.str.match(r"(none\b|$)")


def _share(chosen: pd.Series) -> str:
    return share(chosen.mean() if len(chosen) else None)


def _most_first(names: pd.Series) -> list[str]:
    counts = names.value_counts()
    return sorted(counts.index, key=lambda name: (-counts[name], name))


def _parts(rows: pd.DataFrame) -> str:
    lines = [
        (part, *((of_part["label"] == name).sum() for name in CLASSES), of_part["repository"].nunique())
        for part, of_part in rows.groupby("part")
    ]
    return table(("part", *CLASSES, "sources"), lines)


def _by_class(rows: pd.DataFrame, column: str, values: Any, title: str) -> str:
    """Counts and shares of a column's values within each class."""
    classes = [rows[rows["label"] == name] for name in CLASSES]
    lines = []
    for value in values:
        counts = [int((of_class[column] == value).sum()) for of_class in classes]
        shares = (
            share(count / len(of_class) if len(of_class) else None)
            for count, of_class in zip(counts, classes, strict=True)
        )
        lines.append((value or NOT_TOLD, *(text for pair in zip(counts, shares, strict=True) for text in pair)))
    return table((title, *(text for name in CLASSES for text in (name, f"of the {name}"))), lines)


def _evidence(rows: pd.DataFrame) -> str:
    lines = [
        (f"{label}: {name}", len(of_class), of_class["repository"].nunique())
        for label in CLASSES
        for name in _most_first(rows.loc[rows["label"] == label, "known_by"])
        for of_class in [rows[(rows["label"] == label) & (rows["known_by"] == name)]]
    ]
    return table(("label, and how it is known", "pictures", "sources"), lines)


def _kinds(rows: pd.DataFrame) -> str:
    lines = []
    for kind in _most_first(rows["kind"]):
        of_kind = rows[rows["kind"] == kind]
        counts = ((of_kind["label"] == name).sum() for name in CLASSES)
        lines.append((kind, *counts, of_kind["repository"].nunique(), _share(of_kind["kind_by"] == "predicted")))
    return table(("kind", *CLASSES, "sources", "predicted"), lines)


def _families(rows: pd.DataFrame) -> str:
    lines = []
    for family in _most_first(rows["family"]):
        of_family = rows[rows["family"] == family]
        dates = sorted(filter(None, of_family["date"]))
        span = f"{dates[0]} to {dates[-1]}" if dates else NOT_TOLD
        lines.append(
            (family, len(of_family), of_family["repository"].nunique(), span, (of_family["date"] == "").sum())
        )
    return table(("family", "pictures", "sources", "dates", "without a date"), lines)


def _sizes_of_sources(sources: pd.DataFrame) -> str:
    pictures = sources[list(CLASSES)].sum(axis=1)
    bounds = [(1, 1), (2, 4), (5, 9), (10, 12), (13, None)]
    lines = []
    for low, high in bounds:
        chosen = (pictures >= low) & (pictures <= (high or np.inf))
        words = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        lines.append((words, int(chosen.sum()), *(int(sources.loc[chosen, name].sum()) for name in CLASSES)))
    return table(("pictures of a source", "sources", *(f"{name} pictures" for name in CLASSES)), lines)


def _largest(sources: pd.DataFrame) -> str:
    order = sources.assign(pictures=sources[list(CLASSES)].sum(axis=1)).sort_values(
        ["pictures", "repository"], ascending=[False, True]
    )
    columns = ["repository", "commit", *CLASSES, "licence"]
    return table(columns, order[columns].head(LARGEST).itertuples(index=False))


def _licences(rows: pd.DataFrame) -> str:
    named = rows["licence"].where(~_states_no_licence(rows["licence"]), "none stated")
    counts = named.value_counts()
    named = named.where(named.map(counts) >= RARE, f"others, of fewer than {RARE} pictures each")
    lines = [
        (name, int((named == name).sum()), rows.loc[named == name, "repository"].nunique())
        for name in _most_first(named)
    ]
    return table(("licence as the repository states it", "pictures", "sources"), lines)


def _duplicates(rows: pd.DataFrame) -> dict[str, Any]:
    pictures = rows.rename(columns={"id": "record_id", "repository": "source"})
    return dict(find_duplicates(pictures))


__all__ = ["data_page", "sources_of", "write_data_pages"]
