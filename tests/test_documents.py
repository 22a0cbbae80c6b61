"""Every program and command of README.md and docs/: run in its order, or marked in the document with the reason.

A block is run in a folder with what its document names: pictures, a detector, a data set. `default` is a tiny random
detector for commands (bash), which embed whole folders, and the real one for programs (python); the Hub is one on the
loopback interface. A page that a block starts stays there for the blocks after it. Where the output of a program
follows it, that must be what the program prints.
"""

import os
import re
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
from modeling.checkpoints import default_backbone
from tests.data_sets import encoded, write_elsa_d3, write_openfake
from tests.hub_server import USER, checkpoint_folder
from tests.picture_server import PictureServer
from tests.running_page import answers, free_port
from tests.tiny import VISION
from tests.waiting import wait_for
from tests.warm_python import ROOT

DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
RUN, SHOWN = ("bash", "python"), ("csv", "text")
MARK = re.compile(r"<!-- ([\w-]+: python -m train card|end of [\w-]+) -->")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
# A block that is only shown must not hold what a reader would type.
TO_TYPE = re.compile(
    r"^\s*(\$ |>>> |python |pip |robust-clip |make |torchrun |curl |git |import \w|from \w+ import )", re.MULTILINE
)
# The blocks that no test runs, by their first line; the reason stands above each.
LEFT_OUT = {
    ("README.md", "make demo    # opens http://127.0.0.1:7860"),
    ("docs/api.md", "import asyncio"),
    ("docs/api.md", 'pip install "gradio[mcp]==6.31.0" "mcp>=1.30,<2"'),
    ("docs/compatibility.md", "pip install --no-deps --target floor transformers==5.23.0"),
    ("docs/data.md", "python -m train collect docs/data/manifest.csv my-set"),
    (
        "docs/default-checkpoint.md",
        "python -m train fit checkpoints/default/fit.yaml --hold_out generator --folds 0 --bank bank "
        "--output_dir outputs/generators",
    ),
    ("docs/train-your-own.md", "python -m train refit my-detector my-products/ --output my-corrected-detector"),
    ("docs/default-checkpoint.md", "make default DATA=FOLDER    # or: python -m train default FOLDER"),
    (
        "docs/default-checkpoint.md",
        "python -m train default my-labelled-files --recipe train/recipes/recommended.yaml --output my-detector "
        "--cache my-cache",
    ),
    (
        "docs/studies.md",
        'python -m train features --data "dev/*.parquet" --views 4 --deliveries web hard --output bank',
    ),
    (
        "docs/evaluate.md",
        "python -m train ablate --bank bank --output study --folds 2 --seeds 0 --num_train_epochs 16",
    ),
    ("docs/scale.md", "# One process a GPU, or a core without GPUs."),
    ("docs/scale.md", 'pip install -e ".[ray]"'),
}
# Its commands embed with the real weights.
TUTORIAL = "docs/train-your-own.md"
# On what a reader runs them on: the default with its real weights. The commands of the others get a tiny one.
WITH_THE_DEFAULT = ("README.md", TUTORIAL)
# Two pictures of each class give three sources each: an upper left, an upper right and a lower left part. Generated
# ones are made green, so that random weights tell them too.
PICTURES = {"real": ("china.jpg", "flower.jpg"), "generated": ("flux_dev.webp", "z_image_turbo.webp")}
SOURCES = {"real": ("my-camera", "press-agency", "archive"), "generated": ("sdxl", "flux-1", "another")}
# What a document must have printed, beyond ending well.
PRINTED = {
    "README.md": ("VERDICT ", "36 views of 12 pictures in bank", "ROC AUC: ", "published: ", "spaces/user/my-page"),
    "docs/api.md": ('"verdict"', "china.jpg "),
    "docs/data-sets.md": ("8 views of 2 pictures in bank-captioned", "48 views of 12 pictures in bank-d3"),
    "docs/evaluate.md": ("near-duplicates: ", "photographs cannot promise a false positive rate of 1.00%"),
    "docs/publish.md": ("user/my-detector (private)", "(public)", "'label': 'generated'"),
    TUTORIAL: (
        "36 views of 12 pictures in bank; 0 pictures",
        "ROC AUC: ",
        "logistic regression",
        "'label': 'generated'",
    ),
}


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` why it is not run, `follows` whether it stands right after another one."""

    line: int
    language: str
    code: str
    reason: str | None
    follows: bool


def parse(document):
    """Its tokens, without the marks around what a command writes into it."""
    tokens = MarkdownIt().parse((ROOT / document).read_text(encoding="utf-8"))
    return [token for token in tokens if not (token.type == "html_block" and MARK.match(token.content))]


def blocks(document):
    tokens = parse(document)
    for before, token in zip([tokens[0], *tokens], tokens, strict=False):
        if token.type == "fence":
            marked = NOT_RUN.search(before.content) if before.type == "html_block" else None
            reason = marked and marked[1]
            yield Block(token.map[0] + 1, token.info, token.content, reason, before.type == "fence")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_what_it_is(document):
    for block in blocks(document):
        where = f"{document}:{block.line}"
        assert block.language in RUN + SHOWN, f"{where}: {block.language!r} is none of {RUN + SHOWN}"
        assert block.language in RUN or not TO_TYPE.search(block.code), f"{where} holds a command: mark it as bash"
    indented = [token.map[0] + 1 for token in parse(document) if token.type == "code_block"]
    assert not indented, f"{document}: fence the code in lines {indented}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md"])
def test_every_link_inside_the_project_leads_somewhere(document):
    tokens = MarkdownIt().enable("table").parse((ROOT / document).read_text(encoding="utf-8"))
    addresses = [
        str(child.attrGet("href") or child.attrGet("src") or "") for t in tokens for child in t.children or []
    ]
    for file, _, anchor in (address.partition("#") for address in addresses if not re.match(r"\w+:", address)):
        target = (ROOT / document).parent / file if file else ROOT / document
        assert target.exists(), f"{document} links to {file}, which does not exist"
        assert not anchor or anchor in headings(target), f"{document} links to {file}#{anchor}"


def headings(file):
    """The anchors that GitHub gives to a document's headings."""
    lines = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def test_the_blocks_that_are_not_run_are_these():
    marked = {(name, block.code.split("\n")[0]) for name in DOCUMENTS for block in blocks(name) if block.reason}
    assert marked == LEFT_OUT


@pytest.fixture(scope="module")
def tiny_cache(default_folder, tmp_path_factory):
    """What takes the place of the default's cache: a tiny random checkpoint and its backbone."""
    cache = tmp_path_factory.mktemp("cache")
    # Wide enough to learn in a few steps, and with the blocks that the recommended recipe reads.
    config = RobustClipConfig(vision_config=VISION | {"projection_dim": 64, "num_hidden_layers": 12})
    folder = checkpoint_folder(cache / default_folder.name, config)
    backbone = cache / default_backbone().name
    RobustClipForImageClassification.from_pretrained(folder).backbone.vision_tower.save_pretrained(backbone)
    RobustClipImageProcessor(size=32).save_pretrained(backbone)
    return cache


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for label, names in PICTURES.items():
        for index, source in enumerate(SOURCES[label]):
            (folder / label / source).mkdir(parents=True)
            for letter, name in zip("ab", names, strict=True):
                part = part_of(ROOT / "examples" / name, index)
                if label == "generated":
                    part = Image.blend(part, Image.new("RGB", part.size, "lime"), 0.9)
                part.save(folder / label / source / f"{letter}.jpg", quality=90)
    return folder


def part_of(file, index):
    with Image.open(file) as image:
        width, height = image.size
        left, top = (width // 3 if index == 1 else 0), (height // 3 if index == 2 else 0)
        part = image.convert("RGB").crop((left, top, left + 2 * width // 3, top + 2 * height // 3))
        return part.resize((192, 192 * height // width))


@pytest.fixture
def folder(tmp_path, pictures, tiny_cache, default_folder):
    """Where the commands are called: the project's files, and what a reader of any document may have."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train").mkdir()
    for name in ("app.py", "README.md", "examples", "train/recipes"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pictures").symlink_to(pictures)
    for name in ("real/my-camera", "generated/sdxl"):
        # One source of a class has no interval, one picture is 22 views for the real tower: these take longest.
        (folder / "my-pictures" / name).mkdir(parents=True)
        shutil.copyfile(pictures / name / "a.jpg", folder / "my-pictures" / name / "a.jpg")
    (folder / "my-photographs").symlink_to(pictures / "real")
    shutil.copyfile(ROOT / "examples" / "china.jpg", folder / "picture.jpg")
    shutil.copytree(tiny_cache / default_folder.name, folder / "a-detector")
    return folder


@pytest.fixture
def data_sets(folder, hub, tmp_path):
    """What docs/data-sets.md names."""
    rows = range(4)
    images, labels = [encoded(i, i % 2) for i in rows], [i % 2 for i in rows]
    columns = {"image": images, "picture": images, "label": labels, "kind": labels}
    columns |= {name: [f"{name} {i}" for i in rows] for name in ("id", "source", "camera", "made_by", "caption")}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    table = table.cast_column("picture", datasets.Image())
    table.to_parquet(folder / "test-0.parquet")
    (folder / "dev").mkdir()
    shutil.copyfile(folder / "test-0.parquet", folder / "dev" / "0.parquet")
    datasets.DatasetDict({"test": table}).save_to_disk(folder / "saved-data-set")
    (metadata,) = (block.code for block in blocks("docs/data-sets.md") if block.language == "csv")
    for line in metadata.splitlines()[1:]:
        file = folder / "captioned" / line.split(",")[0]
        file.parent.mkdir(parents=True)
        shutil.copyfile(folder / "picture.jpg", file)
    (folder / "captioned" / "metadata.csv").write_text(metadata)
    card = "---\nconfigs:\n- config_name: CONFIG\n  data_files:\n  - split: test\n    path: data/test-*\n---\n"
    hub.add_dataset("OWNER/NAME", {"README.md": card.encode(), "data/test-0.parquet": folder / "test-0.parquet"})
    hub.add_dataset("ComplexDataLab/OpenFake", {"core/test-0.parquet": Path(write_openfake(tmp_path))})
    with PictureServer() as server:
        elsa_d3 = Path(write_elsa_d3(tmp_path, server.url))
        hub.add_dataset("elsaEU/ELSA_D3", {"data/validation-0.parquet": elsa_d3})
        yield


class Reader:
    """Somebody who follows a document."""

    def __init__(self, folder, python, tiny_cache=None):
        self.folder, self.log = folder, folder.parent / "page.log"
        self.environment = python.environment | {
            "GRADIO_TEMP_DIR": str(folder.parent / "uploads"),
            "HF_HOME": str(folder.parent / "home"),
            "HF_TOKEN": USER,
        }
        self.port = "7860"
        self.tiny = {"ROBUST_CLIP_CACHE": str(tiny_cache)} if tiny_cache else {}

    def run(self, block, with_tiny):
        """What the block printed."""
        code = block.code.replace("7860", self.port)
        command = ["python", "-c", code] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        environment = self.environment | (self.tiny if with_tiny else {})
        result = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"line {block.line}: {code}\n{result.stdout}\n{result.stderr[-3000:]}"
        return result.stdout

    @contextmanager
    def page(self, block):
        """The page that the block ends with, once it answers."""
        self.port = str(free_port())  # another one for each page: one that was closed just now is not free yet
        environment = self.environment | self.tiny | {"PORT": self.port}
        with self.log.open("a") as log:
            process = subprocess.Popen(
                ["bash", "-euc", block.code],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(
                lambda: process.poll() is not None or answers(f"http://127.0.0.1:{self.port}/health"), "a page", 900
            )
            assert process.poll() is None, f"line {block.line}: {block.code}\n{self.log.read_text()[-3000:]}"
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def is_run(block):
    return block.language in RUN and not block.reason


def follow(document, folder, python, cache):
    """Run a document's blocks in their order, with the default of `cache`, or with the real one."""
    if "--output_dir my-detector" not in (ROOT / document).read_text(encoding="utf-8"):
        (folder / "a-detector").rename(folder / "my-detector")
    reader = Reader(folder, python, cache)
    printed, last = "", None
    with ExitStack() as pages:
        for block in blocks(document):
            if block.language == "text" and block.follows:
                assert last == block.code, f"{document}:{block.line}: the program printed {last!r}"
            elif is_run(block):
                if re.search(r"python app\.py\b.*\n\Z", block.code):
                    pages.close()
                    pages.enter_context(reader.page(block))
                else:
                    tiny = block.language == "bash" or document == "docs/backends.md"  # which exports a graph
                    last = reader.run(block, with_tiny=tiny)
                    printed += last
    printed += reader.log.read_text() if reader.log.exists() else ""
    for words in PRINTED.get(document, ()):
        assert words in printed


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(name, marks=[pytest.mark.long] if name == TUTORIAL else [])
        for name in DOCUMENTS
        if any(map(is_run, blocks(name)))
    ],
)
def test_a_document_can_be_followed(document, folder, hub, python, tiny_cache, request):
    if document == "docs/data-sets.md":
        request.getfixturevalue("data_sets")
    follow(document, folder, python, None if document in WITH_THE_DEFAULT else tiny_cache)


@pytest.mark.long
@pytest.mark.parametrize("document", ["docs/evaluate.md", "docs/use.md", "docs/scale.md"])
def test_commands_of_other_documents_run_on_the_default_too(document, folder, hub, python):
    follow(document, folder, python, None)
