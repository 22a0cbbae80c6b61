"""A report says what the evaluation says, in every form, whatever the names in it."""

import copy
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.train.scored_pictures import MADE_BY, evaluated, input_figures, views
from train.report.evaluation_file import write_evaluation
from train.report.limits import limits_sentences
from train.report.markdown import cell, number, percent, table
from train.report.page import html_page
from train.report.plots import _sources, write_plots
from train.report.summary import summary
from train.report.tables import PICTURE_COLUMNS, csv_tables, duplicates_csv
from train.report.writing import report_text, write_report

ODD = "a|b $\\foo$ <script>alert(1)</script> [x](http://example.com) ![y](http://example.com/z.png)\n# *c*"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = views(shift=1.0)
    rows["source"] = rows["source"].replace("s0-1", ODD)
    rows["generator"] = rows["generator"].replace("A", ODD)
    evaluation, pictures = evaluated(rows)
    write_report(folder, evaluation, pictures)
    return folder, evaluation, pictures


@pytest.fixture(scope="module")
def measured():
    return evaluated(views())


@pytest.fixture
def evaluation(measured):
    return copy.deepcopy(measured[0])


def table_cells(markdown, first):
    """Cells of the table rows that start so."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_figures_of_the_report_are_those_of_the_evaluation(report):
    folder, evaluation, _ = report
    markdown = (folder / "report.md").read_text()
    plain, weighted = evaluation["plain"], evaluation["source_weighted"]
    for title, *expected in (
        ("ROC AUC |", number(evaluation["auc"]), number(weighted["auc"])),
        ("average precision", number(evaluation["average_precision"]), ""),
        ("balanced accuracy", number(plain["balanced_accuracy"]), number(weighted["balanced_accuracy"])),
        ("Brier score", number(plain["brier_score"]), number(weighted["brier_score"])),
        (
            "expected calibration error",
            number(plain["expected_calibration_error"]),
            number(weighted["expected_calibration_error"]),
        ),
        ("TPR at 1 % FPR, threshold chosen in-sample", percent(evaluation["tpr_at_1_percent_fpr"]), ""),
        ("TPR at 5 % FPR, threshold chosen in-sample", percent(evaluation["tpr_at_5_percent_fpr"]), ""),
        ("equal error rate, threshold chosen in-sample", percent(evaluation["equal_error_rate"]), ""),
    ):
        assert [cells[1:] for cells in table_cells(markdown, title)] == [expected], title
    names = ("share_answered", "accuracy_of_answered")
    (answered, right), (answered_weighted, right_weighted) = (
        [percent(figures[name]) for name in names] for figures in (plain, weighted)
    )
    assert f"{answered} are answered, and of these {right} rightly" in markdown
    assert f"source-weighted {answered_weighted} and {right_weighted}." in markdown
    shares = evaluation["verdicts"]["real"]
    assert table_cells(markdown, "real, shipped")[0][1:] == [
        percent(shares[k]) for k in ("real", "uncertain", "generated")
    ]
    hard = evaluation["robustness"]["deliveries"][1]
    assert table_cells(markdown, "hard")[0][1] == number(hard["auc"])
    assert table_cells(markdown, "hard")[0][5] == percent(hard["verdict_changed"])
    assert len(table_cells(markdown, "s0-")) == 3  # and the odd one
    assert "2 could not be read" in markdown
    assert r"a\|b $\\foo$ \<script\>" in markdown


def test_generators_and_styles_have_a_table_of_their_other_figures(report):
    folder, evaluation, _ = report
    markdown = (folder / "report.md").read_text()
    row = next(row for row in evaluation["by_generator"] if row["generator"] == "B")
    told = table_cells(markdown, "B |")[1]
    assert told[1:7] == [
        number(row["balanced_average_precision"]),
        percent(row["tpr_at_1_percent_fpr"]),
        percent(row["tpr_at_5_percent_fpr"]),
        percent(row["equal_error_rate"]),
        number(row["balanced_accuracy"]),
        number(row["brier_score"]),
    ]
    assert told[7] == "-"  # 12 pictures: their calibration error would be mostly noise
    assert told[8].startswith(f"{100 * row['answered']:.1f} % [")
    assert told[9].startswith(f"{100 * row['wrong_of_answered']:.1f} % [")
    assert len(table_cells(markdown, "photoreal, real")) == 1


def test_the_report_rounds_as_what_is_made_from_the_written_evaluation(evaluation, tmp_path):
    share = {"value": 0.0125001787, "interval": [0.0045001787, 0.0245]}
    evaluation |= {"tpr_at_1_percent_fpr": share}
    write_evaluation(tmp_path, evaluation)
    written = json.loads((tmp_path / "evaluation.json").read_text())["tpr_at_1_percent_fpr"]
    assert percent(written) != percent(share)
    [[_, reported, _]] = table_cells(report_text(evaluation), "TPR at 1 % FPR, threshold")
    assert reported == percent(written)


def nested_study():
    """Figures of a nested study and of its baseline; the baseline could not be calibrated in group 1."""
    names = (
        "auc",
        "auc_source_weighted",
        *(f"tpr_at_{n}_percent_fpr{w}" for n in (1, 2) for w in ("", "_source_weighted")),
    )
    share = {"value": 0.25, "interval": [0.2, 0.3], "source_weighted": 0.2}
    group = {"pictures": 20, "sources": 3, "called_real": 0.5, "called_generated": 0.25, "interval": [0.1, 0.4]}
    case = {
        "figures": {name: {"value": 0.9, "interval": [0.8, 0.95]} for name in names},
        "verdicts": {"real": None, "generated": dict.fromkeys(("real", "uncertain", "generated"), share)},
        "expected_calibration_error": 0.031,
        "by_kind": [{"class": "real", "name": "people"} | group],
        "by_family": [{"class": "generated", "name": ODD} | group],
        "uncalibrated_groups": [],
    }
    return {
        "protocol": "held out by source, in 3 folds",
        "chosen": ["recipe"] * 3,
        "case": case,
        "baseline": "probe",
        "baseline_case": case | {"figures": case["figures"] | {"auc": None}, "uncalibrated_groups": [1]},
        "differences": {name: {"value": 0.125, "interval": [0.1, 0.2]} for name in names},
    }


def test_what_was_chosen_inside_comes_first_and_beside_it_the_baseline(evaluation):
    evaluation["nested"] = nested_study()
    text = report_text(evaluation)
    assert text.index("## Chosen inside") < text.index("## Ranking")
    assert table_cells(text, "ROC AUC |")[0] == [
        "ROC AUC",
        "0.900 [0.800, 0.950]",
        "not defined here",
        "0.125 [0.100, 0.200]",
    ]
    assert "| people | real | 20 | 50.0 % |" in text
    row = next(row for row in evaluation["by_kind"] if (row["name"], row["class"]) == ("people", "real"))
    row["kinds_predicted"] = 9
    signed = cell(f"people ~ (9 of {row['pictures']})")
    assert report_text(evaluation).count(f"| {signed} | real |") == 2  # of what was chosen inside, and of what ships
    assert "Of probe, the groups 1 could not be calibrated" in text
    assert text.count(f"| {cell(ODD)} | generated | 20 | 50.0 % | 25.0 % [10.0, 40.0] |") == 1
    printed = summary(evaluation).splitlines()[len(limits_sentences(evaluation)) :]
    assert printed[0] == "Chosen inside (held out by source, in 3 folds):"
    assert printed[1] == "  ROC AUC: 0.900 [0.800, 0.950]; minus probe: 0.125 [0.100, 0.200]"
    assert printed.index("The shipped settings' own held-out figures:") < printed.index(
        f"ROC AUC: {number(evaluation['auc'])}"
    )


def test_random_deliveries_have_a_section():
    rows = views()
    random = rows[rows["view"] == 0].assign(view=1, delivery="random", score=lambda table: table["score"] - 0.4)
    evaluation, _ = evaluated(pd.concat([rows, random], ignore_index=True))
    section = report_text(evaluation).partition("## Random deliveries")[2].partition("\n## ")[0]
    assert "24 views of real and 24 of generated pictures" in section
    assert f"ROC AUC {number(evaluation['random_deliveries']['auc'])}, against {number(evaluation['auc'])}" in section
    found = evaluation["random_deliveries"]["verdicts"]["generated"]
    assert table_cells(section, "generated")[0][1:] == [percent(found[k]) for k in ("real", "uncertain", "generated")]


def test_every_row_of_a_table_has_the_cells_of_its_header(report):
    folder, _, _ = report
    width = None
    for line in (folder / "report.md").read_text().splitlines():
        if line.startswith("|"):
            now = len(re.split(r"(?<!\\)\|", line))
            assert width in (None, now), line
            width = now
        else:
            width = None


def test_the_page_holds_everything_and_obeys_no_name(report):
    folder, _, _ = report
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "<a " not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(re.findall(r'alt="([^"]+)"', page))
    assert "href=" not in page
    assert page.count("<table>") == page.count('<div class="scroll"')
    assert "<title>How right is the detector? An evaluation</title>" in page


def test_the_tables_read_back_equal_to_the_evaluation(report):
    folder, evaluation, pictures = report
    sources = pd.read_csv(folder / "sources.csv")
    assert sources["source"].tolist() == [row["source"] for row in evaluation["by_source"]]
    np.testing.assert_allclose(
        sources["wrong_interval_low"], [row["wrong_interval"][0] for row in evaluation["by_source"]]
    )
    deliveries = pd.read_csv(folder / "deliveries.csv")
    hard = evaluation["robustness"]["deliveries"][1]
    assert deliveries["auc_value"][1] == pytest.approx(hard["auc"]["value"])
    assert deliveries["auc_interval_high"][1] == pytest.approx(hard["auc"]["interval"][1])
    back = pd.read_csv(folder / "pictures.csv", keep_default_na=False)
    assert list(back) == PICTURE_COLUMNS
    np.testing.assert_allclose(back["score"], pictures["score"])


def leaves(value, name=""):
    """Names of the numbers and words in a row of evaluation.json, as a flat table calls them."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{name}_{key}")]
    if isinstance(value, list):
        return [f"{name}_low"[1:], f"{name}_high"[1:]]
    return [name[1:]]


