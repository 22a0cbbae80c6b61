"""The import graph and the map of the project: `python docs/house.py` prints floors, arrows and circles.

`--write` writes the map into docs/house.md, one line a file, from what the file says of itself. Files are read, not
imported. A room is a folder, or a file that lies directly in modeling/, space/ or train/. An arrow goes from a room to
one that it imports, wherever in the file the import stands. A room's floor is one above the highest that it imports.
"""

import argparse
import ast
import re
import subprocess
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
MAP = Path("docs") / "house.md"
BEGIN, END = "<!-- map: python docs/house.py --write -->\n", "<!-- end of map -->"
_SAYS = re.compile(r"^(?:# |/\* )(.+?)(?: \*/)?$", re.MULTILINE)
# A function that is imported when it is called, as `train/__main__.py` names them.
_NAMED = re.compile(r"([\w.]+):\w+")
# The parts of the product, and which other parts each may import.
ARROWS = {
    "command_line": (),
    "modeling": ("command_line",),
    "space": ("modeling",),
    "train": ("modeling", "command_line"),
    "app": ("space", "modeling", "command_line"),
    "robust_clip": ("modeling", "command_line"),
}
# The rooms of train/ from the ground up: a room imports rooms of earlier lines, or of its own.
ORDER = (
    ("jobs", "data", "losses", "sam", "arguments", "embedding_dataset", "options", "parsing"),
    ("features",),
    ("measure", "score"),
    ("report", "calibrate", "sampling"),
    ("publish", "evaluate"),
    ("trainer",),
    ("fit",),
    ("study", "refit"),
    ("default",),
    ("__main__",),
)
# What no part of the product imports.
BESIDE = ("bench", "docs", "examples", "experiments", "tests")
# Folders whose files are data, or have a list of their own: one line for all of them.
WHOLE = {
    ".ci": "`.ci/run`: what must hold before a change lands",
    "checkpoints/default": "the embedded default without its backbone: config, head, processor, settings, evaluation",
    "docs/data": "the development set as facts: a line a picture, a line a source, and the sentences of evidence",
    "docs/evaluation": "the embedded default's report: figures, tables and plots",
    "examples": "example pictures and their licences; a program that loads a published folder without this project",
    "experiments": "lab notebook: what was tried, with plans, tables and programs; its README lists them",
    "modeling/languages": "the sentences of `modeling/sentences.py` by code, a file for each language",
    "space/templates": "HTML of the answer's parts",
    "tests": "a folder for each room, and `tests/e2e` with a real browser; a file's first line says what it proves",
    "train/report/templates": "the text around the figures of a model card and of a data set's page",
}
# Folders and files that do not say themselves what they are.
LINES = {
    ".": "the project",
    "bench": "benchmarks: a figure beside a baseline of the same run",
    "docs": "documents for users and contributors",
    "checkpoints": "what is embedded in the project",
    "train/recipes": "settings of `fit` in YAML",
    ".gitignore": "what git leaves out",
    ".pre-commit-config.yaml": "the lint, before each commit",
    "LICENSE": "MIT",
    "README.md": "what the project is and how to use it; the front matter is the Space's",
    "model_card.md": "the embedded default's card, written by `python -m train card`",
    "requirements.txt": "what the page and the model need",
    "pyproject.toml": "packaging, and the settings of ruff, mypy and pytest",
    "modeling/cautions/pages.json": "the line of `pages.py`, written by `experiments/text_pages.py`",
    "docs/page.png": "the page with an answer, for the README",
    "space/icon.svg": "the page's icon",
}

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """The product's modules by dotted name; a package stands for its `__init__.py`."""
    files = [file for part in ARROWS if (file := root / f"{part}.py").exists()]
    files += [file for part in ARROWS for file in sorted((root / part).rglob("*.py"))]
    names = {file: file.relative_to(root).with_suffix("").parts for file in files}
    return {".".join(name[:-1] if name[-1] == "__init__" else name): file for file, name in names.items()}


def imports(root: Path) -> Graph:
    """What each module imports of the project, anywhere in its text."""
    known = modules(root)
    return {name: _imported(name, file, known) - {name} for name, file in known.items()}


def _imported(name: str, file: Path, known: Iterable[str]) -> set[str]:
    found: set[str] = set()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and (named := _NAMED.fullmatch(node.value))
        ):
            found.add(f"{package}.{named[1]}")
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            # A name that is imported is a module, or stands in the module that it is imported from.
            found.update(full if (full := f"{origin}.{alias.name}") in known else origin for alias in node.names)
    return {target for target in found if target in known or target.split(".")[0] in BESIDE}


def room(module: str) -> str:
    """The folder of a module, or the module itself where it lies open on top of its part."""
    part, *names = module.split(".")
    return part if not names else f"{part}.{names[0]}"


def rooms(graph: Graph) -> Graph:
    """The arrows between rooms."""
    joined: Graph = {room(module): set() for module in graph}
    for module, targets in graph.items():
        joined[room(module)] |= {room(target) for target in targets} - {room(module)}
    return joined


def inside(graph: Graph, part: str) -> Graph:
    """The arrows of a graph that stay in one part."""

    def belongs(name: str) -> bool:
        return name.split(".")[0] == part

    return {name: set(filter(belongs, targets)) for name, targets in graph.items() if belongs(name)}


