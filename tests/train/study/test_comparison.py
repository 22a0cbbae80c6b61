"""The nested comparison on a tiny bank: what is left out of which fit, what is computed, and what it says."""

import csv
import json
from itertools import combinations
from threading import Timer

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from sklearn.metrics import roc_auc_score
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.tiny import VISION
from tests.train.tiny_bank import PICTURES, write_bank
from tests.train.tiny_training import arguments
from train.__main__ import command_of
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.features.embedder import STANDARD_VIEW
from train.fit.fitting import FitArguments
from train.fit.head import fit_head, new_model
from train.measure.calibration import calibrate
from train.parsing import parse
from train.study.comparison import CompareArguments, Nested, compare
from train.study.comparison_plan import CHOSEN, read_plan
from train.study.fits import Case

PLAN = {
    "kinds": {"snapshots": ["s0", "s1"]},
    "recipe": {"learning_rate": 1e-2},
    "attempts": [
        {"name": "probe", "baseline": "logistic regression", "why": "What a linear rule\nreaches."},
        {"name": "head", "head": {"head_depth": 1}, "compared_with": "probe", "why": "The head."},
        {"name": "one view", "head": {"head_depth": 1}, "training": {"sam_rho": 0.0}, "views": 1},
    ],
}


def training(folder, **changes):
    return arguments(folder, **({"max_steps": 4, "per_device_train_batch_size": 256} | changes))


@pytest.fixture(scope="module")
def bank_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder / "vision")
    return write_bank(folder / "bank", folder / "vision", text=False, deliveries=("web", "hard", "blur_1"))


