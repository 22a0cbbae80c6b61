"""evaluation.json is read as it was written, and what is not one is refused in a sentence."""

import json

import pytest

from modeling.embedded import DEFAULT_SOURCE
from tests.train.scored_pictures import evaluated, views
from train.measure.schema import VERSION
from train.report.evaluation_file import EVALUATION_FILE, as_written, read_evaluation, write_evaluation


@pytest.fixture(scope="module")
def evaluation():
    return evaluated(views(shift=1.0))[0]


def test_what_was_written_is_read(evaluation, tmp_path):
    write_evaluation(tmp_path / "new", evaluation)
    assert read_evaluation(tmp_path / "new") == as_written(evaluation)
    assert read_evaluation(tmp_path / "new" / EVALUATION_FILE) == as_written(evaluation)
    assert as_written(evaluation)["auc"]["value"] == round(evaluation["auc"]["value"], 6)


def test_the_committed_evaluation_is_of_this_version():
    assert read_evaluation(DEFAULT_SOURCE)["fit"] is not None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: e.pop("version"), f"must be an evaluation of version {VERSION}, got version None"),
        (lambda e: e.update(version=1), f"of version {VERSION}, got version 1"),
        (lambda e: e.pop("auc"), "auc is missing"),
        (lambda e: e.update(oracle=1), "oracle is unknown"),
        (lambda e: e["pictures"].pop("real"), "pictures.real is missing"),
        (lambda e: e["verdicts"]["generated"]["real"].update(value=True), "verdicts.generated.real.value is True"),
        (lambda e: e["by_generator"][1].update({"class": "fake"}), r"by_generator\[1\].class is 'fake'"),
        (lambda e: e["by_source"][0].update(wrong_interval=[0, "1"]), r"by_source\[0\].wrong_interval\[1\] is '1'"),
        (lambda e: e["made_by"].update(git_commit=3), "made_by.git_commit is 3"),
        (lambda e: e.update(robustness=[]), "robustness is list instead of fields"),
        (lambda e: e.update(by_style={}), "by_style is dict instead of a list"),
        (lambda e: e["bias_audit"]["duplicates"].update(examples=[["a", "b"]]), r"examples\[0\] has 2 items instead"),
    ],
)
def test_another_file_is_refused_with_what_to_do(change, expected, evaluation, tmp_path):
    write_evaluation(tmp_path, evaluation)
    content = json.loads((tmp_path / EVALUATION_FILE).read_text())
    change(content)
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{expected}.*: make it again with `python -m train fit`"):
        read_evaluation(tmp_path)


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / EVALUATION_FILE).write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        read_evaluation(tmp_path)


def test_nothing_is_written_that_could_not_be_read(evaluation, tmp_path):
    write_evaluation(tmp_path, evaluation)
    before = (tmp_path / EVALUATION_FILE).read_bytes()
    with pytest.raises(ValueError, match="but fit is missing"):
        write_evaluation(tmp_path, {name: value for name, value in evaluation.items() if name != "fit"})
    with pytest.raises(ValueError, match="JSON"):
        write_evaluation(tmp_path, evaluation | {"auc": {"value": float("nan"), "interval": None}})
    assert (tmp_path / EVALUATION_FILE).read_bytes() == before
