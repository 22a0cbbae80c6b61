"""What made a figure or a checkpoint: backbone, data, versions, commit. Every artefact carries it."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TypedDict, cast

from ..jobs.commit import git_commit
from .bank import STANDARD_VIEW, FeatureBank

_PACKAGES = ("torch", "transformers", "accelerate", "scikit-learn", "numpy", "Pillow")


class BankFacts(TypedDict):
    """Which bank: the records, what was embedded of each, and the fingerprint of the embeddings."""

    records: int
    records_sha256: str
    views: int
    probed: int
    deliveries: list[str]
    seed: int
    fingerprint: str


class MadeBy(TypedDict):
    """Origin of a figure or a checkpoint."""

    backbone: str
    backbone_sha256: str
    bank: BankFacts
    standard_views: int
    unreadable_pictures: int
    versions: dict[str, str]
    python: str
    git_commit: str | None
    date: str


def made_by(bank: FeatureBank) -> MadeBy:
    """Origin of what is computed now from a bank."""
    info = {"probed": 0, "deliveries": []} | bank.info  # a bank made before these were there
    return {
        "backbone": bank.info["backbone"],
        "backbone_sha256": bank.info["backbone_sha256"],
        "bank": cast(BankFacts, {name: info[name] for name in BankFacts.__annotations__}),
        "standard_views": int((bank.rows["view"] == STANDARD_VIEW).sum()),
        "unreadable_pictures": len(bank.info["unreadable"]),
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "git_commit": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


__all__ = ["BankFacts", "MadeBy", "made_by"]
