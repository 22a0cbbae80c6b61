"""Scoring many pictures: every kind of place, interruptions, several processes, and what is refused."""

import functools
import io
import json
import os
import re
import shutil
import signal
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
from modeling.detector import Detector
from modeling.embedded import ROOT
from tests.modeling.provenance.marked_files import COMFY, with_texts
from tests.pictures import picture
from tests.tiny import VISION
from tests.train.two_processes import run_two
from train.jobs.processes import start_processes
from train.score import scoring, tar_shards
from train.score.parts import PART_NAME
from train.score.picture import Picture
from train.score.scoring import ScoreArguments, Scorer, score
from train.score.shards import PictureArguments

GUIDE = ROOT / "docs" / "scale.md"
ANSWER = ["verdict", "probability", "score", "error"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny detector whose thresholds lie among the probabilities of the pictures."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    model = RobustClipForImageClassification(RobustClipConfig(vision_config=dict(VISION)))
    processor = RobustClipImageProcessor(size=32)
    detector = Detector(model, processor)
    answers = detector.detect_many([picture(i, i % 2) for i in range(9)])
    probabilities = sorted(answer.probability for answer in answers)
    model.config.real_threshold = sum(probabilities[3:5]) / 2
    model.config.generated_threshold = sum(probabilities[5:7]) / 2
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def contents():
    """Files by name; the third cannot be read."""
    names = ["a/1.png", "a/2.PNG", "a/b/c/3.jpg", "a/no-extension", "b/5.png", "b/6.png", "ü 7.png", "8.png", "9.png"]
    return {name: picture(i, i % 2) if i != 2 else b"<html>" for i, name in enumerate(names)}


@pytest.fixture
def folder(tmp_path, contents):
    beside = {"a/1.json": b"{}", "metadata.csv": b"", ".hidden": b"x", ".git/x.png": b"x"}
    for name, content in {**contents, **beside}.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "pictures"


def write_tar(path, contents):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in contents.items():
            for member, data in ((name, content), (f"{name}.json", b"{}")):
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def write_parquet(path, contents, **options):
    rows = [{"bytes": content, "path": None} for content in contents]
    columns = {"image": rows, "number": range(len(rows)), "id": [f"p{i}" for i in range(len(rows))]}
    table = datasets.Dataset.from_dict(columns)
    arrow = table.cast_column("image", datasets.Image(decode=False)).data.table
    pq.write_table(arrow, path, **options)
    return path


def run(data, output, checkpoint, **fields):
    """Two pictures a batch and four a part, unless told otherwise."""
    names = ("batch_size", "part_size", "decoders")
    sizes = {"batch_size": 2, "part_size": 4} | {name: fields.pop(name) for name in names if name in fields}
    info = score(PictureArguments(str(data), **fields), ScoreArguments(str(output), str(checkpoint), **sizes))
    return info, pd.read_parquet(output / "parts")


def expected(checkpoint, contents, shard_size=None):
    """What `detect_many` says of each shard's pictures; a batch does not cross shards."""
    detector, size = Detector.from_pretrained(checkpoint), shard_size or len(contents)
    shards = [contents[start : start + size] for start in range(0, len(contents), size)]
    answers = [answer for shard in shards for answer in detector.detect_many(shard, batch_size=2)]
    return pd.DataFrame([answer.to_dict() for answer in answers])


def assert_same_answers(rows, answers):
    rows = rows[ANSWER].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, answers[ANSWER].astype({"error": rows["error"].dtype}), check_exact=True)


def test_a_folder_of_any_depth_gets_the_answers_of_detect_many(folder, contents, checkpoint, tmp_path):
    info, rows = run(folder, tmp_path / "scores", checkpoint)
    order = ["8.png", "9.png", "ü 7.png", "a/1.png", "a/2.PNG", "a/no-extension", "a/b/c/3.jpg", "b/5.png", "b/6.png"]
    assert rows["key"].tolist() == order
    answers = expected(checkpoint, [folder / name for name in order])
    assert_same_answers(rows, answers)
    assert set(rows["verdict"].dropna()) == {"real", "uncertain", "generated"}
    readable = rows["error"].isna()
    for name in ("width", "height", "sha256"):
        assert rows.loc[readable, name].tolist() == answers.loc[readable, name].tolist()
    assert [list(marks) for marks in rows.loc[readable, "marks"]] == [[]] * 8
    assert rows["error"].dropna().to_dict() == {6: answers["error"][6]}
    assert rows.groupby("shard")["row"].apply(list).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0]]
    assert set(rows["source"]) == {str(folder)}
    detector = Detector.from_pretrained(checkpoint)
    assert set(zip(rows["model"], rows["model_version"], strict=True)) == {("tiny", detector.version)}
    assert (info["pictures"], info["unreadable"], info["parts"]) == (9, 1, 3)
    assert info["verdicts"] == rows["verdict"].value_counts().to_dict()
    assert info == json.loads((tmp_path / "scores" / "scores.json").read_text())
    table = datasets.load_dataset("parquet", data_files=f"{tmp_path}/scores/parts/*.parquet", split="train")
    assert table["key"][:] == order


