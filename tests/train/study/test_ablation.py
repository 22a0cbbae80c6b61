"""The plan that ships, run on a tiny bank: which fits it makes, and what its report says."""

import csv
import json
from dataclasses import replace

import pytest
import yaml

from tests.train.tiny_bank import VIEWS
from tests.train.tiny_study import study, training
from train.__main__ import command_of
from train.features.bank import FeatureBank
from train.fit.options import HeadArguments
from train.parsing import parse
from train.study.banks import possible
from train.study.figures import FIGURES
from train.study.fits import Fit
from train.study.options import StudyArguments
from train.study.plan import SHIPPED, read_plan
from train.study.report import finding
from train.study.running import run_study

FULL = "CVaR + AUC + SAM"


def ablate(bank, folder, seeds, plan="ablation", **changes):
    arguments = StudyArguments(bank=str(bank), output=str(folder / "study"), plan=plan, folds=2, seeds=seeds)
    return run_study(arguments, HeadArguments(head_depth=1), training(folder, **changes), draws=10)


@pytest.fixture(scope="module")
def ablated(banks, tmp_path_factory):
    """Results and folder, of the bank with text."""
    folder = tmp_path_factory.mktemp("ablated")
    return ablate(banks["text"], folder, [0]), folder / "study"


def test_the_parts_change_only_the_loss_and_sam(banks, tmp_path):
    made, plan = study(banks["image"], tmp_path), read_plan(SHIPPED["ablation"])
    parts = [plan.cases[name] for name in plan.sections[0].cases if plan.cases[name].baseline is None]
    settings = {case.name: made._training(Fit(case, 4, (0,))) for case in parts}
    found = {name: (of.cvar_weight, of.cvar_alpha, of.sam_rho, of.seed) for name, of in settings.items()}
    assert found == {
        "BCE": (1.0, 1.0, 0.0, 4),
        "BCE + SAM": (1.0, 1.0, 0.05, 4),
        "CVaR": (1.0, 0.8, 0.0, 4),
        "CVaR + SAM": (1.0, 0.8, 0.05, 4),
        "AUC": (0.0, 0.8, 0.0, 4),
        "AUC + SAM": (0.0, 0.8, 0.05, 4),
        "CVaR + AUC": (0.5, 0.8, 0.0, 4),
        FULL: (0.5, 0.8, 0.05, 4),
    }
    assert {of.max_steps for of in settings.values()} == {2}


def test_the_report_has_every_section_and_figure(ablated):
    results, folder = ablated
    assert json.loads((folder / "results.json").read_text()) == results
    report = (folder / "report.md").read_text()
    for section in read_plan(SHIPPED["ablation"]).sections:
        assert f"## {section.title}" in report
    for name in (*FIGURES.values(), *results["cases"], "Same text: "):
        assert name.replace("_", r"\_") in report
    for plot in ("parts-of-the-recipe.png", "sensitivity.png", "slices.png", "planes.png"):
        assert (folder / plot).is_file()
        assert f"]({plot})" in report
    assert "Left out" not in report


def test_the_csv_has_the_same_numbers(ablated):
    results, folder = ablated
    table = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    rows = {(row["case"], row["of"], row["figure"]): row for row in table}
    figure = results["cases"][FULL]["figures"]["clean"]["auc"]
    row = rows[FULL, "clean", "auc"]
    assert (float(row["value"]), float(row["low"])) == (figure["value"], figure["interval"][0])
    pair = results["differences"][0]
    named = f"{pair['first']} minus {pair['second']}"
    assert float(rows[named, "clean", "auc"]["value"]) == pair["figures"]["auc"]["value"]


def test_settings_that_the_recipe_has_are_the_same_fits(ablated):
    """The recipe's own value of a setting is one of those of the sensitivity, fitted once and not compared."""
    results, folder = ablated
    assert results["same_fits"] == [["cvar_weight 0.5", FULL], ["cvar_alpha 0.8", FULL]]
    for name in ("cvar_weight 0.5", "image + text"):
        assert results["cases"][name]["figures"] == results["cases"][FULL]["figures"]
    # Of the sensitivity's ten, two are the recipe's own and two are parts; two heads are kept for their landscape.
    heads, baselines, sensitivity, ratios, inputs, landscape = 8 * 2, 2 * 2, 6 * 2, 6 * 2, 2 * 2, 2
    assert len(list((folder / "fits").iterdir())) == heads + baselines + sensitivity + ratios + inputs + landscape


def test_inputs_are_compared_also_where_the_text_is_the_same(ablated, banks):
    results, _ = ablated
    (section,) = (section for section in results["sections"] if section["same_text"])
    assert section["cases"] == ["image only", "text only", "image + text"]
    same = section["same_text"]
    assert set(same["figures"]) == set(section["cases"])
    bank = FeatureBank.load(banks["text"])
    rows = bank.rows[bank.rows["view"] == 0].assign(text=[str(row) for row in bank.text_embeds[::VIEWS].tolist()])
    captioned = rows[(bank.text_embeds[::VIEWS] != 0).any(dim=1).numpy()]
    shared = captioned.groupby("text")["label"].transform("nunique") == 2
    assert same["pictures"]["real"] == int((captioned[shared]["label"] == 0).sum())


