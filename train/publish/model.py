"""Publish a checkpoint on the Hugging Face Hub: everything that loading it needs, in one commit, and no pickle.

huggingface_hub's `upload_folder` may make several commits (2.4, with hf_xet installed), and Trainer pushes its output
folder with a pickle of the arguments. Here `create_commit` is given an explicit list of files, so that a repository
holds the whole old model or the whole new one at any time, and an interrupted publishing leaves the old one.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from modeling.backends import GRAPH_FILE, graph_fingerprint, make_graph, read_fingerprint
from modeling.checkpoints import COMPANIONS, resolve_checkpoint
from modeling.embedded import CARD_FILE
from modeling.hub import LOGIN, HubError, hub_errors
from modeling.proof import load_checkpoint

from ..report.card import NOTES_FILE
from .card import published_card, states_licence
from .options import PublishArguments

logger = logging.getLogger(__name__)

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
# Published where they are there, and ours to delete in the repository where they are there no more.
OURS: tuple[str, ...] = ("config.json", WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors", "*_robust_clip.py")
OURS += ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
OURS += ("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
OURS += (GRAPH_FILE, *COMPANIONS, NOTES_FILE, "fit.yaml", "LICENSE")
# Never published; deleted where an earlier push of `transformers.Trainer` left them: loaders would prefer or run them.
LEFTOVERS: tuple[str, ...] = (
    "training_args.bin",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
)
# Written by versions of this project before December 2026.
LEFTOVERS += ("model_int8.onnx",)


@dataclass(frozen=True)
class Publication:
    """What is on the Hub now.

    Args:
        repo_id: "owner/name".
        url: its page.
        commit: what `revision=` pins.
        changed: whether a commit was made; `False` if everything was up to date.
        files: names of what is published.
        deleted: names of what this commit took away.
        private: whether only its owner sees it.
        info: huggingface_hub's own answer.
    """

    repo_id: str
    url: str
    commit: str
    changed: bool
    files: list[str]
    deleted: list[str]
    private: bool
    info: CommitInfo


def publish(arguments: PublishArguments) -> Publication:
    """Publish a checkpoint for the command.

    Raises:
        ValueError: the checkpoint is not complete, or its weights are not safetensors.
        HubError: the Hub refused, or could not be reached.
    """
    folder = Path(resolve_checkpoint(arguments.checkpoint))
    if not folder.is_dir():
        raise ValueError(f"`checkpoint` must be a folder or `default`, got {arguments.checkpoint!r}.")
    return publish_checkpoint(folder, arguments.repo_id, public=arguments.public, onnx=arguments.onnx)


def publish_checkpoint(
    folder: Path,
    repo_id: str,
    *,
    public: bool = False,
    onnx: bool = False,
    message: str = "Publish the detector",
    token: str | None = None,
    revision: str | None = None,
) -> Publication:
    """Put a `save_pretrained` folder of ours on the Hub: weights, processor, code, card and what was measured.

    Args:
        folder: with config.json and safetensors weights.
        repo_id: "owner/name".
        public: a new repository is private otherwise. An existing one is made public, never made private.
        onnx: also the ONNX graph, where the folder has none.
        message: of the commit.
        token: with write access; the one that the user is logged in with by default.
        revision: branch; main by default.

    Raises:
        ValueError: the folder is not complete, its weights are not safetensors, or a graph in it is of other weights.
        CheckpointError: it is not what it was when it was made.
        HubError: the Hub refused, or could not be reached.
    """
    check_publishable(folder)
    files: dict[str, Path | bytes] = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_file() and is_ours(path.name)
    }
    model, processor = load_checkpoint(folder)
    if GRAPH_FILE in files:
        check_graph(folder / GRAPH_FILE, graph_fingerprint(model, processor.size))
    elif onnx:
        files[GRAPH_FILE] = make_graph(model, processor.size)
    card = published_card(folder, repo_id)
    if not states_licence(card):
        logger.warning(
            "The card states no licence, so that nobody else may use the model. Write `license: ...` into %s, run "
            "`python -m train card --checkpoint %s`, and publish again.",
            NOTES_FILE,
            folder,
        )
    files[CARD_FILE] = card.encode()
    return commit_files(
        repo_id, files, OURS + LEFTOVERS, public=public, message=message, token=token, revision=revision
    )


def is_ours(name: str) -> bool:
    """Whether a file of a checkpoint's folder is published."""
    return any(fnmatch(name, pattern) for pattern in OURS)


