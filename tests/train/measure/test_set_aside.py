"""What a checkpoint carries of pictures that no fit saw: which they are, and how near their features are."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling import RobustClipForImageClassification
from modeling.checkpoints import SET_ASIDE_FILE
from tests.train.tiny_bank import write_bank_to_fit
from tests.train.tiny_training import arguments
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.fit import fitting
from train.fit.options import FitArguments
from train.fit.saving import save_detector
from train.measure.metrics import roc_auc
from train.measure.set_aside import MOST_OF_A_SOURCE, SetAside, set_aside_facts, set_sources_aside

# Real are s0 to s4, generated s6 to s9; s5 is both.
CHOSEN = sorted(
    name
    for names in (range(5), range(6, 10))
    for name in sorted((f"s{k}" for k in names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:2]
)


def apart(rows, embeds):
    embeds[:, 0] += 3 * rows["label"].to_numpy()
    return embeds


@pytest.fixture
def bank(backbone, tmp_path):
    return write_bank_to_fit(tmp_path / "bank", backbone, apart)


def test_sources_are_set_aside_by_their_names_alone(bank):
    loaded = FeatureBank.load(bank)
    rest, aside = set_sources_aside(loaded, 4)
    assert sorted(aside.rows["source"].unique()) == CHOSEN
    assert len(rest) + len(aside) == len(loaded)
    assert not set(rest.rows["source"]) & set(CHOSEN)
    shuffled = np.random.default_rng(0).permutation(len(loaded))
    other = FeatureBank(loaded.rows.iloc[shuffled].reset_index(drop=True), loaded.image_embeds[shuffled], None, {})
    assert sorted(set_sources_aside(other, 4)[1].rows["source"].unique()) == CHOSEN


@pytest.mark.parametrize(
    ("number", "message"), [(3, "even number"), (10, "5 generated sources .* got 4"), (-2, "even number")]
)
def test_numbers_that_cannot_be_set_aside_are_refused(number, message, bank):
    with pytest.raises(ValueError, match=message):
        set_sources_aside(FeatureBank.load(bank), number)


def test_no_fit_sees_what_is_set_aside_and_the_checkpoint_carries_it(bank, tmp_path, monkeypatch):
    seen = set()

    def watched(model, bank, rows, training):
        seen.update(bank.rows["source"].to_numpy()[rows])
        return fit_head(model, bank, rows, training)

    fit_head = fitting.fit_head
    monkeypatch.setattr(fitting, "fit_head", watched)
    monkeypatch.setattr("train.fit.held_out.fit_head", watched)
    settings = arguments(tmp_path / "out", max_steps=30, per_device_train_batch_size=64, learning_rate=1e-2)
    options = FitArguments(bank=str(bank), folds=3, head_depth=1, head_components=4, set_aside=4)
    fitted = fitting.fit(options, settings)
    assert seen
    assert not seen & set(CHOSEN)
    assert not set(fitted.pictures["source"]) & set(CHOSEN)
    folder = tmp_path / "checkpoint"
    save_detector(fitted, folder)
    model = RobustClipForImageClassification.from_pretrained(folder).eval()
    carried = SetAside.load(folder, model.config)
    assert sorted(carried.rows["source"].unique()) == CHOSEN
    assert carried.rows["source"].value_counts().max() == MOST_OF_A_SOURCE
    loaded = FeatureBank.load(bank)
    wanted = (loaded.rows["view"] == 0) & loaded.rows["source"].isin(CHOSEN)
    wanted &= loaded.rows[wanted].groupby("source").cumcount().reindex(loaded.rows.index) < MOST_OF_A_SOURCE
    original = loaded.image_embeds[np.flatnonzero(wanted)]
    span = original.amax(0) - original.amin(0)
    assert ((carried.image_embeds - original).abs() <= span / 510 * 1.001).all()
    scores = score_embeddings(model, carried.image_embeds)
    assert np.abs(scores - score_embeddings(model, original)).max() < 0.05 * scores.std()
    facts = set_aside_facts(folder)
    assert facts["pictures"] == {"real": 24, "generated": 24}
    assert facts["rates"]["auc"]["value"] == pytest.approx(roc_auc(carried.rows["label"], scores))
    card = (folder / "README.md").read_text()
    assert "24 real pictures of 2 sources and 24 generated ones of 2" in card
    assert fitted.evaluation["fit"]["arguments"]["set_aside"] == 4
    carried.save(tmp_path)
    assert (tmp_path / SET_ASIDE_FILE).read_bytes() == (folder / SET_ASIDE_FILE).read_bytes()


def test_files_that_cannot_be_used_are_refused_in_a_sentence(tiny_config, tmp_path):
    config = tiny_config(text=False)
    with pytest.raises(ValueError, match=r"has no set_aside.safetensors.*--set_aside 40"):
        SetAside.load(tmp_path, config)
    (tmp_path / SET_ASIDE_FILE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is damaged"):
        SetAside.load(tmp_path, config)
    tensors = {"codes": torch.zeros(2, 5, dtype=torch.uint8), "low": torch.zeros(5), "step": torch.ones(5)}
    save_file(tensors | {"label": torch.tensor([0, 1], dtype=torch.uint8)}, tmp_path / SET_ASIDE_FILE)
    with pytest.raises(ValueError, match="must hold 8 features a picture"):
        SetAside.load(tmp_path, config)
    assert set(load_file(tmp_path / SET_ASIDE_FILE)) == {"codes", "low", "step", "label"}
