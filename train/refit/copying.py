"""The corrected copy of a checkpoint, and what it says of its correction: to a terminal, and in its card."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from modeling.detector import Detector
from modeling.embedded import CARD_FILE
from modeling.files import new_folder, write_text
from modeling.proof import write_expected
from modeling.verdicts import CLASSES

from ..fit.fitting import measured_rates
from ..report.card import DEFAULT_TITLE, TAGS, card_templates, hub_name
from ..report.markdown import number, share, table
from .judging import Judged

_FIGURES = {
    "right": "right answers",
    "loss": "cross-entropy",
    "false_positive_rate": "real, called generated",
    "true_positive_rate": "generated, called generated",
    "auc": "ROC AUC",
}
_SHARES = ("right", "false_positive_rate", "true_positive_rate")


def write_copy(detector: Detector, correction: dict[str, Any], judged: Judged, output: Path) -> None:
    """Write the whole checkpoint with the corrected head, all or nothing.

    Calibration and thresholds stay; what they give is what was measured of pictures that were set aside, by
    corrections without their source. Those pictures have now been fitted on, so that the copy does not carry them;
    nor does it carry the evaluation, which is that of another head.

    Args:
        detector: the checkpoint as it was; its model becomes the corrected one.
        correction: as `refit_checkpoint` gives it.
        judged: the same.
        output: a folder that is not there yet.
    """
    model, config = detector.model, detector.model.config
    model.head.layers.load_state_dict({name: value.float() for name, value in judged.head.layers.state_dict().items()})
    config.corrections = [correction]
    config.operating_point = {
        "measured_on": f"{len(judged.rows)} pictures that were set aside, by corrections without their source",
        **measured_rates(judged.rows),
    }
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        detector.processor.save_pretrained(folder)
        if detector.known_data is not None:
            detector.known_data.save(folder)
        write_expected(model, detector.processor, folder)
        write_text(folder / CARD_FILE, corrected_card(detector, correction))


def describe(correction: dict[str, Any]) -> str:
    """What was found, for a person at a terminal."""
    return f"{_given(correction)}\n\n{figures_table(correction)}\n"


def figures_table(correction: dict[str, Any]) -> str:
    """Markdown: each figure before and after, and the difference with its interval."""
    rows = [
        (f"{whose}: {words}", figure["pictures"], *_before_after(name, figure), number(figure["difference"]))
        for part, whose in (("held_out", "your pictures"), ("set_aside", "set aside"))
        for name, words in _FIGURES.items()
        if (figure := correction[part].get(name)) is not None
    ]
    return table(("figure", "pictures", "before", "after", "difference and 95 % interval"), rows)


def _before_after(name: str, figure: dict[str, Any]) -> tuple[str, str]:
    before, after = figure["before"], figure["after"]
    return (share(before), share(after)) if name in _SHARES else (f"{before:.3f}", f"{after:.3f}")


def _given(correction: dict[str, Any]) -> str:
    """Which pictures, in words."""
    pictures, sources = correction["pictures"], correction["sources"]
    return "Corrected by " + " and ".join(
        f"{pictures[kind]} {kind} pictures of {sources[kind]} sources" for kind in CLASSES if pictures[kind]
    )


def corrected_card(detector: Detector, correction: dict[str, Any]) -> str:
    """README.md of the copy: what the correction is and what was measured of it; licence and base are the base's."""
    config = detector.model.config.to_dict()
    metadata = ModelCardData(base_model=hub_name(config), tags=TAGS)
    body = (
        card_templates()
        .get_template("corrected_card.md")
        .render(
            title=DEFAULT_TITLE,
            correction=correction,
            given=_given(correction),
            figures=figures_table(correction),
            point=config["operating_point"],
        )
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{body}"


__all__ = ["corrected_card", "describe", "figures_table", "write_copy"]
