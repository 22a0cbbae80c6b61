"""From a checkpoint and a user's pictures to a correction that was judged, or a sentence why there can be none."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling.checkpoints import load_processor, resolve_checkpoint
from modeling.detector import Detector
from modeling.verdicts import CLASSES

from ..data.options import DataArguments
from ..evaluate import embed_for, is_in_sample
from ..features.bank import FeatureBank
from ..measure.duplicates import check_sources_apart
from ..measure.set_aside import SetAside
from ..measure.sources import join_sources
from ..report.evaluation_file import rounded
from .correcting import Head, Rows
from .judging import FOLDS, Judged, correct_and_judge
from .options import RefitArguments

# What can be held out by source and have an interval; the sources in each class that is there.
PICTURES, SOURCES, SOURCES_OF_CLASS = 20, FOLDS, 2
# The picture as it is, and two random deliveries of it, where pictures are given and no bank.
VIEWS = 3


def refit_checkpoint(arguments: RefitArguments, data: DataArguments) -> tuple[Detector, dict[str, Any], Judged]:
    """Correct the head of a checkpoint by a user's pictures, and judge it.

    Args:
        arguments: the checkpoint; pictures are embedded into `output`-bank, from where an interrupted run goes on.
        data: the pictures, or in `data.data` a bank made with the checkpoint's backbone.

    Returns:
        The checkpoint as it is, what the copy's config.json says of the correction, and what was found.

    Raises:
        ValueError: the checkpoint reads text, was corrected before, or has no pictures that were set aside; or the
            bank was made with another backbone, has too few pictures or sources, or holds what the checkpoint was
            fitted on or what was set aside.
    """
    checkpoint = resolve_checkpoint(arguments.checkpoint)
    detector = Detector.from_pretrained(checkpoint)
    config = detector.model.config
    if config.text_config is not None:
        raise ValueError(f"{arguments.checkpoint} reads text, and `refit` corrects heads that read pictures alone.")
    if detector.corrections:
        raise ValueError(
            f"{arguments.checkpoint} was corrected before, and so has no pictures left that no fit saw: correct its "
            "base again, by the pictures of both times together (a folder of banks is one bank)."
        )
    set_aside = SetAside.load(checkpoint, config)
    output = Path(arguments.output)
    bank = embed_for(arguments.checkpoint, data, output.with_name(f"{output.name}-bank"), views=VIEWS)
    bank.check_made_by(detector.model.backbone, load_processor(checkpoint))
    bank = bank.narrow(config)
    join_sources(bank.rows, arguments.merge_sources)
    _check(bank, set_aside)
    if is_in_sample(checkpoint, bank, config):
        raise ValueError(f"{arguments.checkpoint} was fitted on these very pictures: give it others.")
    new, kept = _rows_of(detector, bank, set_aside)
    judged = correct_and_judge(Head.of(detector.model), new, kept, config.decision(with_text=False))
    return detector, _correction(arguments.checkpoint, detector, bank, judged), judged


def _check(bank: FeatureBank, set_aside: SetAside) -> None:
    """Refuse what cannot be held out, or has been seen."""
    clean = bank.rows[bank.rows["view"] == 0]
    sources = {name: set(clean.loc[clean["label"] == label, "source"]) for label, name in enumerate(CLASSES)}
    in_all = clean["source"].nunique()
    if len(clean) < PICTURES or in_all < SOURCES:
        raise ValueError(
            f"`refit` needs {PICTURES} pictures of {SOURCES} sources, to learn from some and be judged by others; got "
            f"{len(clean)} of {in_all}."
        )
    for name, found in sources.items():
        if 0 < len(found) < SOURCES_OF_CLASS:
            raise ValueError(
                f"`refit` needs {SOURCES_OF_CLASS} sources of {name} pictures, or none, got only {found.pop()}: add "
                "another one, or leave it out."
            )
    if both := sorted(set(clean["source"]) & set(set_aside.rows["source"])):
        raise ValueError(f"{both[0]} is a source that was set aside to judge by: take it out of these pictures.")
    check_sources_apart(clean)


def _rows_of(detector: Detector, bank: FeatureBank, set_aside: SetAside) -> tuple[Rows, Rows]:
    """The user's views that are fitted on, and what was set aside, as the head's first layer sees them."""
    views = np.flatnonzero(bank.rows["view"] >= 0)
    rows = bank.rows.iloc[views]
    new = Rows(
        _features(detector, bank.image_embeds[torch.from_numpy(views)]),
        rows["label"].to_numpy(dtype=np.int64),
        rows["source"].to_numpy(dtype=object),
        (rows["view"] == 0).to_numpy(copy=True),
    )
    aside = set_aside.rows
    labels, sources = aside["label"].to_numpy(), aside["source"].to_numpy(dtype=object)
    kept = Rows(_features(detector, set_aside.image_embeds), labels, sources, np.ones(len(aside), dtype=bool))
    return new, kept


def _features(detector: Detector, image_embeds: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return detector.model.head.features(image_embeds.float()).double()


def _correction(name: str, detector: Detector, bank: FeatureBank, judged: Judged) -> dict[str, Any]:
    """What config.json says of it, ready for JSON."""
    clean = bank.rows[bank.rows["view"] == 0]
    by_class = {kind: clean[clean["label"] == label] for label, kind in enumerate(CLASSES)}
    return rounded(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "base": {"name": name, "version": detector.version},
            "pictures": {kind: len(of_class) for kind, of_class in by_class.items()},
            "sources": {kind: of_class["source"].nunique() for kind, of_class in by_class.items()},
            "records_sha256": bank.info["records_sha256"],
            "pull": judged.pull,
            "better": not judged.why_not,
            "why_not": judged.why_not,
            "held_out": judged.held_out,
            "set_aside": judged.set_aside,
        }
    )


__all__ = ["PICTURES", "SOURCES", "refit_checkpoint"]
