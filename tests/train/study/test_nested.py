"""A nested plan on a tiny bank: what is left out of which fit, what is computed, and what the report says."""

import json

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from tests.train.tiny_bank import PICTURES, write_bank
from tests.train.tiny_study import training
from train.__main__ import command_of
from train.embedding_dataset import score_embeddings
from train.features.bank import FeatureBank
from train.fit.head import fit_head, new_model
from train.fit.options import HeadArguments
from train.measure.calibration import calibrate
from train.parsing import parse
from train.study.banks import check_bank, load_bank
from train.study.nested import Answers
from train.study.options import StudyArguments
from train.study.plan import CHOSEN, SHIPPED, read_plan
from train.study.running import Run, run_study

PLAN = {
    "nested": True,
    "deliveries": ["web", "hard"],
    "kinds": {"snapshots": ["s0", "s1"]},
    "recipe": {"learning_rate": 1e-2, "head_depth": 1},
    "sections": [
        {
            "title": "Heads",
            "cases": [
                {"name": "probe", "baseline": "logistic regression", "why": "What a linear rule\nreaches."},
                {"name": "head", "compared_with": "probe", "why": "The head."},
                {"name": "one view", "settings": {"sam_rho": 0.0}, "views": 1},
            ],
        }
    ],
}
VIEWS = ("clean", "web", "hard")


def write_plan(folder, **changes):
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN | changes))
    return str(folder / "plan.yaml")


def arguments(bank, folder, **changes):
    settings = {"folds": 3, "seeds": [0, 1], "bank": str(bank), "output": str(folder / "out")}
    return StudyArguments(plan=str(folder / "plan.yaml"), **(settings | changes))


@pytest.fixture(scope="module")
def compared(banks, tmp_path_factory):
    """Results, folder and the run itself, of three cases in three groups."""
    folder = tmp_path_factory.mktemp("compared")
    write_plan(folder)
    results = run_study(arguments(banks["image"], folder), HeadArguments(), training(folder, max_steps=4), draws=20)
    return results, folder, run_of(banks["image"], folder)


def run_of(bank, folder, **changes):
    plan = read_plan(folder / "plan.yaml")
    of_plan = load_bank(str(bank), [], plan)
    return Run(of_plan, plan, arguments(bank, folder, **changes), HeadArguments(), training(folder, max_steps=4), 20)


def test_answers_of_a_group_come_from_fits_that_never_saw_it(compared):
    """Inner fit, calibration and outer fit made again by hand, for one group."""
    _, folder, run = compared
    study, bank = run.study, run.study.banks[""]
    answers = run.answers(run.plan.cases["head"])
    model = new_model(bank, HeadArguments(head_depth=1))
    inner = np.full(len(bank), np.nan)
    for other in (0, 2):
        rows = np.flatnonzero((study.group == 2 - other) & (study.view >= 0))  # neither group 1 nor `other`
        fit_head(model, bank, rows, training(folder, max_steps=4, seed=0))
        held_out = np.flatnonzero((study.group == other) & (study.view == 0))
        inner[held_out] = score_embeddings(model, bank.image_embeds[held_out])
    known = np.flatnonzero(~np.isnan(inner))
    point = calibrate(bank.rows.assign(score=inner).iloc[known])
    rows = np.flatnonzero((study.group != 1) & (study.view >= 0))
    fit_head(model, bank, rows, training(folder, max_steps=4, seed=1))
    held_out = np.flatnonzero((study.group == 1) & (study.view <= 0))
    expected = point.probability(score_embeddings(model, bank.image_embeds[held_out]))
    np.testing.assert_allclose(answers.probability[held_out, 1], expected, rtol=1e-5)
    assert np.array_equal(answers.flagged[held_out, 1], answers.probability[held_out, 1] >= point.generated_threshold)


