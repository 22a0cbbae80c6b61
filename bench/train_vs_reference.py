"""How long training takes beside the reference's computing steps, in the same run.

    python bench/train_vs_reference.py [loss] [step] [epoch] [features] [--bank FOLDER]

All sections by default, in under five minutes on two cores that do nothing else. The contestants take turns
(A B A B), so that a drifting machine slows all of them; times are medians. Each loss is measured in a fresh process:
its memory is the peak of the resident set during one forward and backward pass, above what the process held before
(Linux). LibAUC's pairwise loss and the SAM of pytorch_optimizer take part where they are installed.
"""

import argparse
import contextlib
import copy
import importlib.util
import io
import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from modeling.embedded import EXAMPLES

os.environ.setdefault("TQDM_DISABLE", "1")  # before anything imports tqdm: bars would tear the tables apart

import numpy as np
import torch
from reference_steps import (
    LOSSES,
    Phases,
    SampleDataset,
    embed_reloading,
    load_tower,
    new_head,
    our_step,
    reference_step,
)
from torch import Tensor, nn

from train.sam import SAM

SIZES = (2_048, 16_384, 65_536)
BATCH = 2_048
BANK_ROWS = 8_409  # three views of each of 2,803 pictures
EPOCHS = 3
PICTURES = 16  # a forward pass of the feature bank
# Records in a file of the reference, which loads CLIP once for each file's array: D3's 2,306,629 records / 5,300.
REFERENCE_LOAD = 435
# Times the P x N float32 values that must be free: measured 4.8 and 6.7, with temporaries and gradients.
MATRIX_COPIES = {"reference": 5.2, "pairs, LibAUC": 7.2}


def installed(module: str, role: str) -> bool:
    """Whether an optional peer can be imported; says so in a line where it cannot."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"{module} is not installed: no {role}")
    return found


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start


def alternate(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of what each call returns, in turn, `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call())
    return {name: statistics.median(values) for name, values in times.items()}


def verdict(text: str, holds: bool) -> None:
    """Print a target and whether this run meets it."""
    print(f"  target {'holds' if holds else 'MISSED'}: {text}")


def kibibytes(path: str, field: str) -> int:
    """A figure of Linux's memory accounts."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure_loss(name: str, size: int) -> tuple[float, float, float]:
    """Milliseconds, peak MiB and value of one loss, forward and backward, one real to four generated."""
    torch.manual_seed(0)
    labels = (torch.arange(size) % 5 != 0).long()
    scores = torch.randn(size) + labels

    def call(count: int = size) -> float:
        leaf = scores[:count].clone().requires_grad_()
        loss = LOSSES[name](leaf, labels[:count])
        loss.backward()
        return loss.item()

    call(256)  # lazy imports and threads are not the loss's memory
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = kibibytes("/proc/self/status", "VmRSS")
    start = perf_counter()
    value = call()
    times = [perf_counter() - start]
    memory = (kibibytes("/proc/self/status", "VmHWM") - before) / 1024
    while sum(times) < 0.3 and len(times) < 50:
        times.append(seconds(call))
    return 1000 * statistics.median(times), memory, value


def in_fresh_process(name: str, size: int) -> tuple[float, float, float]:
    """`measure_loss` where no other measurement has left memory behind."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_loss, name, size).result()


def compare_losses(rounds: int = 2) -> None:
    """Table of the whole loss, of CVaR alone, and of the pairs alone against LibAUC."""
    pairs = [("reference", "ours"), ("CVaR, reference", "CVaR, ours"), ("pairs, LibAUC", "pairs, ours")]
    pairs = pairs if installed("libauc", "comparison with its pairwise loss") else pairs[:2]
    print(f"  {'scores':>7}  {'baseline':<16}{'ms':>10}{'ours ms':>9}{'ratio':>8}{'MiB':>9}{'ours MiB':>9}  same to")
    for size in SIZES:
        for baseline, ours in pairs:
            needed = MATRIX_COPIES.get(baseline, 0) * 4 * (size // 5) * (size - size // 5) / 1024
            if kibibytes("/proc/meminfo", "MemAvailable") < needed:
                print(f"  {size:>7,}  {baseline:<16} skipped: it needs {needed / 1024:,.0f} MiB")
                continue
            runs: dict[str, list[tuple[float, float, float]]] = {baseline: [], ours: []}
            try:
                for _ in range(rounds):
                    for name, results in runs.items():
                        results.append(in_fresh_process(name, size))
            except BrokenProcessPool:
                print(f"  {size:>7,}  {baseline:<16} was killed: out of memory?")
                continue
            (slow, slow_mib, value), (fast, fast_mib, our_value) = (
                [statistics.median(column) for column in zip(*results, strict=True)] for results in runs.values()
            )
            print(
                f"  {size:>7,}  {baseline:<16}{slow:>10,.1f}{fast:>9.2f}{slow / fast:>7,.1f}x{slow_mib:>9,.1f}"
                f"{fast_mib:>9.1f}  {abs(value - our_value) / value:.0e}",
                flush=True,
            )
            if (baseline, size) == ("reference", SIZES[-1]):
                verdict(f"at least 500 times the speed ({slow / fast:,.0f})", slow / fast >= 500)
                verdict(f"under 1 % of the memory ({100 * fast_mib / slow_mib:.2f} %)", fast_mib < 0.01 * slow_mib)


def matrix_share(step: Callable[[], object]) -> float:
    """Share of a step's time inside matrix products, by torch's profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    return sum(events.get(f"aten::{name}", 0) for name in ("addmm", "mm")) / sum(events.values())