def test_no_number_of_a_row_is_left_out_of_its_table(report):
    folder, evaluation, _ = report
    hard = evaluation["robustness"]["deliveries"][1]
    for name, row in (
        ("sources", evaluation["by_source"][0]),
        ("generators", evaluation["by_generator"][0]),
        ("styles", evaluation["by_style"][0]),
        ("deliveries", hard),
    ):
        row = {key: value for key, value in row.items() if key != "balanced_reliability"}
        assert set(pd.read_csv(folder / f"{name}.csv")) == set(leaves(row))
    told = pd.read_csv(folder / "reliability.csv", keep_default_na=False)
    for kind in ("generator", "style"):
        expected = [
            (group[kind], group["class"], tenth["pictures"])
            for group in evaluation[f"by_{kind}"]
            for tenth in group["balanced_reliability"]
        ]
        part = told[told["of"] == kind]
        assert list(zip(part["name"], part["class"], part["pictures"], strict=True)) == expected
    for of, weights in (("all", "plain"), ("all, source-weighted", "source_weighted")):
        told_weights = told["weight"][told["of"] == of].tolist()
        assert told_weights == pytest.approx([tenth["weight"] for tenth in evaluation[weights]["reliability"]])


def test_tables_have_the_same_columns_without_rows_and_without_figures(report):
    _, evaluation, pictures = report
    clean = evaluation["robustness"]["deliveries"][0]
    bare = clean | {name: None for name, value in clean.items() if isinstance(value, dict)}
    nothing = dict.fromkeys(("by_source", "by_generator", "by_style"), []) | {"robustness": None}
    without_rows = csv_tables(evaluation | nothing, pictures[:0])
    without_figures = csv_tables(evaluation | {"robustness": {"deliveries": [bare]}}, pictures)
    assert "\nclean,," in without_figures["deliveries.csv"]
    header = {name: text.partition("\n")[0] for name, text in csv_tables(evaluation, pictures).items()}
    for tables in (without_rows, without_figures):
        assert {name: text.partition("\n")[0] for name, text in tables.items()} == header


