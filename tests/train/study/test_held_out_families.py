"""`compare --hold_out generator` and `date`: the fits, their figures, and what the report says of them."""

import pytest
import yaml

from tests.train.described_bank import FAMILIES, write_described_bank
from tests.train.tiny_study import training
from train.fit.options import HeadArguments
from train.measure.families import measure_families
from train.study.banks import load_bank
from train.study.options import StudyArguments
from train.study.plan import read_plan
from train.study.report import write_report
from train.study.running import Run

CASES = [{"name": "head", "compared_with": "probe"}, {"name": "probe", "baseline": "logistic regression"}]


@pytest.fixture(scope="module")
def bank(banks, tmp_path_factory):
    return write_described_bank(tmp_path_factory.mktemp("described") / "bank", banks["image"].parent / "vision")


@pytest.fixture
def compared(bank, tmp_path):
    """The run of a plan, its results, and the folder of its report."""

    def run(hold_out, **changes):
        plan = {"nested": True, "sections": [{"title": "Heads", "cases": CASES}]}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        plan = read_plan(tmp_path / "plan.yaml")
        folder = tmp_path / hold_out
        settings = StudyArguments(
            bank=str(bank), output=str(folder), plan="plan.yaml", hold_out=hold_out, seeds=[0, 1], **changes
        )
        made = Run(
            load_bank(str(bank), [], plan),
            plan,
            settings,
            HeadArguments(head_depth=1),
            training(folder, max_steps=10),
            10,
        )
        results = made.results()
        write_report(results, folder)
        return made, results, folder

    return run


def test_families_that_no_fit_has_seen_are_compared(compared):
    run, results, folder = compared("generator")
    report = (folder / "report.md").read_text()
    assert len(run.study.groups) == 3
    assert "held out by generator: each of 2 families of 20 or more pictures whole" in report
    rows = run.held_out["clean"].rows
    for name in ("head", "probe"):
        probability = run.answers(run.plan.cases[name]).probability[run.study.clean]
        by_seed = [measure_families(rows.assign(score=column)) for column in probability.T]
        families = results["cases"][name]["families"]
        assert {row["family"] for row in families["by_family"]} == set(FAMILIES[:2])
        assert families["mean"] == pytest.approx(sum(found["mean"] for found in by_seed) / len(by_seed))
        first, second = (row["found"] for row in families["by_family"])
        assert first <= second
        least = families["by_family"][0]
        said = f"{least['family']} ({least['pictures']}): {100 * least['found']:.1f} %"
        assert f"| {name} | {100 * families['mean']:.1f} % | {said} |" in report
    assert "| case | mean of 2 families |" in report
    assert results["cases"]["probe"]["figures"]["clean"]["auc"]["value"] < 0.8
    assert f"probe,family {FAMILIES[0]},tpr_at_2_percent_fpr," in (folder / "results.csv").read_text()


def test_periods_and_what_has_no_date_are_compared(compared):
    run, results, folder = compared("date", folds=2)
    report = (folder / "report.md").read_text()
    assert len(run.study.groups) == 3
    assert "held out by date: generated pictures of 2022-11, 2024-03; the " in report
    assert results["cases"]["head"]["families"] is None
    assert "Families" not in report
    known = compared("source", folds=3)[1]
    first, second = (found["cases"]["probe"]["figures"]["clean"]["auc"]["value"] for found in (results, known))
    assert first < 0.8 < 0.95 < second
