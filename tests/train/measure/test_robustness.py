"""Robustness and text figures, against counts by hand; label swap; the standard views of a bank."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from modeling.deliveries import STANDARD_DELIVERIES
from tests.train.scored_pictures import THRESHOLDS, views
from train.data.records import DataArguments, load_records
from train.features.bank import STANDARD_VIEW, FeatureBank
from train.features.embedder import choose_probed
from train.features.file_facts import HASH_SIDE
from train.features.making import build_feature_bank
from train.measure.evaluation import evaluate_views
from train.measure.robustness import measure_robustness
from train.measure.sources import split


def by_record(rows, view):
    return rows[rows["view"] == view].set_index("record_id").sort_index()


def test_a_delivery_is_compared_with_the_same_pictures_as_they_are():
    rows = views(shift=1.0)
    found = measure_robustness(rows)
    delivered = by_record(rows, STANDARD_VIEW)
    clean = by_record(rows, 0).loc[delivered.index]
    assert found["pictures"] == {"real": 12, "generated": 12}
    assert [row["delivery"] for row in found["deliveries"]] == ["clean", "hard"]
    first, hard = found["deliveries"]
    assert first["auc"]["value"] == pytest.approx(roc_auc_score(clean["label"], clean["score"]))
    assert first["auc_minus_clean"] is None
    assert first["verdict_changed"]["value"] == 0
    changed = delivered["verdict"] != clean["verdict"]
    assert changed.any()
    assert hard["verdict_changed"]["value"] == pytest.approx(changed.mean())
    assert hard["auc_minus_clean"]["value"] == pytest.approx(0)  # all scores fell alike
    assert hard["auc_minus_clean"]["interval"] == pytest.approx([0, 0])
    generated = delivered["label"] == 1
    assert hard["true_positive_rate"]["value"] == pytest.approx(
        (delivered["verdict"][generated] == "generated").mean()
    )
    change = delivered["probability"] - clean["probability"]
    assert hard["mean_probability_change"]["generated"] == pytest.approx(change[generated].mean())
    assert hard["mean_absolute_probability_change"] == pytest.approx(change.abs().mean())
    of_a = delivered["generator"] == "A"
    assert found["called_generated"]["A"]["hard"] == pytest.approx((delivered["verdict"][of_a] == "generated").mean())
    assert list(found["called_generated"]) == ["real pictures", "A", "B"]
    assert found["pictures_by_group"] == {"real pictures": 12, "A": 6, "B": 6}


def test_real_pictures_that_turn_generated_are_counted():
    rows = views(shift=-3.0)
    delivered = by_record(rows, STANDARD_VIEW).query("label == 0")
    clean = by_record(rows, 0).loc[delivered.index]
    turned = (delivered["verdict"] == "generated") & (clean["verdict"] != "generated")
    hard = measure_robustness(rows)["deliveries"][1]
    assert turned.any()
    assert hard["real_turned_generated"]["value"] == pytest.approx(turned.mean())


def test_the_worst_delivery_is_the_one_with_the_largest_fall():
    rows = views(shift=None)
    harmless = rows[rows["view"] == STANDARD_VIEW].assign(delivery="jpeg_95")
    clean = by_record(rows, 0)
    harmless["score"] = clean.loc[harmless["record_id"], "score"].to_numpy()
    assert measure_robustness(pd.concat([rows, harmless]))["worst_delivery"] == "hard"


def test_without_standard_views_there_is_no_robustness():
    rows = views()
    assert measure_robustness(rows[rows["view"] == 0]) is None


def test_one_class_has_verdicts_and_no_auc():
    found = measure_robustness(views(1.0).query("label == 0"))
    assert found["deliveries"][1]["auc"] is None
    assert found["deliveries"][1]["true_positive_rate"] is None
    assert found["deliveries"][1]["false_positive_rate"] is not None
    assert found["worst_delivery"] is None


def test_swapping_the_labels_inverts_every_auc():
    rows = views(shift=0.5)
    right = evaluate_views(rows, **THRESHOLDS)
    swapped = evaluate_views(rows.assign(label=1 - rows["label"], generator="x"), **THRESHOLDS)
    assert swapped["auc"]["value"] == pytest.approx(1 - right["auc"]["value"])
    weighted = right["source_weighted"]["auc"]["value"]
    assert swapped["source_weighted"]["auc"]["value"] == pytest.approx(1 - weighted)
    for one, other in zip(right["robustness"]["deliveries"], swapped["robustness"]["deliveries"], strict=True):
        assert other["auc"]["value"] == pytest.approx(1 - one["auc"]["value"])


def test_the_worst_groups_are_named():
    worst = evaluate_views(views(number=96), **THRESHOLDS)["worst"]
    clean = views(number=96).query("view == 0")
    flagged = (clean.query("label == 0").set_index("source")["verdict"] == "generated").groupby("source").mean()
    found = (clean.query("label == 1").set_index("generator")["verdict"] == "generated").groupby("generator").mean()
    assert worst["real_source"]["source"] == flagged.idxmax()
    assert worst["real_source"]["called_generated"] == pytest.approx(flagged.max())
    assert worst["generator"]["generator"] == found.idxmin()
    assert worst["generator"]["called_generated"] == pytest.approx(found.min())


@pytest.fixture
def probed_bank(parquet, backbone, tmp_path):
    def build(name, **options):
        records = load_records(DataArguments(data=str(parquet)))
        return build_feature_bank(records, tmp_path / name, backbone=str(backbone), views=2, probed=6, **options)

    return build


def test_a_bank_holds_the_standard_views_of_the_probed_pictures(probed_bank):
    bank = probed_bank("bank")
    standard = bank.rows[bank.rows["view"] == STANDARD_VIEW]
    chosen = standard["record_id"].unique()
    assert 5 <= len(chosen) <= 6  # one of each of six sources; one picture of the 24 is unreadable
    deliveries = [name for name in STANDARD_DELIVERIES if name != "clean"]
    for record in chosen:
        assert standard[standard["record_id"] == record]["delivery"].tolist() == deliveries
    assert set(bank.rows[bank.rows["view"] >= 0]["view"]) == {0, 1}
    assert bank.rows["perceptual_hash"].str.len().eq(HASH_SIDE**2 // 4).all()


def test_every_picture_is_embedded_under_the_named_deliveries(probed_bank):
    standard = probed_bank("bank", deliveries=["web", "hard"]).rows.query("view == @STANDARD_VIEW")
    counts = standard["delivery"].value_counts()
    assert counts["web"] == counts["hard"] == 23
    assert counts["jpeg_95"] == counts["reposted"] == standard.query("delivery == 'jpeg_95'")["source"].nunique()
    with pytest.raises(ValueError, match="among clean, jpeg_95.*got emailed"):
        probed_bank("other", deliveries=["emailed"])


def test_robustness_is_measured_on_the_pictures_that_have_every_delivery():
    rows = views(shift=1.0)
    found = measure_robustness(rows)
    others = rows[(rows["view"] == 0) & ~rows["record_id"].isin(by_record(rows, STANDARD_VIEW).index)]
    everywhere = rows[rows["view"] == STANDARD_VIEW].assign(delivery="web")
    more = others.assign(view=STANDARD_VIEW, delivery="web", score=0.0)
    both = measure_robustness(pd.concat([rows, everywhere, more]))
    assert both["pictures"] == found["pictures"]
    assert {row["delivery"]: row for row in both["deliveries"]}["hard"] == found["deliveries"][1]


def test_standard_views_depend_on_the_seed_and_the_picture_only(probed_bank):
    first, again, other = (
        probed_bank(name, batch_size=size, seed=seed) for name, size, seed in (("a", 5, 0), ("b", 16, 0), ("c", 5, 1))
    )
    assert first.rows.equals(again.rows)
    torch.testing.assert_close(first.image_embeds, again.image_embeds, rtol=1e-4, atol=1e-5)
    noisy = [bank.rows["delivery"].eq("noise_5").to_numpy() for bank in (first, other)]
    assert not torch.equal(first.image_embeds[noisy[0]][:1], other.image_embeds[noisy[1]][:1])


def test_which_pictures_are_probed_does_not_depend_on_their_order(parquet):
    records = load_records(DataArguments(data=str(parquet)))
    chosen = choose_probed(records, 12, 0)
    assert chosen == choose_probed(records.select(range(len(records) - 1, -1, -1)), 12, 0)
    assert choose_probed(records, 0, 0) == set()
    assert chosen != choose_probed(records, 12, 1)


@pytest.mark.parametrize("count", [4, 5, 6, 8, 24, 100])
def test_half_of_each_class_is_probed_the_first_of_every_source_first(parquet, count):
    """Of 24 pictures; each class has three sources of four."""
    records = load_records(DataArguments(data=str(parquet)))
    chosen = choose_probed(records, count, 0)
    described = pd.DataFrame({name: records[name] for name in ("record_id", "label", "source")})
    described = described[described["record_id"].isin(chosen)]
    each = min(count // 2, 12)
    assert described["label"].value_counts().to_dict() == {0: each, 1: each}
    by_source = described.groupby("source").size()
    assert by_source.max() - by_source.reindex(records.unique("source"), fill_value=0).min() <= 1
    assert choose_probed(records, count - 2, 0) <= chosen


def test_a_selected_bank_keeps_rows_and_embeddings_together(probed_bank):
    bank = probed_bank("bank")
    kept = bank.select((bank.rows["view"] == 1).to_numpy())
    assert set(kept.rows["view"]) == {1}
    assert len(kept) == len(kept.image_embeds) == 23
    assert torch.equal(kept.image_embeds[0], bank.image_embeds[int(np.flatnonzero(bank.rows["view"] == 1)[0])])
    assert bank.select(np.ones(len(bank), dtype=bool)) is bank


def test_groups_of_sources_do_not_depend_on_how_many_views_were_probed():
    rows = views(number=96)
    bank = FeatureBank(rows, torch.zeros(len(rows), 2), None, {})
    clean = bank.select((rows["view"] == 0).to_numpy())
    with_probes = dict(zip(rows["source"], split(bank.rows, "source", 3), strict=True))
    assert with_probes == dict(zip(clean.rows["source"], split(clean.rows, "source", 3), strict=True))


def test_a_score_that_is_not_finite_is_refused_in_any_view():
    rows = views()
    rows.loc[rows["view"] == STANDARD_VIEW, "score"] = np.nan
    with pytest.raises(ValueError, match="24 scores are not finite"):
        evaluate_views(rows, **THRESHOLDS)
