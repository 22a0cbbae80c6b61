"""Where the embedded default lies: the project's root, its part of the checkpoint, its card and example pictures."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The embedded default without its backbone, which `modeling.checkpoints` adds.
DEFAULT_SOURCE = ROOT / "checkpoints" / "default"
# The default's card, and a card's name in every checkpoint folder.
MODEL_CARD, CARD_FILE = ROOT / "model_card.md", "README.md"
EXAMPLES = ROOT / "examples"
# Beside the weights of every checkpoint: what it gives for the example pictures.
EXPECTED_SCORES = "expected_scores.json"


class CheckpointError(RuntimeError):
    """A checkpoint, or a part of it, cannot be had or is not what it should be. The message says what to do."""


def example_files(folder: Path = EXAMPLES) -> list[Path]:
    """The example pictures, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".webp"))


__all__ = [
    "CARD_FILE",
    "DEFAULT_SOURCE",
    "EXAMPLES",
    "EXPECTED_SCORES",
    "MODEL_CARD",
    "ROOT",
    "CheckpointError",
    "example_files",
]