def compare_steps(rounds: int = 7) -> None:
    """Table of the parts of one head step, for the default backbone's width and the paper's."""
    from train.embedding_dataset import EmbeddingDataset

    for width in (512, 1_536):
        torch.manual_seed(0)
        features, labels = torch.randn(BANK_ROWS, width), (torch.rand(BANK_ROWS) < 0.8).long()
        data = {"reference": SampleDataset(features, labels), "ours": EmbeddingDataset(features, labels)}
        steps = {}
        for name, step in {"reference": reference_step, "ours": our_step}.items():
            head = new_head(width)
            steps[name] = partial(step, head, torch.optim.AdamW(head.parameters(), lr=1e-3), data[name])
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
        for _ in range(rounds + 1):
            rows = torch.randperm(BANK_ROWS)[:BATCH].tolist()
            for name, step in steps.items():
                phases = Phases()
                step(rows, phases)
                runs[name].append(phases.seconds)
        print(f"  head of {sum(p.numel() for p in head.parameters()):,} parameters, width {width:,}")
        medians = {  # the first step builds AdamW's state
            name: {part: statistics.median(run[part] for run in several[1:]) for part in several[0]}
            for name, several in runs.items()
        }
        print_parts(medians, matrix_share(partial(steps["ours"], rows, Phases())))
    if installed("pytorch_optimizer", "comparison with its SAM"):
        compare_sams(head)


def print_parts(parts: dict[str, dict[str, float]], matrices: float) -> None:
    """Print seconds and shares of a step's parts, and the target."""
    totals = {name: sum(values.values()) for name, values in parts.items()}
    for part in ("batch", "head", "loss", "SAM", "optimiser"):
        cells = (f"{1000 * v[part]:>9.1f} ms {100 * v[part] / totals[name]:>5.1f} %" for name, v in parts.items())
        print(f"  {part:<10}" + "".join(cells))
    print(f"  {'step':<10}" + "".join(f"{1000 * total:>9.1f} ms {100:>5.1f} %" for total in totals.values()))
    ratio = totals["reference"] / totals["ours"]
    print(f"  reference / ours {ratio:.2f}; matrix products {100 * matrices:.0f} % of ours, by the profiler")
    share = 100 * (parts["ours"]["loss"] + parts["ours"]["SAM"]) / totals["ours"]
    verdict(f"loss and SAM under 5 % of a step ({share:.1f} %)", share < 5)


def compare_sams(head: nn.Module) -> None:
    """What SAM and AdamW cost a step beside the passes, with equal gradients: ours and pytorch_optimizer's."""
    from pytorch_optimizer import SAM as PEER

    twin = copy.deepcopy(head)
    for parameter, other in zip(head.parameters(), twin.parameters(), strict=True):
        parameter.grad = torch.randn_like(parameter)
        other.grad = parameter.grad.clone()
    parameters, gradients = list(head.parameters()), [p.grad for p in twin.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    peer = PEER(twin.parameters(), torch.optim.AdamW, rho=0.05, lr=1e-3)

    def ours() -> None:
        with SAM(parameters, 0.05).perturbed(gradients):
            pass
        optimizer.step()

    def theirs() -> None:
        peer.first_step()
        peer.second_step()

    ours(), theirs()
    times = alternate({"theirs": lambda: seconds(theirs), "ours": lambda: seconds(ours)}, 15)
    print(
        f"  SAM and AdamW without the passes: pytorch_optimizer {1000 * times['theirs']:.1f} ms, "
        f"ours {1000 * times['ours']:.1f} ms, ratio {times['theirs'] / times['ours']:.2f}"
    )


def compare_epochs(bank: str | None, rounds: int = 3) -> None:
    """An epoch from the bank: the reference's loop, our bare loop, and the whole `RobustTrainer`."""
    import pandas as pd

    from modeling import RobustClipForImageClassification
    from modeling.checkpoints import default_backbone
    from train.arguments import RobustTrainingArguments
    from train.embedding_dataset import EmbeddingDataset
    from train.features.bank import FeatureBank
    from train.fit.head import fit_head

    torch.manual_seed(0)
    random_rows = pd.DataFrame({"label": (torch.rand(BANK_ROWS) < 0.8).long().numpy(), "source": "random"})
    features = FeatureBank.load(bank) if bank else FeatureBank(random_rows, torch.randn(BANK_ROWS, 512), None, {})
    labels = torch.tensor(features.rows["label"].to_numpy(copy=True))
    model = RobustClipForImageClassification.from_backbone(str(default_backbone()), use_text=False)

    def loop(step: Callable, dataset: SampleDataset | EmbeddingDataset) -> float:
        model.reset_head()
        model.head.train()
        optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-3)
        start = perf_counter()
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(labels)).split(BATCH):
                step(model.head, optimizer, dataset, rows.tolist(), Phases())
        return (perf_counter() - start) / EPOCHS

    def trainer(folder: str) -> float:
        training = RobustTrainingArguments(
            output_dir=folder, num_train_epochs=EPOCHS, save_strategy="no", logging_strategy="no", report_to="none"
        )
        with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints its summary
            return seconds(lambda: fit_head(model, features, np.arange(len(labels)), training)) / EPOCHS

    with tempfile.TemporaryDirectory() as folder:
        calls = {
            "reference": partial(loop, reference_step, SampleDataset(features.image_embeds, labels)),
            "ours, bare loop": partial(loop, our_step, EmbeddingDataset(features.image_embeds, labels)),
            "ours, RobustTrainer": partial(trainer, folder),
        }
        times = alternate(calls, rounds)
    print(f"  {len(labels):,} rows of {features.image_embeds.shape[1]}, batches of {BATCH:,}, mean of {EPOCHS} epochs")
    for name, value in times.items():
        print(f"  {name:<20}{value:>8.2f} s an epoch, reference / it {times['reference'] / value:.2f}")


