"""Writes docs/reference.md from signatures and docstrings: `python docs/make_reference.py`.

The source is read and not imported, so this takes no PyTorch and a moment. A docstring's sections are Google's, as
ruff checks: a heading (Args, Returns, Yields, Raises, Example, References), below it indented lines.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
# What other code may rely on, in the order of the pages that use it. Of each, the names in `__all__`.
MODULES = {
    "Judge pictures": (
        "modeling.detector",
        "modeling.examination",
        "modeling.images",
        "modeling.checkpoints",
        "modeling.hub",
        "modeling.stability",
        "modeling.explanation",
        "modeling.provenance.reading",
        "modeling.cautions.finding",
        "modeling.cautions.known_data",
    ),
    "Model and processor": (
        "modeling.configuration_robust_clip",
        "modeling.modeling_robust_clip",
        "modeling.image_processing_robust_clip",
        "modeling.deliveries",
    ),
    "Train": (
        "train.data.records",
        "train.features.bank",
        "train.fit.fitting",
        "train.arguments",
        "train.embedding_dataset",
        "train.trainer",
        "train.losses",
        "train.sam",
    ),
    "Measure and publish": (
        "train.evaluate",
        "train.measure.evaluation",
        "train.measure.metrics",
        "train.measure.calibration",
        "train.calibrate",
        "train.publish.model",
    ),
}
INTRODUCTION = """# Reference

What other code may rely on, from its docstrings: written by `python docs/make_reference.py`, compared with them by a
test. Letters in brackets, such as (B, D), are shapes; a label is 0 for real and 1 for generated. The classes whose
names end in Arguments are also the flags of `python -m train COMMAND`.
"""
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example|References):$", re.MULTILINE)
_ENTRY = re.compile(r"^(\**[\w.]+): ", re.MULTILINE)


def reference() -> str:
    """The whole document."""
    parts = [INTRODUCTION]
    for title, modules in MODULES.items():
        parts.append(f"## {title}\n")
        for name in modules:
            source = (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
            parts += module_reference(name, source)
    return "\n".join(parts)


def module_reference(name: str, source: str) -> Iterator[str]:
    """Heading and docstring of a module, then its public names, in the order of the source."""
    tree = ast.parse(source)
    (public,) = (ast.literal_eval(node.value) for node in tree.body if _assigned(node) == "__all__")
    yield f"### {name}\n"
    yield _docstring(tree)
    for node in tree.body:
        if getattr(node, "name", None) in public:
            yield from _class(node) if isinstance(node, ast.ClassDef) else _function(node)
        elif _assigned(node) in public:
            value = ast.unparse(node.value)
            yield f"#### {_assigned(node)}\n\n`{value if len(value) < 100 else value[:97] + '...'}`\n"


def _assigned(node: ast.AST) -> str | None:
    """The name that a statement at the top of a module gives a value to."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else None


def _class(node: ast.ClassDef) -> Iterator[str]:
    """Signature, docstring, flags and public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    has_fields = bases == "NamedTuple" or any(
        "dataclass" in ast.unparse(d) or "strict" in ast.unparse(d) for d in node.decorator_list
    )
    fields = [item for item in node.body if has_fields and isinstance(item, ast.AnnAssign)]
    signature = ", ".join(_field(field) for field in fields if not _help(field))
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            signature = _parameters(item)
    signature = f"({signature})" if signature else ""
    yield f"#### {node.name}\n\n`class {node.name}{signature}`{f', a kind of `{bases}`' if bases else ''}\n"
    yield _docstring(node)
    if flags := [f"- `{_field(field)}`: {_help(field)}" for field in fields if _help(field)]:
        yield "**Fields**\n\n" + "\n".join(flags) + "\n"
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            yield from _function(item, f"{node.name}.")


def _function(node: ast.FunctionDef, owner: str = "") -> Iterator[str]:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    is_value = decorators & {"property", "cached_property"}
    yield f"#### {owner}{node.name}\n\n`{node.name}{'' if is_value else f'({_parameters(node)})'}{returns}`\n"
    yield _docstring(node)


def _parameters(node: ast.FunctionDef) -> str:
    """As in the source, without `self` and `cls`."""
    return re.sub(r"^(self|cls)(, )?", "", ast.unparse(node.args))


def _field(field: ast.AnnAssign) -> str:
    """`name: type = default` of a dataclass's field."""
    default = field.value
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        named = {word.arg: word.value for word in default.keywords}
        factory = named.get("default_factory")
        default = named.get("default") or (factory.body if isinstance(factory, ast.Lambda) else None)
        if isinstance(factory, ast.Name) and factory.id == "list":
            default = ast.List([])
    text = f"{ast.unparse(field.target)}: {ast.unparse(field.annotation)}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _help(field: ast.AnnAssign) -> str:
    """The help text of a command's argument; names that stand in it are left in braces."""
    for word in getattr(field.value, "keywords", []):
        if word.arg == "metadata" and isinstance(word.value, ast.Dict):
            text = word.value.values[0]
            return text.value if isinstance(text, ast.Constant) else ast.unparse(text)[2:-1]
    return ""


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """Markdown of a docstring: sections with bold headings, their entries as lists."""
    summary, *sections = _SECTION.split(ast.get_docstring(node) or "")
    parts = [summary.strip()]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        lines = [line.removeprefix("    ") for line in body.strip("\n").split("\n")]
        # What follows a section's indented lines is of the docstring again.
        end = next((i for i, line in enumerate(body.strip("\n").split("\n")) if line and line[0] != " "), len(lines))
        parts.append(f"**{heading}**\n\n{_section(heading, lines[:end])}")
        parts.append("\n".join(lines[end:]).strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(heading: str, lines: list[str]) -> str:
    text = "\n".join(lines).strip()
    if heading == "Example":
        return "\n".join(f"- `{line.removeprefix('>>> ')}`" for line in text.split("\n"))
    if heading in ("Args", "Raises"):
        return _ENTRY.sub(r"- `\1`: ", re.sub(r"^ +", "  ", text, flags=re.MULTILINE))
    return text


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
