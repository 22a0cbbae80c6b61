"""The documents say what was measured."""

import json
from pathlib import Path

import pytest

from train.card import BEGIN, END, CardArguments, figures_table, update_documents

ROOT = Path(__file__).parents[2]
EVALUATION = ROOT / "checkpoints" / "default" / "evaluation.json"


@pytest.mark.parametrize("document", ["README.md", "model_card.md"])
def test_the_figures_of_a_document_are_those_of_the_committed_evaluation(document):
    shown = (ROOT / document).read_text().split(BEGIN)[1].split(END)[0]
    assert shown.strip() == figures_table(json.loads(EVALUATION.read_text())).strip()


def test_a_changed_figure_is_written_and_the_rest_of_the_document_kept(tmp_path):
    evaluation = json.loads(EVALUATION.read_text())
    evaluation["auc"] = {"value": 0.12345, "interval": [0.1, 0.2]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    document = tmp_path / "card.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = CardArguments(str(tmp_path / "evaluation.json"), [str(document)])
    update_documents(arguments)
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\nProtocol: ")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert "| ROC AUC | 0.123 [0.100, 0.200] |" in text
    update_documents(arguments)
    assert document.read_text() == text


def test_a_document_without_marks_is_refused_and_none_is_written(tmp_path):
    first, second = tmp_path / "a.md", tmp_path / "b.md"
    first.write_text(f"{BEGIN}\n{END}\n")
    second.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"b\.md must hold the marks"):
        update_documents(CardArguments(str(EVALUATION), [str(first), str(second)]))
    assert first.read_text() == f"{BEGIN}\n{END}\n"