def test_figures_and_rates_are_those_of_the_answers(compared):
    results, _, run = compared
    answers, case = run.answers(run.plan.cases["head"]), results["cases"]["head"]
    rows = run.study.banks[""].rows
    for delivery in VIEWS:
        mask = (rows["delivery"] == delivery) & (rows["view"] <= 0)
        probability, flagged = answers.probability[mask], answers.flagged[mask]
        label = rows["label"][mask].to_numpy()
        assert len(label) == PICTURES
        auc, rates = case["figures"][delivery]["auc"], case["rates"]["views"][delivery]
        assert auc["value"] == pytest.approx(np.mean([roc_auc_score(label, column) for column in probability.T]))
        assert auc["interval"][0] <= auc["value"] <= auc["interval"][1]
        assert rates["tpr"]["value"] == pytest.approx(flagged[label == 1].mean())
        assert rates["fpr"]["value"] == pytest.approx(flagged[label == 0].mean())
    clean = (rows["delivery"] == "clean") & (rows["view"] == 0)
    snapshots = clean & rows["source"].isin(["s0", "s1"]) & (rows["label"] == 0)
    assert case["rates"]["fpr_by_kind"]["snapshots"] == pytest.approx(answers.flagged[snapshots].mean())
    assert set(case["rates"]["fpr_by_kind"]) == {"snapshots", "others"}
    (pair,) = results["differences"]
    for figure, difference in pair["figures"].items():
        first, second = (results["cases"][name]["figures"]["clean"][figure]["value"] for name in ("head", "probe"))
        assert difference["value"] == pytest.approx(first - second)


def test_what_is_chosen_is_the_best_by_inner_fits_and_answers_its_group(compared):
    results, _, run = compared
    rows, group = run.study.banks[""].rows, run.study.group
    chosen = results["nested"]["chosen"]
    for number, name in enumerate(chosen):
        best = {}
        for other, case in run.plan.cases.items():
            scores = run.nested.inner_scores(case, number)
            assert np.isnan(scores[group == number]).all()
            masks = [(rows["delivery"] == view) & (rows["view"] <= 0) & (group != number) for view in VIEWS]
            best[other] = np.mean([source_weighted_auc(rows[mask], scores[mask]) for mask in masks])
        assert best[name] == pytest.approx(max(best["head"], best["one view"]))  # a baseline is never chosen
        assert {other: found[number] for other, found in results["nested"]["inner_auc"].items()} == pytest.approx(best)
    judged = {name: run.answers(case) for name, case in run.plan.cases.items()}
    together = run.nested.assemble(judged, ["probe", "head", "probe"])
    held_out = run.study.scored_rows((1,))
    assert np.array_equal(together.probability[held_out], judged["head"].probability[held_out])


