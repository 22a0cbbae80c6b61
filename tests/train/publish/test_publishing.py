"""`python -m train publish` with the real huggingface_hub against a loopback Hub."""

import json
import shutil
import signal

import pytest
import torch
from huggingface_hub import ModelCard

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.checkpoints import load_model, load_processor
from modeling.embedded import DEFAULT_SOURCE
from modeling.proof import write_expected
from tests.hub_server import OTHER, READER, checkpoint_folder
from train.report.evaluation_file import read_evaluation, write_evaluation

NAME = "ann/detector"


@pytest.fixture
def folder(tmp_path, tiny_config):
    return checkpoint_folder(tmp_path / "checkpoint", tiny_config(text=False))


def commits(hub, name=NAME):
    """Beyond the one that the Hub makes with a new repository."""
    return hub.models[name].commits[1:]


def test_everything_that_loading_needs_goes_into_one_private_commit(hub, train, folder):
    for name in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "rng_state.pth", "scores.pkl"):
        torch.save({}, folder / name)
    write_evaluation(folder, read_evaluation(DEFAULT_SOURCE) | {"fit": None})
    for name in ("known_data.safetensors", "expected_embeddings.json"):
        (folder / name).write_bytes(b"{}")
    write_expected(load_model(folder), load_processor(folder), folder)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"half-trained")
    result = train("publish", folder, NAME)
    assert result.returncode == 0, result.stderr
    (commit,) = commits(hub)
    assert set(commit.files) == {
        ".gitattributes",
        "README.md",
        "colour_robust_clip.py",
        "srgb_robust_clip.py",
        "config.json",
        "configuration_robust_clip.py",
        "evaluation.json",
        "expected_embeddings.json",
        "expected_scores.json",
        "image_processing_robust_clip.py",
        "known_data.safetensors",
        "model.safetensors",
        "modeling_robust_clip.py",
        "preprocessor_config.json",
    }
    assert commit.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert hub.models[NAME].private
    assert f"published: {hub.url}/{NAME} (private), commit {commit.oid}" in result.stdout
    assert f'pipeline("image-classification", model="{NAME}", trust_remote_code=True)' in result.stdout


def test_public_makes_it_public_also_where_it_was_private(hub, train, folder):
    train("publish", folder, NAME)
    result = train("publish", folder, NAME, "--public")
    assert "already up to date" in result.stdout
    assert "(public)" in result.stdout
    assert not hub.models[NAME].private
    train("publish", folder, NAME)
    assert not hub.models[NAME].private  # nobody asked to hide it
    train("publish", folder, "ann/second", "--public")
    assert not hub.models["ann/second"].private


def test_publishing_the_same_again_makes_no_commit(hub, train, folder):
    first = train("publish", folder, NAME)
    again = train("publish", folder, NAME)
    (commit,) = commits(hub)
    assert "already up to date" not in first.stdout
    assert f"already up to date: {hub.url}/{NAME} (private), commit {commit.oid}" in again.stdout


def test_what_is_gone_here_goes_there_and_what_is_not_ours_stays(hub, train, folder, tmp_path):
    write_evaluation(folder, read_evaluation(DEFAULT_SOURCE) | {"fit": None})
    train("publish", folder, NAME)
    repo = hub.models[NAME]
    others = {"notes.md": b"by hand", "images/plot.png": b"by hand", "sub/evaluation.json": b"by hand"}
    repo.commit("by hand", repo.files | others | {"training_args.bin": b"pickle", "pytorch_model.bin": b"old"})
    (folder / "evaluation.json").unlink()
    result = train("publish", folder, NAME)
    assert "deleted there: evaluation.json, pytorch_model.bin, training_args.bin" in result.stdout
    assert len(commits(hub)) == 3
    gone = {"evaluation.json", "training_args.bin", "pytorch_model.bin"}
    assert not gone & set(repo.files)
    assert others.items() <= repo.files.items()


