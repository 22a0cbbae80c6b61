"""Is an accelerator right, and how fast is it beside its own matrix products? With random weights: nothing is fetched.

    python bench/gpu.py                        # needs CUDA; without it one line says so
    python bench/gpu.py --device cpu --tiny    # the same code with a tiny model, to try the script

Prints the measured peak of square matrix products by precision, how far embeddings, scores and a step of training are
from float32 on the CPU, the detector's throughput (backbone and head, ready tensors), and a training step of the head
with SAM. Work is counted by PyTorch from the shapes; a fraction of the peak is that of the same precision.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modeling import RobustClipConfig, RobustClipForImageClassification
from train.losses import robust_loss
from train.sam import SAM, frozen_batch_norm, same_random_numbers

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
# float32 differs by rounding and the order of sums; measured between two CPUs it stays under a tenth of this.
MAX_FP32_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Settings:
    """What is measured; `TINY` in the place of `FULL` only shows that the script works."""

    towers: dict[str, dict[str, int]]
    batches: tuple[int, ...] = (16, 64, 256)
    compared: int = 8  # pictures that the CPU computes too
    matrix: int = 8192
    rows: int = 2048  # stored embeddings in a training step
    runs: int = 20


FULL = Settings(
    towers={
        "ViT-B/16": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "patch_size": 16,
            "projection_dim": 512,
        },
        "ViT-L/14": {},  # the configuration's default
    }
)
TINY = Settings(
    towers={
        "tiny": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "projection_dim": 8,
        }
    },
    batches=(2,),
    compared=4,
    matrix=64,
    rows=16,
    runs=2,
)


@contextmanager
def precision(name: str):  # noqa: ANN201
    """Let float32 products on CUDA be rounded to TF32 within, or not at all."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    wanted = "tf32" if name == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = wanted
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def seconds(call: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median wall time of a call, the device's queue emptied before and after, after three calls to warm up."""
    times = []
    for run in range(runs + 3):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if run >= 3:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of a call's matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def measured_peaks(names: list[str], settings: Settings, device: torch.device) -> dict[str, float]:
    """Operations a second of square matrix products, by precision."""
    peaks = {}
    for name in names:
        matrix = torch.randn(settings.matrix, settings.matrix, device=device, dtype=DTYPES[name])
        with precision(name):
            peaks[name] = 2 * settings.matrix**3 / seconds(lambda m=matrix: m @ m, device, settings.runs)
        print(f"  {name}: {peaks[name] / 1e12:.3g} TFLOP/s")
    return peaks


def compare_detector(model: nn.Module, names: list[str], settings: Settings, device: torch.device) -> None:
    """Print how far embeddings and scores on the device are from float32 on the CPU."""
    size = model.config.vision_config.image_size
    pixels = torch.randn(settings.compared, 3, size, size)
    with torch.inference_mode():
        expected = model(pixel_values=pixels)
        for name in names:
            there = copy.deepcopy(model).to(device, DTYPES[name])
            with precision(name):
                found = there(pixel_values=pixels.to(device, DTYPES[name]))
            embeds, score = found.image_embeds.float().cpu(), found.score.float().cpu()
            cosine = torch.cosine_similarity(embeds, expected.image_embeds).min().item()
            relative = ((embeds - expected.image_embeds).norm() / expected.image_embeds.norm()).item()
            difference = (score - expected.score).abs().max().item()
            verdict = ""
            if name == "fp32":
                verdict = (
                    f", {'right' if relative <= MAX_FP32_DIFFERENCE else 'WRONG'} (at most {MAX_FP32_DIFFERENCE})"
                )
            print(
                f"  {name} beside fp32 on the CPU: embeddings {relative:.1e} apart{verdict}, lowest cosine "
                f"{cosine:.6f}; scores {difference:.1e} apart at most, their range {expected.score.std().item():.1e}"
            )


def time_detector(
    model: nn.Module, names: list[str], peaks: dict[str, float], settings: Settings, device: torch.device
) -> None:
    """Print pictures a second on ready tensors, backbone and head."""
    size = model.config.vision_config.image_size
    with torch.inference_mode():
        for name in names:
            there = copy.deepcopy(model).to(device, DTYPES[name])
            for batch in settings.batches:
                pixels = torch.randn(batch, 3, size, size, device=device, dtype=DTYPES[name])

                def call(there: nn.Module = there, pixels: Tensor = pixels) -> object:
                    return there(pixel_values=pixels)

                with precision(name):
                    took = seconds(call, device, settings.runs)
                rate = operations(call) / took
                print(
                    f"  {name}, batch {batch}: {batch / took:,.1f} pictures/s, {rate / 1e12:.3g} TFLOP/s, "
                    f"{rate / peaks[name]:.2f} of the peak"
                )


def train_step(head: nn.Module, optimizer: torch.optim.Optimizer, features: Tensor, labels: Tensor) -> None:
    """One step of the head as `RobustTrainer` takes it: ascend, gradient there, back, step."""
    parameters = list(head.parameters())
    with same_random_numbers(features.device):
        gradients = torch.autograd.grad(robust_loss(head(features), labels).loss, parameters)
    with SAM(parameters).perturbed(gradients), frozen_batch_norm(head):
        robust_loss(head(features), labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def compare_and_time_training(head: nn.Module, peak: float, settings: Settings, device: torch.device) -> None:
    """Print how far a step's weights are from the CPU's, and how long a step takes."""
    head = head.train()
    width = head.layers[0].in_features
    features, labels = torch.randn(settings.rows, width), torch.arange(settings.rows) % 2
    moved = {}
    for place in (torch.device("cpu"), device):
        # Dropout draws other numbers on another device, and Adam divides small gradients by their size: neither here.
        there = copy.deepcopy(head).to(place)
        for layer in there.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        train_step(there, torch.optim.SGD(there.parameters(), lr=0.1), features.to(place), labels.to(place))
        moved[place.type] = torch.cat([parameter.detach().cpu().flatten() for parameter in there.parameters()])
    start = torch.cat([parameter.detach().flatten() for parameter in head.parameters()])
    step = (moved["cpu"] - start).norm()
    apart = ((moved[device.type] - moved["cpu"]).norm() / step).item()
    right = "right" if apart <= MAX_FP32_DIFFERENCE else "WRONG"
    print(
        f"  a step with SAM beside the CPU's: {apart:.1e} of its length apart, {right} (at most {MAX_FP32_DIFFERENCE})"
    )

    head, features, labels = head.to(device), features.to(device), labels.to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    took = seconds(lambda: train_step(head, optimizer, features, labels), device, settings.runs)
    rate = operations(lambda: train_step(head, optimizer, features, labels)) / took
    count = sum(parameter.numel() for parameter in head.parameters())
    print(
        f"  a step with SAM and AdamW, {count:,} parameters, batch {settings.rows:,}: {1000 * took:.2f} ms, "
        f"{rate / 1e12:.3g} TFLOP/s, {rate / peak:.2f} of the peak"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="such as cuda, cuda:1 or cpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    device, settings = torch.device(arguments.device), TINY if arguments.tiny else FULL
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA device (--device cpu --tiny tries the script without one)")
        return
    names = ["fp32", "tf32", "bf16"] if device.type == "cuda" else ["fp32", "bf16"]
    torch.manual_seed(0)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{kind}, torch {torch.__version__}, median of {settings.runs} runs")
    print(f"measured peak, matrix products of {settings.matrix:,} x {settings.matrix:,}")
    peaks = measured_peaks(names, settings, device)
    for tower, vision in settings.towers.items():
        model = RobustClipForImageClassification(RobustClipConfig(vision_config=dict(vision))).eval()
        print(f"{tower}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters")
        compare_detector(model, names, settings, device)
        time_detector(model, names, peaks, settings, device)
        with precision("fp32"):
            compare_and_time_training(model.head, peaks["fp32"], settings, device)


if __name__ == "__main__":
    main()
