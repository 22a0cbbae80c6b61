"""The documents that show what was measured of a checkpoint: between two marks stands what its files give."""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from modeling.detector import Detection
from modeling.embedded import CARD_FILE, DEFAULT_SOURCE, EXPECTED_SCORES, MODEL_CARD, ROOT
from modeling.files import write_together
from modeling.proof import read_expected
from modeling.sentences import sentence
from modeling.verdicts import GENERATED, verdict

from ..measure.schema import Evaluation, Worst
from .card import figures_table, fit_facts, folder_card, read_notes
from .evaluation_file import read_evaluation
from .markdown import share
from .options import CardArguments
from .release import newest_sentence
from .verdicts import worst_sentences

COMMAND = "python -m train card"
_BLOCK = re.compile(rf"(<!-- (?P<name>[\w-]+): {COMMAND} -->\n)(.*?)(<!-- end of (?P=name) -->)", re.DOTALL)


@dataclass(frozen=True)
class Published:
    """A checkpoint's files, as far as documents show them.

    Args:
        evaluation: as `fit` wrote it.
        config: config.json.
        notes: as `read_notes` gives them.
        scores: raw scores of the example pictures by name; none where they were not computed.
    """

    evaluation: Evaluation
    config: dict
    notes: dict
    scores: dict[str, float]

    @classmethod
    def read(cls, folder: Path, notes: dict | None) -> "Published":
        """Read them from a checkpoint's folder."""
        scores = read_expected(folder / EXPECTED_SCORES) if (folder / EXPECTED_SCORES).is_file() else {}
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(read_evaluation(folder), config, notes or {}, scores)

    def probability(self, name: str) -> float:
        """The calibrated probability of an example picture."""
        logit = self.config["calibration_scale"] * self.scores[name] + self.config["calibration_bias"]
        return 1 / (1 + math.exp(-logit))

    def verdict(self, name: str) -> str:
        """Verdict of an example picture as it is."""
        return verdict(self.probability(name), self.config["real_threshold"], self.config["generated_threshold"])


def update_documents(arguments: CardArguments) -> list[Path]:
    """Write the card, and into each document what stands between its marks.

    Returns:
        What was written.

    Raises:
        ValueError: a document lacks marks or has one that is not known, the evaluation is not one that `fit` wrote or
            is not of this checkpoint, or card.yaml says something that the card has no place for.
    """
    folder = Path(arguments.checkpoint)
    is_default = folder.resolve() == DEFAULT_SOURCE
    card = Path(arguments.card) if arguments.card else (MODEL_CARD if is_default else folder / CARD_FILE)
    named = [Path(name) for name in arguments.documents]
    notes = read_notes(folder)
    contents: dict[Path, Path | str] = {card: folder_card(folder, notes)}
    contents |= with_figures(named or (figured_documents() if is_default else []), folder, notes)
    write_together(contents)
    return list(contents)


def figured_documents() -> list[Path]:
    """The project's documents that show figures of the embedded default."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in documents if _BLOCK.search(path.read_text(encoding="utf-8"))]


def with_figures(documents: Iterable[Path], folder: Path, notes: dict | None) -> dict[Path, str]:
    """The text of each document, with what the files of a checkpoint give between its marks.

    Args:
        documents: Markdown files.
        folder: of the checkpoint.
        notes: as `read_notes` gives them.

    Raises:
        ValueError: a document lacks marks, or has one that is not known.
    """
    published = Published.read(folder, notes)
    return {path: _replaced(path, published) for path in documents}


def _replaced(path: Path, published: Published) -> str:
    def block(found: re.Match[str]) -> str:
        if (write := BLOCKS.get(found["name"])) is None:
            raise ValueError(f"{path} must name among {', '.join(BLOCKS)} what is written, got {found['name']}.")
        return f"{found[1]}{write(published)}{found[4]}"

    text, count = _BLOCK.subn(block, path.read_text(encoding="utf-8"))
    if not count:
        raise ValueError(
            f"{path} must hold the marks <!-- figures: {COMMAND} --> and <!-- end of figures -->, between which the "
            "figures are written."
        )
    return text


def _measured(published: Published) -> str:
    evaluation = published.evaluation
    release = f"Release {version} of the" if (version := published.notes.get("version")) else "The"
    pictures = sum(evaluation["pictures"].values())
    newest = newest_sentence(evaluation)
    return (
        f"{release} embedded default, measured on {evaluation['made_by']['date']} on {pictures:,} pictures "
        f"([their sources](docs/data.md)).{f' {newest}' if newest else ''} Intervals are a bootstrap over sources.\n"
    )


def _limits(published: Published) -> str:
    evaluation = published.evaluation
    lines = []
    if (shares := fit_facts(evaluation)["verdicts"][GENERATED]) is not None:
        lines.append(f"Of the generated pictures, {share(1 - shares[GENERATED]['value'])} get no alarm.")
    worst: Worst = {**evaluation["worst"], "style": None, "calibration": None}  # the card has these
    return "".join(f"- {line}\n" for line in [*lines, *worst_sentences(worst)])


def _answer(published: Published) -> str:
    name = "china.jpg"
    return f"```text\n{published.verdict(name)} {round(published.probability(name), 2)}\n```\n"


def _fields(published: Published) -> str:
    name = "flux_dev.webp"
    judged = f"{published.verdict(name)} {round(published.probability(name), 2)}"
    told = ", ".join(field.name for field in fields(Detection))
    return f"```text\n{judged} real up to {published.config['real_threshold']:.2f}\n{told}\n```\n"


def _many(published: Published) -> str:
    real, generated = (f"examples/{name} {published.verdict(name)}\n" for name in ("china.jpg", "z_image_turbo.webp"))
    return f"```text\n{real}README.md {sentence('image', 'unknown')}\n{generated}```\n"


# What may stand between the marks, by the name in them.
BLOCKS: dict[str, Callable[[Published], str]] = {
    "figures": lambda published: figures_table(published.evaluation),
    "measured": _measured,
    "limits": _limits,
    "answer": _answer,
    "fields": _fields,
    "many": _many,
}


__all__ = ["BLOCKS", "Published", "figured_documents", "update_documents", "with_figures"]