@pytest.fixture(scope="module")
def compared(bank_folder, tmp_path_factory):
    """Results and folder of a comparison of three attempts in three groups."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    settings = CompareArguments(
        plan=str(folder / "plan.yaml"), bank=str(bank_folder), output=str(folder / "out"), folds=3, seeds=[0, 1]
    )
    results = compare(settings, training(folder))
    return results, folder


def nested(bank_folder, folder, **changes):
    settings = CompareArguments(plan="", bank="", output="", folds=3, seeds=[0, 1], **changes)
    bank = FeatureBank.load(bank_folder)
    return Nested(bank.select((bank.rows["delivery"] != "blur_1").to_numpy()), folder, training(folder), settings)


def test_every_fit_leaves_out_whole_sources_and_standard_deliveries(bank_folder, tmp_path):
    study = nested(bank_folder, tmp_path).study
    for left_out in [(0,), (1,), (2,), *combinations(range(3), 2)]:
        fitted, scored = study.training_rows(Case("x"), 0, left_out), study.scored_rows(left_out)
        assert not set(study.sources[fitted]) & set(study.sources[scored])
        assert set(study.fold[scored]) == set(left_out)
        assert study.view[fitted].min() == 0
        assert set(study.view[scored]) == {0, STANDARD_VIEW}
    assert set(study.view[study.training_rows(Case("x", views=1), 0, (0,))]) == {0}


def test_answers_of_a_group_come_from_fits_that_never_saw_it(compared, bank_folder):
    """Inner fit, calibration and outer fit made again by hand, for one group."""
    _, folder = compared
    made = nested(bank_folder, folder / "out" / "fits")
    case = read_plan(folder / "plan.yaml").cases["head"]
    answers = made.judge(case)
    study, bank = made.study, made.study.banks["bank"]
    model = new_model(bank, FitArguments(bank="", head_depth=1))
    view = study.view
    inner = np.full(len(view), np.nan)
    for other in (0, 2):
        rows = np.flatnonzero((study.fold == 2 - other) & (view >= 0))  # neither group 1 nor `other`
        fit_head(model, bank, rows, training(folder, seed=0, learning_rate=1e-2))
        held_out = np.flatnonzero((study.fold == other) & (view == 0))
        inner[held_out] = score_embeddings(model, bank.image_embeds[held_out])
    known = np.flatnonzero(~np.isnan(inner))
    point = calibrate(study.labels[known], inner[known], study.sources[known], target_fpr=0.03, target_fnr=0.1)
    fit_head(
        model, bank, np.flatnonzero((study.fold != 1) & (view >= 0)), training(folder, seed=1, learning_rate=1e-2)
    )
    held_out = np.flatnonzero((study.fold == 1) & (view <= 0))
    expected = point.probability(score_embeddings(model, bank.image_embeds[held_out]))
    np.testing.assert_allclose(answers.probability[held_out, 1], expected, rtol=1e-5)
    assert np.array_equal(answers.flagged[held_out, 1], answers.probability[held_out, 1] >= point.generated_threshold)


def test_figures_are_those_of_the_answers(compared, bank_folder):
    results, folder = compared
    made = nested(bank_folder, folder / "out" / "fits")
    answers = made.judge(read_plan(folder / "plan.yaml").cases["head"])
    row = results["rows"]["head"]
    rows = made.study.banks["bank"].rows
    for delivery in ("clean", "web", "hard"):
        mask = (rows["delivery"] == delivery) & (rows["view"] <= 0)
        probability, flagged = answers.probability[mask], answers.flagged[mask]
        label = rows["label"][mask].to_numpy()
        assert len(label) == PICTURES
        auc = [roc_auc_score(label, column) for column in probability.T]
        assert row[delivery]["auc"]["value"] == pytest.approx(np.mean(auc))
        assert row[delivery]["found"]["value"] == pytest.approx(flagged[label == 1].mean())
        assert row[delivery]["false_alarms"]["value"] == pytest.approx(flagged[label == 0].mean())
        assert (
            row[delivery]["auc"]["interval"][0] <= row[delivery]["auc"]["value"] <= row[delivery]["auc"]["interval"][1]
        )
    clean = (rows["delivery"] == "clean") & (rows["view"] == 0)
    snapshots = clean & rows["source"].isin(["s0", "s1"]) & (rows["label"] == 0)
    assert row["false_alarms_by_kind"]["snapshots"] == pytest.approx(answers.flagged[snapshots].mean())
    assert set(row["false_alarms_by_kind"]) == {"snapshots", "others"}
    for name, figure in (("", "auc"), ("_sources_weighted_equally", "auc_sources_weighted_equally")):
        assert row[f"auc_difference{name}"]["value"] == pytest.approx(
            row["clean"][figure]["value"] - results["rows"]["probe"]["clean"][figure]["value"]
        )
    assert row["auc_loss"]["web"] == pytest.approx(row["clean"]["auc"]["value"] - row["web"]["auc"]["value"])


def test_what_is_chosen_inside_is_the_best_there_and_answers_its_group(compared, bank_folder):
    results, folder = compared
    made = nested(bank_folder, folder / "out" / "fits")
    cases = read_plan(folder / "plan.yaml").cases
    rows = made.study.banks["bank"].rows
    for fold, name in enumerate(results["chosen_inside"]):
        best = {}
        for attempt, case in cases.items():
            scores = made._inner_scores(case, fold)
            assert np.isnan(scores[made.study.fold == fold]).all()
            best[attempt] = np.mean(
                [
                    equal_auc(rows[mask], scores[mask])
                    for delivery in ("clean", "web", "hard")
                    for mask in [(rows["delivery"] == delivery) & (rows["view"] <= 0) & (made.study.fold != fold)]
                ]
            )
        assert best[name] == pytest.approx(max(best.values()))
        assert {attempt: found[fold] for attempt, found in results["inner_auc"].items()} == pytest.approx(best)
    assert CHOSEN in results["rows"]
    together = made.assemble({name: made.judge(case) for name, case in cases.items()}, ["probe", "head", "probe"])
    held_out = made.study.scored_rows((1,))
    assert np.array_equal(together.probability[held_out], made.judge(cases["head"]).probability[held_out])


def test_deliveries_of_some_pictures_of_each_source_are_enough(bank_folder, tmp_path):
    """Whose figures are then of these pictures, and what is lost is lost against the same ones as they are."""
    bank = FeatureBank.load(bank_folder)
    rows = bank.rows
    probed = set(rows[rows["view"] == 0].groupby(["source", "label"]).head(2)["record_id"])
    kept = (rows["view"] >= 0) | (rows["record_id"].isin(probed) & (rows["delivery"] != "blur_1"))
    bank = bank.select(kept.to_numpy())
    order = np.random.default_rng(0).permutation(len(bank))  # delivered rows need not lie as the clean ones do
    bank = FeatureBank(bank.rows.iloc[order].reset_index(drop=True), bank.image_embeds[order], None, bank.info)
    settings = CompareArguments(plan="", bank="", output="", folds=3, seeds=[0])
    made = Nested(bank, tmp_path / "fits", training(tmp_path), settings)
    case = Case("x", baseline="logistic regression")
    made.run({"x": case})
    answers = made.judge(case)
    figures = made.measure(answers, {})
    rows = bank.rows.assign(probability=answers.probability[:, 0])
    hard = rows[rows["delivery"] == "hard"].set_index("record_id")
    clean = rows[rows["view"] == 0].set_index("record_id").loc[hard.index]
    assert len(hard) == len(probed) < PICTURES
    assert figures["hard"]["auc"]["value"] == pytest.approx(roc_auc_score(hard["label"], hard["probability"]))
    lost = roc_auc_score(clean["label"], clean["probability"]) - figures["hard"]["auc"]["value"]
    assert figures["auc_loss"]["hard"] == pytest.approx(lost)
    inner = made._inner_scores(case, 1)
    expected = []
    for delivery in ("clean", "web", "hard"):
        mask = (rows["delivery"] == delivery) & (rows["view"] <= 0) & (made.study.fold != 1)
        expected.append(equal_auc(rows[mask], inner[mask]))
    assert made._inner_auc(inner, 1) == pytest.approx(np.mean(expected))


def equal_auc(rows, scores):
    """AUC in which every source of a class weighs the same, by scikit-learn."""
    counts = rows.groupby(["label", "source"])["source"].transform("size")
    return roc_auc_score(rows["label"], scores, sample_weight=1 / counts)


def test_the_table_tells_every_attempt(compared):
    results, folder = compared
    assert json.loads((folder / "out" / "results.json").read_text()) == results
    text = (folder / "out" / "table.md").read_text()
    for name in ("probe", "head", "one view", CHOSEN, "What a linear rule reaches.", "snapshots"):
        assert name in text
    line = next(
        row
        for row in csv.DictReader((folder / "out" / "results.csv").read_text().splitlines())
        if (row["attempt"], row["delivery"], row["figure"]) == ("one view", "hard", "found")
    )
    assert float(line["value"]) == results["rows"]["one view"]["hard"]["found"]["value"]


def test_backbones_are_compared_on_the_same_views(bank_folder, tmp_path):
    other = write_bank(tmp_path / "other", bank_folder.parent / "vision", text=False, deliveries=("web", "hard"))
    embeds = np.load(other / "image_embeds.npy")
    np.save(other / "image_embeds.npy", 100 * embeds + np.load(other / "image_embeds.npy")[:, ::-1])
    info = json.loads((other / "bank.json").read_text()) | {"fingerprint": "another"}
    (other / "bank.json").write_text(json.dumps(info))
    made = nested(bank_folder, tmp_path / "fits")
    bank = FeatureBank.load(other)
    made.add_bank(str(other), bank)
    probe = Case("x", baseline="logistic regression")
    there = Case("y", baseline="logistic regression", inputs=str(other))
    made.run({"x": probe, "y": there})
    assert len(list((tmp_path / "fits").iterdir())) == 2 * (3 + 3)
    assert not np.array_equal(made.judge(probe).probability, made.judge(there).probability)
    again = nested(other, tmp_path / "fits")
    again.run({"x": probe})
    scored = again.study.scored_rows((1,))
    np.testing.assert_allclose(made.judge(there).probability[scored], again.judge(probe).probability[scored])
    with pytest.raises(ValueError, match="must hold the same views of the same pictures"):
        made.add_bank("fewer", bank.select((bank.rows["label"] == 1).to_numpy()))


def test_an_interrupted_comparison_goes_on(compared, bank_folder):
    _, folder = compared
    made = nested(bank_folder, folder / "out" / "fits")
    files = {path: path.stat().st_mtime_ns for path in made.study.folder.iterdir()}
    assert len(files) == 3 * 3 + 3 + 2 * 6  # inner pairs of three attempts; the probe's outer fits; two heads' by seed
    gone = sorted(files)[4]
    gone.unlink()
    made.run(read_plan(folder / "plan.yaml").cases)
    assert gone.is_file()
    assert all(path.stat().st_mtime_ns == time for path, time in files.items() if path != gone)


def test_processes_on_one_folder_leave_each_other_the_fit_that_they_are_at(compared, bank_folder):
    _, folder = compared
    made = nested(bank_folder, folder / "out" / "fits")
    held, free = sorted(made.study.folder.iterdir())[:2]
    seen_at_release = []

    def release():
        seen_at_release.extend([held.is_file(), free.is_file()])
        lock.release()

    held.unlink()
    free.unlink()
    with FileLock(f"{held}.lock", thread_local=False) as lock:
        timer = Timer(8, release)
        timer.start()
        made.run(read_plan(folder / "plan.yaml").cases)
        timer.join()
    assert seen_at_release == [False, True]
    assert held.is_file()
    assert not list(made.study.folder.glob("*.lock"))


def test_the_command_takes_a_plan_by_place(tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    given = [f"{tmp_path}/plan.yaml", "--bank", f"{tmp_path}/none", "--output", f"{tmp_path}/out"]
    with pytest.raises(ValueError, match="is no feature bank"):
        compare(*parse(command_of(["compare"]), given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attempts": []}, "must hold a list `attempts`"),
        ({"attempt": []}, "got also attempt"),
        ({"attempts": [{"name": "x", "depth": 3}]}, "must have a name, and of"),
        ({"attempts": [{"name": "x"}, {"name": "x"}]}, "a name of its own, got 'x' again"),
        ({"attempts": [{"name": "x", "baseline": "forest"}]}, "one of logistic regression"),
        ({"attempts": [{"name": "x", "compared_with": "y"}]}, "an earlier attempt, got 'y'"),
        ({"attempts": [{"name": "x", "head": {"depth": 3}}]}, "`head` of 'x' must hold fields of FitArguments"),
        ({"attempts": [{"name": "x", "training": {"rho": 3}}]}, "`training` of 'x' must hold fields of RobustTrain"),
        ({"recipe": {"rho": 3}}, "`training` of 'probe' must hold fields of RobustTrainingArguments, got also rho"),
        ({"kinds": {"snapshots": ["s99"]}}, "snapshots must hold real sources of the bank, got .'s99'."),
    ],
)
def test_a_bad_plan_is_refused_with_its_place(bank_folder, tmp_path, change, message):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN | change))
    settings = CompareArguments(plan=str(tmp_path / "plan.yaml"), bank=str(bank_folder), output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=message):
        compare(settings, training(tmp_path))


def test_a_bank_without_the_deliveries_or_with_copies_is_refused(bank_folder, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    write_bank(tmp_path / "bank", bank_folder.parent / "vision", text=False, deliveries=("web",))
    settings = CompareArguments(plan=str(tmp_path / "plan.yaml"), bank=str(tmp_path / "bank"), output=str(tmp_path))
    with pytest.raises(ValueError, match="11 of the bank's sources have no picture under hard: make the bank"):
        compare(settings, training(tmp_path))
    with pytest.raises(ValueError, match="`folds` must be 3 or more, got 2"):
        compare(CompareArguments(plan="", bank="", output="", folds=2), training(tmp_path))