def test_what_is_reported_of_the_whole_is_what_the_first_seed_says(compared):
    results, _, run = compared
    found, clean = results["nested"]["reported"], run.study.clean
    judged = {name: run.answers(case) for name, case in run.plan.cases.items()}
    whole = run.nested.assemble(judged, found["chosen"])
    labels, sources = run.study.labels[clean], run.study.sources[clean]
    for case, answers in ((found["case"], whole), (found["baseline_case"], judged["probe"])):
        probability = answers.probability[clean, 0]
        assert case["figures"]["auc"]["value"] == pytest.approx(roc_auc_score(labels, probability))
        real, threshold = np.sort(probability[labels == 0])[::-1], int(0.02 * (labels == 0).sum())
        found_at_2 = (probability[labels == 1] > real[threshold]).mean()
        assert case["figures"]["tpr_at_2_percent_fpr"]["value"] == pytest.approx(found_at_2)
        assert case["figures"]["tpr_at_2_percent_fpr_source_weighted"] != case["figures"]["tpr_at_2_percent_fpr"]
        for label, name in enumerate(("real", "generated")):
            shares = {verdict: figure["value"] for verdict, figure in case["verdicts"][name].items()}
            assert sum(shares.values()) == pytest.approx(1)
            assert shares["generated"] == pytest.approx(answers.flagged[clean, 0][labels == label].mean())
            assert shares["real"] == pytest.approx(answers.passed[clean, 0][labels == label].mean())
        assert case["uncalibrated_groups"] == []
        (family,) = case["by_family"]
        assert (family["name"], family["pictures"]) == ("G", PICTURES // 2)
        assert family["called_generated"] == pytest.approx(case["verdicts"]["generated"]["generated"]["value"])
        assert {(row["class"], row["name"]) for row in case["by_kind"]} >= {("real", "people"), ("real", "animal")}
    expected = [case["figures"]["auc"]["value"] for case in (found["case"], found["baseline_case"])]
    assert found["differences"]["auc"]["value"] == pytest.approx(expected[0] - expected[1])
    assert found["baseline"] == "probe"
    assert "the choice among 2 ways to fit, come from fits that saw neither it" in found["protocol"]
    assert len(set(sources)) == 10


def test_the_plan_that_ships_has_the_recipe_and_a_baseline_and_counts_families(banks, tmp_path):
    bank = FeatureBank.load(banks["image"])
    bank.rows["family"] = np.where(bank.rows["label"] == 1, bank.rows["source"], "")
    plan = read_plan(SHIPPED["nested"])
    settings = arguments(banks["image"], tmp_path, seeds=[0])
    found = Run(bank, plan, settings, HeadArguments(), training(tmp_path), 5).results()["nested"]["reported"]
    assert set(found["chosen"]) == {"recipe"}
    assert "There is one way to fit, so nothing was left to choose" in found["protocol"]
    rows = found["case"]["by_family"]
    assert [(row["name"], row["class"], row["pictures"]) for row in rows] == [
        (f"s{k}", "generated", 24) for k in range(5, 10)
    ]
    called = np.average([row["called_generated"] for row in rows])
    assert called == pytest.approx(found["case"]["verdicts"]["generated"]["generated"]["value"])


def test_cases_of_fewer_seeds_answer_together_with_others(compared):
    _, _, run = compared
    shape = (len(run.study.view), 1)
    judged = {
        name: Answers(np.tile(np.arange(seeds) / 10, shape), *np.ones((2, shape[0], seeds), dtype=bool))
        for name, seeds in (("one", 1), ("two", 2), ("three", 3))
    }
    for chosen, seeds in (("one two three", 2), ("one three one", 3), ("one one one", 1)):
        together = run.nested.assemble(judged, chosen.split())
        assert together.probability.shape == together.flagged.shape == (shape[0], seeds)
        held_out = run.study.scored_rows((1,))
        assert together.probability[held_out[0]].tolist() == [0.0, 0.1, 0.2][:seeds]


def source_weighted_auc(rows, scores):
    """AUC in which sources of a class weigh the same, and those of fewer than five pictures less, by scikit-learn."""
    counts = rows.groupby(["label", "source"])["source"].transform("size")
    return roc_auc_score(rows["label"], scores, sample_weight=counts.clip(upper=5) / counts)


def test_deliveries_of_some_pictures_of_each_source_are_enough(banks, compared, tmp_path):
    """Whose figures are then of these pictures, in whatever order their rows lie."""
    probe = {"name": "probe", "baseline": "logistic regression"}
    write_plan(tmp_path, sections=[{"title": "One", "cases": [probe]}])
    bank = FeatureBank.load(banks["image"])
    rows = bank.rows
    probed = set(rows[rows["view"] == 0].groupby(["source", "label"]).head(2)["record_id"])
    kept = (rows["view"] >= 0) | (rows["record_id"].isin(probed) & (rows["delivery"] != "blur_1"))
    bank = bank.select(kept.to_numpy())
    order = np.random.default_rng(0).permutation(len(bank))
    bank = FeatureBank(bank.rows.iloc[order].reset_index(drop=True), bank.image_embeds[order], None, bank.info)
    settings = arguments(banks["image"], tmp_path, seeds=[0])
    run = Run(bank, read_plan(tmp_path / "plan.yaml"), settings, HeadArguments(), training(tmp_path), 5)
    run.study.make(run.fits())
    case = run.plan.cases["probe"]
    answers = run.answers(case)
    rows = bank.rows.assign(probability=answers.probability[:, 0])
    hard = rows[rows["delivery"] == "hard"]
    assert len(hard) == len(probed) < PICTURES
    figure = run.measure(case, answers)["figures"]["hard"]["auc"]
    assert figure["value"] == pytest.approx(roc_auc_score(hard["label"], hard["probability"]))
    inner = run.nested.inner_scores(case, 1)
    masks = [(rows["delivery"] == view) & (rows["view"] <= 0) & (run.study.group != 1) for view in VIEWS]
    expected = np.mean([source_weighted_auc(rows[mask], inner[mask]) for mask in masks])
    assert run.nested.inner_auc(case)[1] == pytest.approx(expected)


def test_the_report_has_every_case(compared):
    results, folder, _ = compared
    assert json.loads((folder / "out" / "results.json").read_text()) == results
    text = (folder / "out" / "report.md").read_text()
    for name in ("probe", "head", "one view", CHOSEN, "What a linear rule reaches.", "FPR, snapshots", "TPR, hard"):
        assert name in text
    lines = (folder / "out" / "results.csv").read_text().splitlines()
    value = results["cases"]["one view"]["rates"]["views"]["hard"]["tpr"]["value"]
    assert any(line.startswith(f"one view,hard,tpr,{value},") for line in lines)
    auc = results["cases"]["one view"]["figures"]["hard"]["auc"]
    assert f"one view,hard,auc,{auc['value']},{auc['interval'][0]},{auc['interval'][1]},{auc['seed_sd']}" in lines
    inner, outer = 3 * 3, 3 + 2 * 6  # pairs of three cases; the probe's outer fits, and two heads' by seed
    assert len(list((folder / "out" / "fits").iterdir())) == inner + outer


def test_backbones_are_compared_on_the_same_views(banks, tmp_path):
    other = write_bank(tmp_path / "other", banks["image"].parent / "vision", text=False, deliveries=("web", "hard"))
    embeds = np.load(other / "image_embeds.npy")
    np.save(other / "image_embeds.npy", np.tanh(embeds))
    info = json.loads((other / "bank.json").read_text())
    (other / "bank.json").write_text(json.dumps(info | {"fingerprint": "another"}))
    probe = {"baseline": "logistic regression"}
    cases = [{"name": "x"} | probe, {"name": "y", "bank": str(other)} | probe]
    write_plan(tmp_path, sections=[{"title": "Backbones", "cases": cases}])
    results = run_study(arguments(banks["image"], tmp_path), HeadArguments(), training(tmp_path), draws=5)
    assert len(list((tmp_path / "out" / "fits").iterdir())) == 2 * (3 + 3)
    write_plan(tmp_path, sections=[{"title": "One", "cases": cases[:1]}])
    alone = run_study(arguments(other, tmp_path), HeadArguments(), training(tmp_path), draws=5)
    there = results["cases"]["y"]["figures"]["clean"]["auc"]
    assert alone["cases"]["x"]["figures"]["clean"]["auc"] == there != results["cases"]["x"]["figures"]["clean"]["auc"]
    write_bank(tmp_path / "fewer", banks["image"].parent / "vision", text=False, deliveries=("hard", "web"))
    cases[1]["bank"] = str(tmp_path / "fewer")
    write_plan(tmp_path, sections=[{"title": "Backbones", "cases": cases}])
    with pytest.raises(ValueError, match="must hold the same views of the same pictures"):
        run_study(arguments(banks["image"], tmp_path), HeadArguments(), training(tmp_path))


def test_the_command_takes_a_plan_by_place_and_a_recipe_after_it(tmp_path):
    plan, rest = write_plan(tmp_path), ["--bank", "b", "--output", "o"]
    settings, head, _ = parse(command_of(["compare"]), [plan, "train/recipes/recommended.yaml", *rest])
    assert (settings.plan, head.head_width) == (plan, 256)
    settings, head, training_arguments = parse(command_of(["compare"]), [plan, *rest])
    assert (settings.plan, head.head_width) == (plan, None)
    with pytest.raises(ValueError, match="is no feature bank"):
        run_study(settings, head, training_arguments)


@pytest.mark.parametrize(
    ("plan", "changes", "message"),
    [
        ({}, {"folds": 2}, "A nested plan leaves two groups out together and needs 3 or more, got 2"),
        ({}, {"hold_out": "date"}, "The bank has no dates of its generated pictures: make it again by `features`"),
        ({}, {"seeds": []}, "`seeds` must be at least one number"),
        ({}, {"seeds": [1, 1]}, "each once"),
        ({"kinds": {"snapshots": ["s99"]}}, {}, "snapshots must hold real sources of the bank, got .'s99'."),
        ({"deliveries": ["thumbnail"]}, {}, "11 of the bank's sources have no picture under thumbnail: make the bank"),
        ({"sections": [{"title": "x", "cases": [{"name": "x", "inputs": "text"}]}]}, {}, "the bank has no text"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused(banks, tmp_path, plan, changes, message):
    write_plan(tmp_path, **plan)
    with pytest.raises(ValueError, match=message):
        run_study(arguments(banks["image"], tmp_path, **changes), HeadArguments(), training(tmp_path))


def test_near_duplicates_in_two_sources_are_refused(banks, tmp_path):
    write_plan(tmp_path)
    bank = FeatureBank.load(banks["image"])
    bank.rows.loc[bank.rows["record_id"] == "p1", "perceptual_hash"] = bank.rows["perceptual_hash"][0]
    with pytest.raises(ValueError, match="1 near-duplicates lie in two sources"):
        check_bank(bank, read_plan(tmp_path / "plan.yaml"))
