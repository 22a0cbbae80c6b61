"""From files to a head with a backbone that is not a CLIP: the bank, the fitted head, and the checkpoint's answer."""

import numpy as np
import pytest
import torch

from modeling.cautions.known_data import KnownData
from modeling.checkpoints import load_processor
from modeling.detector import Detector
from tests.backbones import FAMILIES, save_backbone
from tests.pictures import picture
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.embedding_dataset import score_embeddings
from train.features.making import build_feature_bank
from train.fit.fitting import FitArguments
from train.fit.head import fit_head, new_model
from train.fit.known_data import known_data_of
from train.measure.metrics import roc_auc


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "clip"])
def test_a_head_learns_from_a_bank_of_every_family_and_answers_as_in_the_bank(parquet, tmp_path, family):
    save_backbone(family, tmp_path / "backbone")
    records = load_records(DataArguments(data=str(parquet)))
    bank = build_feature_bank(records, tmp_path / "bank", backbone=str(tmp_path / "backbone"), views=1)
    assert len(bank) == 23
    assert bank.text_embeds is None

    model = new_model(bank, FitArguments(bank=str(tmp_path / "bank"), head_depth=1))
    processor = load_processor(bank.info["backbone"])
    bank.check_made_by(model.backbone, processor)
    settings = arguments(tmp_path / "out", max_steps=40, per_device_train_batch_size=23, learning_rate=1e-2)
    fit_head(model, bank, np.arange(len(bank)), settings)
    assert roc_auc(bank.rows["label"].to_numpy(), score_embeddings(model, bank.image_embeds)) > 0.9

    model.eval().save_pretrained(tmp_path / "detector")
    processor.save_pretrained(tmp_path / "detector")
    known_data_of(bank, model.config).save(tmp_path / "detector")
    detector = Detector.from_pretrained(tmp_path / "detector")
    row = int(np.flatnonzero(bank.rows.record_id == "p3")[0])
    with torch.no_grad():
        expected = model(image_embeds=bank.image_embeds[row : row + 1]).score.item()
    assert detector.detect(picture(3, 1)).score == pytest.approx(expected, abs=1e-4)
    assert isinstance(detector.known_data, KnownData)
