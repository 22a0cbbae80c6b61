"""`python -m modeling.check`: does this installation compute the right scores?

Scores the example pictures and compares them with the stored ones. A difference above the tolerance means another
decoder, resampling or arithmetic than the checkpoint was measured with.
"""

import argparse
import json
import sys

from .checkpoints import DEFAULT_SOURCE, ROOT
from .detector import Detector

EXPECTED = DEFAULT_SOURCE / "expected_scores.json"
TOLERANCE = 1e-3


def score_examples(detector: Detector) -> dict[str, float]:
    """Raw scores of the example pictures, by file name."""
    pictures = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".jpg", ".webp"))
    return {path.name: float(detector.detect(path).score or 0.0) for path in pictures}


def main() -> int:
    """Print the comparison; return 1 if a score differs by more than the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m modeling.check", description=__doc__)
    parser.add_argument("--write", action="store_true", help="store this installation's scores as the expected ones")
    write = parser.parse_args().write
    scores = score_examples(Detector.from_pretrained())
    if write:
        EXPECTED.write_text(json.dumps({name: round(score, 6) for name, score in scores.items()}, indent=1) + "\n")
    expected = json.loads(EXPECTED.read_text())
    worst = 0.0
    for name, score in scores.items():
        difference = abs(score - expected[name])
        worst = max(worst, difference)
        print(f"{name}: score {score:.6f}, expected {expected[name]:.6f}, difference {difference:.1e}")
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}: {'OK' if worst <= TOLERANCE else 'WRONG'}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
