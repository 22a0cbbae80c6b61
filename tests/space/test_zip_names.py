"""Names inside zip archives are readable whatever system packed them, and a guess never garbles a European name."""

import io
import struct
import zipfile
import zlib

import pytest

from space.zip_names import readable_names


class Packed(zipfile.ZipInfo):
    """An entry whose name is bytes, as other programs write it."""

    def __init__(self, raw):
        super().__init__(raw.decode("cp437"))
        self.raw = raw

    def _encodeFilenameFlags(self):  # noqa: N802 (the library's own)
        return self.raw, 0


def archive_of(*names, encoding, extra=lambda raw: b""):
    """Entries as a system packs them that does not say its encoding."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            raw = name.encode(encoding)
            info = Packed(raw)
            info.extra = extra(raw)
            archive.writestr(info, b"x")
    return zipfile.ZipFile(io.BytesIO(file.getvalue())).infolist()


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("gbk", ["照片/我的猫.png", "截图_001.png"]),
        ("gbk", ["北京2024年.jpg"]),
        ("gbk", ["新建文件夹/图片(1).jpg", "plain.jpg"]),
        ("cp932", ["写真.jpg"]),
        ("cp932", ["スクリーンショット 2024-05-01.png", "猫の写真/東京タワー.jpg"]),
        ("big5", ["照片/我的圖片.png", "台北.jpg"]),
        ("utf-8", ["照片.jpg", "Größe.jpg", "фото.png", "사진.jpg"]),  # macOS sets no flag
        ("cp437", ["Müller.jpg", "Grösse.jpg", "été/niño.png", "Ångström.jpg", "ÄÖÜ.png"]),
        ("cp437", ["Größe.jpg"]),
        ("ascii", ["a.png", "b/c.png"]),
    ],
)
def test_names_are_read_as_they_were_written(encoding, names):
    assert readable_names(archive_of(*names, encoding=encoding)) == names


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "cp866", "cp1251", "cp949"])
def test_what_is_not_recognised_stays_as_the_library_reads_it(encoding):
    names = {"cp866": ["фото из отпуска.jpg"], "cp1251": ["фото из отпуска.jpg"], "cp949": ["a각.jpg"]}
    for name in names.get(encoding, ["Größe.jpg", "été à la plage.png", "Señor Peña.jpg"]):
        entries = archive_of(name, encoding=encoding)
        assert readable_names(entries) == [entries[0].filename]


def test_the_flag_and_the_field_of_unicode_names_are_believed():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("照片.jpg", b"x")
    with zipfile.ZipFile(file) as archive:
        assert readable_names(archive.infolist()) == ["照片.jpg"]

    def field(raw):
        content = b"\x01" + struct.pack("<I", zlib.crc32(raw)) + "фото.jpg".encode()
        return struct.pack("<HH", 0x7075, len(content)) + content

    assert readable_names(archive_of("фото.jpg", encoding="cp866", extra=field)) == ["фото.jpg"]
    entries = archive_of("фото.jpg", encoding="cp866", extra=lambda raw: field(raw + b"of before"))
    assert readable_names(entries) == [entries[0].filename]


@pytest.mark.parametrize("extra", [b"\x75\x70", b"\x75\x70\xff\xff\x01", b"\x75\x70\x00\x00", b"\x75\x70\x01\x00\x01"])
def test_a_field_that_is_cut_is_passed_over(extra):
    (entry,) = archive_of("été.jpg", encoding="cp437")
    entry.extra = extra
    assert readable_names([entry]) == ["été.jpg"]
