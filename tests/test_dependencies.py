"""What is declared is what is imported: requirements.txt for page and model, `train` for training beside it."""

import ast
import importlib.metadata
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from modeling.embedded import ROOT
from train.__main__ import PACKAGES

OURS = ("app", "command_line", "modeling", "robust_clip", "space", "train")
SERVING, TRAINING = ("app.py", "command_line.py", "modeling", "robust_clip.py", "space"), ("train",)
# Named for those who load data sets beside the page; training imports it.
NOT_OF_THE_PAGE = {"datasets"}
# Comes with gradio, whose version decides it.
WITH_GRADIO = {"fastapi", "httpx", "python-multipart", "starlette"}


def declared(lines):
    return {Requirement(line).name.lower() for line in lines if line and not line.startswith("#")}


def requirements():
    return declared((ROOT / "requirements.txt").read_text().splitlines())


def extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {name: declared(lines) for name, lines in project["optional-dependencies"].items()}


def imported(*names):
    """Names of the modules of others that the files import, wherever in the file."""
    paths = [
        path for name in names for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    modules = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.split(".")[0])
    return modules - set(sys.stdlib_module_names) - set(OURS)


def distributions(modules):
    known = importlib.metadata.packages_distributions()
    return {known[module][0].lower() for module in modules}


def test_requirements_are_what_the_page_and_the_model_import():
    optional = extras()["onnx"] | extras()["openvino"] | extras()["mcp"] - {"gradio"}
    assert distributions(imported(*SERVING)) - optional - WITH_GRADIO == requirements() - NOT_OF_THE_PAGE


def test_the_extra_for_training_is_what_training_imports_beside_them():
    optional = extras()["onnx"] | extras()["openvino"]
    assert distributions(imported(*TRAINING)) - requirements() - optional == extras()["train"]


@pytest.mark.parametrize("name", ["gradio", "transformers", "torch", "huggingface_hub", "safetensors", "datasets"])
def test_the_six_are_named(name):
    assert name in requirements()


def test_a_command_that_lacks_a_package_says_how_to_install_it(python, tmp_path):
    code = "import sys; sys.modules['accelerate'] = None; from train.__main__ import main; main()"
    result = python.run("-c", code, "features", "--data", "pictures", "--output", "bank", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "error: `python -m train features` needs accelerate: pip install 'robust-clip-detector[train]'.\n"
    )


def test_the_packages_that_a_command_names_are_of_the_extra():
    assert {package.lower() for package in PACKAGES.values()} <= extras()["train"]
    assert distributions(PACKAGES) == {package.lower() for package in PACKAGES.values()}