def test_marks_of_files_stand_in_their_rows(checkpoint, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(with_texts(prompt=COMFY))
    _, rows = run(folder, tmp_path / "scores", checkpoint)
    assert [list(marks) for marks in rows["marks"]] == [["generator_model (ComfyUI, flux1-dev.safetensors)", "prompt"]]


def test_a_finished_run_is_not_repeated_and_missing_parts_are_made_again_as_they_were(folder, checkpoint, tmp_path):
    output = tmp_path / "scores"
    info, rows = run(folder, output, checkpoint)
    (folder / "later.png").write_bytes(picture(1, 1))  # came after the list was made
    parts = sorted((output / "parts").iterdir())
    times = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    again, repeated = run(folder, output, checkpoint)
    assert again == info
    pd.testing.assert_frame_equal(repeated, rows)
    changed = [part.stat().st_mtime_ns != time for part, time in zip(parts, times, strict=True)]
    assert changed == [False, True, False]


def test_parquet_rows_keep_their_identifiers(contents, checkpoint, tmp_path):
    pictures = [*contents.values(), None]
    answers = expected(checkpoint, [*contents.values()])
    write_parquet(tmp_path / "one.parquet", pictures)
    _, rows = run(tmp_path / "one.parquet", tmp_path / "scores", checkpoint)
    assert rows["key"].tolist() == [f"p{i}" for i in range(10)]
    assert_same_answers(rows[:9], answers)
    assert rows["error"][9] == "The row holds no picture."
    assert [path.name for path in sorted((tmp_path / "scores" / "parts").iterdir())] == [
        "part-000000-000000.parquet",
        "part-000000-000001.parquet",
        "part-000000-000002-last.parquet",
    ]


def test_few_tables_are_shared_by_row_groups(contents, checkpoint, tmp_path):
    pictures = [*contents.values()]
    write_parquet(tmp_path / "a.parquet", pictures, row_group_size=4)
    write_parquet(tmp_path / "b.parquet", pictures[:3], row_group_size=2)
    info, rows = run(f"{tmp_path}/*.parquet", tmp_path / "scores", checkpoint, id_column="number")
    assert rows["key"].tolist() == [*map(str, range(9)), "0", "1", "2"]
    assert rows["shard"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 4]
    assert info["shards"] == 5


def test_a_damaged_table_gives_the_rows_before_the_damage_and_its_error(contents, checkpoint, tmp_path):
    table = write_parquet(tmp_path / "a.parquet", [*contents.values()], row_group_size=4)
    start = pq.read_metadata(table).row_group(1).column(0).data_page_offset
    content = bytearray(table.read_bytes())
    content[start : start + 200] = b"\xff" * 200
    table.write_bytes(content)
    info, rows = run(table, tmp_path / "scores", checkpoint)
    assert rows["key"].tolist() == ["p0", "p1", "p2", "p3", str(table), "p8"]
    assert rows["error"][4].startswith("Shard 1 of the table is damaged, pictures may be missing: ")
    assert (info["pictures"], info["unreadable"]) == (6, 2)


def test_a_saved_data_set_is_read_without_a_copy(contents, checkpoint, tmp_path):
    rows = [{"bytes": content, "path": None} for content in contents.values()]
    table = datasets.Dataset.from_dict({"picture": rows}).cast_column("picture", datasets.Image(decode=False))
    datasets.DatasetDict(test=table).save_to_disk(tmp_path / "saved")
    _, rows = run(tmp_path / "saved", tmp_path / "scores", checkpoint, split="test", image_column="picture")
    assert rows["shard"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert_same_answers(rows, expected(checkpoint, [*contents.values()], shard_size=3))
    assert rows["key"].tolist() == [f"{shard}/{row}" for shard, row in zip(rows["shard"], rows["row"], strict=True)]


def test_archives_by_pattern_compressed_and_in_a_folder_give_the_same(contents, checkpoint, tmp_path):
    """Two archives with the same names in them: source and row tell the pictures apart."""
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tar(shards / "x-00.tar", contents)
    write_tar(shards / "x-01.tar", contents)
    write_tar(shards / "y.tar.gz", contents)
    _, rows = run(f"{shards}/x-{{00..01}}.tar", tmp_path / "named", checkpoint)
    assert rows["key"].tolist() == [*contents, *contents]
    assert rows["source"].tolist() == [f"{shards}/x-00.tar"] * 9 + [f"{shards}/x-01.tar"] * 9
    answers = expected(checkpoint, [*contents.values()])
    assert_same_answers(rows[:9], answers)
    assert_same_answers(rows[9:], answers)
    _, in_folder = run(shards, tmp_path / "folder", checkpoint)
    assert_same_answers(in_folder[18:], answers)


def test_an_archive_by_url_is_no_damaged_one_when_the_connection_is_lost(contents, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shards, "WAIT_SECONDS", 0.01)
    archive = write_tar(tmp_path / "x.tar", contents)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Cutting, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.tar"
        server.sent_at_most = archive.stat().st_size // 2
        with pytest.raises(OSError, match=rf"{url} could not be read \(RemoteProtocolError\): run the same"):
            run(f"{url}?signature=secret", tmp_path / "scores", checkpoint)
        assert "fingerprint" not in json.loads((tmp_path / "scores" / "scores.json").read_text())
        server.sent_at_most = None
        info, rows = run(f"{url}?signature=another", tmp_path / "scores", checkpoint)
        with pytest.raises(OSError, match=r"y.tar could not be read \(404\)"):
            run(url.replace("x.tar", "y.tar"), tmp_path / "other", checkpoint)
        server.shutdown()
    assert_same_answers(rows, expected(checkpoint, [*contents.values()]))
    assert rows["key"].tolist() == [*contents]
    assert set(rows["source"]) == {info["data"]} == {url}


class Busy(BaseHTTPRequestHandler):
    """Refuses as often as it should, and sends no more than a part of what is left at a time."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if len(server.asked) <= server.refused:
            self.send_error(503)
            return
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and server.knows_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.version if len(server.asked) < 4 else server.later)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        most = 20_000 if server.knows_ranges else 12_000 * len(server.asked)
        self.wfile.write(server.content[start : start + most])

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_an_archive_by_url_goes_on_where_a_busy_server_lost_it(knows_ranges, tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shards, "WAIT_SECONDS", 0.01)
    content = os.urandom(70_000)
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        server.asked, server.refused, server.knows_ranges, server.content = [], 2, knows_ranges, content
        server.version = server.later = '"1"'
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.tar"
        with tar_shards._Download(url) as stream:
            assert stream.read() == content
        assert server.asked[:3] == [None, None, None] and len(server.asked) > 4
        assert all(asked.startswith("bytes=") for asked in server.asked[3:])
        server.asked, server.later = [], '"2"'
        with pytest.raises(OSError, match="was changed while it was read"), tar_shards._Download(url) as stream:
            stream.read()
        server.asked, server.refused = [], 9
        with pytest.raises(OSError, match=rf"{url} could not be read \(503\): run the same"):
            tar_shards._Download(url)
        assert len(server.asked) == tar_shards.ATTEMPTS
        server.shutdown()


class Cutting(SimpleHTTPRequestHandler):
    """Serves files, except what comes after `sent_at_most` bytes."""

    def copyfile(self, source, outputfile):
        outputfile.write(source.read(self.server.sent_at_most))

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.parametrize("cut", [0, 512, 1500, -700, -10_000], ids=str)
def test_a_cut_archive_gives_the_pictures_before_the_cut_and_its_error(cut, contents, checkpoint, tmp_path):
    """`tarfile` alone takes a cut between two files for the end of the archive."""
    whole = write_tar(tmp_path / "whole.tar", {name: contents[name] for name in ("a/1.png", "a/2.PNG", "b/5.png")})
    end = len(whole.read_bytes().rstrip(b"\0")) // 512 * 512 + 512
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[: cut if cut >= 0 else end + 512 + cut])
    info, rows = run(tmp_path / "cut.tar", tmp_path / "scores", checkpoint)
    kept = {0: 0, 512: 0, 1500: 0, -700: 3, -10_000: 1}[cut]
    assert rows["key"].tolist() == [*["a/1.png", "a/2.PNG", "b/5.png"][:kept], str(tmp_path / "cut.tar")]
    assert rows["error"].iloc[-1].startswith("The archive is damaged, pictures may be missing: ")
    assert (info["pictures"], info["unreadable"]) == (kept + 1, 1)


def test_an_interrupted_archive_goes_on_after_its_last_part(contents, checkpoint, tmp_path):
    """The second part of three is not there, nor is the end: rows 4 to 8 are judged again, the first four are not."""
    archive = write_tar(tmp_path / "x.tar", contents)
    info, rows = run(archive, tmp_path / "scores", checkpoint)
    parts = sorted((tmp_path / "scores" / "parts").iterdir())
    assert [PART_NAME.fullmatch(part.name)[2] for part in parts] == ["000000", "000001", "000002"]
    first = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    parts[2].unlink()
    again, repeated = run(archive, tmp_path / "scores", checkpoint)
    pd.testing.assert_frame_equal(repeated, rows)
    assert again == info
    assert parts[0].stat().st_mtime_ns == first


class CountingShards:
    """Three shards of one picture each time, which check how far ahead of the written parts they are read."""

    identity = {}
    furthest = 0

    def __init__(self, output, part_size):
        self.output, self.part_size, self.read_pictures = output, part_size, 0

    def __len__(self):
        return 3

    def size(self, shard):
        return None

    def read(self, shard, skip):
        for row in range(skip, 24):
            parts = len([*self.output.glob("parts/part-*")])
            self.read_pictures += 1
            self.furthest = max(self.furthest, self.read_pictures - parts * self.part_size)
            yield Picture(str(row), "", picture(0, 0))


def test_only_a_few_batches_are_read_ahead(checkpoint, tmp_path):
    arguments = ScoreArguments(str(tmp_path), batch_size=2, part_size=6, decoders=2)
    shards = CountingShards(tmp_path, 6)
    scorer = Scorer(Detector.from_pretrained(checkpoint), shards, arguments)
    scorer.run(tmp_path, start_processes())
    assert shards.read_pictures == 72
    assert shards.furthest <= arguments.part_size + scorer.ahead + 3 * arguments.batch_size


def test_a_file_that_breaks_a_reader_does_not_stop_the_run(folder, contents, checkpoint, tmp_path, monkeypatch):
    """No such file is known: any would be a mistake of ours, and would stop a run at the same place every time."""
    open_image = scoring.open_image

    def break_on_one(content):
        if content == contents["b/5.png"]:
            raise ZeroDivisionError("by zero")
        return open_image(content)

    monkeypatch.setattr(scoring, "open_image", break_on_one)
    info, rows = run(folder, tmp_path / "scores", checkpoint)
    error = rows.set_index("key").loc["b/5.png", "error"]
    assert error == "This picture could not be opened (ZeroDivisionError: by zero)."
    assert (info["pictures"], info["unreadable"]) == (9, 2)


def test_another_run_into_the_same_folder_is_refused(folder, checkpoint, tmp_path):
    _, rows = run(folder, tmp_path / "scores", checkpoint)
    with pytest.raises(ValueError, match="begun with other settings: batch_size was 2, is 4"):
        run(folder, tmp_path / "scores", checkpoint, batch_size=4)
    model = RobustClipForImageClassification.from_pretrained(checkpoint)
    model.config.real_threshold /= 2
    shutil.copytree(checkpoint, tmp_path / "other" / "tiny")
    model.save_pretrained(tmp_path / "other" / "tiny")
    with pytest.raises(ValueError, match="begun with other settings: model_version was"):
        run(folder, tmp_path / "scores", tmp_path / "other" / "tiny")
    with pytest.raises(ValueError, match="begun with other settings: data was"):
        run(write_tar(tmp_path / "x.tar", {}), tmp_path / "scores", checkpoint)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "scores" / "parts"), rows)


def test_rows_of_another_version_are_not_continued(folder, checkpoint, tmp_path):
    output = tmp_path / "out"
    run(folder, output, checkpoint, part_size=4)
    first, second, *_ = sorted((output / "parts").iterdir())
    pq.write_table(pq.read_table(first).drop_columns(["reason"]), first)
    second.unlink()
    with pytest.raises(ValueError, match=r"another version of this project: its rows differ in reason\. Choose"):
        run(folder, output, checkpoint, part_size=4)
    assert not second.exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_written(folder, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    write_parquet(tmp_path / "one.parquet", [picture(0, 0)])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    output = tmp_path / "scores"
    for data, fields, message in [
        (tmp_path / "empty", {}, "holds no picture, tar archive or Parquet file"),
        (tmp_path / "nowhere", {}, "`data` must name a folder of pictures, tar archives"),
        (tmp_path / "nowhere.tar", {}, "There is no tar archive '.*nowhere.tar'"),
        (tmp_path / "one.parquet", {"image_column": "photo"}, "`image_column` 'photo' is not in the data"),
        (tmp_path / "one.parquet", {"id_column": "name"}, "`id_column` 'name' is not in the data"),
        (tmp_path / "bad.parquet", {}, "could not be read"),
        (folder, {"part_size": 3}, "`part_size` must be a multiple of `batch_size`, got 3 and 2"),
        (folder, {"decoders": 0}, "`decoders` must be 1 or more, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(data, output, checkpoint, **fields)
        assert not list(output.glob("*"))
    with pytest.raises(ValueError, match="must not lie in `data`"):
        run(folder, folder / "scores", checkpoint)
    write_tar(folder / "x.tar", {})
    with pytest.raises(ValueError, match="holds 9 other, 1 tar files: which are meant"):
        run(folder, output, checkpoint)


def test_the_guide_is_followed_to_the_letter(folder, checkpoint, python, tmp_path):
    command, read = re.findall(r"```(?:bash|python)\n(.*?)```", GUIDE.read_text(), re.DOTALL)[:2]
    program, *arguments = command.split()
    assert [program, *arguments[:2]] == ["python", "-m", "train"]
    arguments += ["--model", checkpoint, "--batch_size", 4]
    result = python.run(*arguments, cwd=tmp_path)
    assert "9 pictures: " in result.stdout
    assert ", 1 unreadable\n" in result.stdout
    assert "process 1 of 1: 100%" in result.stderr
    assert "a/b/c/3.jpg" in python.run("-c", read, cwd=tmp_path).stdout
    refused = python.run(*arguments, "--part_size", 5, cwd=tmp_path)
    assert "error: `part_size` must be a multiple of `batch_size`, got 5 and 4" in refused.stderr


# The second process is killed while it writes its second part of the last run: half a file under a temporary name.
WORKER = """
import os, signal, sys
from train.score import parts as score_parts
from train.score.shards import PictureArguments
from train.score.scoring import ScoreArguments, score

data, name, model, folder = sys.argv[1:]

def run(data, output):
    sizes = {"batch_size": 2, "part_size": 2}
    return score(PictureArguments(data), ScoreArguments(f"{folder}/{output}", model, **sizes))

run(data, "whole")
run(name, "hub")
run("ann/loose", "loose")
write, written = score_parts.pq.write_table, []

def write_half(table, path, **options):
    write(table, path, **options)
    written.append(path)
    if len(written) == 2:
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1":
    score_parts.pq.write_table = write_half
assert run(data, "killed") is None
os._exit(0)  # without waiting for the other, which is dead
"""


def test_two_processes_give_the_rows_of_one_and_one_goes_on_where_they_were_killed(
    folder, contents, checkpoint, hub, python, tmp_path
):
    file = write_parquet(tmp_path / "hub.parquet", [*contents.values()], row_group_size=4)
    repo = hub.add_dataset("ann/pictures", {"data/train-00000-of-00001.parquet": file})
    hub.add_dataset("ann/loose", {f"{i}.png": picture(i, 1) for i in range(2)})
    command = ["-c", WORKER, folder, "ann/pictures", checkpoint, tmp_path]
    run_two(python, *command, statuses=(0, -signal.SIGKILL), HF_HOME=str(tmp_path / "home"))

    one, rows = run(folder, tmp_path / "one", checkpoint, part_size=2)
    assert json.loads((tmp_path / "whole" / "scores.json").read_text()) == one
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "whole" / "parts"), rows)

    info = json.loads((tmp_path / "hub" / "scores.json").read_text())
    assert (info["commit"], info["pictures"], info["shards"]) == (repo.commits[0].oid, 9, 3)
    from_hub = pd.read_parquet(tmp_path / "hub" / "parts")
    assert from_hub["key"].tolist() == [f"p{i}" for i in range(9)]
    assert_same_answers(from_hub, expected(checkpoint, [*contents.values()]))

    loose = pd.read_parquet(tmp_path / "loose" / "parts").sort_values("key")
    assert [key.rsplit("/", 1)[1] for key in loose["key"]] == ["0.png", "1.png"]
    assert_same_answers(
        loose, expected(checkpoint, [picture(0, 1), picture(1, 1)], shard_size=2 // loose["shard"].nunique())
    )

    killed = tmp_path / "killed"
    assert "fingerprint" not in json.loads((killed / "scores.json").read_text())
    there = {path.name for path in (killed / "parts").glob("*.parquet")}
    assert there == {f"part-{shard:06d}-000000-last.parquet" for shard in (0, 1, 2, 4)}
    assert len([*(killed / "parts").glob(".*.partial")]) == 1
    resumed, repeated = run(folder, killed, checkpoint, part_size=2)
    assert resumed == one
    pd.testing.assert_frame_equal(repeated, rows)
    assert not [*(killed / "parts").glob(".*")]
