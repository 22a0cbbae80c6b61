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


@pytest.mark.parametrize("bug", ["raise KeyError('x')", "import json; json.loads('no JSON')"])
def test_a_bug_is_a_sentence_too_and_its_traceback_is_kept(bug, tmp_path):
    result = run(bug, TMPDIR=str(tmp_path))
    (log,) = tmp_path.iterdir()
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(("error: KeyError: 'x'. ", "error: JSONDecodeError: Expecting value"))
    assert result.stderr.endswith(f"report it with {log}, which holds the traceback.\n")
    assert "Traceback (most recent call last)" in log.read_text() and "Error: " in log.read_text()


def test_a_bug_shows_its_traceback_where_it_cannot_be_kept(tmp_path):
    body = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'gone')!r}; raise KeyError('x')"
    result = run(body)
    assert result.returncode == 1 and "error: KeyError: 'x'. The traceback:" in result.stderr


def test_what_is_not_installed_is_named():
    result = run("import no_such_package")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: The package no_such_package is not installed: pip install -r requirements")


FULL = "There is no room left on the disk"


def test_a_full_disk_is_said_of_what_is_printed():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM.format("print('a row')")], cwd=ROOT, stdout=full, stderr=subprocess.PIPE
        )
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"error: {FULL}: free some") and result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "write",
    [
        "pathlib.Path(folder, 'x').write_bytes(bytes(100_000))",
        "files.write_text(pathlib.Path(folder, 'x'), 100_000 * 'x')",
        "safetensors.torch.save_file({'x': torch.zeros(100_000)}, folder + '/x')",
        "pyarrow.parquet.write_table(pyarrow.table({'x': numpy.random.rand(100_000)}), folder + '/x')",
    ],
)
def test_a_full_disk_is_said_of_what_is_written(python, write, tmp_path):
    """A file may take no more than 10,000 bytes, which a program meets as it does a full disk."""
    imports = (
        "import pathlib, resource, numpy, pyarrow.parquet, safetensors.torch, torch; from modeling import files; "
    )
    limit = f"folder = {str(tmp_path)!r}; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); "
    result = python.run("-c", PROGRAM.format(imports + limit + write))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith(f"error: {FULL}")


def test_an_error_of_the_system_is_said_without_its_number(tmp_path):
    result = run(f"open({str(tmp_path / 'nowhere')!r})")
    assert result.stderr == f"error: No such file or directory: {tmp_path / 'nowhere'}.\n"


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
