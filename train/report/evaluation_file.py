"""Reading and writing evaluation.json: the one place."""

import json
from pathlib import Path
from typing import Any, cast

from modeling.files import write_json

from ..measure.duplicates import without_record_ids
from ..measure.schema import VERSION, Evaluation, find_mismatch

EVALUATION_FILE = "evaluation.json"
_WHAT_TO_DO = "make it again with `python -m train fit` or `python -m train evaluate`"


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation from a file, or from evaluation.json in a folder.

    Raises:
        ValueError: it is not JSON, of another version, or a field is missing, unknown or of another type.
        FileNotFoundError: there is no such file.
    """
    path = path / EVALUATION_FILE if path.is_dir() else path
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error}): {_WHAT_TO_DO}.") from error
    version = evaluation.get("version") if isinstance(evaluation, dict) else None
    if version != VERSION:
        raise ValueError(f"{path} must be an evaluation of version {VERSION}, got version {version}: {_WHAT_TO_DO}.")
    if mismatch := find_mismatch(evaluation, Evaluation):
        raise ValueError(f"{path} must have the fields of version {VERSION}, but {mismatch}: {_WHAT_TO_DO}.")
    return cast(Evaluation, evaluation)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write evaluation.json into a folder: floats rounded to six digits after the point, no picture named.

    Raises:
        ValueError: the evaluation has not the fields that a reader expects.
    """
    written = as_written(evaluation)
    if mismatch := find_mismatch(written, Evaluation):
        raise ValueError(f"An evaluation must have the fields of version {VERSION}, but {mismatch}.")
    write_json(folder / EVALUATION_FILE, written)


def as_written(evaluation: Evaluation) -> Evaluation:
    """The evaluation as a reader of the file has it: rounded, no picture named."""
    audit = without_record_ids(evaluation["bias_audit"])
    return cast(Evaluation, rounded(evaluation | {"bias_audit": audit}))


def rounded(value: Any) -> Any:
    """Floats rounded to six digits after the point, however deep they lie."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


__all__ = ["EVALUATION_FILE", "as_written", "read_evaluation", "rounded", "write_evaluation"]
