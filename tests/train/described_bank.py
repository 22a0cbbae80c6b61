"""A bank whose generated pictures have families and dates, each of which a fit must have seen to find it."""

import numpy as np

from .tiny_bank import write_bank_to_fit

FAMILIES = ("Flux", "Midjourney", "rare")
DATES = ("2022-11", "2024-03-09", "")


def write_described_bank(folder, backbone):
    """Every generated source has pictures of each family: 55 of Flux, 55 of Midjourney, 10 of a small one.

    Flux is of 2022, Midjourney of 2024, and the small one without a date. Each lies in a direction of its own.
    """
    return write_bank_to_fit(folder, backbone, _embeds, _describe)


def _group(rows):
    """Number of each picture's family (N,)."""
    number = rows["record_id"].str[1:].astype(int) // 10 % 20
    return np.where(number >= 18, 2, number % 2)


def _describe(rows):
    generated, group = rows["label"] == 1, _group(rows)
    family = np.where(generated, np.array(FAMILIES)[group], "")
    return rows.assign(family=family, generator=family, date=np.where(generated, np.array(DATES)[group], "2010-05"))


def _embeds(rows, embeds):
    embeds = np.random.default_rng(1).normal(size=embeds.shape)
    embeds[np.arange(len(rows)), _group(rows)] += 6 * rows["label"].to_numpy()
    return embeds
