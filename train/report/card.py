"""The model card, and the documents that show an evaluation: what they say is what was measured.

Figures come from evaluation.json, facts of the model from config.json, and what only a person can say (licences, what
the failures look like) from card.yaml beside them; without it the card says only what is true of every checkpoint.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from modeling import RobustClipConfig
from modeling.files import write_text
from modeling.verdicts import CLASSES

from ..measure.bias_audit import audit_finding
from .markdown import cell, number, percent, share, table
from .options import CardArguments

BEGIN, END = "<!-- figures: python -m train card -->", "<!-- end of figures -->"
DEFAULT = "checkpoints/default"
CARD_FILE, NOTES_FILE = "README.md", "card.yaml"
# What card.yaml may say; the template has words of its own for each that is missing.
NOTES: tuple[str, ...] = (
    "title",
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
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def update_documents(arguments: CardArguments) -> list[Path]:
    """Write the card, and the table of figures into each document between the two marks.

    Returns:
        What was written.

    Raises:
        ValueError: a document lacks the marks, the evaluation is not one that `fit` wrote or is not of this
            checkpoint, or card.yaml says something that the card has no place for.
    """
    folder = Path(arguments.checkpoint)
    is_default = arguments.checkpoint == DEFAULT
    card = arguments.card or ("model_card.md" if is_default else None)
    documents = arguments.documents or (["README.md"] if is_default else [])
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    text = _folder_card(folder, read_notes(folder))
    texts = {Path(name): text for name in (folder / CARD_FILE, card) if name is not None}
    texts |= {Path(name): _replaced(Path(name), figures_table(evaluation)) for name in documents}
    for path, content in texts.items():
        write_text(path, content)
    return list(texts)


def write_card(folder: Path, notes: dict | None) -> None:
    """Write README.md into a folder that holds config.json and evaluation.json."""
    write_text(folder / CARD_FILE, _folder_card(folder, notes))


def read_notes(folder: Path) -> dict | None:
    """What card.yaml in the folder says, `None` where there is none."""
    path = folder / NOTES_FILE
    if not path.is_file():
        return None
    notes = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(notes, dict):
        raise ValueError(f"{path} must hold `name: value` lines, got {type(notes).__name__}.")
    return notes


def _folder_card(folder: Path, notes: dict | None) -> str:
    evaluation, config = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("evaluation.json", "config.json")
    )
    return model_card(evaluation, config, notes)


def model_card(evaluation: dict, config: RobustClipConfig | dict, notes: dict | None) -> str:
    """The whole card: Hugging Face metadata with a model index, then the text.

    Args:
        evaluation: as `fit` wrote it. Parts that an older one lacks are named as not measured.
        config: of the checkpoint.
        notes: what card.yaml says, see `NOTES`; `None` for nothing.

    Raises:
        ValueError: the evaluation is not one that `fit` wrote, or has other thresholds than the configuration; or a
            note that is not among `NOTES`.
    """
    _check_is_from_fit(evaluation)
    config = config if isinstance(config, dict) else config.to_dict()
    for name in CLASSES:
        measured, shipped = evaluation["thresholds"][name], config[f"{name}_threshold"]
        if abs(measured - shipped) > 1e-5:
            raise ValueError(
                f"The evaluation must be of this checkpoint: it has the threshold {measured:.6f} for {name!r}, the "
                f"configuration {shipped:.6f}."
            )
    notes = notes or {}
    if unknown := sorted(set(notes) - set(NOTES)):
        raise ValueError(f"{NOTES_FILE} must hold only {', '.join(NOTES)}, got {', '.join(unknown)}.")
    return (
        card_templates()
        .get_template("model_card.md")
        .render(
            metadata=_metadata(evaluation, config, notes).to_yaml(),
            notes=notes,
            config=config,
            backbone=hub_name(config),
            tower=_TOWER_NAMES[config["vision_config"]["model_type"]],
            figures=figures_table(evaluation),
            evaluation=evaluation,
            made_by=evaluation.get("made_by", {}),
            settings=evaluation.get("made_by", {}).get("arguments", {}),
        )
    )


def _metadata(evaluation: dict, config: dict, notes: dict) -> ModelCardData:
    """What the Hub reads: licence, base model, tags, and the main figures as a model index."""
    verdicts = evaluation["verdicts_by_other_sources"]
    metrics: list[tuple[str, str, dict | None]] = [
        ("roc_auc", "ROC AUC", evaluation["auc"]),
        ("roc_auc", "ROC AUC, sources weighted equally", evaluation["auc_sources_weighted_equally"]),
        ("average_precision", "Average precision", evaluation["average_precision"]),
        ("false_positive_rate", "Real pictures called generated", verdicts["real"]["generated"]),
        ("recall", "Generated pictures called generated", verdicts["generated"]["generated"]),
        (
            "expected_calibration_error",
            "Expected calibration error, sources weighted equally",
            evaluation["weighted_expected_calibration_error"],
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
        tags=["ai-generated-image-detection", "clip", "robust_clip"],
        model_name=notes.get("title", "Detector of AI-generated images"),
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
    environment.filters["finding"] = audit_finding
    return environment


def hub_name(config: dict) -> str | None:
    """The backbone's Hub id; `None` for a folder, whose path is nobody else's business."""
    name = config.get("backbone_name") or ""
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _check_is_from_fit(evaluation: dict) -> None:
    if "verdicts_by_other_sources" not in evaluation:
        raise ValueError("The evaluation must be one that `fit` wrote: it has no held-out figures.")


def _replaced(path: Path, figures: str) -> str:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must hold the marks {BEGIN} and {END}, between which the figures are written.")
    return f"{before}{BEGIN}\n{figures}{END}{after}"


def figures_table(evaluation: dict) -> str:
    """Markdown: the protocol, the counts, and the main figures with their 95 % intervals."""
    _check_is_from_fit(evaluation)
    shares, baselines = evaluation["verdicts_by_other_sources"], evaluation["baselines"]
    plain = baselines["logistic regression"]
    weighted = baselines["logistic regression, sources weighted equally"]
    auc, equal = "auc", "auc_sources_weighted_equally"
    real, generated = shares["real"], shares["generated"]
    rows: list[tuple[str, Sequence[str]]] = [
        ("ROC AUC", [number(evaluation[auc])]),
        ("ROC AUC, sources weighted equally", [number(evaluation[equal])]),
        (
            "ROC AUC of a logistic regression on the same embeddings; head minus it",
            [f"{plain[auc]:.3f}", number(plain[f"{auc}_head_minus_baseline"])],
        ),
        (
            "the same, sources weighted equally in its fit and in the figure; head minus it",
            [f"{weighted[equal]:.3f}", number(weighted[f"{equal}_head_minus_baseline"])],
        ),
        (
            "generated pictures found at 1 %; at 5 % false alarms, by thresholds chosen afterwards",
            [percent(evaluation[f"tpr_at_{fpr}_percent_fpr"]) for fpr in (1, 5)],
        ),
        ("real pictures called generated", [percent(real["generated"])]),
        ("real pictures called real; left uncertain", [percent(real["real"]), percent(real["uncertain"])]),
        ("generated pictures called generated", [percent(generated["generated"])]),
        (
            "generated pictures called real; left uncertain",
            [percent(generated["real"]), percent(generated["uncertain"])],
        ),
    ]
    shipped = percent(evaluation["verdicts"]["real"]["generated"])
    rows.append(("real pictures called generated at the shipped thresholds, which were set on them", [shipped]))
    calibration = number(evaluation["weighted_expected_calibration_error"])
    rows.append(("expected calibration error, sources weighted equally", [calibration]))
    if evaluation.get("random_deliveries"):
        rows.append(("ROC AUC on randomly delivered views", [number(evaluation["random_deliveries"][auc])]))
    pictures, sources = evaluation["pictures"], evaluation["sources"]
    told = (
        f"Protocol: {evaluation['protocol']}; verdicts by thresholds that the other sources gave. "
        f"{pictures['real']:,} real pictures of {sources['real']} sources, {pictures['generated']:,} generated ones "
        f"of {sources['generated']}."
    )
    figures = table(("figure", "value and 95 % interval"), [(name, "; ".join(values)) for name, values in rows])
    return f"{told}\n\n{figures}\n"


def _yaml(settings: dict) -> str:
    """Settings as YAML that `fit` reads, without those that were left open."""
    given = {name: value for name, value in settings.items() if value is not None and value != []}
    return yaml.safe_dump(given, sort_keys=False)


__all__ = [
    "BEGIN",
    "END",
    "NOTES",
    "figures_table",
    "card_templates",
    "hub_name",
    "model_card",
    "read_notes",
    "update_documents",
    "write_card",
]
