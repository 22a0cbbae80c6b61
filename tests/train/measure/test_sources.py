"""Sources: related ones joined, folds of whole ones with both classes, weights that make them count alike."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from train.measure import sources as folds
from train.measure.sources import folds_of_sources, join_sources, source_weights, split_by_source


def data(sources, seed=0, mixed=False):
    """Sources of 1 to 30 pictures, real ones three times as many; some of both classes."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.2, size=sources), 30)
    source = np.repeat(np.arange(sources), sizes)
    label = (source % 4 == 0).astype(int)
    if mixed:
        label = np.where(source % 3 == 0, rng.integers(2, size=len(source)), label)
    order = rng.permutation(len(source))
    return label[order], np.array([f"s{i}" for i in source[order]])


def test_few_sources_are_divided_as_scikit_learn_does():
    labels, sources = data(60)
    expected = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0).split(labels, labels, sources)
    found = folds_of_sources(labels, sources, 5)
    for (outside, inside), (fitted, scored) in zip(found, expected, strict=True):
        assert (outside == fitted).all()
        assert (inside == scored).all()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("number", [2, 5])
def test_no_source_is_divided_and_both_classes_are_balanced(mixed, number):
    labels, sources = data(folds.MANY_SOURCES + 500, mixed=mixed)
    found = folds_of_sources(labels, sources, number)
    inside = np.concatenate([rows for _, rows in found])
    assert sorted(inside) == list(range(len(labels)))
    shares = []
    for outside, rows in found:
        assert not set(sources[outside]) & set(sources[rows])
        assert len(outside) + len(rows) == len(labels)
        shares.append([(labels[rows] == label).sum() / (labels == label).sum() for label in (0, 1)])
    assert np.array(shares) == pytest.approx(np.full((number, 2), 1 / number), abs=0.002)


def test_one_giant_source_does_not_unbalance_the_others():
    labels, sources = data(folds.MANY_SOURCES + 500)
    sources[(labels == 0) & (np.arange(len(labels)) % 2 == 0)] = "giant"  # half of all real pictures
    found = folds_of_sources(labels, sources, 5)
    real, generated = (sorted((labels[rows] == label).sum() for _, rows in found) for label in (0, 1))
    giant = (sources == "giant").sum()
    assert real[-1] == giant  # alone in its fold
    assert max(real[:-1]) - min(real[:-1]) < 5
    assert max(generated) - min(generated) < 5


def test_fifty_thousand_sources_are_dealt_out_evenly():
    labels = np.arange(50_000) % 2
    found = folds_of_sources(labels, np.array([f"s{i}" for i in range(50_000)]), 5)
    assert [len(rows) for _, rows in found] == [10_000] * 5
    assert [labels[rows].sum() for _, rows in found] == [5000] * 5


def test_source_weights_give_sources_and_classes_equal_totals():
    labels, sources = np.array([0, 0, 0, 1, 1]), np.array(["a", "a", "b", "a", "c"])
    assert source_weights(labels, sources).tolist() == pytest.approx([0.125, 0.125, 0.25, 0.25, 0.25])


def test_related_sources_are_one_after_joining():
    rows = pd.DataFrame({"source": list("abca")})
    join_sources(rows, ["a=b"])
    assert rows["source"].tolist() == list("bbcb")
    with pytest.raises(ValueError, match="must be NAME=OTHER, both sources of the bank, got 'd=b'"):
        join_sources(rows, ["d=b"])


def test_every_source_is_held_out_alone_or_in_as_many_folds_as_asked():
    rows = pd.DataFrame({"source": list("aabbccdd"), "label": [0] * 4 + [1] * 4, "view": [0, 1] * 4})
    for asked, number in ((0, 4), (2, 2)):
        fold = split_by_source(rows, asked)
        assert sorted(set(fold)) == list(range(number))
        assert (fold[::2] == fold[1::2]).all()
    with pytest.raises(ValueError, match="one class has no picture left: each class needs sources in at least two"):
        split_by_source(rows.iloc[:6], 0)
    for asked in (-1, 1, 5):
        with pytest.raises(ValueError, match=f"`folds` must be 2 to 4, the number of sources, .* got {asked}"):
            split_by_source(rows, asked)
