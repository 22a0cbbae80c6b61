"""Reading and writing evaluation.json: the one place. A file that lacks a field, or has another, is refused."""

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from modeling.files import write_json

from ..measure.duplicates import without_record_ids
from ..measure.schema import VERSION, Evaluation

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


def find_mismatch(value: object, expected: Any, place: str = "") -> str | None:
    """The first place where a value read from JSON differs from a type, in words; `None` where it fits.

    Args:
        value: dictionaries, lists, texts, numbers, truth values and `None`.
        expected: a TypedDict, `dict[str, ...]`, `list`, `tuple`, `... | None`, `Any`, or a plain type. `Annotated` by
            names, a dictionary has these keys and no other, and a text is one of them.
        place: how the value is called.
    """
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Any or (value is None and NoneType in arguments):
        return None
    if origin in (Union, UnionType):  # `Annotated[...] | None` is the former
        return find_mismatch(value, next(kind for kind in arguments if kind is not NoneType), place)
    if is_typeddict(expected):
        return _fields_mismatch(value, get_type_hints(expected, include_extras=True), place)
    if origin is Annotated:
        kind, names = arguments
        if get_origin(kind) is dict:
            return _fields_mismatch(value, dict.fromkeys(names, get_args(kind)[1]), place)
        return None if value in names else f"{place} is {value!r}"
    if origin is dict:
        return _fields_mismatch(value, dict.fromkeys(value if isinstance(value, dict) else (), arguments[1]), place)
    if origin in (list, tuple):
        return _items_mismatch(value, arguments, place, is_tuple=origin is tuple)
    fits = isinstance(value, (int, float) if expected is float else expected)
    return None if fits and (expected is bool or not isinstance(value, bool)) else f"{place} is {value!r}"


def _fields_mismatch(value: object, fields: dict[str, Any], place: str) -> str | None:
    if not isinstance(value, dict):
        return f"{place or 'it'} is {type(value).__name__} instead of fields"
    prefix = f"{place}." if place else ""
    if missing := [name for name in fields if name not in value]:
        return f"{prefix}{missing[0]} is missing"
    if unknown := sorted(set(value) - set(fields)):
        return f"{prefix}{unknown[0]} is unknown"
    found = (find_mismatch(value[name], kind, f"{prefix}{name}") for name, kind in fields.items())
    return next((mismatch for mismatch in found if mismatch), None)


def _items_mismatch(value: object, kinds: tuple[Any, ...], place: str, *, is_tuple: bool) -> str | None:
    if not isinstance(value, list | tuple):
        return f"{place} is {type(value).__name__} instead of a list"
    if is_tuple and len(value) != len(kinds):
        return f"{place} has {len(value)} items instead of {len(kinds)}"
    of_each = kinds if is_tuple else kinds * len(value)
    found = (
        find_mismatch(item, kind, f"{place}[{number}]")
        for number, (item, kind) in enumerate(zip(value, of_each, strict=True))
    )
    return next((mismatch for mismatch in found if mismatch), None)


__all__ = ["EVALUATION_FILE", "as_written", "find_mismatch", "read_evaluation", "rounded", "write_evaluation"]
