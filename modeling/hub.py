"""What the Hugging Face Hub refuses, said in a sentence that tells what to do.

huggingface_hub and transformers raise many kinds of errors, one inside the other, and a missing repository, a private
one and a wrong token look alike. Here the cause is looked up and put into words once, for loading and for publishing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import cached_file

from command_line import chain_of

from .embedded import CheckpointError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_CAUSES: tuple[type[Exception], ...] = (HfHubHTTPError, httpx2.TransportError, OfflineModeIsEnabled)
_CAUSES += (HFValidationError, LocalTokenNotFoundError, EntryNotFoundError)


class HubError(CheckpointError):
    """The Hub could not be used as asked. The message says why and what to do."""


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the Hub's libraries raise within this block into `HubError`; other errors pass.

    Args:
        repo_id: "owner/name" of the repository that the block is about.

    Raises:
        HubError: from the original error.
    """
    try:
        yield
    except HubError:
        raise
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        causes = [cause for cause in chain_of(error) if isinstance(cause, _CAUSES)]
        if not causes:
            raise
        # The innermost answer of a server says most; a missing cache entry only follows from it.
        answers = [cause for cause in causes if isinstance(cause, HfHubHTTPError)]
        network = [cause for cause in causes if isinstance(cause, httpx2.TransportError)]
        raise HubError(_sentence([*answers, *network, *causes][0], repo_id)) from error


def optional_file(checkpoint: str | os.PathLike, name: str) -> Path | None:
    """A document beside a checkpoint's weights, such as its card; `None` where there is none, or no connection.

    Args:
        checkpoint: a folder, or a Hub id (the file is fetched once).
        name: the file's name.
    """
    if Path(checkpoint).is_dir():
        file = Path(checkpoint) / name
        return file if file.is_file() else None
    try:
        found = cached_file(str(checkpoint), name)
    except OSError:
        return None
    return Path(found) if found else None


def _sentence(error: BaseException, repo_id: str) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"{repo_id} is gated: its owner decides who may load it. Ask for access on its page "
            f"({constants.ENDPOINT}/{repo_id}), then {LOGIN} of the account that got it."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no {repo_id} on the Hub that you may see. Check the spelling; if it is private, {LOGIN} of an "
            "account that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision: expected a branch, a tag or a full commit id."
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)) and constants.HF_HUB_OFFLINE:
        return f"{repo_id} needs the Hub, but HF_HUB_OFFLINE is set: unset it."
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{repo_id} lacks a file that is needed ({_first_line(error)}): it is no checkpoint of this project."
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repo_id)
    if isinstance(error, LocalTokenNotFoundError):
        return f"You are not logged in: {LOGIN}."
    if isinstance(error, HFValidationError):
        return f"The repository's name must be owner/name, got {repo_id!r}: {_first_line(error)}"
    return (
        f"The connection to the Hub ({constants.ENDPOINT}) failed: {type(error).__name__}: {_first_line(error)}. "
        "Check the network and try again; what was finished is kept, and nothing is half-written."
    )


def _refusal(error: HfHubHTTPError, repo_id: str) -> str:
    """Words for an answer that is known by its status alone."""
    status = error.response.status_code
    if status == 401:
        return f"The Hub did not accept your token (401): {LOGIN} again, with a token that is still valid."
    if status == 403:
        return (
            f"Your token may not do this with {repo_id} (403). Writing needs a token with write access, and an "
            f"account that may write there: make one in the Hub's settings, then {LOGIN}."
        )
    if status == 412:
        return f"{repo_id} was changed by somebody else meanwhile: run the command again."
    if status == 429 or status >= 500:
        return f"The Hub is busy or has a problem of its own ({status}): try again later."
    return f"The Hub refused ({status}) for {repo_id}: {error.server_message or _first_line(error)}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no reason was given"


__all__ = ["LOGIN", "HubError", "hub_errors", "optional_file"]
