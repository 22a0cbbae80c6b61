"""The model card: what it says is what was measured.

Figures come from evaluation.json, facts of the model from config.json, and what only a person can say (licences, what
the failures look like) from card.yaml beside them; without it the card says only what is true of every checkpoint.
"""

import json
import re
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from modeling import RobustClipConfig
from modeling.embedded import CARD_FILE
from modeling.files import write_text
from modeling.verdicts import CLASSES, GENERATED, REAL

from ..measure.schema import Evaluation, Figure, FitFacts
from ..measure.set_aside import set_aside_facts
from ..measure.sources import FULL_SOURCE
from ..parsing import read_yaml
from .audit import audit_finding
from .contents import content_tables
from .evaluation_file import read_evaluation
from .markdown import cell, number, percent, share, share_and_interval, table
from .nested import nested_table
from .release import release_sentence
from .text import by_input
from .thresholds import answers_table, rules_text, uncertain_sentence
from .verdicts import NOT_CALIBRATED, VERDICT_HEADER, verdict_rows, worst_sentences

NOTES_FILE = "card.yaml"
# What card.yaml may say; the template has words of its own for each that is missing.
NOTES: tuple[str, ...] = (
    "title",
    "version",
    "license",
    "base_model",
    "dataset",
    "out_of_scope",
    "model",
    "data",
    "baselines",
    "failures",
)
NOTES += ("limits", "compute", "reproduce")
# `model_type` of an image tower -> what the card calls it.
_TOWER_NAMES = {
    "clip_vision_model": "CLIP",
    "metaclip_2_vision_model": "MetaCLIP 2",
    "siglip_vision_model": "SigLIP",
    "dinov2": "DINOv2",
    "dinov2_with_registers": "DINOv2",
    "dinov3_vit": "DINOv3",
}
DEFAULT_TITLE = "Detector of AI-generated images"
TAGS = ["ai-generated-image-detection", "clip", "robust_clip"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def write_card(folder: Path, notes: dict | None) -> None:
    """Write README.md into a folder that holds config.json and evaluation.json."""
    write_text(folder / CARD_FILE, folder_card(folder, notes))


def read_notes(folder: Path) -> dict | None:
    """What card.yaml in the folder says, `None` where there is none.

    Raises:
        ValueError: it does not hold `name: value` lines, or has a name that is not among `NOTES`.
    """
    path = folder / NOTES_FILE
    if not path.is_file():
        return None
    notes = read_yaml(path)
    if unknown := sorted(set(notes) - set(NOTES)):
        raise ValueError(f"{path} must hold only {', '.join(NOTES)}, got {', '.join(unknown)}.")
    return notes


def folder_card(folder: Path, notes: dict | None) -> str:
    """The card of a folder that holds config.json and evaluation.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return model_card(read_evaluation(folder), config, notes, set_aside_facts(folder))


def model_card(
    evaluation: Evaluation, config: RobustClipConfig | dict, notes: dict | None, set_aside: dict | None = None
) -> str:
    """The whole card: Hugging Face metadata with a model index, then the text.

    Args:
        evaluation: as `fit` wrote it.
        config: of the checkpoint.
        notes: as `read_notes` gives them.
        set_aside: as `set_aside_facts` gives them.

    Raises:
        ValueError: the evaluation is not one that `fit` wrote, or has other thresholds than the configuration.
    """
    fit = fit_facts(evaluation)
    config = config if isinstance(config, dict) else config.to_dict()
    for name, measured in evaluation["thresholds"].items():
        if abs(measured - (shipped := config[f"{name}_threshold"])) > 1e-5:
            raise ValueError(
                f"The evaluation must be of this checkpoint: it has the threshold {measured:.6f} for {name!r}, the "
                f"configuration {shipped:.6f}."
            )
    notes = notes or {}
    return (
        card_templates()
        .get_template("model_card.md")
        .render(
            metadata=_metadata(evaluation, config, notes).to_yaml(),
            release=release_sentence(evaluation, notes),
            notes=notes,
            config=config,
            backbone=hub_name(config),
            tower=_TOWER_NAMES[config["vision_config"]["model_type"]],
            figures=figures_table(evaluation),
            verdicts=table(VERDICT_HEADER, verdict_rows(fit["verdicts"])),
            uncertain=uncertain_sentence(fit["verdicts"], evaluation["pictures"], "at these thresholds"),
            answers=None if fit["answers"] is None else answers_table(fit["answers"]),
            rules=rules_text(fit, evaluation["pictures"]),
            baselines=_baselines_table(fit),
            worst=worst_sentences(evaluation["worst"]),
            by_input=by_input,
            finding=audit_finding(evaluation["bias_audit"]),
            evaluation=evaluation,
            fit=fit,
            settings=fit["arguments"],
            made_by=evaluation["made_by"],
            classes=CLASSES,
            full_source=FULL_SOURCE,
            set_aside=set_aside,
            contents=content_tables(evaluation),
            not_calibrated=NOT_CALIBRATED,
        )
    )


def _metadata(evaluation: Evaluation, config: dict, notes: dict) -> ModelCardData:
    """What the Hub reads: licence, base model, tags, and the main figures as a model index."""
    metrics: list[tuple[str, str, Figure | None]] = [
        ("roc_auc", "ROC AUC", evaluation["auc"]),
        ("roc_auc", "ROC AUC, source-weighted", evaluation["source_weighted"]["auc"]),
        ("average_precision", "Average precision", evaluation["average_precision"]),
        ("false_positive_rate", "FPR at the operating point", _called_generated(evaluation, REAL)),
        ("recall", "TPR at the operating point", _called_generated(evaluation, GENERATED)),
        *(
            ("expected_calibration_error", f"Expected calibration error{of}", weighted["expected_calibration_error"])
            for of, weighted in (("", evaluation["plain"]), (", source-weighted", evaluation["source_weighted"]))
        ),
    ]
    dataset = notes.get("dataset", {"name": "Pictures of held-out sources", "type": "custom"})
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Detection of AI-generated images",
            dataset_type=dataset["type"],
            dataset_name=dataset["name"],
            metric_type=kind,
            metric_name=name,
            metric_value=figure["value"],
            metric_args={"interval_95": figure["interval"]} if figure["interval"] else None,
        )
        for kind, name, figure in metrics
        if figure is not None
    ]
    return ModelCardData(
        license=notes.get("license"),
        library_name="transformers",
        pipeline_tag="image-classification",
        base_model=notes.get("base_model") or hub_name(config),
        tags=TAGS,
        model_name=notes.get("title", DEFAULT_TITLE),
        eval_results=results,
    )


def card_templates() -> Environment:
    """The Markdown templates of this folder, and the filters that write figures."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML: names go through `cell`
    )
    environment.filters |= {"number": number, "percent": percent, "share": share, "cell": cell, "yaml": _yaml}
    environment.globals["share_and_interval"] = share_and_interval
    return environment


