"""What the project's documents show of the embedded default is what its files give."""

import json
import shutil

import pytest

from modeling.embedded import DEFAULT_SOURCE, ROOT
from train.report.card import figures_table, read_notes
from train.report.documents import BLOCKS, Published, figured_documents, update_documents, with_figures
from train.report.evaluation_file import read_evaluation, write_evaluation
from train.report.options import CardArguments


def marked(name, text="old\n"):
    return f"before\n<!-- {name}: python -m train card -->\n{text}<!-- end of {name} -->\nafter\n"


@pytest.fixture
def folder(tmp_path):
    """The default's files, with another AUC and another score of a photograph."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(DEFAULT_SOURCE, folder)
    evaluation = read_evaluation(folder)
    evaluation["auc"] = {"value": 0.12345, "interval": [0.1, 0.2]}
    write_evaluation(folder, evaluation)
    scores = json.loads((folder / "expected_scores.json").read_text())
    scores["torch-fp32"]["china.jpg"] = 1e3
    (folder / "expected_scores.json").write_text(json.dumps(scores))
    (folder / "card.yaml").write_text("title: Mine\nversion: 7\n")
    return folder


def test_every_document_shows_what_the_committed_files_give():
    documents = with_figures(figured_documents(), DEFAULT_SOURCE, read_notes(DEFAULT_SOURCE))
    assert {ROOT / "README.md", ROOT / "docs" / "use.md"} <= documents.keys()
    for path, text in documents.items():
        assert path.read_text() == text, f"{path.name}: run `python -m train card`"


def test_the_command_writes_the_card_and_keeps_the_rest_of_a_document(folder, tmp_path):
    document = tmp_path / "document.md"
    document.write_text(marked("figures") + marked("answer"))
    assert update_documents(CardArguments(str(folder), documents=[str(document)])) == [folder / "README.md", document]
    table = figures_table(read_evaluation(folder))
    assert "| ROC AUC | 0.123 [0.100, 0.200] |" in table
    assert document.read_text() == marked("figures", table) + marked("answer", "```text\ngenerated 1.0\n```\n")
    card = (folder / "README.md").read_text()
    assert "# Mine\n" in card
    written = document.stat()
    update_documents(CardArguments(str(folder), str(tmp_path / "copy.md"), [str(document)]))
    assert card == (tmp_path / "copy.md").read_text()
    assert (document.stat().st_mtime_ns, document.stat().st_ino) == (written.st_mtime_ns, written.st_ino)


def test_every_block_is_of_the_files(folder):
    default = Published.read(DEFAULT_SOURCE, None)
    other = Published.read(folder, read_notes(folder))
    same = {name for name, write in BLOCKS.items() if write(default) == write(other)}
    assert same == {"limits", "fields"}  # of other figures than those that differ here
    assert "Release 7 of the embedded default, measured on " in BLOCKS["measured"](other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", r"b\.md must hold the marks <!-- figures"),
        (marked("sums"), r"b\.md must name among figures, .* got sums"),
    ],
)
def test_a_document_that_cannot_be_filled_is_refused_and_none_is_written(text, message, tmp_path):
    first, second, card = tmp_path / "a.md", tmp_path / "b.md", tmp_path / "card.md"
    first.write_text(marked("figures"))
    second.write_text(text)
    with pytest.raises(ValueError, match=message):
        update_documents(CardArguments(str(DEFAULT_SOURCE), str(card), [str(first), str(second)]))
    assert first.read_text() == marked("figures")
    assert not card.exists()
