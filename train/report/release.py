"""Which release of a checkpoint it is, and how new the generators are that it knows."""

from ..measure.schema import Evaluation
from .markdown import cell


def release_sentence(evaluation: Evaluation, notes: dict) -> str:
    """Release and dates, as far as they are known.

    Args:
        evaluation: as `fit` wrote it.
        notes: what card.yaml says; its `version` is the release's.
    """
    named = f"Release {notes['version']} of {evaluation['made_by']['date']}. " if "version" in notes else ""
    return f"{named}{newest_sentence(evaluation)}".strip()


def newest_sentence(evaluation: Evaluation) -> str:
    """How new the generated pictures are; nothing where no date is known."""
    if (newest := evaluation["newest_generated"]) is None:
        return ""
    sentence = f"The newest generated pictures are of {newest['date']}"
    if newest["family"]:
        sentence += f", the newest family of generators ({cell(newest['family'])}) is of {newest['family_since']}"
    return f"{sentence}."


__all__ = ["newest_sentence", "release_sentence"]
