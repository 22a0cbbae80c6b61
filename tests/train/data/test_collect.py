"""`python -m train collect`: a set that is collected again from its manifest, from a loopback server of real files."""

import hashlib
import io
import re
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image, ImageCms

from tests.picture_server import is_loopback
from tests.pictures import encoded
from tests.waiting import wait_for
from train.data import DataArguments, download, load_records
from train.data.collect import collect
from train.data.manifest import manifest_of, read_manifest, write_manifest
from train.data.perceptual_hash import bits_apart
from train.data.pipeline import stored_picture

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RED_IN_P3 = (200, 90, 80)


class FileServer(ThreadingHTTPServer):
    """Serves `files`, path -> bytes, after the status codes in `before`; `asked` lists the paths."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Files)
        self.files, self.before, self.asked, self.gate = files, {}, [], None
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        if self.gate:
            self.gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that is killed hangs up."""


class _Files(BaseHTTPRequestHandler):
    def do_GET(self):
        path = unquote(self.path)
        self.server.asked.append(path)
        if self.server.gate and len(self.server.asked) > 6:
            self.server.gate.wait(60)
        if codes := self.server.before.get(path):
            return self.answer(codes.pop(0), b"later")
        content = self.server.files.get(path)
        return self.answer(404, b"gone") if content is None else self.answer(200, content)

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


def blobs(seed, width, height):
    """A picture of smooth patches: JPEG and resizing leave its hash nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def display_p3():
    """Pillow's sRGB profile with the primaries of Display P3, adapted to D50."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12):
        if (values := primaries.get(bytes(profile[entry : entry + 4]))) is not None:
            start = int.from_bytes(profile[entry + 4 : entry + 8]) + 8
            numbers = [round(65536 * value).to_bytes(4, signed=True) for value in values]
            profile[start : start + 12] = b"".join(numbers)
    return bytes(profile)


def turned(picture):
    """A JPEG that EXIF says to turn by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, "JPEG", quality=95, exif=exif)


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


FILES = {
    "me/real": {
        "p3.png": encoded(Image.new("RGB", (600, 500), RED_IN_P3), icc_profile=display_p3()),
        "turned.jpg": turned(blobs(1, 900, 600)),
        "a wide one/Straße #1 100%? +ü.png": encoded(blobs(2, 2000, 500)),
        "small.png": encoded(blobs(3, 300, 200)),
        "later.png": encoded(blobs(4, 500, 400)),
        "gone.png": encoded(blobs(5, 500, 400)),
    },
    "you/made": {
        "large.png": encoded(blobs(6, 1024, 1024)),
        "changed.png": encoded(blobs(7, 512, 512)),
        "replaced.png": encoded(blobs(8, 512, 512)),
        "cropped.png": encoded(blobs(9, 640, 480)),
        "broken.png": encoded(blobs(10, 512, 512)),
    },
    "old/set": {"first.png": encoded(blobs(11, 800, 700))},
}


@pytest.fixture
def data(tmp_path):
    """A data folder with the stored pictures of `FILES`, and its manifest."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for part, sources in {"new": ("me/real", "you/made"), "first": ("old/set",)}.items():
        rows = []
        for source in sources:
            for name, content in FILES[source].items():
                label = int(source == "you/made")
                stored = stored_picture(content, part)
                rows.append(
                    {
                        "image": {"bytes": stored, "path": None},
                        "label": label,
                        "id": f"id-{name}",
                        "generator": "FLUX" if label else "",
                        "prompt": "a secret wish" if label else "",
                        "style": "photoreal",
                        "source": source,
                        "source_commit": COMMIT,
                        "source_path": name,
                        "licence": "none",
                        "date": "2024-05",
                    }
                )
                known = {"blob": git_blob(content), "evidence": "README, with a comma"} if part == "new" else {}
                family = "FLUX.1" if label else ""
                told = {"label": ("real", "generated")[label], "family": family, "kind": "food", "kind_by": "seen"}
                lines.append({"id": f"id-{name}", **told, **known})
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")
    pd.DataFrame(lines).to_csv(folder / "pictures.csv", index=False)
    write_manifest(tmp_path, manifest_of(folder))
    return folder


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)
    files = {f"/{source}/{COMMIT}/{name}": file for source, of in FILES.items() for name, file in of.items()}
    with FileServer(files) as server:
        yield server


