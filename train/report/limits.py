"""What the number of pictures and sources behind an evaluation cannot support, a sentence each."""

from modeling.verdicts import GENERATED, REAL

from ..measure.limits import FEW_SOURCES, chance_auc, pictures_for, rate_bound
from ..measure.schema import Evaluation

# An AUC by chance above this is worth a sentence: up to about 50 pictures of each class.
_CHANCE = 0.6
_RATE = 0.01


def limits_sentences(evaluation: Evaluation) -> list[str]:
    """None for a large evaluation: two classes of 299 pictures from 20 sources each."""
    real, generated = (evaluation["pictures"][name] for name in (REAL, GENERATED))
    sources = {name: evaluation["sources"][name] for name in (REAL, GENERATED) if evaluation["pictures"][name]}
    sentences = []
    if real and generated and (chance := chance_auc(real, generated)) > _CHANCE:
        sentences.append(
            f"Few pictures: with {real:,} real and {generated:,} generated, scores that say nothing reach a ROC AUC "
            f"of {chance:.2f} in one set of 20."
        )
    if real and (bound := rate_bound(real)) > _RATE:
        sentences.append(
            f"Few real pictures: even where none of {real:,} is called generated, the rate may be {100 * bound:.1f} % "
            f"(95 % confidence). To show less than {100 * _RATE:.0f} % takes {pictures_for(_RATE)}."
        )
    if few := [f"{count} of {name} pictures" for name, count in sources.items() if count < FEW_SOURCES]:
        sentences.append(
            f"Few sources: {' and '.join(few)}. Intervals over fewer than {FEW_SOURCES} sources are too narrow, and "
            "new sources may differ more than these do."
        )
    return sentences


__all__ = ["limits_sentences"]
