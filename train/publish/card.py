"""The README.md of a published model: the card beside the weights, completed by what only publishing knows.

The card that `fit` wrote stays as it is, edits by hand included; publishing adds how to load the model by its name,
and metadata that the Hub needs. A checkpoint without a card, or with the stub that `transformers.Trainer` leaves, gets
one that says that nothing was measured.
"""

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from modeling.embedded import CARD_FILE

from ..report.card import DEFAULT_TITLE, TAGS, card_templates, hub_name, model_card, read_notes
from ..report.evaluation_file import EVALUATION_FILE, read_evaluation

BEGIN, END = "<!-- use: written by python -m train publish -->", "<!-- end of use -->"
# What Trainer's own card says of itself (transformers 5.23, modelcard.py).
_STUB = "This model card has been generated automatically according to the information the Trainer had access to"


def published_card(folder: Path, repo_id: str) -> str:
    """The whole README.md for a checkpoint that is published as `repo_id`.

    Raises:
        ValueError: the card's metadata cannot be read.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = _with_metadata(local_card(folder), config)
    reads_text = config.get("without_text") is not None
    use = card_templates().get_template("use.md").render(repo_id=repo_id, reads_text=reads_text)
    use = f"{BEGIN}\n{use}{END}\n"
    before, begin, rest = text.partition(BEGIN)
    if begin:  # of an earlier publishing
        return before + use + rest.partition(END)[2].removeprefix("\n")
    # Before the first section, below the title.
    front, divider, body = text.partition("\n---\n")
    title, section, others = body.partition("\n## ")
    return front + divider + (f"{title}\n{use}\n## {others}" if section else f"{body}\n{use}")


def local_card(folder: Path) -> str:
    """The card of a checkpoint's folder: its README.md, or one that is made of what is there."""
    path = folder / CARD_FILE
    if path.is_file() and _STUB not in (text := path.read_text(encoding="utf-8")):
        return text
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (folder / EVALUATION_FILE).is_file():
        evaluation = read_evaluation(folder)
        if evaluation["fit"] is not None:
            return model_card(evaluation, config, read_notes(folder))
    notes = read_notes(folder) or {}
    parts, point = config.get("without_text") is not None, config.get("operating_point")
    body = (
        card_templates()
        .get_template("plain_card.md")
        .render(
            title=notes.get("title", DEFAULT_TITLE),
            calibrated=(config["calibration_scale"], config["calibration_bias"]) != (1, 0),
            point=(point or {}).get("without_text") if parts else point,
            reads_text=parts,
        )
    )
    data = ModelCardData(license=notes.get("license"), base_model=notes.get("base_model"), tags=TAGS)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def states_licence(card: str) -> bool:
    """Whether a card's metadata names a licence."""
    return ModelCard(card).data.get("license") is not None


def _with_metadata(text: str, config: dict) -> str:
    """Add what the Hub needs and the card lacks; a card that has everything stays as it is, to the letter."""
    card = ModelCard(text)
    wanted = {"library_name": "transformers", "pipeline_tag": "image-classification", "base_model": hub_name(config)}
    missing = {name: value for name, value in wanted.items() if value is not None and card.data.get(name) is None}
    if not missing:
        return text
    for name, value in missing.items():
        setattr(card.data, name, value)
    return str(card)


__all__ = ["local_card", "published_card", "states_licence"]
