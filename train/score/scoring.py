"""`python -m train score`: judge any number of pictures, each exactly once, on any number of processes.

Shards go to the processes by rank (torchrun, accelerate), and every process writes its results part by part: whatever
is killed, the same command goes on after the last part, with as many processes as are then there. No process waits for
another but at the start. Files are read in one thread and opened in others while the model works; batches never cross
parts, so that a picture meets the same company in every run and its figures are the same to the last bit.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import fsspec
import torch
from accelerate import PartialState
from tqdm import tqdm

from modeling.detector import Detector
from modeling.files import claim_folder
from modeling.images import MAX_BYTES, ImageError, open_image, read_bytes
from modeling.provenance import read_provenance

from ..features.backbone import processor_settings, weights_fingerprint
from ..jobs.processes import cores_of_a_process, start_processes
from .options import PictureArguments, ScoreArguments
from .parts import INFO_FILE, DoneParts, Part, check_columns, finish, write_part
from .picture import Picture, without_query
from .shards import PictureShards, open_shards

logger = logging.getLogger(__name__)

LISTING = "pictures.arrow"


def score(pictures: PictureArguments, arguments: ScoreArguments) -> dict | None:
    """Judge this process's share of the pictures, and finish the run if it was the last share.

    Captions are not read: where a checkpoint reads them, pictures are judged as those that have none.

    Args:
        pictures: where they are.
        arguments: the checkpoint and the output.

    Returns:
        What `scores.json` says of the finished run; `None` while other processes' shards are missing.

    Raises:
        ValueError: nothing to score, settings that cannot be, or an output that was begun with other settings.
        OSError: a place that cannot be read; what was scored before is kept.
    """
    _check(pictures, arguments)
    output = Path(arguments.output)
    check_columns(output)
    processes = start_processes()
    with processes.main_process_first():  # the first downloads what the others then find
        detector = Detector.from_pretrained(arguments.model)
    with processes.main_process_first():  # and lists the pictures
        is_begun = (output / INFO_FILE).is_file()
        shards = open_shards(pictures, output / LISTING, arguments.part_size, is_begun=is_begun)
        settings = _settings(pictures, arguments, detector, shards)
        claim_folder(output / INFO_FILE, settings)
    if processes.device.type != "cpu":  # "cpu:0" would copy the weights, whose place in memory can change a last bit
        detector.model.to(processes.device)
    Scorer(detector, shards, arguments).run(output, processes)
    return finish(output, settings, len(shards))


def _check(pictures: PictureArguments, arguments: ScoreArguments) -> None:
    if arguments.batch_size < 1 or arguments.part_size < 1 or arguments.part_size % arguments.batch_size:
        raise ValueError(
            f"`part_size` must be a multiple of `batch_size`, got {arguments.part_size} and {arguments.batch_size}."
        )
    if arguments.decoders is not None and arguments.decoders < 1:
        raise ValueError(f"`decoders` must be 1 or more, got {arguments.decoders}.")
    if Path(pictures.data).is_dir() and Path(arguments.output).resolve().is_relative_to(Path(pictures.data).resolve()):
        raise ValueError(f"`output` {arguments.output} must not lie in `data` {pictures.data}: choose another folder.")


def _settings(
    pictures: PictureArguments, arguments: ScoreArguments, detector: Detector, shards: PictureShards
) -> dict:
    """All that decides the results."""
    decision = detector.model.config.decision(with_text=False)
    return {
        "data": without_query(pictures.data),
        "config_name": pictures.config_name,
        "split": pictures.split,
        "image_column": pictures.image_column,
        "id_column": pictures.id_column,
        **shards.identity,
        "model": detector.name,
        "model_version": detector.version,
        "backbone_sha256": weights_fingerprint(detector.model.backbone),
        "processor": processor_settings(detector.processor),
        "real_threshold": decision.real_threshold,
        "generated_threshold": decision.generated_threshold,
        "batch_size": arguments.batch_size,
        "part_size": arguments.part_size,
    }


class Scorer:
    """Judges a process's share of the shards.

    Args:
        detector: on its device.
        shards: all shards.
        arguments: sizes.
    """

    def __init__(self, detector: Detector, shards: PictureShards, arguments: ScoreArguments) -> None:
        self.detector, self.shards = detector, shards
        self.batch_size, self.part_size = arguments.batch_size, arguments.part_size
        self.decoders = arguments.decoders or cores_of_a_process()
        # Enough that all decoders have work while a batch is in the model.
        self.ahead = 2 * self.batch_size + self.decoders
        self.made_by = {"model": detector.name, "model_version": detector.version}

    def run(self, output: Path, processes: PartialState) -> None:
        """Write the parts that this process's shards lack; it has every n-th of n processes' shards."""
        done = DoneParts(output)
        mine = range(processes.process_index, len(self.shards), processes.num_processes)
        missing = [(shard, number) for shard in mine if (number := done.next_part(shard)) is not None]
        # The bar is of this process's remaining share; the others' are like it.
        bar = tqdm(
            total=self._remaining(missing),
            unit="picture",
            desc=f"score, process {processes.process_index + 1} of {processes.num_processes}",
            disable=not processes.is_main_process,
        )
        with bar, ThreadPoolExecutor(self.decoders) as decoders, ThreadPoolExecutor(1) as reader:
            batches = self._batches(missing, decoders)
            rows: list[dict] = []
            shards_done = 0
            upcoming = reader.submit(next, batches, None)
            while (batch := upcoming.result()) is not None:
                upcoming = reader.submit(next, batches, None)
                part, batch_rows, pixel_values = batch
                self._answer(batch_rows, pixel_values)
                rows += batch_rows
                bar.update(len(batch_rows))
                if part is not None:
                    write_part(output, part, rows)
                    rows = []
                    shards_done += part.is_last
                    if part.is_last and self._remaining(missing) is None:
                        bar.total = bar.n * len(missing) // shards_done  # what is left is like what was

    def _remaining(self, missing: list[tuple[int, int]]) -> int | None:
        """How many pictures are to be judged, where that is known."""
        sizes = [self.shards.size(shard) for shard, _ in missing]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return None
        return sum(known) - self.part_size * sum(number for _, number in missing)

    def _answer(self, rows: list[dict], pixel_values: list[torch.Tensor]) -> None:
        """Put the answers into the rows of the pictures that could be read, in one forward pass."""
        if not pixel_values:
            return
        readable = [row for row in rows if row["error"] is None]
        for row, answer in zip(readable, self.detector.detect_prepared(torch.cat(pixel_values)), strict=True):
            row |= {name: getattr(answer, name) for name in ("verdict", "reason", "probability", "score")}

    def _batches(
        self, missing: list[tuple[int, int]], decoders: ThreadPoolExecutor
    ) -> Iterator[tuple[Part | None, list[dict], list[torch.Tensor]]]:
        """Yield (the part that ends here or `None`, rows, their pixel values), at most `batch_size` pictures."""
        rows: list[dict] = []
        pixel_values: list[torch.Tensor] = []
        for end, future in self._opened_ahead(missing, decoders):
            if future is not None:
                row, pixels = future.result()
                rows.append(row)
                if pixels is not None:
                    pixel_values.append(pixels)
            if end is not None or len(rows) == self.batch_size:
                yield end, rows, pixel_values
                rows, pixel_values = [], []

    def _opened_ahead(
        self, missing: list[tuple[int, int]], decoders: ThreadPoolExecutor
    ) -> Iterator[tuple[Part | None, Future | None]]:
        """Pass on what `_pictures` yields, with the next `ahead` pictures being opened."""
        window: deque[tuple[Part | None, Future | None]] = deque()
        for end, row, picture in self._pictures(missing):
            window.append((end, None if picture is None else decoders.submit(self._open, picture, row)))
            if len(window) > self.ahead:
                yield window.popleft()
        yield from window

    def _pictures(self, missing: list[tuple[int, int]]) -> Iterator[tuple[Part | None, dict, Picture | None]]:
        """Yield a picture with its place, or the end of a part, which is known when the next picture is."""
        for shard, number in missing:
            row = number * self.part_size
            pictures = self.shards.read(shard, row)
            upcoming = next(pictures, None)
            while True:
                for _ in range(self.part_size):
                    if upcoming is None:
                        break
                    yield None, {"shard": shard, "row": row}, upcoming
                    upcoming = next(pictures, None)
                    row += 1
                yield Part(shard, number, upcoming is None), {}, None
                if upcoming is None:
                    break
                number += 1

    def _open(self, picture: Picture, place: dict) -> tuple[dict, torch.Tensor | None]:
        """A picture's row, and its pixel values (1, 3, size, size) unless it cannot be read."""
        row = dict.fromkeys(
            ("verdict", "reason", "probability", "score", "width", "height", "sha256", "marks", "error")
        )
        row |= {"key": picture.key, "source": picture.source, **place, **self.made_by}
        if picture.content is None:
            return row | {"error": picture.error}, None
        try:
            content = _read(picture.content)
        except ImageError as error:
            return row | {"error": str(error)}, None
        row["sha256"] = hashlib.sha256(content).hexdigest()
        try:
            opened = open_image(content)
            pixel_values = self.detector.processor(images=opened, return_tensors="pt")["pixel_values"]
            marks = [mark.short for mark in read_provenance(content).marks]
        except ImageError as error:
            return row | {"error": str(error)}, None
        except Exception as error:  # one hostile file must not stop a run of millions, at the same place every time
            logger.exception("%s of %s", picture.key, picture.source)
            return row | {"error": f"This picture could not be opened ({type(error).__name__}: {error})."}, None
        return row | {"width": opened.width, "height": opened.height, "marks": marks}, pixel_values


def _read(content: bytes | str) -> bytes:
    """A picture's bytes; those of loose files on the Hub are fetched here, several at a time."""
    if isinstance(content, str) and "hf://" in content:
        with fsspec.open(content, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    return read_bytes(content)


__all__ = ["Scorer", "score"]