def test_the_plots_are_pictures(report):
    folder, _, _ = report
    for name in ("roc", "scores", "reliability", "sources", "robustness", "heatmap"):
        with Image.open(io.BytesIO((folder / f"{name}.png").read_bytes())) as image:
            assert min(image.size) > 250


def test_the_same_evaluation_gives_the_same_bytes(report, tmp_path):
    folder, evaluation, pictures = report
    write_report(tmp_path, evaluation, pictures)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_what_was_not_measured_is_said(evaluation, measured, tmp_path):
    evaluation |= {"robustness": None, "random_deliveries": None}
    markdown = report_text(evaluation)
    assert "make the bank with --probed" in markdown
    assert "make it with --views 2 or more" in markdown
    assert "The detector reads no text" in markdown
    assert "heatmap.png" not in write_plots(evaluation, measured[1], tmp_path)


def test_a_report_says_that_the_code_was_changed(evaluation):
    evaluation["made_by"] = MADE_BY | {"git_commit": "0123456789abcdef-dirty"}
    assert "code 0123456789ab with uncommitted changes" in report_text(evaluation)


def test_a_report_that_fails_leaves_the_folder_as_it_was(measured, tmp_path):
    evaluation, pictures = measured
    (tmp_path / "roc.png").write_bytes(b"old")
    with pytest.raises(KeyError, match="record_id"):  # when the plots are drawn already
        write_report(tmp_path, evaluation, pictures.drop(columns="record_id"))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("roc.png", b"old")]