def test_a_second_checkpoint_replaces_the_first_and_both_can_be_had_by_revision(hub, train, folder, tiny_config):
    train("publish", folder, NAME)
    changed = checkpoint_folder(folder.parent / "second", tiny_config(text=False), seed=1)
    train("publish", changed, NAME)
    first, second = commits(hub)
    assert first.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert second.files["model.safetensors"] == (changed / "model.safetensors").read_bytes()


def test_the_stub_that_trainer_leaves_is_replaced(hub, train, folder):
    comment = (
        "<!-- This model card has been generated automatically according to the information the Trainer had access "
        "to. You\nshould probably proofread and complete it, then remove this comment. -->"
    )
    stub = f"---\nlibrary_name: transformers\ntags:\n- generated_from_trainer\n---\n\n{comment}\n\n# stub\n"
    (folder / "README.md").write_text(stub)
    train("publish", folder, NAME)
    card = hub.models[NAME].files["README.md"].decode()
    assert "generated_from_trainer" not in card
    assert "was not measured" in card
    data = ModelCard(card).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-classification")
    assert f'model="{NAME}"' in card


def test_an_upload_that_is_cut_once_is_repeated_by_the_client(hub, train, folder):
    hub.cuts["upload"] = 1
    result = train("publish", folder, NAME)
    assert result.returncode == 0, result.stderr
    assert hub.models[NAME].files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert len(commits(hub)) == 1


def test_a_commit_that_is_cut_changes_nothing_and_running_again_completes(hub, train, folder):
    hub.cuts["commit"] = 1
    result = train("publish", folder, NAME)
    assert result.returncode == 1
    assert f"The connection to the Hub ({hub.url}) failed" in result.stderr
    assert "try again; what was finished is kept, and nothing is half-written" in result.stderr
    assert commits(hub) == []
    before = len(hub.requests)
    assert train("publish", folder, NAME).returncode == 0
    assert len(commits(hub)) == 1
    # The weights had arrived: they are not sent again.
    assert not [request for request in hub.requests[before:] if request[0] == "PUT"]


def test_an_answer_that_is_lost_after_the_commit_leaves_the_whole_model(hub, train, folder):
    hub.cuts["answer"] = 1
    assert "try again" in train("publish", folder, NAME).stderr
    assert "already up to date" in train("publish", folder, NAME).stdout
    assert len(commits(hub)) == 1


def test_somebody_elses_commit_meanwhile_is_not_overwritten(hub, train, folder):
    train("publish", folder, NAME)
    repo = hub.models[NAME]
    write_evaluation(folder, read_evaluation(DEFAULT_SOURCE) | {"fit": None})
    hub.before_commit = lambda: repo.commit("meanwhile", repo.files | {"notes.md": b"by hand"})
    result = train("publish", folder, NAME)
    assert "was changed by somebody else meanwhile: run the command again" in result.stderr
    assert "evaluation.json" not in repo.files
    hub.before_commit = None
    assert train("publish", folder, NAME).returncode == 0
    assert {"evaluation.json", "notes.md"} <= set(repo.files)


def test_a_card_keeps_what_a_person_wrote_and_the_name_it_is_published_under(hub, train, folder):
    train("publish", folder, NAME)
    card = hub.models[NAME].files["README.md"].decode()
    assert ModelCard(card).data.get("license") is None
    mine = "---\nlicense: mit\nmodel-index: []\n---\n# Mine\n\nWords of my own.\n\n## Figures\n\nNone.\n"
    (folder / "README.md").write_text(mine)
    train("publish", folder, NAME)
    card = hub.models[NAME].files["README.md"].decode()
    assert card.index("Words of my own.") < card.index(f'model="{NAME}"') < card.index("## Figures\n\nNone.\n")
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "image-classification")
    # A card that came down from the Hub goes up under another name.
    (folder / "README.md").write_text(card)
    train("publish", folder, "ann/second")
    again = hub.models["ann/second"].files["README.md"].decode()
    assert again == card.replace(NAME, "ann/second")


