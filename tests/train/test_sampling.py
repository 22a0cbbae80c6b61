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


# Real: sources 5 and 9 with 90 and 10 pictures. Generated: 9 again with 200, 2 with 60 and 0 with 40.
LABELS = torch.tensor([0] * 100 + [1] * 300)
SOURCES = torch.tensor([5] * 90 + [9] * 10 + [9] * 200 + [2] * 60 + [0] * 40)


@pytest.mark.parametrize(
    ("balance", "real_share", "expected"),
    [
        # Weights of the sources are sizes ** (1 - balance).
        (1.0, None, {(0, 5): 50, (0, 9): 50, (1, 9): 100, (1, 2): 100, (1, 0): 100}),
        (0.5, None, {(0, 5): 75, (0, 9): 25, (1, 9): 300 * 200**0.5 / 28.2126, (1, 0): 300 * 40**0.5 / 28.2126}),
        (1e-9, None, {(0, 5): 90, (0, 9): 10, (1, 9): 200, (1, 2): 60, (1, 0): 40}),
        (1.0, 0.5, {(0, 5): 150, (0, 9): 150, (1, 9): 100, (1, 2): 100, (1, 0): 100}),
    ],
)
def test_a_source_is_drawn_as_often_as_the_balance_asks(balance, real_share, expected):
    sampler = StratifiedSampler(LABELS, real_share, sources=SOURCES, source_balance=balance)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        times = torch.bincount(torch.tensor(list(sampler)), minlength=400)
        assert times.sum() == len(sampler) == len(StratifiedSampler(LABELS, real_share))
        for (label, source), number in expected.items():
            of_source = times[(label == LABELS) & (source == SOURCES)]
            assert abs(of_source.sum() - number) < 1 + 1e-3
            assert of_source.max() - of_source.min() <= 1  # its pictures equally often, to within one


def test_a_small_balance_sees_every_picture_once():
    sampler = StratifiedSampler(LABELS, sources=SOURCES, source_balance=1e-12)
    assert sorted(sampler) == list(range(400))


def test_pictures_of_a_large_source_take_turns_over_the_epochs():
    sampler = StratifiedSampler(LABELS, sources=SOURCES, source_balance=1.0)
    times = torch.zeros(400)
    for epoch in range(100):
        sampler.set_epoch(epoch)
        times += torch.bincount(torch.tensor(list(sampler)), minlength=400)
    drawn = times[100:300]  # half of these 200 in each epoch: a binomial number with standard deviation 5
    assert drawn.mean() == 50
    assert drawn.min() > 25
    assert drawn.max() < 75


@pytest.mark.parametrize("size", [8, 40, 100])
def test_balanced_batches_have_the_share_of_the_data(size):
    sampler = StratifiedSampler(LABELS, sources=SOURCES, source_balance=0.7)
    assert all(abs((batch == 0).sum() - size / 4) <= 1 for batch in batches(sampler, LABELS, size))


def test_the_balanced_order_depends_on_seed_and_epoch_only():
    first, second = (StratifiedSampler(LABELS, seed=3, sources=SOURCES, source_balance=0.5) for _ in range(2))
    assert list(first) == list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)


def test_without_balance_the_order_is_that_without_sources():
    assert list(StratifiedSampler(LABELS, sources=SOURCES)) == list(StratifiedSampler(LABELS))


# Of the pictures of `LABELS`: real ones mostly wide, generated ones mostly square.
SHAPES = torch.tensor(([1] * 7 + [0] + [2] * 2) * 10 + ([0] * 8 + [1, 2]) * 30)


@pytest.mark.parametrize("balance", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("real_share", [None, 0.5])
def test_each_shape_is_a_third_of_what_is_drawn_of_a_class(balance, real_share):
    sampler = StratifiedSampler(LABELS, real_share, sources=SOURCES, source_balance=balance, shapes=SHAPES)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        drawn = torch.tensor(list(sampler))
        assert len(drawn) == len(StratifiedSampler(LABELS, real_share))
        for label in (0, 1):
            of_class = SHAPES[drawn[LABELS[drawn] == label]]
            for shape in (0, 1, 2):
                assert abs((of_class == shape).sum() - len(of_class) / 3) < 1


def test_within_a_shape_sources_keep_the_proportions_of_their_balance():
    sampler = StratifiedSampler(LABELS, 0.5, sources=SOURCES, source_balance=1.0, shapes=SHAPES)
    times = torch.bincount(torch.tensor(list(sampler)), minlength=400)
    # Wide real pictures: 63 of source 5 at a weight of 1 / 90, 7 of source 9 at 1 / 10. Together a third of 300.
    wide = (LABELS == 0) & (SHAPES == 1)
    for source, number in ((5, 100 * 0.7 / 1.4), (9, 100 * 0.7 / 1.4)):
        of_source = times[wide & (source == SOURCES)]
        assert abs(of_source.sum() - number) <= 1
        assert of_source.max() - of_source.min() <= 1


def test_a_shape_that_one_class_lacks_is_not_drawn():
    shapes = torch.where((LABELS == 1) & (SHAPES == 2), 0, SHAPES)
    drawn = torch.tensor(list(StratifiedSampler(LABELS, shapes=shapes)))
    assert len(drawn) == 400
    assert shapes[drawn].bincount().tolist() == [200, 200]


def test_a_balance_of_shapes_without_all_of_them_is_refused():
    with pytest.raises(ValueError, match="`shapes` must be those of all 400 samples, got 7"):
        StratifiedSampler(LABELS, shapes=SHAPES[:7])


@pytest.mark.parametrize("balance", [-0.1, 1.5])
def test_a_balance_out_of_range_is_refused(balance):
    with pytest.raises(ValueError, match=rf"`source_balance` must be in \[0, 1\], got {balance}"):
        StratifiedSampler(LABELS, sources=SOURCES, source_balance=balance)


def test_a_balance_without_sources_is_refused():
    with pytest.raises(ValueError, match="`source_balance` needs `sources` of all 400 samples, got none"):
        StratifiedSampler(LABELS, source_balance=0.5)
    with pytest.raises(ValueError, match="got 3"):
        StratifiedSampler(LABELS, sources=SOURCES[:3], source_balance=0.5)


def test_what_cannot_be_stratified_is_refused():
    with pytest.raises(ValueError, match="both classes, got 4 real and 0 generated"):
        StratifiedSampler(torch.zeros(4))
    with pytest.raises(ValueError, match="must be in"):
        StratifiedSampler(torch.arange(4) % 2, real_share=1.0)
