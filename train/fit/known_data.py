"""What the fitted data looks like to the backbone, so that a picture unlike it can be recognised."""

from pathlib import Path

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import GroupKFold
from transformers import PreTrainedConfig

from modeling import RobustClipConfig
from modeling.cautions.known_data import KnownData, backbone_of

from ..features.bank import FeatureBank
from ..measure.sources import join_sources
from ..report.evaluation_file import read_evaluation
from .options import KnownDataArguments

# Groups of sources that are held out in turn, and pictures at most: the mean and the covariance need no more.
GROUPS = 20
MOST_PICTURES = 50_000
QUANTILES = 1001


def write_known_data(arguments: KnownDataArguments) -> KnownData:
    """Write known_data.safetensors for a head that is fitted already.

    Raises:
        ValueError: the bank was made with another backbone than the one that evaluation.json in `output` names.
    """
    folder = Path(arguments.output)
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank.rows, arguments.merge_sources)
    fitted = read_evaluation(folder)["made_by"]
    if fitted["backbone_sha256"] != bank.info["backbone_sha256"]:
        raise ValueError(
            f"{arguments.bank} was made with backbone {bank.info['backbone']} ({bank.info['backbone_sha256'][:12]}), "
            f"the head in {folder} was fitted on {fitted['backbone']} ({fitted['backbone_sha256'][:12]})."
        )
    known = known_data_of(bank, RobustClipConfig.from_pretrained(folder))
    known.save(folder)
    return known


def known_data_of(bank: FeatureBank, config: PreTrainedConfig) -> KnownData:
    """Mean, covariance and held-out distances of a bank's pictures as they are.

    Args:
        bank: two sources or more.
        config: of the checkpoint whose backbone made the bank.
    """
    chosen = np.flatnonzero(bank.rows["view"] == 0)
    if len(chosen) > MOST_PICTURES:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_PICTURES, replace=False))
    embeds = bank.image_embeds[torch.from_numpy(chosen), : config.embedding_dim].numpy()
    sources = bank.rows["source"].to_numpy()[chosen]
    mean, whitener = fit_gaussian(embeds)
    quantiles = np.quantile(held_out_distances(embeds, sources), np.linspace(0, 1, QUANTILES))
    return KnownData(
        mean=torch.from_numpy(mean),
        whitener=torch.from_numpy(whitener),
        quantiles=torch.from_numpy(quantiles).float(),
        backbone=backbone_of(config),
        made_from={
            "backbone_sha256": bank.info["backbone_sha256"],
            "records_sha256": bank.info["records_sha256"],
            "pictures": str(len(chosen)),
            "sources": str(len(np.unique(sources))),
        },
    )


def held_out_distances(embeds: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Distance (N,) of each picture to the others without its source."""
    distances = np.empty(len(embeds))
    groups = GroupKFold(min(GROUPS, len(np.unique(sources)))).split(embeds, groups=sources)
    for others, held_out in groups:
        mean, whitener = fit_gaussian(embeds[others])
        distances[held_out] = np.linalg.norm((embeds[held_out] - mean) @ whitener, axis=1)
    return distances


def fit_gaussian(embeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and whitener (D, D), float32: W such that W @ W.T is the inverse of the shrunk covariance."""
    gaussian = LedoitWolf().fit(embeds.astype(np.float64))
    variances, directions = np.linalg.eigh(gaussian.covariance_)
    # Shrinkage keeps every variance above 0, unless all pictures are one and the same.
    whitener = directions / np.sqrt(np.maximum(variances, np.finfo(np.float32).tiny))
    return gaussian.location_.astype(np.float32), whitener.astype(np.float32)


__all__ = ["fit_gaussian", "held_out_distances", "known_data_of", "write_known_data"]
