"""A study of a tiny bank."""

from train.features.bank import FeatureBank
from train.fit.options import HeadArguments
from train.measure.sources import split
from train.study.fits import Study

from .tiny_training import arguments


def training(folder, **changes):
    settings = {"max_steps": 2, "per_device_train_batch_size": 256, "learning_rate": 1e-2}
    return arguments(folder, **(settings | changes))


def study(bank_folder, folder, **changes):
    """Three groups of sources."""
    bank = FeatureBank.load(bank_folder)
    group = split(bank.rows, "source", 3)
    return Study(bank, folder / "fits", HeadArguments(), training(folder, **changes), group, largest_ratio=100)
