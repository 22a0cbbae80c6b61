"""Features of several layers, from files to a checkpoint: the bank, its narrowing, the components, the fit."""

import numpy as np
import pytest
import torch

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.checkpoints import load_processor
from modeling.detector import Detector
from tests.pictures import picture
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.features.backbone import load_backbone
from train.features.making import build_feature_bank
from train.fit.components import fit_components, projected
from train.fit.fitting import FitArguments
from train.fit.head import fit_head, new_model
from train.fit.known_data import known_data_of

WIDE = {"image_layers": [1, 2], "image_tokens": ["class", "patch_mean"]}


@pytest.fixture
def wide_bank(parquet, backbone, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    return build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=2, **WIDE)


def test_a_narrowed_bank_holds_what_a_narrower_backbone_gives(wide_bank, parquet, backbone, tmp_path):
    assert wide_bank.info["image_layers"] == [1, 2]
    assert wide_bank.image_embeds.shape[1] == 8 + 2 * 2 * 16
    for layers, tokens in [([2], ["patch_mean"]), ([1, 2], ["class"]), ([], [])]:
        config = load_backbone(str(backbone), layers, tokens).config
        records = load_records(DataArguments(data=str(parquet)))
        output = tmp_path / f"{layers}"
        expected = build_feature_bank(
            records, output, backbone=str(backbone), views=2, image_layers=layers, image_tokens=tokens
        )
        torch.testing.assert_close(wide_bank.narrow(config).image_embeds, expected.image_embeds)
    assert wide_bank.narrow(load_backbone(str(backbone), **WIDE).config) is wide_bank
    with pytest.raises(ValueError, match=r"holds no tokens of layers \[\], asked for are .* of layers \[1, 2\]"):
        expected.narrow(load_backbone(str(backbone), **WIDE).config)


@pytest.mark.parametrize("layers", [[99], [2, 1], [0]])
def test_layers_that_the_tower_lacks_are_refused(tiny_config, backbone, layers, tmp_path):
    RobustClipForImageClassification(tiny_config(text=False)).save_pretrained(tmp_path)
    RobustClipImageProcessor(size=32).save_pretrained(tmp_path)
    for folder in (backbone, tmp_path):
        with pytest.raises(ValueError, match=r"`image_layers` must rise within 1 to the tower's 2 blocks, got \["):
            load_backbone(str(folder), layers)
    assert load_backbone(str(tmp_path), [2]).config.image_tokens == ["class"]


def test_components_are_uncorrelated_and_keep_their_shares_of_the_variance(wide_bank):
    model = new_model(wide_bank, FitArguments(bank="", head_components=3, head_depth=1, **WIDE))
    rows = np.arange(0, len(wide_bank), 2)
    components = fit_components(model, wide_bank, rows)
    parts = wide_bank.image_embeds[rows].split(model.config.image_parts, dim=-1)
    for project, part in zip(components, parts, strict=True):
        with torch.no_grad():
            found = project(part)
        torch.testing.assert_close(found.mean(dim=0), torch.zeros(3), atol=1e-3, rtol=0)
        # The directions are those in which the rows differ most, and differ as they did.
        variance = torch.linalg.svdvals((part - part.mean(dim=0)).double())[:3].square()
        shares = torch.diag(3 * variance / variance.sum()).float()
        torch.testing.assert_close(torch.cov(found.T), shares, atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match="below the number of rows to fit on, 2, got 3"):
        fit_components(model, wide_bank, rows[:2])


def test_components_computed_once_are_those_of_every_step(wide_bank):
    model = new_model(wide_bank, FitArguments(bank="", head_components=3, head_depth=1, **WIDE)).eval()
    rows, embeds = np.arange(0, len(wide_bank), 2), wide_bank.image_embeds
    model.head.components = fit_components(model, wide_bank, rows)
    with torch.no_grad():
        features, score = model.head.features(embeds[rows]), model(image_embeds=embeds[rows]).score
        with projected(model, embeds, rows) as stored:
            torch.testing.assert_close(stored[rows], features)
            torch.testing.assert_close(model(image_embeds=stored[rows]).score, score)
            assert stored.shape == (len(embeds), 5 * 3)
            assert not stored[1::2].any()
        torch.testing.assert_close(model(image_embeds=embeds[rows]).score, score, atol=0, rtol=0)
        assert model.head.image_parts == model.config.image_parts
    plain = new_model(wide_bank, FitArguments(bank="", **WIDE))
    with projected(plain, embeds, rows) as stored:
        assert stored is embeds


def test_components_stay_as_they_are_while_the_head_learns(wide_bank, tmp_path):
    model = new_model(wide_bank, FitArguments(bank="", head_components=3, head_depth=1, **WIDE))
    rows = np.arange(len(wide_bank))
    settings = arguments(tmp_path, max_steps=3, per_device_train_batch_size=64, learning_rate=1e-2)
    fit_head(model, wide_bank, rows, settings)
    first = {name: value.clone() for name, value in model.head.components.state_dict().items()}
    for name, value in fit_components(model, wide_bank, rows).state_dict().items():
        torch.testing.assert_close(first[name], value)


def test_a_head_on_layers_becomes_a_checkpoint_that_answers_as_its_bank(wide_bank, tmp_path):
    """Fitted on layer 2 of a bank of two layers; its known data still speak of the embedding alone."""
    chosen = {"image_layers": [2], "image_tokens": ["class", "patch_mean"], "head_components": 4, "head_depth": 1}
    model = new_model(wide_bank, FitArguments(bank="", **chosen))
    narrow = wide_bank.narrow(model.config)
    settings = arguments(tmp_path / "out", max_steps=3, per_device_train_batch_size=64, learning_rate=1e-2)
    fit_head(model, narrow, np.arange(len(narrow)), settings)
    model.eval().save_pretrained(tmp_path / "detector")
    load_processor(wide_bank.info["backbone"]).save_pretrained(tmp_path / "detector")
    known_data_of(narrow, model.config).save(tmp_path / "detector")
    detector = Detector.from_pretrained(tmp_path / "detector")
    assert detector.model.config.image_layers == [2]
    assert detector.known_data.mean.shape == (8,)
    row = int(np.flatnonzero((wide_bank.rows.record_id == "p3") & (wide_bank.rows["view"] == 0))[0])
    with torch.no_grad():
        expected = detector.model(image_embeds=narrow.image_embeds[row : row + 1]).score.item()
    assert detector.detect(picture(3, 1)).score == pytest.approx(expected, abs=1e-4)
