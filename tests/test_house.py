"""The drawing in docs/house.md holds: one-way arrows, no circles, and a map with a line for every folder and file."""

import subprocess

import pytest

from docs.house import MAP, ROOT, circles, floors, forbidden, house_map, imports, rooms, with_map


def project(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def test_only_the_arrows_of_the_drawing_are_imported():
    assert not forbidden(imports(ROOT))


def test_neither_files_nor_rooms_import_each_other_in_a_circle():
    graph = imports(ROOT)
    assert not circles(graph) and not circles(rooms(graph))


def test_the_map_and_the_tree_are_the_same():
    written, wanted = (ROOT / MAP).read_text(encoding="utf-8"), with_map(ROOT)
    missing = set(wanted.splitlines()) - set(written.splitlines())
    over = set(written.splitlines()) - set(wanted.splitlines())
    lines = "\n".join([*(f"add    {line}" for line in sorted(missing)), *(f"remove {line}" for line in sorted(over))])
    assert written == wanted, f"{MAP} is not the tree. Run `python docs/house.py --write`, which does this:\n{lines}"


def test_an_import_is_seen_wherever_and_however_it_is_written(tmp_path):
    files = {
        "modeling/__init__.py": "from .images import open_image",
        "modeling/images.py": "",
        "train/__init__.py": "",
        "train/data/__init__.py": "from .records import load_records",
        "train/data/records.py": "def load_records():\n    import modeling.images",
        "train/features/bank.py": "from ..data import records\nfrom modeling import images, open_image",
        "train/__main__.py": "COMMANDS = ('features.bank:build', 'real:generated')",
        "app.py": "import torch\nfrom tests.conftest import VISION",
    }
    graph = imports(project(tmp_path, files))
    assert graph["modeling"] == {"modeling.images"}
    assert graph["train.data"] == {"train.data.records"}
    assert graph["train.data.records"] == {"modeling.images"}
    assert graph["train.features.bank"] == {"train.data.records", "modeling.images", "modeling"}
    assert rooms(graph)["train.features"] == {"train.data", "modeling.images", "modeling"}
    assert graph["train.__main__"] == {"train.features.bank"}
    assert graph["app"] == {"tests.conftest"}


def test_floors_are_counted_from_those_who_import_nothing_and_a_circle_is_one():
    graph = {"roof": {"hall", "cellar"}, "hall": {"cellar"}, "cellar": set(), "left": {"right"}, "right": {"left"}}
    assert floors(graph) == [["cellar", "left/right"], ["hall"], ["roof"]]
    assert circles(graph) == [{"left", "right"}]


@pytest.mark.parametrize(
    ("module", "target", "sentence"),
    [
        ("modeling.images", "train.data", "modeling.images imports train.data: modeling may import command_line"),
        ("app", "train.fit", "app imports train.fit: app may import space and modeling and command_line"),
        ("train.data", "bench.sample", "train.data imports bench.sample: train may import modeling and command_line"),
        ("train.data", "train.fit.held_out", "train.data imports train.fit.held_out, which stands above it in ORDER"),
        ("train.new", "modeling", "train.new has no place in ORDER"),
    ],
)
def test_an_arrow_that_is_not_allowed_is_named(module, target, sentence):
    (found,) = forbidden({module: {target}})
    assert sentence in found


def test_a_new_file_gets_the_line_that_it_says_of_itself(tmp_path):
    files = {
        "bench/new.py": '"""How fast is it?\n\nMore."""',
        "docs/use.md": "# Use it\n",
        "bench/x.css": "/* The look. */",
    }
    assert house_map(project(tmp_path, files)).splitlines() == [
        "- `bench/`: benchmarks: a figure beside a baseline of the same run",
        "  - `new.py`: How fast is it?",
        "  - `x.css`: The look",
        "- `docs/`: documents for users and contributors",
        "  - `use.md`: Use it",
    ]


def test_a_file_that_says_nothing_is_named_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"bench/new\.py has no line in the map: give it a docstring"):
        house_map(project(tmp_path, {"bench/new.py": "x = 1"}))
