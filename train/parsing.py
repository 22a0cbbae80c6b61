"""Dataclasses as a command line: flags or one YAML file, help in groups, and the nearest name for a typo.

Unlike transformers' HfArgumentParser it imports nothing heavy, so that help and errors come at once. Names, types and
texts are those of the fields; a group of the help is a class, titled by the first line of its docstring. What
`transformers.TrainingArguments` has besides our own fields is left to HfArgumentParser.
"""

import argparse
import dataclasses
import difflib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml

from .options import MethodArguments, TrainerArguments


@dataclass(frozen=True)
class Command:
    """One command of `python -m train`.

    Args:
        name: on the command line.
        summary: what it does, in a line.
        run: "module:function" within train, imported when the command runs. It takes one instance of each class.
        options: dataclasses. With `TrainerArguments` among them, the last instance is `RobustTrainingArguments`.
        by_place: options that may be given by place, all of them or none.
        first: options that help lists first.
    """

    name: str
    summary: str
    run: str
    options: tuple[type, ...]
    by_place: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    trains: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trains", TrainerArguments in self.options)


def parse(command: Command, arguments: list[str]) -> list[Any]:
    """Instances of the command's classes from flags, or from one YAML file and flags that override it.

    Raises:
        SystemExit: help was asked for, or the arguments are wrong, which is then said on stderr.
        ValueError: the YAML file does not hold settings, or a class rejects a value.
    """
    parser = _parser(command, everything="--help_all" in arguments)
    if "--help_all" in arguments:
        parser.parse_args(["--help"])
    known, unknown = parser.parse_known_args(_as_flags(command, arguments))
    given = vars(known)
    if unknown and not command.trains:
        _reject(parser, unknown, _names(command.options))
    if missing := [f"--{name}" for name in _required(command) if name not in given]:
        parser.error(f"missing: {', '.join(missing)}" + (f"; unknown: {' '.join(unknown)}" if unknown else ""))
    # First what needs no torch: a wrong value of it is named at once.
    own = [_instance(cls, given) for cls in command.options if cls not in (MethodArguments, TrainerArguments)]
    if not command.trains:
        return own
    from .arguments import RobustTrainingArguments

    # Without a flag that only transformers knows there is nothing to leave to its parser.
    rest = _other_training_arguments(parser, command, unknown) if unknown else {}
    return [*own, _instance(RobustTrainingArguments, rest | given)]


def nearest(name: str, names: Iterable[str]) -> str:
    """A question that proposes the most similar name, or nothing."""
    similar = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


def _instance(cls: type, values: Mapping[str, Any]) -> Any:
    return cls(**{name: values[name] for name in _names([cls]) if name in values})


def _names(classes: Iterable[type]) -> list[str]:
    return [option.name for cls in classes for option in dataclasses.fields(cls) if option.init]


def _reject(parser: argparse.ArgumentParser, unknown: list[str], names: Iterable[str]) -> NoReturn:
    flags = [argument for argument in unknown if argument.startswith("--")]
    if not flags:
        parser.error(f"{unknown[0]!r} is not expected here")
    name = flags[0].partition("=")[0]
    parser.error(f"there is no option {name}{nearest(name, (f'--{other}' for other in names))}")


def _other_training_arguments(
    parser: argparse.ArgumentParser, command: Command, arguments: list[str]
) -> dict[str, Any]:
    """Values of what only `transformers.TrainingArguments` names."""
    from transformers import HfArgumentParser

    from .arguments import RobustTrainingArguments

    cls: Any = RobustTrainingArguments  # its own annotation asks for more than a dataclass
    theirs = HfArgumentParser(cls, prog=parser.prog, usage=parser.usage, allow_abbrev=False)
    values, unknown = theirs.parse_known_args(arguments)
    if unknown:
        _reject(parser, unknown, [*_names(command.options), *_names([RobustTrainingArguments])])
    return vars(values)


def _as_flags(command: Command, arguments: list[str]) -> list[str]:
    """A leading YAML file or values by place as flags, and `--a-b` as `--a_b`."""
    leading = [*itertools.takewhile(lambda argument: not argument.startswith("-"), arguments)]
    flags = [_underscored(argument) for argument in arguments]
    if command.by_place == ("plan",) and len(leading) == 2:  # a plan is a YAML file too, and no file of settings
        return ["--plan", leading[0], *yaml_flags(Path(leading[1])), *flags[2:]]
    if leading and leading[0].endswith((".yaml", ".yml")) and command.by_place != ("plan",):
        return yaml_flags(Path(leading[0])) + flags[1:]
    if command.by_place and len(leading) == len(command.by_place):
        by_place = zip(command.by_place, leading, strict=True)
        return [part for name, value in by_place for part in (f"--{name}", value)] + flags[len(leading) :]
    return flags


def _underscored(argument: str) -> str:
    name, sign, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{sign}{value}" if argument.startswith("--") else argument


