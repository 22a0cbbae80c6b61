"""Sources: related ones joined, folds of whole ones with both classes, weights that make them count alike."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from train.measure import sources as folds
from train.measure.sources import folds_of_sources, join_sources, protocol, source_weights, split


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


def test_a_source_weighs_its_pictures_and_at_most_five():
    # Real: a has 10 pictures, b 5 and c 1, which weigh 5, 5 and 1. Generated: a has 2, d 2.
    labels, sources = np.array([0] * 16 + [1] * 4), np.array([*"aaaaaaaaaabbbbbcaadd"])
    expected = [5 / 10 / 11 / 2] * 10 + [1 / 11 / 2] * 6 + [1 / 4 / 2] * 4
    assert source_weights(labels, sources).tolist() == pytest.approx(expected)


def test_views_of_a_picture_share_its_weight():
    labels, sources = np.array([0] * 7 + [1]), np.array([*"aaaaaabc"])
    views = source_weights(labels.repeat(3), sources.repeat(3), views=3)
    assert views == pytest.approx(source_weights(labels, sources).repeat(3) / 3)


def test_related_sources_are_one_after_joining():
    rows = pd.DataFrame({"source": list("abca")})
    join_sources(rows, ["a=b"])
    assert rows["source"].tolist() == list("bbcb")
    with pytest.raises(ValueError, match="must be NAME=OTHER, both sources of the bank, got 'd=b'"):
        join_sources(rows, ["d=b"])


def test_every_source_is_held_out_alone_or_in_as_many_folds_as_asked():
    rows = pd.DataFrame({"source": list("aabbccdd"), "label": [0] * 4 + [1] * 4, "view": [0, 1] * 4})
    for asked, number in ((0, 4), (2, 2)):
        fold = split(rows, "source", asked)
        assert sorted(set(fold)) == list(range(number))
        assert (fold[::2] == fold[1::2]).all()
    with pytest.raises(ValueError, match="one class has no picture left: each class needs sources in at least two"):
        split(rows.iloc[:6], "source", 0)
    for asked in (-1, 1, 5):
        with pytest.raises(ValueError, match=f"`folds` must be 2 to 4, the number of sources, .* got {asked}"):
            split(rows, "source", asked)


def described(pictures=40):
    """Views of generated pictures of three families and of none, with and without dates, and of real ones."""
    family = np.array(["G", "G", "H", "", "small"])[np.arange(pictures * 2) % 5]
    family[:2] = "small"
    generated = pd.DataFrame({"label": 1, "source": "g", "family": family})
    generated["date"] = np.array(["2023-01", "2023-07-04", "2024-02", "", "2024"])[np.arange(pictures * 2) // 2 % 5]
    real = pd.DataFrame({"label": 0, "source": [f"r{k % 9}" for k in range(pictures)], "family": "", "date": "2010"})
    rows = pd.concat([generated, real], ignore_index=True)
    return rows.loc[rows.index.repeat(2)].assign(view=np.tile([0, 1], len(rows))).reset_index(drop=True)


def test_a_large_family_is_left_out_whole_and_smaller_ones_together():
    rows = described()
    rows["fold"] = split(rows, "generator", 0)
    generated, real = rows[rows["label"] == 1], rows[rows["label"] == 0]
    sizes = generated[generated["view"] == 0]["family"].value_counts()
    assert sizes["G"] >= folds.FAMILY_PICTURES > sizes["H"]
    of_family = generated.groupby("family")["fold"].unique()
    assert of_family["H"].tolist() == of_family[""].tolist() == of_family["small"].tolist() != of_family["G"].tolist()
    assert [len(found) for found in of_family] == [1] * 4
    assert (real.groupby("source")["fold"].nunique() == 1).all()
    assert set(real["fold"]) == set(generated["fold"]) == {0, 1}
    text = protocol(rows, "generator", 0)
    smaller = (generated["view"] == 0).sum() - sizes["G"]
    assert f"each of 1 families of 20 or more pictures whole; the {smaller} pictures of smaller families" in text


def test_dates_are_divided_by_whole_months_and_what_has_none_is_a_group():
    rows = described()
    rows["fold"] = split(rows, "date", 2)
    generated, real = rows[rows["label"] == 1], rows[rows["label"] == 0]
    of_date = {date: part.unique().tolist() for date, part in generated.groupby("date")["fold"]}
    assert of_date[""] == of_date["2024"]  # a year alone is no month
    assert sorted(of_date["2023-01"] + of_date["2024-02"] + of_date[""]) == [0, 1, 2]
    assert of_date["2023-07-04"] in (of_date["2023-01"], of_date["2024-02"])
    assert (real.groupby("source")["fold"].nunique() == 1).all()
    assert set(real["fold"]) == {0, 1, 2}
    assert "; the 32 of 80 without a date together; real pictures by source" in protocol(rows, "date", 2)


@pytest.mark.parametrize(
    ("hold_out", "number", "changes", "message"),
    [
        ("generator", 0, {"family": ""}, "The bank has no families of generators of its generated pictures: make it"),
        ("generator", 0, {"family": "one"}, "needs two groups: .* got one alone"),
        ("generator", 0, {"source": "r"}, "makes 2 groups, among which whole sources of real pictures are divided"),
        ("date", 2, {"date": ""}, "The bank has no dates of its generated pictures"),
        ("date", 2, {"date": "2024-01"}, "needs generated pictures of two months or more, got those of 2024-01"),
        ("date", 0, {}, "needs `folds` of 2 or more, the number of periods, got 0"),
    ],
)
def test_what_cannot_be_held_out_is_said(hold_out, number, changes, message):
    with pytest.raises(ValueError, match=message):
        split(described().assign(**changes), hold_out, number)


def test_a_bank_without_the_columns_is_told_from_one_with_them():
    with pytest.raises(ValueError, match="The bank has no dates of its generated pictures"):
        split(described().drop(columns="date"), "date", 2)
