"""Data made to fool the protocol: a source with turned labels is named, and a copied one cannot raise figures."""

from dataclasses import replace

import numpy as np
import pytest

from tests.train.tiny_bank import WIDTH, write_bank_to_fit
from tests.train.tiny_training import arguments
from train.fit.fitting import fit
from train.fit.options import FitArguments
from train.report.writing import report_text

SETTINGS = {"max_steps": 30, "per_device_train_batch_size": 64, "learning_rate": 1e-2}


def evaluation(bank, **changes):
    options = FitArguments(bank=str(bank), folds=4, head_depth=1)
    return fit(replace(options, **changes), arguments(f"{bank}-fitted", **SETTINGS)).evaluation


def by_class(rows, embeds):
    """One column tells the classes apart, before any label is turned."""
    embeds[:, 0] += 4 * (rows["record_id"].str[1:].astype(int) % 2)
    return embeds


def turned(source):
    def change(rows):
        of_source = rows["source"] == source
        label = rows["label"].where(~of_source, 1 - rows["label"])
        generator = rows["generator"].where(~of_source, np.where(label == 1, "turned", ""))
        return rows.assign(label=label, generator=generator)

    return change


@pytest.mark.parametrize("source", ["s7", pytest.param("s0", marks=pytest.mark.long)])
def test_a_source_whose_labels_are_turned_over_is_named_and_raises_nothing(source, backbone, tmp_path):
    """s7 is generated and called real; s0 the other way round."""
    honest = evaluation(write_bank_to_fit(tmp_path / "honest", backbone, by_class))
    bank = write_bank_to_fit(tmp_path / "turned", backbone, by_class, turned(source))
    found = evaluation(bank)
    for figures, others in ((found, honest), (found["source_weighted"], honest["source_weighted"])):
        assert figures["auc"]["value"] < others["auc"]["value"] - 0.05
    for name, baseline in found["fit"]["baselines"].items():
        assert baseline["auc"] < honest["fit"]["baselines"][name]["auc"] - 0.05
    worst, head = found["worst"], report_text(found).partition("\n## ")[0]
    if source == "s7":
        assert worst["real_source"]["source"] == "s7"
        assert "Worst real source: s7 " in head
    else:
        assert worst["generator"]["generator"] == "turned"
        assert "Worst generator: turned " in head


def of_two_names(kind):
    """s7 holds the pictures of s6, or does so unseen by their hashes, or is not there."""

    def change(rows):
        copies, copied = (np.flatnonzero(rows["source"] == source) for source in ("s7", "s6"))
        if kind == "left out":
            return rows.drop(index=rows.index[copies]).reset_index(drop=True)
        if kind == "copied":
            rows = rows.copy()
            hashes = rows["perceptual_hash"].to_numpy(copy=True)
            hashes[copies] = hashes[copied]
            rows["perceptual_hash"] = hashes
        return rows

    return change


def as_copied(rows, _):
    """Every source lies elsewhere, s7 where s6 does, and nothing else tells the classes apart."""
    rng = np.random.default_rng(0)
    centre = {f"s{k}": 3 * rng.normal(size=WIDTH) for k in range(11)}
    own = {name: rng.normal(size=WIDTH) for name in sorted(set(rows["record_id"]))}
    copies, copied = (np.flatnonzero(rows["source"] == source) for source in ("s7", "s6"))
    embeds = np.stack([centre[s] + own[r] for s, r in zip(rows["source"], rows["record_id"], strict=True)])
    if len(copies):
        embeds[copies] = embeds[copied]
    return embeds


def test_a_source_copied_under_two_names_is_refused_and_raises_nothing_once_it_is_joined(backbone, tmp_path):
    banks = {
        kind: write_bank_to_fit(tmp_path / kind.replace(" ", "-"), backbone, as_copied, of_two_names(kind))
        for kind in ("copied", "unrecognised", "left out")
    }
    refused = r"24 near-duplicates lie in two sources, first \('p3', 'p5'\): .* by --merge_sources s7=s6, or leave"
    with pytest.raises(ValueError, match=refused):
        evaluation(banks["copied"], folds=0)
    joined = evaluation(banks["copied"], folds=0, merge_sources=["s7=s6"])
    apart, without = (evaluation(banks[kind], folds=0) for kind in ("unrecognised", "left out"))
    assert joined["auc"]["value"] < without["auc"]["value"] + 0.05
    assert joined["bias_audit"]["duplicates"]["pairs"] == 24
    assert joined["bias_audit"]["duplicates"]["pairs_of_two_sources"] == 0
    # What is forbidden would have raised them.
    assert apart["auc"]["value"] > joined["auc"]["value"] + 0.1
    for name, baseline in joined["fit"]["baselines"].items():
        assert baseline["auc"] < without["fit"]["baselines"][name]["auc"] + 0.05
        assert apart["fit"]["baselines"][name]["auc"] > baseline["auc"] + 0.1