def check_graph(graph: Path, fingerprint: str) -> None:
    """Refuse an ONNX graph that was not exported from the model of a fingerprint.

    Raises:
        ValueError: it was exported from other weights, or before the calibration.
    """
    if read_fingerprint(graph) != fingerprint:
        raise ValueError(
            f"{graph} was not exported from these weights and this calibration: run `python -m train export` "
            "again, or delete it."
        )


def check_publishable(folder: Path) -> None:
    """See that the folder loads by itself: whole safetensors weights, a processor, and the code of config.json.

    Raises:
        ValueError: with what is missing.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json.")
    names = [WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        names = sorted(set(json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            found = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
            pickles = f" ({', '.join(found)} would be a pickle, which is never published)" if found else ""
            raise ValueError(f"{folder} must hold its weights as {name}{pickles}: save it by `save_pretrained`.")
        try:
            with safe_open(folder / name, framework="pt") as weights:
                weights.keys()
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged or not complete: {error}.") from error
    if not (folder / "preprocessor_config.json").is_file():
        raise ValueError(f"{folder} has no preprocessor_config.json: save the image processor there too.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    code = {f"{reference.split('.')[0]}.py" for reference in config.get("auto_map", {}).values()}
    if missing := sorted(name for name in code if not (folder / name).is_file()):
        raise ValueError(f"{folder} lacks the code that config.json names: {', '.join(missing)}. Save it again.")
    if not code:
        raise ValueError(f"{folder}/config.json names no code (auto_map): import `modeling`, then save it again.")


def check_target(repo_id: str, token: str | None = None) -> None:
    """What can be known before anything is sent.

    Raises:
        HubError: the name is none of a repository, or nobody is logged in.
    """
    if repo_id.count("/") != 1:
        raise HubError(f"The repository's name must be owner/name, got {repo_id!r}.")
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
    if token is None and get_token() is None:
        raise HubError(f"You are not logged in: {LOGIN}, with a token that may write.")


def commit_files(
    repo_id: str,
    files: Mapping[str, Path | bytes],
    ours: tuple[str, ...],
    *,
    repo_type: str = "model",
    public: bool = False,
    message: str,
    variables: Mapping[str, str] | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Publication:
    """Make a repository hold exactly these files, of those that are ours, in one commit.

    Args:
        repo_id: "owner/name".
        files: name in the repository to a file, or its content.
        ours: patterns of names. What matches one and is not among `files` is deleted; anything else is left alone.
        repo_type: "model" or "space".
        public: see `publish_checkpoint`.
        message: of the commit.
        variables: of a Space; set before the commit, so that the first build has them.
        token: see `publish_checkpoint`.
        revision: see `publish_checkpoint`.

    Raises:
        HubError: the Hub refused, or could not be reached.
    """
    check_target(repo_id, token)
    api, is_space = HfApi(token=token), repo_type == "space"
    with hub_errors(repo_id):
        api.create_repo(
            repo_id, repo_type=repo_type, private=not public, exist_ok=True, space_sdk="gradio" if is_space else None
        )
        there = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
        names = set(api.list_repo_files(repo_id, repo_type=repo_type, revision=there.sha)) - files.keys()
        gone = sorted(name for name in names if any(fnmatch(name, pattern) for pattern in ours))
        if variables:
            known = {name: variable.value for name, variable in api.get_space_variables(repo_id).items()}
            for name, value in variables.items():
                if known.get(name) != value:
                    api.add_space_variable(repo_id, name, value)
        commit = api.create_commit(
            repo_id,
            # Files that have not changed are left out of the commit; with none left there is no commit.
            [CommitOperationAdd(name, source) for name, source in files.items()]
            + [CommitOperationDelete(name, is_folder=False) for name in gone],
            commit_message=message,
            repo_type=repo_type,
            revision=revision,
            parent_commit=there.sha,  # refused if somebody else commits meanwhile
        )
        if public and there.private:
            api.update_repo_settings(repo_id, repo_type=repo_type, private=False)
    url = f"{constants.ENDPOINT}/{'spaces/' if is_space else ''}{repo_id}"
    private = bool(there.private) and not public
    return Publication(repo_id, url, commit.oid, commit.oid != there.sha, sorted(files), gone, private, commit)


__all__ = [
    "OURS",
    "Publication",
    "check_graph",
    "check_publishable",
    "check_target",
    "commit_files",
    "is_ours",
    "publish",
    "publish_checkpoint",
]
