"""Where pictures to be scored are, as shards that processes divide among themselves; no label is needed.

A folder of pictures (any depth), tar archives (WebDataset), Parquet files, a data set that `save_to_disk` wrote, and a
data set of the Hub become the same thing here: numbered shards that give the same pictures in the same order every
time, from any position on. Nothing is copied and no shard is held in memory: archives are read as a stream, tables by
`datasets` streaming.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi

from modeling.files import replacing
from modeling.hub import hub_errors

from ..data.picture_folder import printable
from ..data.records import is_hub_name, parquet_files
from ..data.schema import as_pictures
from .options import PictureArguments
from .picture import Picture, count_words, files_fingerprint, may_be_picture, without_query
from .tar_shards import TAR, TarShards, tar_files

logger = logging.getLogger(__name__)

PARQUET = (".parquet",)
# A table of fewer files is divided by its row groups, so that as many processes can share it.
FEW_FILES = 64
LISTED_AT_ONCE = 100_000


class PictureShards(Protocol):
    """Numbered shards of pictures.

    Args:
        identity: what must be the same for a run to go on with another's results.
    """

    identity: dict

    def __len__(self) -> int:
        """Number of shards."""

    def size(self, shard: int) -> int | None:
        """How many pictures a shard has, where that is known before it is read."""

    def read(self, shard: int, skip: int) -> Iterator[Picture]:
        """A shard's pictures in their order, except the first `skip`."""


