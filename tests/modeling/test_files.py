"""Files appear whole or not at all."""

import pytest

from modeling.files import replacing


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