def compare_features(rounds: int = 3) -> None:
    """Seconds a picture: CLIP loaded for every batch, and our feature bank, which loads it once."""
    from sample import example_records

    from modeling.checkpoints import default_backbone
    from train.features.making import build_feature_bank

    backbone = str(default_backbone())
    files = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jpg", ".webp"))
    pictures = [files[i % len(files)] for i in range(2 * PICTURES)]
    embeds: dict[str, Tensor] = {}

    def bank(count: int) -> None:
        records = example_records(count)
        with tempfile.TemporaryDirectory() as folder:
            embeds["ours"] = build_feature_bank(records, folder, backbone=backbone, views=1).image_embeds.clone()

    def reference() -> None:
        embeds["reference"] = embed_reloading(backbone, pictures[:PICTURES], PICTURES)

    embed_reloading(backbone, pictures[:1], 1)  # imports and the file cache
    calls = {
        "bank of two batches": lambda: seconds(lambda: bank(2 * PICTURES)),
        "reloading": lambda: seconds(reference) / PICTURES,
        "bank of one batch": lambda: seconds(lambda: bank(PICTURES)),
        "reloading for each": lambda: seconds(lambda: embed_reloading(backbone, files, 1)) / len(files),
        "load": lambda: seconds(lambda: load_tower(backbone)),
    }
    times = alternate(calls, rounds)
    batch, load = times["bank of two batches"] - times["bank of one batch"], times["load"]
    ours = batch / PICTURES
    print(f"  ours: {1000 * ours:.0f} ms a picture, and {times['bank of one batch'] - batch:.2f} s once a bank")
    patterns = {
        "1 picture": times["reloading for each"],
        f"{PICTURES} pictures": times["reloading"],
        f"{REFERENCE_LOAD} pictures (computed)": times["reloading"] + load * (1 / REFERENCE_LOAD - 1 / PICTURES),
    }
    for pattern, value in patterns.items():
        print(f"  CLIP loaded every {pattern:<24}{1000 * value:>6.0f} ms a picture, ratio {value / ours:.2f}")
    difference = (embeds["ours"][:PICTURES] - embeds["reference"]).abs().max()
    print(f"  one load {1000 * load:.0f} ms; embeddings differ by {difference:.1e} at most")
    ratio = times["reloading"] / ours
    verdict(f"at least 5 times the reference's pattern, loading every {PICTURES} pictures ({ratio:.2f})", ratio >= 5)
    print(f"  (it can be met where a picture takes under {250 * load / PICTURES:.1f} ms: load / (4 x {PICTURES}))")


def main() -> None:
    """Measure the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help="loss, step, epoch, features; all by default")
    parser.add_argument("--bank", help="feature bank for the epoch, instead of random embeddings")
    arguments = parser.parse_args()
    sections = {
        "loss": ("Loss, forward and backward, 1 real : 4 generated", compare_losses),
        "step": (f"Head step with SAM at {BATCH:,}: reference | ours", compare_steps),
        "epoch": ("Epoch from the bank", partial(compare_epochs, arguments.bank)),
        "features": ("Feature extraction", compare_features),
    }
    if unknown := set(arguments.sections) - set(sections):
        parser.error(f"`section` must be of {', '.join(sections)}, got {', '.join(sorted(unknown))}.")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}")
    for name in arguments.sections or sections:
        title, compare = sections[name]
        print(f"\n{title}", flush=True)
        print(f"  ({seconds(compare):.0f} s)")


if __name__ == "__main__":
    main()