def address(source, name):
    return f"/{source}/{COMMIT}/{name}"


def collected(tmp_path, server, lfs="/media"):
    return collect(
        tmp_path / "manifest.csv",
        tmp_path / "out",
        raw_address=server.url,
        lfs_address=f"{server.url}{lfs}",
        is_admitted=is_loopback,
    )


def left_out(tmp_path):
    return pd.read_csv(tmp_path / "out" / "left_out.csv", keep_default_na=False).set_index("path")


def test_a_set_comes_back_as_it_was(tmp_path, data, server):
    server.before[address("me/real", "later.png")] = [503, 429]
    result = collected(tmp_path, server)
    assert result.taken == {"first": 1, "new": 11} and result.left_out == {}
    assert server.asked.count(address("me/real", "later.png")) == 3
    for part in ("new", "first"):
        before, after = (pyarrow.parquet.read_table(place / f"{part}.parquet") for place in (data, tmp_path / "out"))
        same = [name for name in before.column_names if name != "prompt"]
        assert after.select(same).to_pylist() == [
            {**row, "image": {**row["image"], "path": f"{row['id']}.jpg"}} for row in before.select(same).to_pylist()
        ]
    again = manifest_of(tmp_path / "out")
    pd.testing.assert_frame_equal(again, read_manifest(tmp_path / "manifest.csv"))


def test_the_collected_folder_loads_as_records_and_as_a_data_set(tmp_path, data, server):
    collected(tmp_path, server)
    records = load_records(DataArguments(data=str(tmp_path / "out")))
    assert sorted(set(zip(records["label"], records["source"], records["family"], strict=True))) == [
        (0, "me/real", ""),
        (0, "old/set", ""),
        (1, "you/made", "FLUX.1"),
    ]
    assert set(records["kind"]) == {"food"} and set(records["date"]) == {"2024-05"}
    table = datasets.load_dataset("parquet", data_files=str(tmp_path / "out" / "new.parquet"), split="train")
    assert table[0]["image"].size == (table[0]["width"], table[0]["height"])
    assert set(table["prompt"]) == {""}


def test_the_second_run_asks_for_nothing_and_writes_the_same_bytes(tmp_path, data, server):
    collected(tmp_path, server)
    files = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    asked = len(server.asked)
    collected(tmp_path, server)
    assert len(server.asked) == asked
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == files


def test_what_is_gone_or_other_is_left_out_and_listed_with_the_reason(tmp_path, data, server):
    manifest = tmp_path / "manifest.csv"
    rows = read_manifest(manifest)
    # As where git's id is not known: only the picture itself can tell.
    unknown = rows["path"].isin(["replaced.png", "cropped.png", "broken.png"])
    write_manifest(tmp_path, rows.assign(blob=rows["blob"].mask(unknown, "")))
    del server.files[address("me/real", "gone.png")]
    server.files[address("you/made", "changed.png")] = encoded(blobs(7, 512, 512), compress_level=1)
    server.files[address("you/made", "replaced.png")] = encoded(blobs(80, 512, 512))
    server.files[address("you/made", "cropped.png")] = encoded(blobs(9, 640, 520))
    server.files[address("you/made", "broken.png")] = FILES["you/made"]["broken.png"][:400]
    server.before[address("me/real", "later.png")] = [503] * 5
    result = collected(tmp_path, server)
    assert result.taken == {"first": 1, "new": 5}
    listed = left_out(tmp_path)
    assert dict(listed["reason"]) == {
        "later.png": "busy server",
        "gone.png": "dead link",
        "changed.png": "other file",
        "replaced.png": "other picture",
        "cropped.png": "other size",
        "broken.png": "not a picture",
    }
    assert listed.loc["gone.png", "detail"] == "HTTP 404" and "336 x" not in listed.loc["gone.png", "detail"]
    assert git_blob(FILES["you/made"]["changed.png"]) in listed.loc["changed.png", "detail"]
    assert sum(result.left_out.values()) == len(listed) == 6
    # What may be temporary is asked for again by the next run, and nothing else is.
    asked = len(server.asked)
    assert collected(tmp_path, server).taken == {"first": 1, "new": 6}
    assert server.asked[asked:] == [address("me/real", "later.png")]