def test_a_process_that_dies_in_the_middle_of_an_upload_leaves_the_old_model(hub, python, train, folder):
    train("publish", folder, NAME)
    old = dict(hub.models[NAME].files)
    second = RobustClipForImageClassification.from_pretrained(folder)
    second.head.requires_grad_(False)
    next(second.head.parameters()).add_(1)
    second.save_pretrained(folder)
    hub.hold_uploads.set()
    dying = python.start("-m", "train", "publish", folder, NAME)
    try:
        assert hub.upload_held.wait(60)
    finally:
        assert dying.stop(signal.SIGKILL).returncode == -signal.SIGKILL
        hub.hold_uploads.clear()
    assert hub.models[NAME].files == old
    assert train("publish", folder, NAME).returncode == 0
    assert hub.models[NAME].files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert len(commits(hub)) == 2


@pytest.mark.parametrize(
    ("token", "name", "words"),
    [
        ("", NAME, "You are not logged in: log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", NAME, "did not accept your token (401)"),
        (READER, NAME, "Your token may not do this with ann/detector (403)"),
        (OTHER, NAME, "Your token may not do this with ann/detector (403)"),
        ("hf_writer", "detector", "name must be owner/name, got 'detector'"),
        ("hf_writer", "ann/two words", "name must be owner/name, got 'ann/two words'"),
        ("hf_writer", "ann/a/b", "name must be owner/name, got 'ann/a/b'"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence(hub, train, folder, token, name, words):
    result = train("publish", folder, name, HF_TOKEN=token)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error
    assert hub.models == {}


def test_a_public_repository_of_somebody_else_is_not_written_to(hub, train, folder):
    hub.add_model("ann/detector", {"README.md": b"ann's"})
    result = train("publish", folder, NAME, HF_TOKEN=OTHER)
    assert "Your token may not do this with ann/detector (403)" in result.stderr
    assert hub.models[NAME].files == {"README.md": b"ann's"}


def test_a_hub_that_nobody_answers_for_is_named(hub, train, folder):
    with hub.unreachable():
        result = train("publish", folder, NAME)
    assert f"The connection to the Hub ({hub.url}) failed" in result.stderr


@pytest.mark.parametrize(
    ("repository", "token", "words"),
    [
        ({}, "hf_writer", "There is no ann/detector on the Hub that you may see"),
        ({"private": True}, "", "There is no ann/detector on the Hub that you may see"),
        ({"gated": True}, OTHER, "ann/detector is gated: its owner decides"),
        ({"gated": True}, "", "ann/detector is gated: its owner decides"),
        ({"private": False}, "hf_wrong", "did not accept your token (401)"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_explained(hub, train, folder, tmp_path, repository, token, words):
    if repository:
        hub.add_model(NAME, {path.name: path for path in folder.iterdir()}, **repository)
    (tmp_path / "photographs").mkdir()
    call = ("calibrate", NAME, tmp_path / "photographs", "--output", tmp_path / "out")
    result = train(*call, HF_TOKEN=token)
    assert result.returncode == 1
    assert words in result.stderr


def test_a_folder_that_would_not_load_is_refused_before_anything_is_sent(hub, train, folder):
    shutil.copy(folder / "config.json", folder / "config.copy")
    (folder / "model.safetensors").rename(folder / "weights")
    torch.save({}, folder / "pytorch_model.bin")
    result = train("publish", folder, NAME)
    assert "must hold its weights as model.safetensors (pytorch_model.bin would be a pickle" in result.stderr
    (folder / "model.safetensors").write_bytes((folder / "weights").read_bytes()[:-100])
    assert "model.safetensors is damaged or not complete" in train("publish", folder, NAME).stderr
    (folder / "weights").rename(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "auto_map"}))
    assert "names no code (auto_map)" in train("publish", folder, NAME).stderr
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_robust_clip.py").rename(folder / "other")
    assert "lacks the code that config.json names: modeling_robust_clip.py" in train("publish", folder, NAME).stderr
    (folder / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in train("publish", folder, NAME).stderr
    assert hub.requests == []


def test_the_processor_travels_with_the_model(hub, train, folder):
    RobustClipImageProcessor(size=48).save_pretrained(folder)
    train("publish", folder, NAME)
    assert json.loads(hub.models[NAME].files["preprocessor_config.json"])["size"] == 48
