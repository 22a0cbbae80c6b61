"""The stratified sampler: both classes in every batch."""

import numpy as np
import pytest
import torch

from train.sampling import StratifiedSampler


def batches(sampler, labels, size):
    order = list(sampler)
    return [labels[order[start : start + size]].numpy() for start in range(0, len(order) - size + 1, size)]


@pytest.mark.parametrize("size", [8, 50, 200])
def test_every_batch_has_the_share_of_the_data(size):
    labels = (torch.arange(1000) % 5 != 0).long()  # a fifth is real
    sampler = StratifiedSampler(labels)
    assert sorted(sampler) == list(range(1000))
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in batches(sampler, labels, size):
            assert abs((batch == 0).sum() - size / 5) <= 1


@pytest.mark.parametrize(("share", "repeated"), [(0.5, 0), (0.05, 1)])
def test_a_chosen_share_repeats_the_class_that_is_short(share, repeated):
    labels = (torch.arange(1000) % 5 != 0).long()
    sampler = StratifiedSampler(labels, real_share=share)
    for batch in batches(sampler, labels, 100):
        assert abs((batch == 0).sum() - 100 * share) <= 1
    times = np.bincount(list(sampler), minlength=1000)
    of_class = [times[labels.numpy() == label] for label in (0, 1)]
    assert set(of_class[1 - repeated]) == {1}
    assert of_class[repeated].min() >= 3
    assert np.ptp(of_class[repeated]) <= 1  # all as often, to within one
    assert len(sampler) == times.sum()


def test_one_real_picture_among_many_is_in_every_batch_that_asks_for_it():
    labels = torch.ones(1000, dtype=torch.long)
    labels[17] = 0
    assert all((batch == 0).sum() >= 9 for batch in batches(StratifiedSampler(labels, 0.1), labels, 100))


def test_the_order_depends_on_seed_and_epoch_only():
    labels = torch.arange(64) % 2
    first, second = StratifiedSampler(labels, seed=3), StratifiedSampler(labels, seed=3)
    assert list(first) == list(second)
    first.set_epoch(1)
    other_epoch = list(first)
    assert other_epoch != list(second)
    assert list(StratifiedSampler(labels, seed=4)) != list(second)
    first.set_epoch(0)
    assert list(first) == list(second)


def test_what_cannot_be_stratified_is_refused():
    with pytest.raises(ValueError, match="both classes, got 4 real and 0 generated"):
        StratifiedSampler(torch.zeros(4))
    with pytest.raises(ValueError, match="must be in"):
        StratifiedSampler(torch.arange(4) % 2, real_share=1.0)