def circles(graph: Graph) -> list[set[str]]:
    """Names that import each other, directly or around."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached.get(other, ())) for name in graph}
    return sorted((set(group) for group in groups if group), key=sorted)


def _reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def floors(graph: Graph) -> list[list[str]]:
    """The names on each floor, the ground first; names in a circle stand together."""
    group = {name: "/".join(sorted(circle)) for circle in circles(graph) for name in circle}
    joined: dict[str, set[str]] = {group.get(name, name): set() for name in graph}
    for name, targets in graph.items():
        own = group.get(name, name)
        joined[own] |= {group.get(target, target) for target in targets} - {own}
    sorter = TopologicalSorter(joined)
    sorter.prepare()
    levels = []
    while sorter.is_active():
        levels.append(sorted(ready := sorter.get_ready()))
        sorter.done(*ready)
    return levels


def forbidden(graph: Graph) -> list[str]:
    """Arrows that the drawing does not allow, a sentence each."""
    level = {f"train.{name}": height for height, names in enumerate(ORDER) for name in names}
    found = []
    for module, targets in sorted(graph.items()):
        part = module.split(".")[0]
        for target in sorted(targets):
            other = target.split(".")[0]
            if other != part and other not in ARROWS[part]:
                found.append(
                    f"{module} imports {target}: {part} may import {' and '.join(ARROWS[part]) or 'nothing of ours'}"
                )
            elif level.get(room(target), 0) > level.get(room(module), len(ORDER)):
                found.append(f"{module} imports {target}, which stands above it in ORDER of docs/house.py")
    unknown = {room(module) for module in graph if module.startswith("train.")} - level.keys()
    return found + [f"{name} has no place in ORDER of docs/house.py" for name in sorted(unknown)]


def print_numbers(root: Path) -> None:
    """Counts of files and lines, then the rooms of each part by floor, and what the drawing does not allow."""
    graph, files = imports(root), modules(root)
    print("                files   lines   rooms  floors  arrows  circles")
    for part in [*ARROWS, "all of them"]:
        own = graph if part == "all of them" else inside(graph, part)
        between = rooms(own)
        lines = sum(_lines(files[name]) for name in own)
        counts = (len(own), lines, len(between), len(floors(between)), sum(map(len, between.values())))
        print(f"{part:<13}", *(f"{count:7,}" for count in (*counts, len(circles(between)))))
    for folder in BESIDE:
        if others := sorted((root / folder).rglob("*.py")):
            print(f"{folder:<13} {len(others):7,} {sum(map(_lines, others)):7,}")
    for part in ("modeling", "space", "train"):
        between = rooms(inside(graph, part))
        print(f"\n{part}/")
        for height, level in reversed(list(enumerate(floors(between), 1))):
            for name in level:
                arrows = ", ".join(_short(target) for target in sorted(between.get(name, ())))
                print(f"  floor {height:2d}  {_short(name)}{' -> ' if arrows else ''}{arrows}")
    for circle in circles(rooms(graph)):
        print(f"circle: {', '.join(sorted(circle))}")
    print(*(f"not allowed: {arrow}" for arrow in forbidden(graph)), sep="\n")


def _short(name: str) -> str:
    return name.partition(".")[2] or "__init__"


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def tracked(root: Path) -> list[str]:
    """The project's files as git knows them, and files that are new in the folders of the map."""
    known = [*LINES, *WHOLE, *ARROWS]
    new = ["--others", "--exclude-standard", "--", *(f"{name}/**" for name in known if name != ".")]
    names: set[str] = set()
    for which in (["--cached"], new):
        command = ["git", "-C", str(root), "ls-files", *which]
        names.update(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    return sorted(name for name in names if (root / name).exists())


def house_map(root: Path) -> str:
    """The map: a nested list with a line for each folder and file, folders first.

    Raises:
        ValueError: a folder or file says nothing of itself; the message says where to write its line.
    """
    entries = set()
    for file in map(PurePosixPath, tracked(root)):
        folders = [folder for folder in reversed(file.parents) if folder.name]
        whole = next((folder for folder in folders if str(folder) in WHOLE), None)
        entries |= {(folder, True) for folder in folders if whole is None or folder in (whole, *whole.parents)}
        if whole is None and file.name != "__init__.py":
            entries.add((file, False))

    def order(entry: tuple[PurePosixPath, bool]) -> list[tuple[bool, str]]:
        path, is_folder = entry
        return [(False, name) for name in path.parts[:-1]] + [(not is_folder, path.name)]

    return "".join(_entry(root, path, is_folder) for path, is_folder in sorted(entries, key=order))


def _entry(root: Path, path: PurePosixPath, is_folder: bool) -> str:
    line = (
        WHOLE.get(str(path))
        or LINES.get(str(path))
        or _says(root / path / "__init__.py" if is_folder else root / path)
    )
    if not line:
        raise ValueError(
            f"{path} has no line in the map: give it a docstring, a heading or a first comment, "
            "or write its line into LINES of docs/house.py."
        )
    return f"{'  ' * (len(path.parts) - 1)}- `{path.name}{'/' if is_folder else ''}`: {line.rstrip('.:')}\n"


def _says(file: Path) -> str:
    """The first line of a module's docstring, the heading of a document, or the first comment of another file."""
    if not file.exists():
        return ""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    found = _SAYS.search(text)
    return found[1] if found else ""


def with_map(root: Path) -> str:
    """docs/house.md with the map as it should be."""
    before, _, rest = (root / MAP).read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{house_map(root)}{END}{rest.partition(END)[2]}"


def main() -> None:
    """Print the numbers of a tree, or write its map."""
    parser = argparse.ArgumentParser(description="Floors, arrows and circles of what imports what, and the map.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the project's folder (default: this one)")
    parser.add_argument("--write", action="store_true", help="write the map into docs/house.md instead")
    arguments = parser.parse_args()
    if not arguments.write:
        return print_numbers(arguments.root)
    try:
        (arguments.root / MAP).write_text(with_map(arguments.root), encoding="utf-8")
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
