"""Publish the page as a Space of the Hugging Face Hub: the project's own tracked files, in one commit."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from modeling.embedded import ROOT
from modeling.hub import hub_errors

from ..jobs.commit import git_commit
from .model import Publication, commit_files
from .options import PublishSpaceArguments

# What app.py reads, as git's patterns. README.md carries the Space's settings in its front matter.
SPACE: tuple[str, ...] = ("app.py", "command_line.py", "modeling", "space", "checkpoints/default", "requirements.txt")
SPACE += ("examples/*.jpg", "examples/*.webp", "examples/README.md", "README.md", "model_card.md", "LICENSE")
SPACE += ("docs/page.png", "docs/evaluation/scores.png", "docs/evaluation/reliability.png")
SPACE += ("docs/evaluation/robustness.png",)
# Deleted in the Space where it is not uploaded.
OURS = (*SPACE, "modeling/*", "space/*", "checkpoints/default/*", "examples/*", "docs/evaluation/*")


@dataclass(frozen=True)
class PublishedSpace:
    """The Space, and whether it needs a secret of its own to read its model."""

    publication: Publication
    model: str
    model_is_private: bool


def publish_space(arguments: PublishSpaceArguments, root: Path = ROOT) -> PublishedSpace:
    """Upload the page, with the model that it serves as the Space's variable MODEL_ID.

    Raises:
        ValueError: `root` is no git checkout, or lacks app.py.
        HubError: the Hub refused, or could not be reached, or has no such model.
    """
    files = space_files(root)
    private = False
    if arguments.model != "default":
        with hub_errors(arguments.model):
            private = bool(HfApi().model_info(arguments.model).private)
    publication = commit_files(
        arguments.repo_id,
        files,
        OURS,
        repo_type="space",
        public=arguments.public,
        message=f"Publish the page of commit {git_commit() or 'unknown'}",
        # A Space is reached from outside its container; on one's own machine the page listens to that machine alone.
        variables={"HOST": "0.0.0.0", "MODEL_ID": arguments.model},
    )
    return PublishedSpace(publication, arguments.model, private)


def space_files(root: Path = ROOT) -> dict[str, Path | bytes]:
    """Name to file: what git tracks of `SPACE`, so that nothing else that lies in the folders is uploaded.

    Raises:
        ValueError: `root` is no git checkout, or lacks app.py.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--", *SPACE]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError("Publishing the page needs git, which is not installed.") from None
    names = [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    if listed.returncode != 0 or "app.py" not in names:
        raise ValueError(f"{root} must be a git checkout of the project: only files that git tracks are published.")
    return {name: root / name for name in names}


__all__ = ["SPACE", "PublishedSpace", "publish_space", "space_files"]
