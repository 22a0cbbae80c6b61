"""`python -m train`: options by flag, place and file; help and errors at once, in a sentence."""

import json
import subprocess
import sys
from dataclasses import fields
from importlib import import_module

import pytest

from tests.warm_python import ROOT
from train.__main__ import COMMANDS, TRAINING, command_of
from train.arguments import RobustTrainingArguments
from train.data.options import DataArguments
from train.fit.options import FitArguments
from train.options import EvaluateArguments
from train.parsing import parse

NAMES = [command.name for command in COMMANDS]
# Runs commands as `python -m train` would, then says which of the heavy packages were imported.
LIGHT = """
import contextlib, io, json, runpy, sys

ends = []
for arguments in json.loads(sys.argv[1]):
    output = io.StringIO()
    sys.argv = ["train", *arguments]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            runpy.run_module("train", run_name="__main__")
        except SystemExit as end:
            ends.append([end.code, output.getvalue()])
heavy = {"torch", "transformers", "datasets", "gradio", "accelerate", "pandas", "numpy", "sklearn", "modeling"}
print(json.dumps([ends, sorted(heavy & sys.modules.keys())]))
"""


WRONG_VALUES = {
    ("--target_fpr", "2"): "`target_fpr` is a share and must be in (0, 1), got 2.0.",
    ("--lr_scheduler_kwargs", "{min_lr"): "--lr_scheduler_kwargs: expected a JSON object",
}


@pytest.fixture(scope="module")
def answers():
    """What help and mistakes print, by their arguments."""
    calls = [["--help"], [], ["fti"], *([name, "--help"] for name in NAMES)]
    calls += [["score", "pictures"], ["publish", "a", "b", "--publc"], ["fit", "--bank", "b", "--folds", "x"]]
    calls += [["fit", "--bnak", "b"], ["fit", "no.yaml"], ["compare", "--bank", "b", "--output", "o"]]
    calls += [["fit", "--bank", "b", "--output_dir", "o", *wrong] for wrong in WRONG_VALUES]
    result = subprocess.run(
        [sys.executable, "-W", "ignore::RuntimeWarning", "-c", LIGHT, json.dumps(calls)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ends, heavy = json.loads(result.stdout)
    assert heavy == [], "help and errors must not import these"
    return {" ".join(call): end for call, end in zip(calls, ends, strict=True)}


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_a_wrong_value_is_named_with_what_was_expected(answers, wrong):
    code, text = answers[" ".join(["fit", "--bank", "b", "--output_dir", "o", *wrong])]
    assert WRONG_VALUES[wrong] in f"{text}{code}" and "Traceback" not in text


def test_the_list_says_what_each_command_does(answers):
    code, text = answers["--help"]
    assert code == 0
    for command in COMMANDS:
        assert f"  {command.name} " in text and command.summary in text
    assert answers[""][0] == 2 and "publish-space" in answers[""][1]


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_every_option_once_and_calls_no_default_none(name, answers):
    code, text = answers[f"{name} --help"]
    assert code == 0
    assert "default: None" not in " ".join(text.split())
    command = command_of([name])
    for option in {option.name for cls in command.options for option in fields(cls)}:
        assert text.count(f"\n  --{option} ") + text.count(f"\n  --{option}\n") == 1
    if command.by_place:
        assert f"usage: python -m train {name} {' '.join(map(str.upper, command.by_place))}" in text


def test_help_lists_first_what_matters_first(answers):
    text = answers["fit --help"][1]
    options = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert options[:2] == ["--bank", "--output_dir"]
    assert text.index("Main options:") < text.index("--learning_rate") < text.index("What to fit")
    assert "--logging_steps" not in text


@pytest.mark.parametrize(
    ("call", "code", "sentence"),
    [
        ("fti", 2, "there is no command 'fti'; did you mean fit?"),
        ("score pictures", 2, "'pictures' is not expected here"),
        ("publish a b --publc", 2, "there is no option --publc; did you mean --public?"),
        ("fit --bank b --folds x", 2, "argument --folds: invalid int value: 'x'"),
        ("fit --bnak b", 2, "missing: --bank; unknown: --bnak b"),
    ],
)
def test_a_mistake_is_named_with_what_may_be_meant(call, code, sentence, answers):
    assert answers[call][0] == code
    assert sentence in answers[call][1]


def test_a_file_that_is_not_there_is_an_error_in_a_sentence(answers):
    assert "missing: --plan\n" in answers["compare --bank b --output o"][1]
    assert answers["fit no.yaml"][0] == "error: No such file or directory: no.yaml."


def test_every_command_has_what_it_runs():
    for command in COMMANDS:
        module, function = command.run.split(":")
        assert callable(getattr(import_module(f"train.{module}"), function))
        assert set(command.first) | set(command.by_place) <= {o.name for cls in command.options for o in fields(cls)}


def test_values_by_place_are_values_by_name():
    by_place = parse(command_of(["evaluate"]), ["a", "b", "--output", "c", "--probed=2"])
    flags = ["--data", "b", "--checkpoint", "a", "--probed", "2", "--output", "c"]
    by_name = parse(command_of(["evaluate"]), flags)
    assert by_place == by_name == [EvaluateArguments("c", "a", 2), DataArguments("b")]


def test_a_file_is_read_and_flags_override_it(tmp_path):
    (tmp_path / "fit.yaml").write_text(
        "bank: b\nlearning_rate: 1e-2\nimage_layers: [1, 2]\nstratified: true\nhead_width: null\nlogging_steps: 3\n"
        "lr_scheduler_kwargs: {min_lr: 1.0e-6}\nreal_share: 0.4\n"
    )
    arguments, training = parse(command_of(["fit"]), [f"{tmp_path}/fit.yaml", "--real_share", "0.3"])
    assert arguments == FitArguments(bank="b", image_layers=[1, 2])
    assert (training.learning_rate, training.stratified, training.real_share) == (0.01, True, 0.3)
    assert (training.logging_steps, training.lr_scheduler_kwargs) == (3, {"min_lr": 1e-6})


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "3"])
def test_a_file_without_settings_is_refused(text, tmp_path):
    (tmp_path / "fit.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"fit\.yaml (must hold|is no YAML)"):
        parse(command_of(["fit"]), [f"{tmp_path}/fit.yaml"])


def test_an_option_that_only_transformers_has_is_taken_and_a_typo_of_it_named(capsys):
    given = ["--bank", "b", "--logging_steps", "7", "--no_hub_private_repo"]
    _, training = parse(command_of(["fit"]), given)
    assert (training.logging_steps, training.hub_private_repo) == (7, False)
    with pytest.raises(SystemExit):
        parse(command_of(["fit"]), ["--bank", "b", "--logging_stepz", "7"])
    assert "there is no option --logging_stepz; did you mean --logging_steps?" in capsys.readouterr().err


def test_help_all_lists_what_transformers_has_too(capsys):
    with pytest.raises(SystemExit) as end:
        parse(command_of(["fit"]), ["--help_all"])
    assert end.value.code == 0
    assert "--logging_steps" in capsys.readouterr().out


def test_our_list_of_training_arguments_is_what_the_class_has():
    defaults = {option.name: option for option in fields(RobustTrainingArguments)}
    for option in (option for cls in TRAINING for option in fields(cls)):
        assert defaults[option.name].default == option.default
        assert defaults[option.name].metadata == option.metadata
