"""Files and folders appear whole or not at all."""

import pytest
import torch
from safetensors.torch import save_file

from modeling.files import new_folder, remove_leftovers, replacing, staged


def test_a_file_that_is_not_finished_leaves_the_old_one_and_no_trace(tmp_path):
    path = tmp_path / "new" / "scores.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_bytes(b"sec")
        raise OSError("disk full")
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("scores.bin", b"first")]


def test_a_folder_appears_with_all_its_files_or_not_at_all(tmp_path):
    path = tmp_path / "checkpoint"
    with pytest.raises(OSError, match="disk full"), new_folder(path) as folder:
        (folder / "config.json").write_text("{}")
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []
    with new_folder(path) as folder:
        (folder / "config.json").write_text("{}")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["config.json"]
    assert list(tmp_path.iterdir()) == [path]


def test_staged_files_replace_those_of_their_names_together(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "mine.txt").write_text("stays")
    with pytest.raises(OSError, match="disk full"), staged(tmp_path) as folder:
        (folder / "a.txt").write_text("new")
        raise OSError("disk full")
    assert (tmp_path / "a.txt").read_text() == "old"
    with staged(tmp_path) as folder:
        (folder / "a.txt").write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "new", "mine.txt": "stays"}


def test_whoever_may_read_a_new_file_may_read_one_that_safetensors_wrote(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with replacing(tmp_path / "alone.safetensors") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    with new_folder(tmp_path / "new") as folder, staged(tmp_path) as files:
        for place in (folder, files):
            save_file({"a": torch.zeros(1)}, place / "a.safetensors")
    written = [tmp_path / "alone.safetensors", tmp_path / "a.safetensors", tmp_path / "new" / "a.safetensors"]
    assert {file.stat().st_mode for file in written} == {ordinary.stat().st_mode}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    kept = tmp_path / "kept.bin"
    with replacing(kept) as temporary:
        left = tmp_path / temporary.name.replace("kept", "killed")
        left.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