def test_one_class_is_reported_without_the_figures_that_need_both(tmp_path):
    evaluation, pictures = evaluated(views().query("label == 0"))
    write_report(tmp_path, evaluation, pictures)
    markdown = (tmp_path / "report.md").read_text()
    assert "| ROC AUC | not defined here |" in markdown
    assert "real, shipped thresholds" in markdown
    assert "No rule reaches" not in markdown
    share_answered = evaluation["source_weighted"]["share_answered"]
    by_source = (pictures["verdict"] != "uncertain").groupby(pictures["source"]).agg(["mean", "size"])
    expected = np.average(by_source["mean"], weights=by_source["size"].clip(upper=5))
    assert share_answered["value"] == pytest.approx(expected)


def test_pictures_that_were_trained_on_are_announced_first(evaluation):
    evaluation["checkpoint"]["in_sample"] = True
    assert "every figure here is in-sample" in report_text(evaluation).splitlines()[2]


def test_text_and_leaks_are_reported(evaluation):
    figure = {"value": 0.9876, "interval": None}
    text = {"pictures_with_text": {"real": 0.0, "generated": 1.0}, "auc": {"text only": figure}}
    text |= {name: input_figures(name, 0.25, 0.75) for name in ("with_text", "without_text")}
    evaluation["text"] = text | {"warning": "Text leaks."}
    evaluation["bias_audit"]["warning"] = "It leaks."
    evaluation["bias_audit"]["duplicates"]["in_training"] = {"pictures": 3, "examples": [("p0", "t0", 1)]}
    markdown = report_text(evaluation)
    assert "| text only | 0.988 (no interval) |" in markdown
    assert "**It leaks.**" in markdown
    assert markdown.index("**Text leaks.**") < markdown.index("## Ranking")
    few = limits_sentences(evaluation)
    assert summary(evaluation).startswith("\n".join([*few, "Text leaks.", "ROC AUC"]))
    assert "- with\\_text: 0 real and 5 generated" in markdown
    assert "without_text: ROC AUC not defined here, generated pictures called generated 40.0 %" in summary(evaluation)
    evaluation["text"]["warning"] = None
    assert summary(evaluation).startswith("\n".join([*few, "ROC AUC"]))
    assert "3 pictures are also in the training data" in markdown
    assert "named in duplicates.csv" in markdown
    named = duplicates_csv(evaluation["bias_audit"])
    assert named == "other_of,record_id,other_record_id,bits_apart\nthe training,p0,t0,1\n"


def test_no_picture_is_named_but_in_the_tables(tmp_path):
    """evaluation.json is published, the page is sent on: names of files may be private."""
    rows = views()
    rows["record_id"] = "private-" + rows["record_id"]
    rows["perceptual_hash"] = rows["perceptual_hash"].iloc[0]
    evaluation, pictures = evaluated(rows)
    evaluation["bias_audit"]["duplicates"]["in_training"] = {"pictures": 1, "examples": [("private-p0", "t0", 1)]}
    write_evaluation(tmp_path, evaluation)
    write_report(tmp_path, evaluation, pictures)
    naming = {path.name for path in tmp_path.iterdir() if b"private-p" in path.read_bytes()}
    assert naming == {"duplicates.csv", "pictures.csv"}
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["bias_audit"]["duplicates"]["pairs"] == 47
    assert written["bias_audit"]["duplicates"]["in_training"] == {"pictures": 1, "examples": None}
    assert len(pd.read_csv(tmp_path / "duplicates.csv")) == 21
    assert duplicates_csv(written["bias_audit"]).count("\n") == 1  # what was written names none