def yaml_flags(path: Path) -> list[str]:
    """A YAML file's settings as flags, so that the same parser checks names and types.

    Raises:
        ValueError: it is no YAML, or does not hold `name: value` lines.
    """
    return _flags(read_yaml(path))


def typed(classes: Iterable[type], settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings with the types that the classes' fields have; what is no field of theirs stays as it is.

    Raises:
        ValueError: a value does not have its field's type.
    """
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS, allow_abbrev=False, exit_on_error=False)
    known = {}
    for cls in classes:
        for option in dataclasses.fields(cls):
            if option.name in settings and option.name not in known:
                known[option.name] = settings[option.name]
                _add(parser, option, get_type_hints(cls)[option.name])
    try:
        values, unknown = parser.parse_known_args(_flags(known))
    except argparse.ArgumentError as error:
        raise ValueError(f"{where}: {error}.") from error
    if unknown:
        raise ValueError(f"{where} must hold one value for each name, got {' '.join(unknown)} besides.")
    return settings | vars(values)


def _flags(settings: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in settings.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [f"--{name}", *map(str, values)]
    return flags


def read_yaml(path: Path) -> dict[str, Any]:
    """What a YAML file of `name: value` lines holds.

    Raises:
        ValueError: it is no YAML, or does not hold `name: value` lines.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold `name: value` lines, got {type(content).__name__}.")
    return content


def _parser(command: Command, *, everything: bool) -> argparse.ArgumentParser:
    """The parser of our own fields; with `everything`, help lists the rest of `TrainingArguments` too."""
    parser = argparse.ArgumentParser(
        prog=f"python -m train {command.name}",
        usage=_usage(command),
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog="A YAML file holds `option: value` lines; options after it override them."
        + (" --help_all also lists the other arguments of transformers.TrainingArguments." if command.trains else ""),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34),
    )
    first = parser.add_argument_group("Main options") if command.first else None
    classes = list(command.options)
    if everything and command.trains:
        from .arguments import RobustTrainingArguments

        classes.append(RobustTrainingArguments)
    seen: set[str] = set()
    # A group that stays empty is not shown.
    groups = {owner: parser.add_argument_group(_title(owner)) for cls in classes for owner in cls.__mro__}
    options = [(cls, option) for cls in classes for option in dataclasses.fields(cls)]
    # By place in `first`, then as declared.
    options.sort(key=lambda pair: command.first.index(pair[1].name) if pair[1].name in command.first else 99)
    for cls, option in options:
        if option.name in seen or not option.init:
            continue
        seen.add(option.name)
        owner = next(base for base in cls.__mro__ if option.name in base.__dict__.get("__annotations__", {}))
        group = first if option.name in command.first else groups[owner]
        _add(group, option, get_type_hints(cls)[option.name])
    return parser


def _title(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _usage(command: Command) -> str:
    """The forms of a call: by place, by flags, by a YAML file."""
    flags = "".join(f" --{name} {name.upper()}" for name in _required(command) if name not in command.by_place)
    places = "".join(f" {name.upper()}" for name in command.by_place)
    forms = [f"{places}{flags} [options]"]
    forms.append(f"{places if command.by_place == ('plan',) else ''} FILE.yaml [options]")
    return f"\n{' ' * len('usage: ')}".join(f"python -m train {command.name}{form}" for form in forms)


def _required(command: Command) -> list[str]:
    options = [option for cls in command.options for option in dataclasses.fields(cls)]
    return [option.name for option in options if _is_required(option)]


def _is_required(option: dataclasses.Field) -> bool:
    return option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING


def _add(group: Any, option: dataclasses.Field, hint: Any) -> None:
    """One field as a flag."""
    arms = [arm for arm in get_args(hint) if arm is not NoneType] if get_origin(hint) in (Union, UnionType) else [hint]
    kind: Any = arms[0] if len(arms) == 1 else _json_object if dict in arms else str
    settings: dict[str, Any] = {"help": _help(option)}
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
        settings["nargs"] = "*"
    if get_origin(kind) is Literal:
        settings["choices"] = get_args(kind)
    elif kind is bool:
        settings |= {"type": _true_or_false, "nargs": "?", "const": True, "metavar": "true|false"}
    else:
        settings |= {"type": kind, "metavar": {int: "N", float: "X"}.get(kind, "TEXT")}
    group.add_argument(f"--{option.name}", **settings)


def _help(option: dataclasses.Field) -> str:
    text = str(option.metadata.get("help", "")).strip().replace("%", "%%")
    if _is_required(option):
        return f"{text} (required)"
    default = option.default if option.default_factory is dataclasses.MISSING else option.default_factory()
    if default is None or default is False or default in ("", [], {}):
        return text
    shown = " ".join(map(str, default)) if isinstance(default, list) else str(default).replace("'", '"')
    return f"{text} (default: {shown.replace('%', '%%')})"


def _json_object(text: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"""expected a JSON object such as '{{"min_lr": 1e-5}}', got {text!r}""")
    return value


def _true_or_false(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


__all__ = ["Command", "nearest", "parse", "read_yaml", "typed", "yaml_flags"]
