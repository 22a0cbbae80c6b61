"""`python -m modeling.check`: does this installation compute the right scores?

Scores and embeds the example pictures, compares them with what is stored, and says how far off they are and why that
may be. The embedding is looked at beside the score because a wrong one can still give a plausible score: int8
products that saturate leave embeddings with a cosine of 0.5 to the right ones, and nothing else complains.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from command_line import clear_errors, log_to_stderr

from .checkpoints import default_checkpoint, load_model, load_processor
from .detector import Detector
from .embedded import DEFAULT_SOURCE, EXAMPLES, EXPECTED_SCORES, example_files
from .files import write_text
from .images import open_image
from .proof import BACKEND, DECODED_OTHERWISE, TOLERANCE, example_scores, write_expected

# Scores by backend and picture, since another arithmetic has scores of its own; embeddings by picture.
EXPECTED = DEFAULT_SOURCE / EXPECTED_SCORES
EXPECTED_EMBEDDINGS = DEFAULT_SOURCE / "expected_embeddings.json"
# bfloat16 keeps 0.9999; other resampling of the picture costs up to 0.008; int8 with its full range in dynamic
# quantisation comes to 0.88, saturating to 0.5.
MIN_COSINE = 0.999
SAME_COSINE = 0.999999
WRONG_COSINE = 0.95


@dataclass(frozen=True)
class Comparison:
    """One example picture, as it came out and as it should.

    Args:
        name: of the file.
        score: raw.
        expected: stored score.
        cosine: of the embedding to the stored one; NaN where it is not finite.
    """

    name: str
    score: float
    expected: float
    cosine: float

    @property
    def difference(self) -> float:
        """Size of the score's error; infinite where the score is not finite."""
        return abs(self.score - self.expected) if math.isfinite(self.score) else math.inf

    @property
    def is_right(self) -> bool:
        """Whether score and embedding are within what is allowed."""
        return self.difference <= TOLERANCE and self.cosine >= MIN_COSINE


def embed_examples(detector: Detector, folder: Path = EXAMPLES) -> dict[str, Tensor]:
    """The image tower's embeddings (D,) of the example pictures, by file name."""
    files = example_files(folder)
    pictures = [open_image(path) for path in files]
    outputs = detector.compute(detector.processor(images=pictures, return_tensors="pt")["pixel_values"])
    embeddings = outputs.image_embeds[:, : detector.model.config.embedding_dim].float()
    return {path.name: embedding for path, embedding in zip(files, embeddings, strict=True)}


def compare(detector: Detector, folder: Path = EXAMPLES, backend: str = BACKEND) -> list[Comparison]:
    """Compare a detector of the default checkpoint with what is stored for a backend.

    Raises:
        ValueError: nothing is stored for the backend.
    """
    stored = json.loads(EXPECTED.read_text())
    if backend not in stored:
        raise ValueError(f"{EXPECTED.name} holds scores of {', '.join(stored)}, not of {backend!r}: write them first.")
    expected = json.loads(EXPECTED_EMBEDDINGS.read_text())
    scores = example_scores(detector.model, detector.processor, folder)
    embeddings = embed_examples(detector, folder)
    cosines = {name: torch.cosine_similarity(e, torch.tensor(expected[name]), dim=0) for name, e in embeddings.items()}
    return [Comparison(name, scores[name], stored[backend][name], cosines[name].item()) for name in scores]


def likely_reason(compared: list[Comparison]) -> str | None:
    """What is probably wrong with an installation, `None` where nothing is."""
    wrong = [picture for picture in compared if not picture.is_right]
    if not wrong:
        return None
    if not all(math.isfinite(picture.score) and math.isfinite(picture.cosine) for picture in wrong):
        return "Scores or embeddings are not finite: damaged weights, or 16 bit arithmetic that overflows."
    lowest, highest = (pick(picture.cosine for picture in wrong) for pick in (min, max))
    if lowest >= SAME_COSINE:
        return "The embeddings are right, the scores are not: the head or its settings are of another checkpoint."
    if len(wrong) < len(compared) and all(p.cosine >= SAME_COSINE for p in compared if p.is_right):
        names = ", ".join(picture.name for picture in wrong)
        return f"Only {names} came out wrong: {DECODED_OTHERWISE}"
    if highest < WRONG_COSINE:
        return (
            f"No embedding is near the right one (cosine {lowest:.2f} to {highest:.2f}): int8 products that saturate "
            "(ONNX Runtime's int8 graphs and dynamic quantisation on processors without VNNI), or another backbone. "
            "Compute in float32 and fetch the weights again."
        )
    return (
        f"The embeddings are near the right ones, not equal (lowest cosine {lowest:.5f}): arithmetic of fewer bits "
        "than float32 (bfloat16, int8), or pictures that are resized by another library than Pillow."
    )


def write_all_expected(detector: Detector, folder: Path = DEFAULT_SOURCE) -> None:
    """Store this installation's scores and embeddings as the expected ones, in a checkpoint's folder."""
    write_expected(detector.model, detector.processor, folder)
    embeddings = {name: [round(v, 5) for v in e.tolist()] for name, e in embed_examples(detector).items()}
    lines = (f"{json.dumps(name)}: {json.dumps(values)}" for name, values in embeddings.items())
    write_text(folder / EXPECTED_EMBEDDINGS.name, "{\n" + ",\n".join(lines) + "\n}\n")


@clear_errors()
def main() -> int:
    """Print the comparison; return 1 if a score or an embedding differs by more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m modeling.check", description=__doc__)
    parser.add_argument("--write", action="store_true", help="store what this installation computes as expected")
    write = parser.parse_args().write
    log_to_stderr("WARNING", "%(message)s")
    checkpoint = default_checkpoint()
    # Not by `from_pretrained`, which refuses what is to be looked at here.
    detector = Detector(load_model(checkpoint), load_processor(checkpoint))
    if write:
        write_all_expected(detector)
    compared = compare(detector)
    for picture in compared:
        print(
            f"{picture.name}: score {picture.score:.6f}, expected {picture.expected:.6f}, difference "
            f"{picture.difference:.1e}; embedding's cosine {picture.cosine:.6f}"
        )
    reason = likely_reason(compared)
    if reason is not None:
        print(reason)
    print(
        f"largest difference {max(picture.difference for picture in compared):.1e}, allowed {TOLERANCE:.0e}; lowest "
        f"cosine {min(picture.cosine for picture in compared):.6f}, needed {MIN_COSINE}: "
        f"{'OK' if reason is None else 'WRONG'}"
    )
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
