"""`fit --hold_out generator` and `date`: what is held out, what is found of it, and where that is said."""

import json

import pytest

from tests.train.described_bank import FAMILIES, write_described_bank
from tests.train.tiny_training import arguments
from train.fit.commands import fit_and_report
from train.fit.options import FitArguments
from train.report.evaluation_file import read_evaluation

SETTINGS = {"max_steps": 60, "per_device_train_batch_size": 64, "learning_rate": 1e-2}
BY_DATE = "held out by date: generated pictures of 2022-11, 2024-03; the {} of 120 without a date together"
BY_FAMILY = "held out by generator: each of 2 families of 20 or more pictures whole; the {} pictures of smaller"


@pytest.fixture
def fitted(backbone, tmp_path, capsys):
    """Evaluation, report, console and operating point of a fit."""
    bank = write_described_bank(tmp_path / "bank", backbone)

    def run(hold_out, folds):
        output = tmp_path / hold_out
        options = FitArguments(bank=str(bank), hold_out=hold_out, folds=folds, head_depth=1)
        fit_and_report(options, arguments(output, **SETTINGS))
        config = json.loads((output / "config.json").read_text())
        report = (output / "report" / "report.md").read_text()
        return read_evaluation(output), report, capsys.readouterr().out, config["operating_point"]

    return run


def test_what_no_fit_has_seen_is_not_found(fitted):
    """Found where each family and period was seen in other sources, and not where it was left out whole."""
    (known, *_), (families, *others), (dates, *of_dates) = (
        fitted("source", 3),
        fitted("generator", 0),
        fitted("date", 2),
    )
    assert known["auc"]["value"] > 0.9
    assert known["fit"]["families"] is None
    for evaluation in (families, dates):
        assert evaluation["auc"]["value"] < known["auc"]["value"] - 0.1
        for name, baseline in evaluation["fit"]["baselines"].items():
            assert baseline["auc"] < known["fit"]["baselines"][name]["auc"] - 0.1
    _is_said_everywhere(families, *others, BY_FAMILY)
    _is_said_everywhere(dates, *of_dates, BY_DATE)
    _has_families(families, *others)
    assert dates["fit"]["families"] is None
    assert "## Families" not in of_dates[0]


def _is_said_everywhere(evaluation, report, _, operating_point, protocol):
    small = next(row["pictures"] for row in evaluation["by_generator"] if row["generator"] == FAMILIES[2])
    assert evaluation["fit"]["protocol"].startswith(protocol.format(small))
    assert evaluation["fit"]["protocol"].endswith("; real pictures by source")
    assert f"Protocol: {evaluation['fit']['protocol']}." in report
    if operating_point is not None:
        assert operating_point["measured_on"] == evaluation["fit"]["protocol"]


def _has_families(evaluation, report, console, _):
    families = evaluation["fit"]["families"]
    found = families["by_family"]
    assert {row["family"] for row in found} == set(FAMILIES[:2])
    assert families["mean"] == pytest.approx(sum(row["found"] for row in found) / 2, abs=1e-6)
    section = report.partition("## Families of generators that no fit had seen")[2].partition("\n## ")[0]
    for row in found:
        assert f"| {row['family']} | {row['pictures']} |" in section
    said = f"mean of 2 families that no fit had seen: {100 * families['mean']:.1f} %; least of {found[0]['family']} "
    assert said in section
    assert said in console