class FolderShards:
    """Equal shares of a folder's files, by a list that is made once: files that come later are not part of it."""

    def __init__(self, folder: str, listing: Path, share: int) -> None:
        self.folder, self.share = folder, share
        self.source = printable(os.fsencode(folder))
        self.files = pa.ipc.open_file(pa.memory_map(str(listing))).read_all().column("file")
        with listing.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self.identity = {"kind": "folder", "pictures": len(self.files), "files_sha256": digest}

    def __len__(self) -> int:
        """Number of shards."""
        return -(-len(self.files) // self.share)

    def size(self, shard: int) -> int:
        """All have `share` pictures except the last."""
        return min(self.share, len(self.files) - shard * self.share)

    def read(self, shard: int, skip: int) -> Iterator[Picture]:
        """Name the files; they are read where they are opened."""
        first = shard * self.share
        for name in self.files.slice(first + skip, self.size(shard) - skip).to_pylist():
            yield Picture(printable(name), self.source, os.path.join(self.folder, os.fsdecode(name)))


class TableShards:
    """Files of a table, or contiguous row groups where the files are few."""

    def __init__(self, table: datasets.IterableDataset, arguments: PictureArguments, identity: dict) -> None:
        # First of all: `load_dataset` lets threads decode remote pictures, and only this takes that step away again.
        table = table.decode(False)
        files = table.num_shards
        if files < FEW_FILES:
            table = table.reshard()
        self.shards = min(table.num_shards, max(files, FEW_FILES))
        self.source = without_query(arguments.data)
        columns = table.column_names or []
        for name in ("image_column", "id_column"):
            column = getattr(arguments, name)
            if column not in columns and (name == "image_column" or column != PictureArguments.id_column):
                raise ValueError(f"`{name}` {column!r} is not in the data, which has the columns {columns}.")
        self.image, self.id = arguments.image_column, arguments.id_column
        wanted = [name for name in columns if name in (self.image, self.id)]
        self.table = as_pictures(table, self.image).select_columns(wanted)
        self.identity = {"kind": "table", "shards": self.shards, **identity}

    def __len__(self) -> int:
        """Number of shards."""
        return self.shards

    def size(self, shard: int) -> None:
        """Only reading a shard tells."""

    def read(self, shard: int, skip: int) -> Iterator[Picture]:
        """Stream rows; the rows of a damaged file are followed by one that carries the error."""
        rows = self.table.shard(self.shards, shard)
        try:
            for row, example in enumerate(rows.skip(skip) if skip else rows, skip):
                image = example[self.image] or {"bytes": None, "path": None}
                key = example.get(self.id)
                if key is None:
                    key = image["path"] or f"{shard}/{row}"
                content = image["path"] if image["bytes"] is None else image["bytes"]
                error = "The row holds no picture." if content is None else None
                yield Picture(str(key), self.source, content, error)
        except (pa.ArrowInvalid, DatasetsError, OSError) as error:
            if not _is_damage(error):
                raise
            message = f"Shard {shard} of the table is damaged, pictures may be missing: {error}"
            logger.warning("%s: %s", self.source, message)
            yield Picture(self.source, self.source, None, message)


def _is_damage(error: Exception) -> bool:
    """Whether a table's content is at fault, not the way to it: Arrow says a bare OSError of data it cannot unpack."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def open_shards(arguments: PictureArguments, listing: Path, share: int, *, is_begun: bool) -> PictureShards:
    """Find the pictures.

    Args:
        arguments: where they are.
        listing: where the list of a folder's files is kept.
        share: pictures of a shard where they can be divided freely.
        is_begun: the list is there already, and holds.

    Raises:
        ValueError: nothing is there, it cannot be read, or it is several things at once.
        OSError: a folder that cannot be read; `HubError` for what the Hub refuses.
    """
    location = arguments.data
    path, name = Path(location), urlsplit(location).path if "://" in location else location
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return _saved_shards(arguments, path, share)
        if path.is_dir():
            if not is_begun:
                _list_files(path, listing)
            return _folder_shards(arguments, listing, share)
        if name.endswith(TAR):
            return TarShards(tar_files(location))
        if files := [location] if "://" in location and name.endswith(PARQUET) else parquet_files(location):
            return _parquet_shards(arguments, files)
    except (DatasetsError, pa.ArrowInvalid, ImportError) as error:  # ImportError: of a remote file system's package
        raise ValueError(f"`data` {without_query(location)!r} could not be read: {error}") from error
    if is_hub_name(location):
        return _hub_shards(arguments)
    raise ValueError(
        "`data` must name a folder of pictures, tar archives, Parquet files or OWNER/NAME of a data set on the Hub, "
        f"got {location!r}."
    )


def _list_files(folder: Path, listing: Path) -> None:
    """Write the names of all files below a folder, in a fixed order."""
    kinds: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    root = os.fsencode(folder)
    with replacing(listing) as temporary:
        schema = pa.schema([("file", pa.binary())])
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            names: list[bytes] = []
            for parent, folders, files in os.walk(root, onerror=_raise):
                folders[:] = sorted(name for name in folders if not name.startswith(b"."))
                inside = os.path.relpath(parent, root)
                for file in sorted(files):
                    if not may_be_picture(file):
                        beside[os.fsdecode(os.path.splitext(file)[1])] += 1
                        continue
                    kinds[_kind(os.fsdecode(file))] += 1
                    names.append(file if inside == b"." else os.path.join(inside, file))
                if len(names) >= LISTED_AT_ONCE:
                    writer.write_table(pa.table([names], schema))
                    names = []
            writer.write_table(pa.table([names], schema))
        if not kinds:
            raise ValueError(f"{folder} holds no picture, tar archive or Parquet file.")
        if len(kinds) > 1:
            raise ValueError(
                f"{folder} holds {count_words(kinds)} files: which are meant? Name a subfolder, or a glob such as "
                f"{folder}/*.tar."
            )
    if beside:
        logger.info("%s: passed over %s", folder, count_words(beside))


def _raise(error: OSError) -> None:
    """A folder that cannot be read must not count as empty."""
    raise error


def _kind(name: str) -> str:
    """What a file's name says that it holds."""
    return "tar" if name.endswith(TAR) else "parquet" if name.endswith(PARQUET) else "other"


def _folder_shards(arguments: PictureArguments, listing: Path, share: int) -> PictureShards:
    """Pictures, or the archives or tables that a folder holds."""
    folder = FolderShards(arguments.data, listing, share)
    first = os.fsdecode(folder.files[0].as_py())
    if (kind := _kind(first)) == "other":
        return folder
    files = [os.path.join(arguments.data, os.fsdecode(name)) for name in folder.files.to_pylist()]
    return TarShards(files) if kind == "tar" else _parquet_shards(arguments, files)


def _parquet_shards(arguments: PictureArguments, files: list[str]) -> TableShards:
    table = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return TableShards(table, arguments, {"files_sha256": files_fingerprint(files)})


def _saved_shards(arguments: PictureArguments, path: Path, share: int) -> TableShards:
    split = path / arguments.split if (path / "dataset_dict.json").is_file() else path
    table = datasets.load_from_disk(str(split))
    shards = max(1, -(-len(table) // share))
    return TableShards(table.to_iterable_dataset(num_shards=shards), arguments, {"rows": len(table)})


def _hub_shards(arguments: PictureArguments) -> TableShards:
    """A data set's one commit, so that a run which goes on later reads the same."""
    name = arguments.data
    with hub_errors(name):
        commit = HfApi().dataset_info(name, revision=arguments.revision).sha
        table = datasets.load_dataset(
            name, arguments.config_name, split=arguments.split, revision=commit, streaming=True
        )
        return TableShards(table, arguments, {"commit": commit})


__all__ = ["PictureShards", "open_shards"]
