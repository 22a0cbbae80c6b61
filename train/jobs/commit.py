"""Which commit of the code runs."""

import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """Commit of the code that runs, with a mark if it was changed; `None` outside the project's repository."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():  # installed, perhaps within somebody else's repository
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None


__all__ = ["git_commit"]
