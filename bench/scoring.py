"""Pictures a second of `python -m train score` beside the bare backbone in the same run, and what a million cost.

    python bench/scoring.py [--pictures 192] [--price 0.04]

Both take turns (A B A B), so that a drifting machine slows both. Then the arithmetic for machines that are not here:
every assumption is an argument and is printed with its result. About five minutes on two cores.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from serving import gigaflops

from modeling.detector import Detector
from modeling.embedded import EXAMPLES
from modeling.images import open_image
from train.jobs.processes import start_processes
from train.score.parts import finish
from train.score.scoring import ScoreArguments, Scorer
from train.score.shards import PictureArguments, open_shards

TURNS = 3
DAY = 86_400


def write_pictures(folder: Path, count: int) -> None:
    """Write JPEG files of about a megapixel, all different, cut from the example pictures."""
    folder.mkdir(parents=True)
    originals = [open_image(path) for path in sorted(EXAMPLES.iterdir()) if path.suffix in (".jpg", ".webp")]
    for index in range(count):
        original = originals[index % len(originals)]
        shift = index // len(originals)
        part = original.crop((shift, shift, original.width, original.height))
        part.resize((1200, 900), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg", quality=90)


def measure(detector: Detector, folder: Path, pictures: int, batch_size: int) -> tuple[list[float], list[float]]:
    """Rates of the command and of the bare backbone, in turns."""
    arguments = ScoreArguments(str(folder), batch_size=batch_size, part_size=4 * batch_size)
    pixels = torch.randn(batch_size, 3, detector.processor.size, detector.processor.size)
    tower = detector.model.backbone.vision_tower
    command, bare = [], []
    with torch.inference_mode():
        tower(pixel_values=pixels)
        for turn in range(TURNS):
            output = folder / f"scores-{turn}"
            start = time.perf_counter()
            output.mkdir()
            place = PictureArguments(str(folder / "pictures"))
            shards = open_shards(place, output / "pictures.arrow", arguments.part_size, is_begun=False)
            Scorer(detector, shards, arguments).run(output, start_processes())
            info = finish(output, {}, len(shards))
            command.append(pictures / (time.perf_counter() - start))
            if info is None or info["pictures"] != pictures:
                raise RuntimeError(f"{pictures} pictures were to be scored, the result says {info}.")
            start = time.perf_counter()
            for _ in range(-(-pictures // batch_size)):
                tower(pixel_values=pixels)
            bare.append(-(-pictures // batch_size) * batch_size / (time.perf_counter() - start))
    return command, bare


def opening_rate(detector: Detector, folder: Path) -> float:
    """Pictures a second that one core opens and prepares."""
    paths = sorted((folder / "pictures").iterdir())[:32]
    start = time.perf_counter()
    for path in paths:
        detector.processor(images=open_image(path.read_bytes()), return_tensors="pt")
    return len(paths) / (time.perf_counter() - start)


def project(arguments: argparse.Namespace, opening: float, flop: float) -> None:
    """Print the arithmetic for a GPU node and a billion pictures."""
    gpu = arguments.gpu_tflops * 1e12 * arguments.gpu_share / flop
    model, decoding = arguments.gpus * gpu, arguments.node_cores * opening
    node = min(model, decoding)
    print(f"projection, not measured: {arguments.gpus} GPUs of {arguments.gpu_tflops:g} TFLOP/s in float32,")
    print(f"  of which the model uses {arguments.gpu_share:.0%}; {arguments.node_cores} cores as fast as these")
    print(f"  model: {arguments.gpus} x {gpu:,.0f} pictures/s ({flop / 1e9:.1f} GFLOP a picture)")
    print(f"  opening: {arguments.node_cores} x {opening:.0f} = {decoding:,.0f} pictures/s")
    print(f"  node: {node:,.0f} pictures/s, the slower of both")
    print(f"  a million pictures: {1e6 / node / 60:.1f} minutes, {1e6 / node / 3600 * arguments.node_price:.2f} at")
    print(f"  {arguments.node_price:g} an hour; a billion: {1e9 / node / DAY:.1f} days on one node,")
    print(f"  {1e9 / node / DAY / 10:.2f} on ten, {1e9 / node / 3600 * arguments.node_price:,.0f} in all")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour, in any currency")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--gpu_tflops", type=float, default=19.5, help="float32 peak; 19.5 is an A100's data sheet")
    parser.add_argument("--gpu_share", type=float, default=0.6, help="of the peak that the model reaches")
    parser.add_argument("--node_cores", type=int, default=96)
    parser.add_argument("--node_price", type=float, default=20.0, help="of the node for an hour")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    cores = torch.get_num_threads()
    start = time.perf_counter()
    detector = Detector.from_pretrained()
    loading = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures", arguments.pictures)
        command, bare = measure(detector, folder, arguments.pictures, arguments.batch_size)
        opening = opening_rate(detector, folder)
    rate = statistics.median(command)
    hours = 1e6 / rate / 3600 * cores
    print(
        f"{cores} threads, torch {torch.__version__}, {arguments.pictures} JPEG files of 1200 x 900, median of {TURNS}"
    )
    print(f"command:       {rate:.2f} pictures/s; loading the model {loading:.1f} s, once")
    print(
        f"bare backbone: {statistics.median(bare):.2f} pictures/s on ready tensors, batches of {arguments.batch_size}"
    )
    ratio = statistics.median(a / b for a, b in zip(command, bare, strict=True))
    print(f"command / bare backbone: {ratio:.3f}")
    print(f"opening and preparing alone: {opening:.0f} pictures/s on one core")
    cost = hours * arguments.price
    print(f"a million pictures: {hours:,.0f} core-hours, {cost:.2f} at {arguments.price:g} a core-hour")
    project(arguments, opening, 1e9 * gigaflops(detector))


if __name__ == "__main__":
    main()
