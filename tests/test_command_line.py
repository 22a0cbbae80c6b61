"""Every command ends in a sentence, or quietly; a debug log shows the traceback."""

import os
import signal
import subprocess
import sys

import pytest

from tests.warm_python import ROOT

PROGRAM = """
import sys
from command_line import clear_errors, log_to_stderr

@clear_errors()
def main():
    log_to_stderr("INFO")
    {}

sys.exit(main())
"""


def run(body, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_an_expected_error_is_a_sentence_and_a_debug_log_shows_where_it_came_from():
    result = run("raise ValueError('`data` must be a folder.')")
    assert (result.returncode, result.stderr) == (1, "error: `data` must be a folder.\n")
    result = run("raise ValueError('`data` must be a folder.')", LOG_LEVEL="debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and result.stderr.endswith("error: `data` must be a folder.\n")


@pytest.mark.parametrize("level", ["", "verbose", "20"])
def test_a_log_level_meant_for_another_program_is_passed_over(level):
    assert run("return 0", LOG_LEVEL=level).returncode == 0


def test_a_bug_shows_its_traceback():
    result = run("raise KeyError('x')")
    assert result.returncode == 1 and "Traceback" in result.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_code_is_handed_on(code):
    assert run(f"return {code}").returncode == code


def test_control_c_is_quiet():
    result = run(f"import os; os.kill(os.getpid(), {int(signal.SIGINT)})")
    assert (result.returncode, result.stderr) == (130, "")


def test_a_closed_pipe_is_quiet():
    body = PROGRAM.format("[print('line') for _ in range(100_000)]")
    process = subprocess.Popen(
        [sys.executable, "-c", body], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141