def test_the_landscape_says_whether_sam_lies_flatter(ablated):
    results, folder = ablated
    heads = results["landscape"]["heads"]
    assert [(head["seed"], "grid" in head) for head in heads["CVaR + AUC"]] == [(0, True)]
    lower = sum(ours["rise"] < other["rise"] for ours, other in zip(heads[FULL], heads["CVaR + AUC"], strict=True))
    assert f"lower for the latter in {lower} of 1 seeds.\n" in (folder / "report.md").read_text()


def test_sections_that_need_text_are_left_out_where_there_is_none(banks):
    plan = read_plan(SHIPPED["ablation"])
    kept = possible(plan, FeatureBank.load(banks["image"]))
    assert set(plan.cases) - set(kept.cases) == {"image only", "text only", "image + text"}
    assert possible(plan, FeatureBank.load(banks["text"])) == plan
    *others, section = [section for section in plan.sections if section.needs_text]
    with_landscape = replace(section, landscape=section.cases[:1])
    sections = possible(replace(plan, sections=[*others, with_landscape]), FeatureBank.load(banks["image"])).sections
    assert [(section.cases, section.landscape) for section in sections] == [((), ())] * len(sections)


def test_the_report_says_what_bank_and_recipe_leave_out(banks, tmp_path):
    """A recipe without SAM is its own case without SAM."""
    cases = [{"name": "no SAM", "settings": {"sam_rho": 0.0}}, {"name": "full", "compared_with": ["no SAM", "probe"]}]
    cases.append({"name": "probe", "baseline": "logistic regression"})
    sections = [{"title": "Parts", "cases": cases}, {"title": "Text", "needs_text": True, "cases": ["full"]}]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"sections": sections}))
    results = ablate(banks["image"], tmp_path, [0], plan=str(tmp_path / "plan.yaml"), sam_rho=0.0)
    report = (tmp_path / "study" / "report.md").read_text()
    assert "## Text\n\nLeft out. The bank has no text." in report
    assert results["same_fits"] == [["full", "no SAM"]]
    assert "are the same fits, and so are not compared: full and no SAM." in report
    assert [(pair["first"], pair["second"]) for pair in results["differences"]] == [("full", "probe")]


@pytest.mark.parametrize("recipe", ["recommended", "reference"])
def test_the_command_takes_the_recipes_that_ship(recipe):
    flags = [f"train/recipes/{recipe}.yaml", "--bank", "b", "--output", "o", "--seeds", "3", "4", "--sam_rho", "0.1"]
    settings, head, training_arguments = parse(command_of(["ablate"]), flags)
    assert settings == StudyArguments(bank="b", output="o", seeds=[3, 4])
    assert head.head_depth == {"recommended": 1, "reference": 3}[recipe]
    assert (training_arguments.learning_rate, training_arguments.sam_rho) == (
        {"recommended": 3e-3}.get(recipe, 1e-3),
        0.1,
    )


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.001, 0.02], "SAM: **helps** in AUC 0.010 [0.001, 0.020] (2 of 3 seeds agree)."),
        ([-0.02, -0.001], "SAM: **hurts** in AUC 0.010 [-0.020, -0.001] (1 of 3 seeds agree)."),
        ([-0.01, 0.02], "**no evidence** that it helps or hurts, the interval of the difference includes 0 in AUC"),
        ([0.0, 0.0], "**no evidence**"),
    ],
)
def test_sentences_say_what_the_interval_says(interval, words):
    difference = {"value": 0.01, "interval": interval, "by_seed": [0.02, 0.01, -0.01]}
    assert words in finding("SAM", {"auc": difference, "tpr_at_1_percent_fpr": None})


def test_a_sentence_keeps_figures_that_disagree_apart():
    figures = {
        "auc": {"value": 0.01, "interval": [0.005, 0.02], "by_seed": [0.01]},
        "auc_within_groups": {"value": -0.01, "interval": [-0.02, -0.005], "by_seed": [-0.01]},
        "tpr_at_1_percent_fpr": {"value": 0.1, "interval": [-0.1, 0.3], "by_seed": [0.1]},
    }
    sentence = finding("SAM", figures)
    assert "**helps** in AUC 0.010" in sentence
    assert "**hurts** in AUC within groups -0.010" in sentence
    assert "includes 0 in TPR at 1 % FPR 0.100" in sentence
    assert "no evidence" not in sentence
    assert finding("SAM", {"auc": None}) == "SAM: not defined on these pictures."
