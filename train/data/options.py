"""Options that say where labelled pictures are, and which column holds what."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class DataArguments:
    """Where the pictures are and which column says what."""

    data: str = field(
        metadata={
            "help": "Parquet file, glob or folder of Parquet files, or hf:// or https:// URL of them; a folder real/ "
            "+ generated/ of pictures, or of pictures with a metadata.csv, .jsonl or .parquet; a data set that "
            "`save_to_disk` wrote; OWNER/NAME of a data set on the Hub."
        }
    )
    schema: Literal["columns", "elsa_d3", "openfake"] = field(
        default="columns",
        metadata={"help": "`columns`: as the column arguments say. Others: the columns of that data set."},
    )
    config_name: str | None = field(default=None, metadata={"help": "Configuration of a data set on the Hub."})
    split: str = field(default="train", metadata={"help": "Split of a data set on the Hub or of `save_to_disk`."})
    image_column: str = field(default="image", metadata={"help": "Column of encoded pictures (datasets.Image)."})
    label_column: str = field(
        default="label", metadata={"help": "Column of 0/1 or real/generated (or fake); 0 and real = a photograph."}
    )
    id_column: str = field(default="id", metadata={"help": "Column of unique identifiers."})
    source_column: str = field(default="source", metadata={"help": "Column that splits are made by."})
    generator_column: str = field(default="generator", metadata={"help": "Column that names the generator."})
    style_column: str = field(default="style", metadata={"help": "Column such as photoreal or illustration."})
    family_column: str = field(default="family", metadata={"help": "Column of the generator's family."})
    kind_column: str = field(default="kind", metadata={"help": "Column of the kind of content, such as people."})
    kind_by_column: str = field(
        default="kind_by", metadata={"help": "Column of how the kind is known: `seen`, `style` or `predicted`."}
    )
    date_column: str = field(
        default="date", metadata={"help": "Column of ISO dates or the beginnings of such, as 2024-12."}
    )
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of captions, the same for both classes. None by default: where only generated pictures "
            "have a prompt, the text gives the label away. elsa_d3 and openfake have a column for both classes "
            "(`original_prompt`, `prompt`) and use it by default."
        },
    )
    generated_text_column: str | None = field(
        default=None,
        metadata={"help": "Another column of captions for generated pictures only. Discouraged, and warned of."},
    )
    download_folder: str | None = field(
        default=None,
        metadata={"help": "elsa_d3: folder for its real pictures, fetched by URL; an interrupted run goes on there."},
    )


@dataclass
class CollectArguments:
    """What to collect, and from where."""

    manifest: str = field(metadata={"help": "manifest.csv, with evidence.csv beside it, as in docs/data."})
    output: str = field(
        metadata={"help": "The data folder to write: Parquet files, pictures.csv, left_out.csv. A second run goes on."}
    )
    raw_address: str = field(
        default="https://raw.githubusercontent.com",
        metadata={"help": "Where files are asked for, as ADDRESS/OWNER/NAME/COMMIT/PATH, also of a private mirror."},
    )
    lfs_address: str = field(
        default="https://media.githubusercontent.com/media",
        metadata={"help": "The same for files that Git LFS keeps."},
    )


__all__ = ["CollectArguments", "DataArguments"]
