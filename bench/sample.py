"""Labelled pictures for the benches: as many of each source as can be, so that no large source decides."""

import glob

import datasets
import pandas as pd

from modeling.embedded import EXAMPLES
from train.data.schema import DESCRIBED


def sample_pictures(location: str, per_class: int, seed: int = 0) -> pd.DataFrame:
    """Draw pictures of both classes, one of every source, then a second of every source, and so on.

    Args:
        location: glob of parquet files with the columns image (bytes inside), label (0 real, 1 generated) and source.
        per_class: pictures of each class; fewer where there are not as many.
        seed: of the draw.

    Returns:
        One row a picture: data (the file's bytes), label, source; the classes take turns.

    Raises:
        ValueError: no file there, or one class only.
    """
    files = sorted(glob.glob(location))
    if not files:
        raise ValueError(f"There is no file at {location!r}: expected a glob of parquet files, in quotes.")
    table = pd.concat([pd.read_parquet(file, columns=["image", "label", "source"]) for file in files])
    if table["label"].nunique() < 2:
        raise ValueError(f"Both classes are needed, {location!r} has the label {table['label'].iloc[0]} only.")
    table["data"] = [image["bytes"] for image in table.pop("image")]
    table = table.sample(frac=1, random_state=seed)
    table["turn"] = table.groupby(["label", "source"]).cumcount()
    table = table.sort_values("turn", kind="stable").groupby("label").head(per_class)
    table["turn"] = table.groupby("label").cumcount()
    return table.sort_values("turn", kind="stable").drop(columns="turn").reset_index(drop=True)


def example_records(number: int) -> datasets.Dataset:
    """So many records of the embedded examples, in turn; the classes take turns, each record is a source."""
    files = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jpg", ".webp"))
    contents = [path.read_bytes() for path in files]
    names = [str(index) for index in range(number)]
    columns = {
        "image": [{"bytes": contents[index % len(contents)], "path": None} for index in range(number)],
        "text": [None] * number,
        **{name: [""] * number for name in DESCRIBED},
        "label": [index % 2 for index in range(number)],
        "source": names,
        "record_id": names,
    }
    return datasets.Dataset.from_dict(columns)
