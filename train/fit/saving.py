"""A fitted detector on disk: the whole checkpoint, or the part of it that is not the backbone."""

from pathlib import Path

from safetensors.torch import save_file
from transformers import AutoTokenizer
from transformers.utils import SAFE_WEIGHTS_NAME

from modeling.checkpoints import HEAD_FILE
from modeling.embedded import DEFAULT_SOURCE
from modeling.files import staged
from modeling.proof import write_expected

from ..report.card import read_notes, write_card
from ..report.evaluation_file import write_evaluation
from .fitting import FittedDetector


def save_detector(fitted: FittedDetector, output: Path) -> None:
    """Write model, processor, tokenizer, companions and card: all that loading and publishing take."""
    with staged(output) as folder:
        fitted.model.save_pretrained(folder)
        if fitted.model.config.text_config is not None:
            AutoTokenizer.from_pretrained(fitted.backbone).save_pretrained(folder)
        _save_companions(fitted, folder)
        write_card(folder, read_notes(output))


def save_head(fitted: FittedDetector, output: Path) -> None:
    """Write the same without the backbone and the code, as the embedded default lies in this project."""
    with staged(output) as folder:
        # With the model its configuration names its classes; the weights that ship are the head's.
        fitted.model.save_pretrained(folder, state_dict={})
        (folder / SAFE_WEIGHTS_NAME).unlink(missing_ok=True)
        _save_companions(fitted, folder)
        if output.resolve() != DEFAULT_SOURCE:  # the embedded default's card is `MODEL_CARD`
            write_card(folder, read_notes(output))
        for code in folder.glob("*_robust_clip.py"):  # the code is in `modeling` already
            code.unlink()
        save_file(fitted.model.head.state_dict(), folder / HEAD_FILE)


def _save_companions(fitted: FittedDetector, folder: Path) -> None:
    fitted.processor.save_pretrained(folder)
    fitted.known_data.save(folder)
    if fitted.set_aside is not None:
        fitted.set_aside.save(folder)
    write_evaluation(folder, fitted.evaluation)
    # On the CPU, where every loading checks them: an accelerator rounds otherwise.
    write_expected(fitted.model.cpu(), fitted.processor, folder)


__all__ = ["save_detector", "save_head"]
