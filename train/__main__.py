"""`python -m train COMMAND`: from data to a published checkpoint. Each command has --help."""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec

from command_line import accept_any_name, clear_errors, log_to_stderr

from .data.options import CollectArguments, DataArguments
from .default.options import DefaultArguments
from .features.options import FeatureArguments
from .fit.options import FitArguments, HeadArguments, KnownDataArguments
from .options import CalibrateArguments, EvaluateArguments, MethodArguments, TrainerArguments
from .parsing import Command, nearest, parse
from .publish.options import ExportArguments, PublishArguments, PublishSpaceArguments
from .refit.options import RefitArguments
from .report.options import AuditArguments, CardArguments, ManifestArguments
from .score.options import PictureArguments, ScoreArguments
from .study.options import CompareArguments, StudyArguments

TRAINING = (MethodArguments, TrainerArguments)
# What the extra `train` brings beside requirements.txt: name of the module, and of the package.
PACKAGES = {
    "accelerate": "accelerate",
    "imagehash": "ImageHash",
    "markdown_it": "markdown-it-py",
    "matplotlib": "matplotlib",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tenacity": "tenacity",
}
# In the order of a first project. A name without options imports nothing heavy.
COMMANDS = (
    Command(
        "audit",
        "tell whether the files of a data set give its classes away, without a detector",
        "report.commands:audit",
        (DataArguments, AuditArguments),
        by_place=("data",),
        first=("data", "output", "schema"),
    ),
    Command(
        "features",
        "embed pictures and deliveries of them into a feature bank, once",
        "features.commands:features",
        (DataArguments, FeatureArguments),
        first=(
            "data",
            "output",
            "schema",
            "backbone",
            "views",
            "image_layers",
            "deliveries",
            "probed",
            "batch_size",
            "seed",
        ),
    ),
    Command(
        "fit",
        "fit a head on a feature bank, measure it by held-out sources, and write a checkpoint and a report",
        "fit.commands:fit_and_report",
        (FitArguments, *TRAINING),
        first=(
            "bank",
            "output_dir",
            "folds",
            "merge_sources",
            "image_layers",
            "head_depth",
            "head_width",
            "num_train_epochs",
            "per_device_train_batch_size",
            "learning_rate",
            "seed",
        ),
    ),
    Command(
        "known_data",
        "write what the fitted data looks like beside a head that is fitted already",
        "fit.commands:known_data",
        (KnownDataArguments,),
    ),
    Command(
        "evaluate",
        "measure a checkpoint on labelled pictures, and write a report",
        "evaluate:run",
        (EvaluateArguments, DataArguments),
        by_place=("checkpoint", "data"),
        first=("checkpoint", "data", "output", "schema", "probed", "training_bank"),
    ),
    Command(
        "refit",
        "correct a checkpoint by a few dozen labelled pictures of one's own, and judge whether it is better",
        "refit.commands:refit",
        (RefitArguments, DataArguments),
        by_place=("checkpoint", "data"),
        first=("checkpoint", "data", "output", "anyway", "merge_sources", "schema"),
    ),
    Command(
        "calibrate",
        "choose the threshold that keeps a false-alarm rate on one's own photographs",
        "calibrate:run",
        (CalibrateArguments,),
        by_place=("checkpoint", "data"),
    ),
    Command(
        "score",
        "judge any number of pictures, in many processes where wanted",
        "score.commands:score_pictures",
        (PictureArguments, ScoreArguments),
        by_place=("data", "output"),
        first=("data", "output", "model", "batch_size"),
    ),
    Command(
        "ablate",
        "measure what each part of the recipe is worth, on sources that no fit has seen",
        "study.commands:run_plan",
        (StudyArguments, HeadArguments, *TRAINING),
        first=("bank", "output", "folds", "seeds", "merge_sources", "num_train_epochs"),
    ),
    Command(
        "compare",
        "compare the cases of a plan, on sources that no fit has seen",
        "study.commands:run_plan",
        (CompareArguments, HeadArguments, *TRAINING),
        by_place=("plan",),
        first=("plan", "bank", "output", "folds", "seeds", "merge_sources", "num_train_epochs"),
    ),
    Command(
        "manifest",
        "write what a data set is: a line of facts a picture, its sources, and a page about it",
        "report.commands:manifest",
        (ManifestArguments,),
        by_place=("data", "output"),
    ),
    Command(
        "collect",
        "collect a data set again from its manifest, over the network",
        "data.commands:collect_set",
        (CollectArguments,),
        by_place=("manifest", "output"),
    ),
    Command(
        "default",
        "make the embedded default, or a detector of your own, from a folder of labelled files by one command",
        "default.commands:default",
        (DefaultArguments,),
        by_place=("data",),
    ),
    Command(
        "card",
        "write the model card, and the figures in documents, from what was measured",
        "report.commands:card",
        (CardArguments,),
    ),
    Command(
        "export",
        "write a checkpoint's graph for ONNX Runtime or OpenVINO",
        "publish.commands:export",
        (ExportArguments,),
        by_place=("checkpoint", "output"),
    ),
    Command(
        "publish",
        "put a checkpoint on the Hugging Face Hub, in one commit",
        "publish.commands:publish_model",
        (PublishArguments,),
        by_place=("checkpoint", "repo_id"),
    ),
    Command(
        "publish-space",
        "put the page on the Hugging Face Hub as a Space",
        "publish.commands:publish_page",
        (PublishSpaceArguments,),
        by_place=("repo_id",),
    ),
)


def command_of(arguments: list[str]) -> Command:
    """The command that is named first.

    Raises:
        SystemExit: there is none, or help was asked for.
    """
    width = max(len(command.name) for command in COMMANDS) + 2
    parser = argparse.ArgumentParser(
        prog="python -m train",
        usage="python -m train COMMAND [--help] [options]",
        description="From data to a published checkpoint.",
        epilog="commands:\n" + "\n".join(f"  {c.name:{width}}{c.summary}" for c in COMMANDS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", help="one of the commands below")
    name = parser.parse_args(arguments[:1]).command
    if name is None:
        parser.print_help(sys.stderr)
        sys.exit(2)
    for command in COMMANDS:
        if name in (command.name, command.name.replace("_", "-"), command.name.replace("-", "_")):
            return command
    names = [command.name for command in COMMANDS]
    parser.error(f"there is no command {name!r}{nearest(name, names) or ':'} the commands are {', '.join(names)}")


def run(command: Command, arguments: list[str]) -> None:
    """Parse the command's options and do what it says.

    Raises:
        ModuleNotFoundError: it needs a package of the extra `train`, which is not installed.
    """
    try:
        options = parse(command, arguments)
        module, function = command.run.split(":")
        getattr(import_module(f"train.{module}"), function)(*options)
    except ImportError:
        missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
        if not missing:
            raise
        raise ModuleNotFoundError(
            f"`python -m train {command.name}` needs {', '.join(missing)}: pip install 'robust-clip-detector[train]'."
        ) from None


@clear_errors()
def main() -> None:
    """Run one command."""
    command = command_of(sys.argv[1:])
    log_to_stderr("INFO")
    accept_any_name(sys.stdout)
    run(command, sys.argv[2:])


if __name__ == "__main__":
    main()