def test_many_sources_are_drawn_up_to_a_limit(measured):
    evaluation, _ = measured
    rows = [row | {"source": f"{row['source']} {i}"} for row in evaluation["by_source"] for i in range(25)]
    assert _sources(evaluation | {"by_source": rows}).get_figheight() * 110 < 3000


def test_the_title_that_names_what_is_left_out_fits_the_plot(report):
    _, evaluation, _ = report
    row = next(row for row in evaluation["by_source"] if row["class"] == "real")
    long = [row | {"source": f"{i} {'a long name ' * 9}"} for i in range(100)]
    figure = _sources(evaluation | {"by_source": long})
    figure.canvas.draw()
    assert "the 60 smallest groups are left out" in figure.get_suptitle()
    assert figure.bbox.contains(*figure._suptitle.get_window_extent().min)
    assert figure.bbox.contains(*figure._suptitle.get_window_extent().max)


def test_an_image_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="shows x.png"):
        html_page("# T\n\n![x](x.png)\n", {})


def test_a_table_keeps_pipes_in_their_cells():
    assert table(("a", "b"), [("x|y\nz", 1)]).splitlines()[-1] == "| x\\|y z | 1 |"


def test_a_name_is_plain_text_and_an_interval_keeps_its_brackets():
    assert cell("[x](y) *z*\n#1") == r"\[x\](y) \*z\* \#1"
    assert table(("a", "b"), [("x", "0.5 [0.1, 0.9]"), ("y", "12.0 % [1.0, 2.0]"), ("z", "[a](b)")]).splitlines()[
        2:
    ] == [
        "| x | 0.5 [0.1, 0.9] |",
        "| y | 12.0 % [1.0, 2.0] |",
        r"| z | \[a\](b) |",
    ]


def test_rows_by_family_kind_and_shape_stand_where_they_are_known(evaluation):
    row = {"name": "people", "class": "real", "pictures": 1234, "sources": 56, "kinds_predicted": 7, "auc": 0.9}
    row |= {"called_real": 0.9, "uncertain": 0.06, "called_generated": 0.04}
    row |= {"called_real_interval": [0.8, 0.95], "called_generated_interval": [0.02, 0.05]}
    nothing = {"by_family": [], "by_kind": [], "by_shape": [], "newer_telephones": None}
    assert "By family" not in report_text(evaluation | nothing)
    seen = row | {"name": "food", "kinds_predicted": 0}
    markdown = report_text(evaluation | nothing | {"by_kind": [row, seen], "newer_telephones": row})
    assert "family of generators" not in markdown
    told = ["real", "1234", "56", "0.900", "4.0 % [2.0, 5.0]", "90.0 % [80.0, 95.0]", "6.0 %"]
    assert table_cells(markdown, r"people \~ (7 of 1234)")[0][1:] == told
    assert table_cells(markdown, "food")[0][1:] == told
    assert "of 7 of 2,468 in all" in markdown
    assert markdown.count("newer real pictures") == 1


def test_of_many_sources_the_worst_and_the_largest_are_shown(evaluation):
    one = evaluation["by_source"][0] | {"class": "real", "called_generated": 0.0}
    rows = [one | {"source": f"large-{i}", "pictures": 1000 - i} for i in range(30)]
    rows += [one | {"source": f"quiet-{i}", "pictures": 10} for i in range(40)]
    rows += [one | {"source": f"wrong-{i}", "pictures": 9, "called_generated": 0.5} for i in range(30)]
    markdown = report_text(evaluation | {"by_source": rows})
    assert [len(table_cells(markdown, name)) for name in ("large-", "quiet-", "wrong-")] == [30, 0, 30]
    assert "40 more sources are in sources.csv and evaluation.json" in markdown