@pytest.mark.parametrize(("served", "reason"), [("large.png", None), ("changed.png", "other file")])
def test_a_pointer_of_git_lfs_is_followed_and_verified(tmp_path, data, server, served, reason):
    content = FILES["you/made"]["large.png"]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        hashlib.sha256(content).hexdigest().encode(),
        len(content),
    )
    rows = read_manifest(tmp_path / "manifest.csv")
    write_manifest(tmp_path, rows.assign(blob=rows["blob"].mask(rows["path"] == "large.png", git_blob(pointer))))
    server.files[address("you/made", "large.png")] = pointer
    server.files["/media" + address("you/made", "large.png")] = FILES["you/made"][served]
    result = collected(tmp_path, server)
    assert result.left_out == ({} if reason is None else {reason: 1})
    assert ("/media" + address("you/made", "large.png")) in server.asked


def test_a_part_that_is_new_in_the_manifest_is_fetched_alone(tmp_path, data, server):
    rows = read_manifest(tmp_path / "manifest.csv")
    write_manifest(tmp_path, rows[rows["part"] == "first"])
    collected(tmp_path, server)
    write_manifest(tmp_path, rows)
    assert collected(tmp_path, server).taken == {"first": 1, "new": 11}
    assert len(server.asked) == len(set(server.asked)) == 12


def test_a_line_without_a_file_is_left_out(tmp_path, data, server):
    rows = read_manifest(tmp_path / "manifest.csv")
    write_manifest(tmp_path, rows.assign(commit=rows["commit"].mask(rows["path"] == "small.png", "")))
    assert collected(tmp_path, server).left_out == {"no web address": 1}


def test_a_killed_run_leaves_nothing_half_written_and_the_next_goes_on(tmp_path, data, server, python):
    server.gate = threading.Event()  # the seventh request waits
    command = ["-m", "train", "collect", tmp_path / "manifest.csv", tmp_path / "out", "--raw_address", server.url]
    running = python.start(*command)
    fetched = tmp_path / "out" / "fetched"
    wait_for(lambda: running.has_ended or len(list(fetched.glob("??/[!.]*"))) == 6, "six pictures", 120)
    assert running.stop(signal.SIGKILL).returncode == -signal.SIGKILL
    assert not list((tmp_path / "out").glob("*.parquet"))
    first_run = list(server.asked)
    server.gate.set()
    server.gate = None
    result = python.run(*command)
    assert "collected: 12 of 12 pictures" in result.stdout and "new.parquet: 11" in result.stdout, result.stderr
    asked_again = server.asked[len(first_run) :]
    assert len(asked_again) == 6 and set(asked_again).isdisjoint(first_run[:6])


def test_a_manifest_that_names_a_picture_twice_or_lacks_its_sentences_is_refused(tmp_path, data):
    rows = read_manifest(tmp_path / "manifest.csv")
    write_manifest(tmp_path, pd.concat([rows, rows.tail(1)]))
    with pytest.raises(ValueError, match="must name each picture once"):
        read_manifest(tmp_path / "manifest.csv")
    (tmp_path / "evidence.csv").unlink()
    with pytest.raises(ValueError, match="evidence.csv is not there"):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("part", "../elsewhere"),
        ("part", "/elsewhere"),
        ("part", "..\\elsewhere"),
        ("part", ""),
        ("label", "fake"),
        ("width", "wide"),
        ("height", "0"),
        ("perceptual_hash", "ff"),
    ],
)
def test_a_line_that_names_another_folder_or_no_picture_is_refused_before_anything_is_fetched(
    tmp_path, data, column, value
):
    rows = read_manifest(tmp_path / "manifest.csv").astype({"width": str, "height": str})
    write_manifest(tmp_path, rows.assign(**{column: rows[column].mask(rows["path"] == "small.png", value)}))
    with pytest.raises(ValueError, match=f"`{column}` of id-small.png must be .*, got {re.escape(repr(value))}"):
        collect(tmp_path / "manifest.csv", tmp_path / "out", raw_address="", lfs_address="")
    assert not (tmp_path / "out").exists()


