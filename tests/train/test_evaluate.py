"""`python -m train evaluate CHECKPOINT DATA` on real files with a tiny checkpoint, and what it does with bad ones."""

import json
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.embedded import DEFAULT_SOURCE
from tests.pictures import picture
from train.__main__ import main
from train.data.records import DataArguments, load_records
from train.evaluate import EvaluateArguments, evaluate, evaluate_checkpoint
from train.features.bank import FeatureBank
from train.features.making import build_feature_bank
from train.report.evaluation_file import read_evaluation, write_evaluation


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    RobustClipForImageClassification(tiny_config(text=False)).eval().save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return command


def folder_of(path, labels=("real", "generated"), sources=2, each=2):
    for number, label in enumerate(labels):
        for source in range(sources):
            target = path / label / f"source-{source}"
            target.mkdir(parents=True)
            for index in range(each):
                (target / f"{index}.png").write_bytes(picture(10 * source + index, number))
    return path


def test_pictures_go_to_a_whole_report_in_one_command(checkpoint, parquet, tmp_path, run):
    output = tmp_path / "report"
    printed = run("evaluate", checkpoint, parquet, "--output", output, "--probed", 6)
    assert "ROC AUC: " in printed
    assert {path.name for path in output.iterdir()} >= {"evaluation.json", "report.md", "report.html", "bank"}
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert evaluation["pictures"] == {"real": 12, "generated": 11}
    assert evaluation["made_by"]["unreadable_pictures"] == 1
    assert evaluation["checkpoint"]["name"] == str(checkpoint)
    assert len(evaluation["checkpoint"]["weights_sha256"]) == 64
    assert evaluation["checkpoint"]["in_sample"] is None
    assert evaluation["robustness"]["deliveries"][0]["delivery"] == "clean"
    assert evaluation["bias_audit"]["counts"]["format"] == {"real": {"PNG": 12}, "generated": {"PNG": 11}}
    # The bank is kept: the same figures again, without the pictures.
    parquet.unlink()
    again = tmp_path / "again"
    run("evaluate", checkpoint, output / "bank", "--output", again)
    assert json.loads((again / "evaluation.json").read_text()) == evaluation


def test_pictures_of_the_training_are_found(checkpoint, parquet, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    bank = build_feature_bank(records, tmp_path / "bank", backbone=str(checkpoint), views=1)
    evaluation, _ = evaluate_checkpoint(checkpoint, bank, bank.rows)
    assert evaluation["bias_audit"]["duplicates"]["in_training"]["pictures"] == 23
    assert evaluation["checkpoint"]["in_sample"] is None
    fitted = read_evaluation(DEFAULT_SOURCE)
    fitted["made_by"]["bank"]["records_sha256"] = bank.info["records_sha256"]
    write_evaluation(checkpoint, fitted)
    assert evaluate_checkpoint(checkpoint, bank)[0]["checkpoint"]["in_sample"] is True
    (checkpoint / "evaluation.json").write_text('{"made_by": {}}')  # of an earlier version
    assert evaluate_checkpoint(checkpoint, bank)[0]["checkpoint"]["in_sample"] is None


def test_pictures_that_were_replaced_are_not_taken_for_the_old_ones(checkpoint, tmp_path, run):
    folder = folder_of(tmp_path / "p")
    run("evaluate", checkpoint, folder, "--output", tmp_path / "out", "--probed", 0)
    (folder / "real" / "source-0" / "0.png").write_bytes(picture(99, 0) + b"more")
    again = run("evaluate", checkpoint, folder, "--output", tmp_path / "out", "--probed", 0)
    assert "pictures_sha256 was" in again


def test_one_class_is_evaluated_as_far_as_it_goes(checkpoint, tmp_path, run):
    printed = run("evaluate", checkpoint, folder_of(tmp_path / "p", ("real",)), "--output", tmp_path / "out")
    assert "real pictures called" in printed
    assert "ROC AUC: not defined here" in printed
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["auc"] is None


@pytest.mark.parametrize("kind", ["empty", "missing", "columns", "unreadable", "flag", "checkpoint"])
def test_what_cannot_be_evaluated_says_why(checkpoint, tmp_path, run, kind):
    data = tmp_path / "data"
    data.mkdir()
    expected = "no picture"
    if kind == "missing":
        data, expected = tmp_path / "nowhere", "nowhere"
    if kind == "columns":
        data = data / "d.parquet"
        datasets.Dataset.from_dict({"picture": ["x"], "label": [0]}).to_parquet(data)
        expected = "image"
    if kind == "unreadable":
        (folder_of(data, sources=1, each=0) / "real" / "source-0" / "a.png").write_bytes(b"not a picture")
        expected = "can be read"
    if kind == "checkpoint":
        checkpoint, expected = folder_of(data), "is not a checkpoint"
    arguments = ["evaluate", checkpoint, data, "--output", tmp_path / "out"]
    if kind == "flag":
        arguments, expected = arguments[:2], "2"  # argparse names the missing flags on standard error
    assert expected.lower() in run(*arguments).lower()
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_scores_that_are_not_finite_are_refused(checkpoint, parquet, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    bank = build_feature_bank(records, tmp_path / "bank", backbone=str(checkpoint), views=1)
    embeds = bank.image_embeds.clone()
    embeds[3] = np.nan
    broken = FeatureBank(bank.rows, embeds, None, bank.info)
    with pytest.raises(ValueError, match="1 scores are not finite"):
        evaluate_checkpoint(checkpoint, broken)


def test_a_bank_of_a_checkpoint_is_the_bank_of_its_backbone(checkpoint, parquet, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    bank = build_feature_bank(records, tmp_path / "bank", backbone=str(checkpoint), views=1)
    arguments = EvaluateArguments(output=str(tmp_path / "out"), checkpoint=str(checkpoint))
    assert evaluate(arguments, DataArguments(data=str(tmp_path / "bank")))["pictures"]["real"] == 12
    model = RobustClipForImageClassification.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        score = model(image_embeds=bank.image_embeds[:1].clone()).score
    assert torch.isfinite(score).all()


def test_a_data_set_is_audited_without_a_detector(parquet, tmp_path, run):
    printed = run("audit", parquet, "--output", tmp_path / "audit")
    assert "1 pictures were unreadable" in printed
    audit = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert [entry["record_id"] for entry in audit["unreadable"]] == ["p5"]
    assert audit["matched"]["auc"] is None
    assert audit["matched"]["rule_auc"] is not None
    markdown = (tmp_path / "audit" / "audit.md").read_text()
    assert markdown.startswith("# Bias audit")
    assert "of the detector" not in markdown
    assert "- p5: " in markdown


def test_a_leaky_folder_is_caught_by_the_command(tmp_path, run):
    folder = folder_of(tmp_path / "p", sources=3, each=4)
    for path in (folder / "real").rglob("*.png"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
    printed = run("audit", folder, "--output", tmp_path / "audit")
    assert "tells the classes apart by: format" in printed
