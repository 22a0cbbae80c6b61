"""From files to a head: feature bank and fit, on tiny real files with a tiny CLIP."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.detector import Detector
from tests.pictures import picture
from tests.tiny import TEXT, VISION
from tests.train.tiny_training import arguments
from train.data.records import DataArguments, load_records
from train.embedding_dataset import score_embeddings
from train.evaluate import evaluate_checkpoint
from train.features import making, shards
from train.features.bank import FeatureBank, read_table, write_tables
from train.features.making import build_feature_bank
from train.fit.commands import fit_and_report
from train.fit.fitting import UNFINISHED, FitArguments, fit
from train.fit.saving import save_head
from train.measure.sources import split
from train.report.evaluation_file import read_evaluation, write_evaluation


@pytest.fixture
def bank(parquet, backbone, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    return build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=3, batch_size=5)


def test_a_bank_holds_every_view_of_every_readable_picture(bank, backbone):
    assert len(bank) == 23 * 3
    assert [row["record_id"] for row in bank.info["unreadable"]] == ["p5"]
    assert bank.rows["record_id"].nunique() == 23
    assert set(bank.rows.query("view == 0")["delivery"]) == {"clean"}
    model = CLIPVisionModelWithProjection.from_pretrained(backbone).eval()
    row = int(np.flatnonzero((bank.rows.record_id == "p3") & (bank.rows.view == 0))[0])
    image = Image.open(io.BytesIO(picture(3, 1)))
    expected = model(**RobustClipImageProcessor(size=32)(images=image, return_tensors="pt")).image_embeds[0]
    torch.testing.assert_close(bank.image_embeds[row], expected.detach(), rtol=1e-4, atol=1e-5)


def test_a_bank_is_the_same_whatever_the_number_of_threads(bank, parquet, backbone, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    threads = torch.get_num_threads()
    for number in (1, 3, 20):
        torch.set_num_threads(number)
        try:
            other = build_feature_bank(records, tmp_path / str(number), backbone=str(backbone), views=3, batch_size=7)
            assert torch.get_num_threads() == number
        finally:
            torch.set_num_threads(threads)
        pd.testing.assert_frame_equal(other.rows, bank.rows)
        torch.testing.assert_close(other.image_embeds, bank.image_embeds, rtol=1e-4, atol=1e-5)


def test_an_error_in_a_thread_ends_a_bank_that_then_goes_on(parquet, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0)
    records = load_records(DataArguments(data=str(parquet)))
    threads = torch.get_num_threads()

    def fail_on_p17(batch):
        if "p17" in batch["record_id"] and len(batch["record_id"]) == 1:  # not where all are fingerprinted
            raise MemoryError
        return batch

    failing = records.with_transform(fail_on_p17)
    with pytest.raises(MemoryError):
        build_feature_bank(failing, tmp_path / "new", backbone=str(backbone), views=2)
    assert torch.get_num_threads() == threads
    assert [(shard.start, shard.stop) for shard in shards.list_shards(tmp_path / "new")] == [
        (start, start + 4) for start in (0, 4, 8, 12)
    ]
    bank = build_feature_bank(records, tmp_path / "new", backbone=str(backbone), views=2)
    assert bank.rows["record_id"].nunique() == 23


def test_a_finished_bank_is_three_files_and_is_not_made_again(bank, parquet, backbone, tmp_path):
    folder = tmp_path / "bank"
    assert {path.name for path in folder.iterdir()} == {"bank.json", "rows.arrow", "image_embeds.npy"}
    before = (folder / "image_embeds.npy").stat().st_mtime_ns
    records = load_records(DataArguments(data=str(parquet)))
    again = build_feature_bank(records, folder, backbone=str(backbone), views=3)
    assert again.info["fingerprint"] == bank.info["fingerprint"]
    assert (folder / "image_embeds.npy").stat().st_mtime_ns == before


def replaced(records, column, values):
    features = records.features
    return (
        records.remove_columns(column)
        .add_column(column, values, feature=features[column])
        .select_columns(list(features))
    )


@pytest.mark.parametrize("column", ["label", "source", "generator", "kind"])
def test_other_descriptions_of_the_same_pictures_change_the_rows_only(
    bank, parquet, backbone, tmp_path, column, monkeypatch, caplog
):
    records = load_records(DataArguments(data=str(parquet)))
    changed = replaced(records, column, [1 - v if column == "label" else f"{v}?" for v in records[column]])
    monkeypatch.setattr(making, "_embed_missing", None)  # nothing is embedded
    with caplog.at_level("INFO"):
        again = build_feature_bank(changed, tmp_path / "bank", backbone=str(backbone), views=3)
    assert "nothing was embedded again" in caplog.text
    told = dict(zip(changed["record_id"], changed[column], strict=True))
    assert again.rows[column].tolist() == [told[record_id] for record_id in again.rows["record_id"]]
    pd.testing.assert_frame_equal(again.rows.drop(columns=column), bank.rows.drop(columns=column))
    assert torch.equal(again.image_embeds, bank.image_embeds)
    differing = {key for key in bank.info if again.info[key] != bank.info[key]}
    assert differing == {"fingerprint", "records_sha256", "rows_sha256"}
    back = build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=3)
    assert back.info == bank.info


@pytest.mark.parametrize("change", ["picture", "identifier", "fewer"])
def test_a_bank_of_other_pictures_is_refused(bank, parquet, backbone, tmp_path, change):
    records = load_records(DataArguments(data=str(parquet)))
    other = {
        "picture": lambda: replaced(records, "image", [*records["image"][:23], {"bytes": b"", "path": None}]),
        "identifier": lambda: replaced(records, "record_id", [f"q{i}" for i in range(24)]),
        "fewer": lambda: records.select(range(23)),
    }[change]()
    with pytest.raises(ValueError, match=r"pictures_sha256 was .* Choose another output folder, or delete that one"):
        build_feature_bank(other, tmp_path / "bank", backbone=str(backbone), views=3)


def test_rows_that_were_written_without_their_name_in_the_bank_are_mended(bank, parquet, backbone, tmp_path):
    rows = tmp_path / "bank" / "rows.arrow"
    table = read_table(rows)
    write_tables(rows, table.schema, [table.slice(0, 3)])  # killed before bank.json was written
    with pytest.raises(ValueError, match=r"rows.arrow is not the file that bank.json names"):
        FeatureBank.load(tmp_path / "bank")


def test_a_bank_goes_on_with_other_descriptions_unless_they_choose_other_records(
    parquet, backbone, tmp_path, monkeypatch
):
    records = load_records(DataArguments(data=str(parquet)))
    settings = {"backbone": str(backbone), "views": 2, "probed": 4}
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(making, "join_shards", lambda *_: None)
        with pytest.raises(ValueError, match="is not finished"):
            build_feature_bank(records, tmp_path / "new", **settings)
    told = replaced(records, "kind", ["people"] * 24)
    with pytest.raises(ValueError, match="probed_sha256 was"):
        build_feature_bank(replaced(records, "source", records["record_id"]), tmp_path / "new", **settings)
    found = build_feature_bank(told, tmp_path / "new", **settings)
    assert set(found.rows["kind"]) == {"people"}
    assert found.info == build_feature_bank(told, tmp_path / "peace", **settings).info


def test_a_shard_without_a_readable_picture_is_left_out(parquet, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0)
    records = load_records(DataArguments(data=str(parquet))).select([0, 1, 5, 2])  # the third is no picture
    bank = build_feature_bank(records, tmp_path / "new", backbone=str(backbone), views=2, batch_size=1)
    assert bank.rows["record_id"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert [row["record_id"] for row in bank.info["unreadable"]] == ["p5"]
    unreadable = load_records(DataArguments(data=str(parquet))).select([5])
    with pytest.raises(ValueError, match="None of the 1 pictures can be read"):
        build_feature_bank(unreadable, tmp_path / "none", backbone=str(backbone))
    with pytest.raises(ValueError, match="no records"):
        build_feature_bank(records.select([]), tmp_path / "empty", backbone=str(backbone))


def test_a_bank_whose_backbone_or_processor_has_changed_is_refused(bank, backbone, tmp_path):
    settings = arguments(tmp_path / "out", max_steps=1)
    RobustClipImageProcessor(size=32, image_mean=[0.5, 0.5, 0.5]).save_pretrained(backbone)
    with pytest.raises(ValueError, match="another backbone or processor: processor of"):
        fit(FitArguments(bank=str(tmp_path / "bank")), settings)
    RobustClipImageProcessor(size=32).save_pretrained(backbone)
    torch.manual_seed(1)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(backbone)
    with pytest.raises(ValueError, match="another backbone or processor: backbone_sha256 of"):
        fit(FitArguments(bank=str(tmp_path / "bank")), settings)


def test_a_fit_with_text_is_a_checkpoint_that_reads_captions(parquet, tiny_tokenizer, tmp_path):
    folder = tmp_path / "clip-with-text"
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=8)).save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    records = load_records(DataArguments(data=str(parquet)))
    captions = ["a b c" if number % 3 else None for number in range(len(records))]
    records = records.remove_columns("text").add_column("text", captions).select_columns(records.column_names)
    bank = build_feature_bank(records, tmp_path / "bank", backbone=str(folder), views=1)
    assert (bank.text_embeds == 0).all(1).sum() == 8
    fit_arguments = FitArguments(bank=str(tmp_path / "bank"), folds=3, head_depth=1)
    with pytest.raises(ValueError, match="`head_output` is for heads that read no text"):
        fit(replace(fit_arguments, head_output=str(tmp_path / "head")), arguments(tmp_path / "out"))
    settings = {"max_steps": 15, "per_device_train_batch_size": 64, "learning_rate": 1e-2}
    fit_and_report(fit_arguments, arguments(tmp_path / "out", **settings))
    detector = Detector.from_pretrained(tmp_path / "out")
    with_caption = detector.detect(picture(3, 1), "c b a")
    assert with_caption.probability != with_caption.probability_without_caption
    alone = detector.detect(picture(3, 1))
    assert alone.probability == pytest.approx(with_caption.probability_without_caption)
    text, without = read_evaluation(tmp_path / "out")["text"], detector.model.config.without_text
    assert text["without_text"]["thresholds"]["generated"] == pytest.approx(without["generated_threshold"], abs=1e-6)
    assert text["without_text"]["calibration"]["scale"] == pytest.approx(without["calibration_scale"], abs=1e-6)
    assert [text[name]["pictures"]["real"] for name in ("with_text", "without_text")] == [8, 12]
    assert (alone.real_threshold, with_caption.real_threshold) == (
        without["real_threshold"],
        detector.model.config.real_threshold,
    )
    measured = detector.model.config.measured(with_text=False)
    shares = text["without_text"]["verdicts_of_other_folds"]
    assert measured["false_positive_rate"]["value"] == pytest.approx(shares["real"]["generated"]["value"], abs=1e-6)
    again, _ = evaluate_checkpoint(tmp_path / "out", bank)
    for name in ("with_text", "without_text"):
        assert again["text"][name]["thresholds"] == pytest.approx(text[name]["thresholds"], abs=1e-6)
        assert again["text"][name]["pictures"] == text[name]["pictures"]
        assert again["text"][name]["verdicts_of_other_folds"] is None


def test_a_bank_that_is_not_finished_is_refused(bank, tmp_path):
    file = tmp_path / "bank" / "bank.json"
    info = json.loads(file.read_text())
    del info["fingerprint"]
    file.write_text(json.dumps(info))
    with pytest.raises(ValueError, match="is not finished"):
        FeatureBank.load(tmp_path / "bank")


def test_a_bank_with_other_settings_is_refused(bank, parquet, backbone, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    with pytest.raises(ValueError, match="views was 3, is 2"):
        build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=2)


def test_no_bank_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no feature bank"):
        FeatureBank.load(tmp_path)


def test_related_sources_are_held_out_together(bank, tmp_path):
    bank_folder = str(tmp_path / "bank")
    settings = arguments(tmp_path / "out", max_steps=15, per_device_train_batch_size=64, learning_rate=1e-2)
    together = fit(FitArguments(bank=bank_folder, head_depth=1, merge_sources=["s2=s0"]), settings).evaluation
    assert together["sources"] == {"real": 2, "generated": 3}
    assert {row["source"] for row in together["by_source"]} == {"s0", "s1", "s3", "s4", "s5"}
    with pytest.raises(ValueError, match="one class has no picture left"):
        fit(FitArguments(bank=bank_folder, merge_sources=["s2=s0", "s4=s0"]), settings)
    with pytest.raises(ValueError, match="both sources of the bank, got 's9=s0'"):
        fit(FitArguments(bank=bank_folder, merge_sources=["s9=s0"]), settings)


def test_few_rows_give_a_head_with_fewer_components(bank, tmp_path, caplog):
    settings = arguments(tmp_path / "out", max_steps=3, per_device_train_batch_size=64)
    asked = {"head_depth": 1, "head_components": 100, "folds": 3}
    fitted = fit(FitArguments(bank=str(tmp_path / "bank"), **asked), settings)
    held_out = np.bincount(split(bank.rows, "source", 3)[bank.rows["view"] >= 0])
    possible = (held_out.sum() - held_out.max()) // 2  # half of what the largest group leaves
    assert f"{possible} head_components instead of 100" in caplog.text
    assert fitted.model.config.head_components == possible


def test_fit_writes_a_checkpoint_whose_evaluation_can_be_repeated(parquet, backbone, tmp_path):
    wide = tmp_path / "wide"  # more layers than the head reads
    records = load_records(DataArguments(data=str(parquet)))
    bank = build_feature_bank(records, wide, backbone=str(backbone), views=2, image_layers=[1, 2])
    layers = {"image_layers": [2], "head_components": 4}
    fit_arguments = FitArguments(bank=str(wide), folds=3, head_depth=1, head_output=str(tmp_path / "head"), **layers)
    settings = {"max_steps": 15, "per_device_train_batch_size": 64, "learning_rate": 1e-2}
    fitted = fit(fit_arguments, arguments(tmp_path / "out", **settings))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {UNFINISHED}  # the command writes
    save_head(fitted, tmp_path / "alone")  # before any whole model was saved
    fit_and_report(fit_arguments, arguments(tmp_path / "out", **settings))
    write_evaluation(tmp_path, fitted.evaluation)
    assert read_evaluation(tmp_path / "out") == read_evaluation(tmp_path)
    assert not (tmp_path / "out" / UNFINISHED).exists()
    assert {path.name for path in (tmp_path / "head").iterdir()} == {
        "config.json",
        "head.safetensors",
        "preprocessor_config.json",
        "evaluation.json",
        "expected_scores.json",
        "known_data.safetensors",
        "README.md",
    }
    configurations = {(tmp_path / name / "config.json").read_text() for name in ("out", "head", "alone")}
    assert len(configurations) == 1
    assert "held out by source, in 3 folds" in (tmp_path / "out" / "README.md").read_text()
    model = RobustClipForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.image_layers == [2]
    scores = score_embeddings(model, bank.narrow(model.config).image_embeds)
    assert np.isfinite(scores).all()
    assert model.config.operating_point["target_fpr"] == 0.02
    report, _ = evaluate_checkpoint(tmp_path / "out", bank)
    assert report["pictures"] == {"real": 12, "generated": 11}


@pytest.mark.parametrize("differs", ["backbone_sha256", "processor"])
def test_evaluation_refuses_a_bank_of_another_backbone_or_processor(bank, backbone, tmp_path, tiny_config, differs):
    size = 32 if differs == "backbone_sha256" else 64
    model = (
        RobustClipForImageClassification(tiny_config(text=False))
        if differs == "backbone_sha256"
        else RobustClipForImageClassification.from_backbone(str(backbone))
    )
    model.save_pretrained(tmp_path / "other")
    RobustClipImageProcessor(size=size).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=f"another backbone or processor: {differs} of"):
        evaluate_checkpoint(tmp_path / "other", bank)


def test_on_cuda_a_bank_is_made_in_full_float32_and_nothing_stays_changed(monkeypatch):
    """The flag is there in every build of PyTorch, so that a CPU can tell."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with making._full_float32():
        assert convolutions.fp32_precision == before  # without CUDA it is left alone
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with making._full_float32():
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before
    assert torch.backends.cudnn.allow_tf32 is True  # PyTorch refuses to tell it where the flags no longer agree
