"""A bank, a head and a checkpoint whose tower sees larger squares than it was trained on."""

import numpy as np
import pytest
import torch

from modeling.backends.graph import export_graph
from modeling.checkpoints import load_model, load_processor
from modeling.detector import Detector
from modeling.examination import examine
from tests.backbones import save_backbone
from tests.pictures import noise, picture
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.evaluate import EvaluateArguments, evaluate
from train.features.backbone import load_backbone
from train.features.making import build_feature_bank
from train.fit.fitting import fit
from train.fit.options import FitArguments
from train.fit.saving import save_detector

SIDE, LARGER = 32, 64


def test_from_pictures_to_answers_at_another_size(parquet, tmp_path):
    save_backbone("metaclip_2", tmp_path / "backbone")
    records = load_records(DataArguments(data=str(parquet)))
    backbone, layers = str(tmp_path / "backbone"), [1]
    bank = build_feature_bank(
        records, tmp_path / "bank", backbone=backbone, image_layers=layers, image_size=LARGER, views=1
    )
    asked = FitArguments(
        bank=str(tmp_path / "bank"), image_layers=layers, image_size=LARGER, head_depth=1, head_width=8, folds=2
    )
    fitted = fit(asked, arguments(tmp_path / "out", max_steps=8, per_device_train_batch_size=23))
    save_detector(fitted, tmp_path / "detector")

    model, processor = load_model(tmp_path / "detector"), load_processor(tmp_path / "detector")
    assert (model.config.vision_config.image_size, processor.size) == (LARGER, LARGER)
    detector = Detector(model, processor)
    row = int(np.flatnonzero(bank.rows.record_id == "p3")[0])
    with torch.no_grad():
        expected = model(image_embeds=bank.image_embeds[row : row + 1]).score.item()
    assert detector.detect(picture(3, 1)).score == pytest.approx(expected, abs=1e-4)
    noise().save(tmp_path / "picture.png")
    answer = [*examine(detector, tmp_path / "picture.png")][-1]
    patches = LARGER // model.config.vision_config.patch_size
    assert answer.explanation.regions.shape == (patches, patches)
    export_graph(model, LARGER, tmp_path / "model.onnx")
    # The tower of a checkpoint has a size of its own, and `evaluate` embeds at it.
    evaluated = evaluate(
        EvaluateArguments(checkpoint=str(tmp_path / "detector"), output=str(tmp_path / "evaluated"), probed=0),
        DataArguments(data=str(parquet)),
    )
    assert evaluated["made_by"]["bank"]["records"] == bank.info["records"]
    with pytest.raises(ValueError, match=f"is {LARGER}, got {SIDE}"):
        load_backbone(str(tmp_path / "detector"), image_size=SIDE)
    with pytest.raises(ValueError, match=f"must be that of the bank, {LARGER}, got {SIDE}"):
        fit(FitArguments(bank=str(tmp_path / "bank"), image_size=SIDE), arguments(tmp_path / "other"))
