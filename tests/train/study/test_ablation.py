"""The ablation study on a tiny bank: which fits it makes, what it computes from them, and what it says."""

import csv
import dataclasses
import gc
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.tiny import TEXT, VISION
from tests.train.tiny_bank import PICTURES, VIEWS, WIDTH, write_bank
from tests.train.tiny_training import arguments
from train.__main__ import command_of
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.fit.fitting import FitArguments
from train.fit.head import fit_head, new_model
from train.losses import robust_loss
from train.parsing import parse
from train.study import ablation, landscape
from train.study import figures as ablation_figures
from train.study.ablation import FULL, NO_SAM, AblationArguments, ablate, recipe_cases
from train.study.figures import FIGURES
from train.study.fits import Case, Study


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    """Folders of a bank without text and one with."""
    folder = tmp_path_factory.mktemp("banks")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder / "vision")
    config = CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=WIDTH)
    CLIPModel(config).save_pretrained(folder / "clip")
    return {
        "image": write_bank(folder / "image", folder / "vision", text=False),
        "text": write_bank(folder / "text", folder / "clip", text=True),
    }


@pytest.fixture(autouse=True)
def small_heap():
    """Trainer collects garbage after every fit: walking through all of torch's objects would take longer than it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def quick(monkeypatch):
    """Fewer points, the same path."""
    monkeypatch.setattr(ablation, "CVAR_WEIGHTS", (0.0, 0.5))
    monkeypatch.setattr(ablation, "CVAR_ALPHAS", (1.0,))
    monkeypatch.setattr(ablation, "RATIOS", (1, 100))
    monkeypatch.setattr(ablation_figures, "DRAWS", 10)
    monkeypatch.setattr(landscape, "STEPS", np.array([-1, -0.5, 0, 0.5, 1]))
    monkeypatch.setattr(landscape, "GRID_STEPS", np.array([-1.0, 0.0, 1.0]))


def training(folder, **changes):
    settings = {"max_steps": 2, "per_device_train_batch_size": 256, "learning_rate": 1e-2}
    return arguments(folder, **(settings | changes))


def study(bank_folder, folder, **changes):
    return Study(FeatureBank.load(bank_folder), folder / "fits", training(folder, **changes), folds=3)


def test_recipes_change_only_the_loss_and_sam(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    settings = {name: made._settings(case, 4) for name, case in recipe_cases().items() if case.baseline is None}
    parts = {
        name: (setting.cvar_weight, setting.cvar_alpha, setting.sam_rho, setting.seed)
        for name, setting in settings.items()
    }
    assert parts == {
        "BCE": (1.0, 1.0, 0.0, 4),
        "BCE + SAM": (1.0, 1.0, 0.05, 4),
        "CVaR": (1.0, 0.8, 0.0, 4),
        "CVaR + SAM": (1.0, 0.8, 0.05, 4),
        "AUC": (0.0, 0.8, 0.0, 4),
        "AUC + SAM": (0.0, 0.8, 0.05, 4),
        "CVaR + AUC": (0.5, 0.8, 0.0, 4),
        "CVaR + AUC + SAM": (0.5, 0.8, 0.05, 4),
    }
    assert {setting.max_steps for setting in settings.values()} == {2}


def test_scores_are_those_of_fit_head_on_the_other_sources(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    made.run([(Case("x"), [3])])
    scores = made.scores(Case("x"), [3])[:, 0]
    bank = FeatureBank.load(banks["image"])
    model = new_model(bank, FitArguments(bank=""))
    for fold in range(3):
        held_out = made.rows.rows[made.rows.folds == fold]
        rows = np.flatnonzero(~bank.rows["source"].isin(held_out["source"]))
        fit_head(model, bank, rows, training(tmp_path, seed=3))
        expected = score_embeddings(model, bank.image_embeds[held_out.index.tolist()])
        assert np.array_equal(scores[made.rows.folds == fold], expected)
    assert len(scores) == PICTURES
    assert set(made.rows.rows["view"]) == {0}


def test_a_fit_that_is_there_is_not_made_again_and_another_one_is(banks, tmp_path):
    case = Case("x")
    study(banks["image"], tmp_path).run([(case, [0, 1])])
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "fits").iterdir()}
    assert len(files) == 6
    gone = sorted(files)[2]
    expected = load_file(gone)["scores"]
    gone.unlink()
    again = study(banks["image"], tmp_path)
    again.run([(case, [0, 1]), (Case("the same", {"cvar_weight": 0.5}), [1])])
    assert torch.equal(load_file(gone)["scores"], expected)
    assert {path: path.stat().st_mtime_ns for path in files if path != gone} == {
        path: time for path, time in files.items() if path != gone
    }
    study(banks["image"], tmp_path, learning_rate=1e-3).run([(case, [0])])
    assert len(list((tmp_path / "fits").iterdir())) == 9


def test_ratios_keep_the_number_of_pictures_and_nest_the_rare_class(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    labels, records = made.labels, made.banks["bank"].rows["record_id"].to_numpy()
    earlier_real, totals = None, set()
    for ratio in (1, 10, 100):
        rows = made.training_rows(Case("x", ratio=ratio), 0, (1,))
        assert set(rows) <= set(made.splits[1][0])
        real, generated = (set(records[rows[labels[rows] == label]]) for label in (0, 1))
        assert len(rows) == VIEWS * (len(real) + len(generated))
        assert len(real) == max(1, round((len(real) + len(generated)) / (ratio + 1)))
        assert earlier_real is None or real < earlier_real
        earlier_real = real
        totals.add(len(real) + len(generated))
    assert len(totals) == 1
    other = made.training_rows(Case("x", ratio=1), 1, (1,))
    assert not np.array_equal(other, made.training_rows(Case("x", ratio=1), 0, (1,)))


def test_a_study_writes_its_report_and_says_that_there_is_no_text(banks, tmp_path, quick):
    output = tmp_path / "report"
    settings = AblationArguments(bank=str(banks["image"]), output=str(output), folds=2, seeds=[0, 1])
    results = ablate(settings, training(tmp_path))
    assert {path.name for path in output.iterdir()} == {
        "fits",
        "report.md",
        "results.json",
        "results.csv",
        "recipes.png",
        "sensitivity.png",
        "imbalance.png",
        "landscape-slices.png",
        "landscape-planes.png",
    }
    assert json.loads((output / "results.json").read_text()) == results
    assert len(results["recipes"]) == 10
    assert results["inputs"] is None
    report = (output / "report.md").read_text()
    assert "The bank has no text" in report
    for name in ("recipes.png", "landscape-planes.png", *recipe_cases(), *FIGURES.values()):
        assert name in report
    table = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    row = next(row for row in table if (row["part"], row["case"], row["figure"]) == ("recipes", FULL, "auc"))
    assert float(row["value"]) == results["recipes"][FULL]["figures"]["auc"]["value"]
    # The recipe's own value is one of those of the sensitivity, and differs from itself by nothing.
    own = next(point for point in results["sensitivity"]["cvar_alpha"] if point["value"] == 0.8)
    assert own["minus_recipe"]["auc"] == {"value": 0.0, "interval": [0.0, 0.0], "by_seed": [0.0]}
    heads = results["landscape"]["heads"]
    assert [head["seed"] for head in heads[FULL]] == [0, 1]
    assert ["grid" in head for head in heads[NO_SAM]] == [True, False]
    lower = sum(ours["rise"] < other["rise"] for ours, other in zip(heads[FULL], heads[NO_SAM], strict=True))
    assert f"lower with it in {lower} of 2 seeds. A flatter minimum" in report


def test_a_study_of_a_bank_with_text_reports_by_input(banks, tmp_path, quick):
    settings = AblationArguments(bank=str(banks["text"]), output=str(tmp_path / "report"), folds=2, seeds=[0])
    inputs = ablate(settings, training(tmp_path))["inputs"]
    assert set(inputs["figures"]) == {"image only", "text only", "image + text"}
    assert set(inputs["same_text"]["figures"]) == set(inputs["figures"])
    bank = FeatureBank.load(banks["text"])
    rows = bank.rows[bank.rows["view"] == 0].assign(text=[str(row) for row in bank.text_embeds[::VIEWS].tolist()])
    captioned = rows[(bank.text_embeds[::VIEWS] != 0).any(dim=1).numpy()]
    shared = captioned.groupby("text")["label"].transform("nunique") == 2
    assert inputs["same_text"]["pictures"]["real"] == int((captioned[shared]["label"] == 0).sum())
    report = (tmp_path / "report" / "report.md").read_text()
    assert "text only" in report
    assert "has no text" not in report


@pytest.mark.parametrize("changes", [{}, {"cvar_over": "sources", "label_smoothing_factor": 0.2}])
def test_the_landscape_is_that_of_the_stored_head_on_its_training_rows(banks, tmp_path, quick, changes):
    made = study(banks["text"], tmp_path, **changes)
    case = recipe_cases()[NO_SAM]
    made.run([(case, [0])])
    measured = made.landscape(case, 0, with_grid=False)
    bank = FeatureBank.load(banks["text"])
    model = new_model(bank, FitArguments(bank=""))
    rows = made.splits[0][0]
    settings = dataclasses.replace(training(tmp_path, seed=0, **changes), sam_rho=0.0)
    fit_head(model, bank, rows, settings)
    scores = torch.from_numpy(score_embeddings(model, bank.image_embeds[rows], bank.text_embeds[rows]))
    sources = torch.from_numpy(bank.rows["source"].factorize()[0][rows]) if changes else None
    smoothing = settings.label_smoothing_factor
    labels = torch.tensor(bank.rows["label"].to_numpy()[rows])
    expected = robust_loss(scores, labels, sources=sources, label_smoothing=smoothing).loss.item()
    assert measured["loss"] == pytest.approx(expected, rel=1e-5)
    assert measured["sharpness"]["rho"] == 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cvar_weight": 1.0}, "`cvar_weight` must be between 0 and 1 for an ablation, got 1.0"),
        ({"cvar_alpha": 1.0}, "`cvar_alpha` must be below 1"),
        ({"sam_rho": 0.0}, "`sam_rho` must be above 0"),
    ],
)
def test_a_recipe_without_a_part_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        ablate(AblationArguments(bank="", output=str(tmp_path)), training(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "`folds` must be from 2 to the bank's 10 sources, got 1"),
        ({"folds": 11}, "`folds` must be from 2 to the bank's 10 sources, got 11"),
        ({"seeds": []}, "`seeds` must be at least one number"),
        ({"seeds": [1, 1]}, "each once"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused(banks, tmp_path, changes, message):
    settings = AblationArguments(bank=str(banks["image"]), output=str(tmp_path), **changes)
    with pytest.raises(ValueError, match=message):
        ablate(settings, training(tmp_path))


def test_the_command_takes_seeds_and_training_arguments():
    flags = ["--bank", "b", "--output", "o", "--seeds", "3", "4", "--num_train_epochs", "16", "--sam_rho", "0.1"]
    settings, training_arguments = parse(command_of(["ablate"]), flags)
    assert settings == AblationArguments(bank="b", output="o", seeds=[3, 4])
    assert (training_arguments.num_train_epochs, training_arguments.sam_rho) == (16, 0.1)


def test_a_class_of_one_source_is_refused(banks, tmp_path):
    bank = FeatureBank.load(banks["image"])
    bank.rows["source"] = np.where(bank.rows["label"] == 0, "only", bank.rows["source"])
    with pytest.raises(ValueError, match="'only'.* one class has no picture left"):
        Study(bank, tmp_path, training(tmp_path), folds=3)