def hub_name(config: dict) -> str | None:
    """The backbone's Hub id; `None` for a folder, whose path is nobody else's business."""
    name = config.get("backbone_name") or ""
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def fit_facts(evaluation: Evaluation) -> FitFacts:
    """What `fit` alone knows.

    Raises:
        ValueError: the evaluation is one that `evaluate` wrote.
    """
    if (fit := evaluation["fit"]) is None:
        raise ValueError("The evaluation must be one that `fit` wrote: it has no figures held out by source.")
    return fit


def _called_generated(evaluation: Evaluation, name: str) -> Figure | None:
    """Share of a class called generated, by thresholds of the other folds."""
    shares = fit_facts(evaluation)["verdicts"][name]
    return None if shares is None else shares[GENERATED]


def figures_table(evaluation: Evaluation) -> str:
    """Markdown: the protocol, the counts, and the main figures with their 95 % intervals."""
    fit, pictures, sources = fit_facts(evaluation), evaluation["pictures"], evaluation["sources"]
    baseline = next(iter(fit["baselines"].values()))
    rows = [
        ("ROC AUC", number(evaluation["auc"])),
        ("ROC AUC, source-weighted", number(evaluation["source_weighted"]["auc"])),
        ("ROC AUC minus that of a logistic regression on the same embeddings", number(baseline["auc_difference"])),
        ("TPR at 1 % FPR, threshold chosen in-sample", percent(evaluation["tpr_at_1_percent_fpr"])),
        ("FPR at the operating point", percent(_called_generated(evaluation, REAL))),
        ("TPR at the operating point", percent(_called_generated(evaluation, GENERATED))),
    ]
    nested = evaluation["nested"]
    first = f"{nested_table(nested)}\n\nThe shipped settings' own held-out figures:\n\n" if nested else ""
    return (
        f"{first}{pictures[REAL]:,} real pictures of {sources[REAL]} sources and {pictures[GENERATED]:,} generated "
        f"ones of {sources[GENERATED]}, {fit['protocol']}; the operating point, too, comes from the other sources. "
        f"FPR: real pictures called generated. TPR: generated pictures called generated.\n\n"
        f"{table(('figure', 'value and 95 % interval'), rows)}\n"
    )


def _baselines_table(fit: FitFacts) -> str:
    """The head beside logistic regressions on the same embeddings."""
    rows = [
        (
            name,
            f"{baseline['auc']:.3f}",
            number(baseline["auc_difference"]),
            f"{baseline['auc_source_weighted']:.3f}",
            number(baseline["auc_source_weighted_difference"]),
        )
        for name, baseline in fit["baselines"].items()
    ]
    return table(("baseline", "ROC AUC", "head minus it", "source-weighted", "head minus it"), rows)


def _yaml(settings: dict) -> str:
    """Settings as YAML that `fit` reads, without those that were left open."""
    given = {name: value for name, value in settings.items() if value is not None and value != []}
    return yaml.safe_dump(given, sort_keys=False)


__all__ = [
    "NOTES",
    "DEFAULT_TITLE",
    "TAGS",
    "card_templates",
    "figures_table",
    "fit_facts",
    "folder_card",
    "hub_name",
    "model_card",
    "read_notes",
    "write_card",
]