def test_the_manifest_holds_no_prompt_and_no_picture_and_writes_the_same_bytes(tmp_path, data):
    first = (tmp_path / "manifest.csv").read_bytes()
    write_manifest(tmp_path, manifest_of(data))
    assert (tmp_path / "manifest.csv").read_bytes() == first
    assert b"secret wish" not in first and len(first) < 12 * 400


def test_other_labels_in_pictures_csv_are_refused_and_missing_lines_counted(tmp_path, data, caplog):
    table = pd.read_csv(data / "pictures.csv")
    table.iloc[:-1].to_csv(data / "pictures.csv", index=False)
    assert (manifest_of(data)["kind"] == "").sum() == 1
    assert "1 pictures have no line" in caplog.text
    table.assign(label=table["label"].map({"real": 0, "generated": 1})).to_csv(data / "pictures.csv", index=False)
    assert (manifest_of(data)["kind"] == "food").all()
    table.assign(label="real").to_csv(data / "pictures.csv", index=False)
    with pytest.raises(ValueError, match="another label than the Parquet files for 5: id-large.png"):
        manifest_of(data)


def test_a_file_without_identifiers_has_no_manifest(data):
    table = pyarrow.parquet.read_table(data / "first.parquet")
    pyarrow.parquet.write_table(table.drop_columns(["id"]), data / "first.parquet")
    with pytest.raises(ValueError, match="must have the columns image, label, id; it lacks id"):
        manifest_of(data)


# The pipeline


def opened(content, part=""):
    return Image.open(io.BytesIO(stored_picture(content, part)))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("p3.png", (403, 336)),  # 552 x 460 after the cut
        ("turned.jpg", (336, 504)),
        ("a wide one/Straße #1 100%? +ü.png", (672, 168)),
        ("small.png", (276, 184)),
    ],
)
def test_sides_are_cut_and_shrunk_and_never_enlarged(name, size):
    assert opened(FILES["me/real"][name]).size == size


def test_a_wide_profile_is_converted_and_no_metadata_is_left():
    picture = opened(FILES["me/real"]["p3.png"])
    linear = np.array(RED_IN_P3) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    # Display P3 to sRGB, both of the white point D65
    matrix = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    values = matrix @ linear
    expected = 255 * np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    assert np.abs(np.array(picture.getpixel((200, 170))) - expected).max() <= 3
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    turned = opened(FILES["me/real"]["turned.jpg"])
    assert not turned.getexif() and "exif" not in turned.info


def test_a_comment_and_a_damaged_profile_do_no_harm():
    picture = opened(encoded(blobs(1, 400, 400), "JPEG", comment=b"by me", icc_profile=b"no profile at all"))
    assert picture.size == (336, 336) and "comment" not in picture.info and "icc_profile" not in picture.info


def test_quality_and_subsampling_are_those_of_the_set():
    content = encoded(blobs(1, 400, 400))
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG", quality=86, subsampling="4:2:0")
    expected = Image.open(buffer)
    picture = opened(content)
    assert picture.quantization == expected.quantization
    assert [component[1:3] for component in picture.layer] == [component[1:3] for component in expected.layer]


def test_the_earlier_part_is_stored_twice():
    content = encoded(blobs(1, 1000, 900))
    once, twice = stored_picture(content), stored_picture(content, "first")
    assert once != twice and Image.open(io.BytesIO(once)).size == Image.open(io.BytesIO(twice)).size


def test_bits_apart_counts_bits():
    assert bits_apart("f0", "0f") == 8 and bits_apart("8" * 64, "8" * 64) == 0
