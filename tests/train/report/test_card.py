"""The documents say what was measured."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from modeling import RobustClipConfig
from modeling.embedded import DEFAULT_SOURCE, MODEL_CARD
from tests.train.scored_pictures import input_figures
from train.__main__ import command_of
from train.fit.commands import fit_and_report
from train.parsing import parse
from train.report.card import model_card, read_notes
from train.report.evaluation_file import read_evaluation

FIGURE = {"value": 0.71234, "interval": [0.6, 0.8]}
SHARE = {"value": 0.4321, "interval": None}
DELIVERY = {
    "auc": FIGURE,
    "auc_minus_clean": {"value": -0.05, "interval": [-0.1, 0.0]},
    "false_positive_rate": SHARE,
    "true_positive_rate": None,
    "verdict_changed": SHARE,
    "real_turned_generated": SHARE,
    "mean_probability_change": {"real": 0.1, "generated": None},
    "mean_absolute_probability_change": 0.1,
}
RULE = {"rule": "pictures", "bounds": 1, "kind": None, "of": 1657, "allowed": 33, "reached": 20, "above": 0.7}
RULES = [
    RULE | {"decided": False},
    dict.fromkeys(RULE) | {"rule": "sources", "bounds": 0, "decided": False},
    {"rule": "kinds", "bounds": 3, "kind": "art | illustration", "of": 60, "allowed": 4, "reached": 4, "above": 0.9}
    | {"decided": True},
]
ANSWERS = [
    {
        "verdict": "uncertain",
        "third": 1,
        "pictures": {"real": 8, "generated": 2},
        "photographs": {"value": 0.8, "interval": [0.7, 0.9]},
    },
    {"verdict": "generated", "third": None, "pictures": {"real": 0, "generated": 0}, "photographs": None},
]
NEW = {
    "worst": {
        "real_source": {"source": "a|b", "pictures": 12, "called_generated": 0.25, "interval": [0.1, 0.5]},
        "generator": {
            "generator": "G",
            "pictures": 99,
            "called_generated": 0.08,
            "called_real": 0.63,
            "interval": [0.0, 0.1],
        },
        "style": None,
        "calibration": None,
    },
    "robustness": {
        "pictures": {"real": 296, "generated": 130},
        "sources": {"real": 37, "generated": 17},
        "deliveries": [
            DELIVERY | {"delivery": "clean", "auc_minus_clean": None},
            DELIVERY | {"delivery": "thumbnail"},
        ],
        "called_generated": {"real": {"clean": 0.1, "thumbnail": 0.2}},
        "worst_delivery": "thumbnail",
    },
    "bias_audit": {
        "protocol": "fitted on other sources",
        "counts": {
            "format": {"real": {"JPEG": 12, "PNG": 2}, "generated": {}},
            "metadata": {"real": {"": 14}, "generated": {"exif": 3}},
        },
        "medians": {"width": {"real": 400.0, "generated": 360.5}, "jpeg_quality": {"real": None, "generated": 88.0}},
        "rules": [{"facts": "format", "auc": FIGURE}, {"facts": "size", "auc": None}],
        "shape_and_size": FIGURE,
        "gives_away": ["format"],
        "warning": "A rule tells the classes apart by: format.",
        "matched": {
            "on": "format",
            "pictures": {"real": 10, "generated": 9},
            "auc": FIGURE,
            "auc_before": FIGURE,
            "rule_auc": None,
        },
        "duplicates": {
            "limit": 32,
            "bits": 256,
            "pairs": 3,
            "pairs_of_two_sources": 2,
            "pairs_of_two_classes": 1,
            "examples": [("a secret name", "another", 4)],
            "in_training": None,
        },
    },
    "text": {
        "pictures_with_text": {"real": 0.123, "generated": 1.0},
        "auc": {"image and text": FIGURE, "image only": FIGURE, "text only": None, "same text": FIGURE},
        "warning": "Text leaks.",
        "with_text": input_figures("pictures with a text", 0.25, 0.75),
        "without_text": input_figures("all pictures, without their text", 0.125, 0.875),
    },
}


@pytest.fixture
def evaluation():
    return read_evaluation(DEFAULT_SOURCE)


@pytest.fixture
def config():
    return json.loads((DEFAULT_SOURCE / "config.json").read_text())


def test_the_committed_card_is_the_one_that_the_committed_evaluation_gives(evaluation, config):
    assert MODEL_CARD.read_text() == model_card(evaluation, config, read_notes(DEFAULT_SOURCE))


def test_the_hub_reads_the_metadata(evaluation, config):
    data = ModelCard(model_card(evaluation, config, read_notes(DEFAULT_SOURCE))).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "image-classification")
    assert data.base_model == config["backbone_name"]
    results = {result.metric_name: result for result in data.eval_results}
    assert len(results) == 6 + (evaluation["plain"]["expected_calibration_error"] is not None)
    assert results["ROC AUC"].metric_value == evaluation["auc"]["value"]
    assert results["ROC AUC"].metric_args == {"interval_95": evaluation["auc"]["interval"]}
    false_positive_rate = evaluation["fit"]["verdicts"]["real"]["generated"]["value"]
    assert results["FPR at the operating point"].metric_value == false_positive_rate
    assert {result.task_type for result in data.eval_results} == {"image-classification"}


@pytest.mark.parametrize(
    "change",
    [
        lambda evaluation: evaluation["auc"].update(value=0.12345),
        lambda evaluation: (evaluation["by_family"] or evaluation["by_generator"])[0].update(called_generated=0.12345),
        lambda evaluation: evaluation["by_style"][0].update(uncertain=0.12345),
        lambda evaluation: evaluation["fit"]["calibration"].update(scale=0.12345),
        lambda evaluation: evaluation["source_weighted"]["brier_score"].update(value=0.12345),
        lambda evaluation: evaluation["random_deliveries"]["auc"].update(value=0.12345),
        lambda evaluation: evaluation["fit"]["verdicts"]["generated"]["real"].update(value=0.12345),
    ],
)
def test_a_changed_figure_changes_the_card(change, evaluation, config):
    before = model_card(evaluation, config, None)
    change(evaluation)
    after = model_card(evaluation, config, None)
    assert after != before
    assert "12.3 %" in after or "0.123" in after


def test_the_card_names_the_release_and_how_new_its_generators_are(evaluation, config):
    newest = {"date": "2026-08", "family": "A|B", "family_since": "2025-11"}
    text = model_card(evaluation | {"newest_generated": newest}, config, {"version": 7})
    assert f"\nRelease 7 of {evaluation['made_by']['date']}. The newest generated pictures are of 2026-08, " in text
    assert "the newest family of generators (A\\|B) is of 2025-11.\n" in text
    assert "Release" not in model_card(evaluation | {"newest_generated": None}, config, None)


def test_a_card_without_notes_claims_nothing_about_the_data(evaluation, config):
    text = model_card(evaluation, RobustClipConfig.from_dict(config), None)
    assert "# Detector of AI-generated images\n" in text
    assert "their origin and licences are not recorded here" in text
    assert "Time and energy were not metered." in text
    assert "## Text" not in text
    assert ModelCard(text).data.license is None


@pytest.mark.parametrize("merged", [["a=b", "c=d"], []])
def test_the_settings_that_a_card_prints_are_read_by_fit(merged, evaluation, config, tmp_path):
    evaluation["fit"]["arguments"]["merge_sources"] = merged
    block = model_card(evaluation, config, None).split("```yaml\n")[1].split("```")[0]
    (tmp_path / "fit.yaml").write_text(block)
    flags = [str(tmp_path / "fit.yaml"), "--bank", "bank", "--output_dir", str(tmp_path / "out")]
    fit_arguments, training = parse(command_of(["fit"]), flags)
    assert fit_arguments.merge_sources == merged
    assert training.sam_rho == evaluation["fit"]["arguments"]["sam_rho"]


def test_a_card_shows_robustness_audit_text_and_worst_groups(evaluation, config):
    config["text_config"] = {"hidden_size": 16}
    text = model_card(evaluation | NEW, config, None)
    assert "| thumbnail | 0.712 [0.600, 0.800] | -0.050 [-0.100, 0.000] | 43.2 % (no interval) |" in text
    assert "The largest fall of AUC: thumbnail." in text
    assert r"- Worst real source: a\|b (12 pictures), 25.0 % [10.0, 50.0] called generated." in text
    assert "- Worst generator: G (99 pictures), 8.0 % [0.0, 10.0] called generated, 63.0 % called real." in text
    assert "\nA rule tells the classes apart by: format.\n" in text
    assert "\nFormat: real JPEG 12, PNG 2; generated none.\n" in text
    assert "\nMetadata: real none 14; generated exif 3.\n" in text
    assert r"| jpeg\_quality | none | 88 |" in text
    assert "3 pairs, 2 of them of two sources and\n1 of two classes." in text
    assert "a secret name" not in text
    assert "12.3 % of the real pictures and 100.0 % of the generated ones have a text." in text
    assert "| text only | not defined here |" in text
    assert (
        'without their text: 0 real and 5 generated, ROC AUC not defined here; "generated" from probability 0.875'
        in text
    )
    assert "| generated, pictures with a text, thresholds of the other folds | 40.0 % (no interval) |" in text
    assert "\n## Figures\n\n**Text leaks.**\n\n" in text


def test_parts_that_are_null_are_named_as_not_measured(evaluation, config):
    evaluation |= dict.fromkeys(("robustness", "text", "random_deliveries"))
    config["text_config"] = {"hidden_size": 16}
    text = model_card(evaluation, config, None)
    assert text.count("not measured for this checkpoint") == 2


def test_another_backbone_is_called_by_its_familys_name(evaluation, config):
    config["vision_config"] = {"model_type": "dinov3_vit"}
    config["backbone_name"] = "facebook/dinov3-vitb16-pretrain-lvd1689m"
    text = model_card(evaluation, config, None)
    assert "Image tower of DINOv3 (facebook/dinov3-vitb16-pretrain-lvd1689m), frozen" in text
    assert "CLIP (" not in text


def test_a_card_says_what_the_head_reads_and_what_its_thresholds_bound(evaluation, config):
    config |= {"image_layers": None, "image_tokens": None, "head_components": None}
    evaluation["fit"] |= {"rules": None, "answers": None}
    plain = model_card(evaluation, config, None)
    config |= {"image_layers": [2, 3], "image_tokens": ["class", "patch_mean"], "head_components": 7}
    evaluation["fit"] |= {"rules": RULES, "answers": ANSWERS}
    told = model_card(evaluation, config, None)
    for sentence in (
        "the class and patch_mean tokens behind the blocks 2, 3 of the image tower, each as 7 principal",
        r"The rule on kinds decided: art \| illustration.",
        "| real pictures flagged | 1,657 pictures | 33 | 20 | 0.700 |",
        "| real sources with more than one flagged | nothing: no source has 10 real pictures |  |  |  |",
        r"| flagged of the tightest kind, art \| illustration | 60 pictures (3 kinds) | 4 | 4 | 0.900 |",
        "| uncertain, lowest third of the band | 80.0 [70.0, 90.0] | 8 | 2 |",
        "| generated | not defined here | 0 | 0 |",
    ):
        assert sentence in told
        assert sentence not in plain


def test_a_card_says_how_the_head_is_built_and_regularised(evaluation, config):
    settings = evaluation["fit"]["arguments"]
    config["head_depth"] = 0
    settings["weight_decay"] = 60.0
    linear = model_card(evaluation, config, None)
    assert "frozen; a head of\na Linear layer on the embedding" in linear
    assert "weight decay 60;" in linear
    config |= {"head_depth": 1, "head_activation": "relu", "head_dropout": 0.2}
    deep = model_card(evaluation, config, None)
    assert "a head of\n1 x [Linear, BatchNorm, relu, Dropout 0.2] and a Linear layer on" in deep


def test_a_local_backbone_is_not_named(evaluation, config):
    config["backbone_name"] = "/home/somebody/clip"
    text = model_card(evaluation, config, None)
    assert "somebody" not in text
    assert ModelCard(text).data.base_model is None


def test_notes_hold_words_and_no_measured_figures():
    notes = read_notes(DEFAULT_SOURCE)
    assert "%" not in yaml.safe_dump({name: text for name, text in notes.items() if name != "data"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", r"must hold only title, .*, got titel"),
        ("title: [x", "is no YAML: while parsing"),
        ("- title", "must hold `name: value` lines, got list"),
    ],
)
def test_notes_that_are_none_are_refused_before_a_fit(text, message, tmp_path):
    (tmp_path / "card.yaml").write_text(text)
    for folders in ({"output_dir": tmp_path}, {"output_dir": tmp_path / "out", "head_output": tmp_path}):
        flags = [part for name, folder in folders.items() for part in (f"--{name}", str(folder))]
        options = parse(command_of(["fit"]), ["--bank", "not read", *flags])
        with pytest.raises(ValueError, match=rf"card\.yaml {message}"):
            fit_and_report(*options)


def test_an_evaluation_of_another_head_is_refused(evaluation, config):
    config["generated_threshold"] = 0.9
    with pytest.raises(ValueError, match=r"threshold 0\.\d{6} for 'generated', the configuration 0.900000"):
        model_card(evaluation, config, None)
    evaluation["fit"] = None
    with pytest.raises(ValueError, match="must be one that `fit` wrote"):
        model_card(evaluation, config, None)
