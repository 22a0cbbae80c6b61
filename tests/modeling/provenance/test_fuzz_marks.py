"""The fuzz target for reading marks: damaged parts and files are read or refused, and what is shown is clean.

`python -m pytest -m long tests/modeling/provenance/test_fuzz_marks.py` goes on for some minutes with other damage.
"""

import unicodedata

import encypher_c2pa
import pytest

from modeling.images import open_image
from modeling.provenance import content_credentials
from modeling.provenance.content_credentials import read_credentials
from modeling.provenance.evidence import MAX_SHOWN
from modeling.provenance.reading import read_provenance
from modeling.sentences import LANGUAGES
from tests.fuzzing import mutations
from tests.modeling.provenance.marked_files import provenance_of
from tests.modeling.provenance.marks_corpus import PARTS, WHOLE, WORDS
from tests.modeling.provenance.test_content_credentials import certificates, created, picture, signed

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def check(data):
    """Read one file; nothing but `ImageError` comes out of it, and that for its header alone."""
    if (provenance := provenance_of(data)) is None:
        return False
    assert not any(item.strength == "strong" for item in provenance.evidence)
    for item in provenance.evidence:
        for value in item.values.values():
            assert len(value) <= MAX_SHOWN and not set(value) & set("<>[]{}`|\\\n")
            assert not any(unicodedata.category(character)[0] == "C" for character in value)
        assert all(item.sentence(language) for language in LANGUAGES)
    return True


def attack_parts(seed, number):
    """Damage parts in whole files; most must be read, or the target attacks nothing."""
    names, parts = list(PARTS), [part for part, _ in PARTS.values()]
    read = sum(check(PARTS[names[index]][1](part)) for index, part in mutations(seed, parts, WORDS, number))
    assert read > 0.8 * number


def attack_files(seed, number):
    """Damage whole files anywhere."""
    read = sum(check(data) for _, data in mutations(seed, list(WHOLE.values()), WORDS, number))
    assert read > 0.05 * number


def attack_records(seed, number, monkeypatch):
    """Damage signed records: the library and what is made of its report are called here, without the process."""

    def report(data, mime_type, trust_anchors, time_stamp_anchors):
        try:
            return dict(encypher_c2pa.verify(data, mime_type, online=False, trust_pem=trust_anchors))
        except ValueError:  # in the process of its own it ends that process
            return {"error": "No answer."}

    monkeypatch.setattr(content_credentials, "_report", report)
    chain = certificates()
    whole = [signed(chain, picture(codec), codec, [created("digitalCapture")]) for codec in ("JPEG", "WEBP")]
    words = [
        b"jumb",
        b"jumd",
        b"c2pa",
        b"cbor",
        b"\xa1",
        b"\xbf",
        b"\x9f" * 99,
        b"\xfb",
        b"digitalCapture",
        b"c2pa.actions",
    ]
    formats = ("JPEG", "WEBP")
    honest = [read_credentials(data, name, chain[2]) for data, name in zip(whole, formats, strict=True)]
    broken = 0
    for index, data in mutations(seed, whole, words, number):
        evidence = read_credentials(data, formats[index], chain[2])
        assert all(item.sentence() for item in evidence)
        if evidence and evidence[0].code in ("credentials_trusted", "credentials_unknown_issuer"):
            # Padding that nothing is read from may differ, what is said and shown may not.
            assert evidence == honest[index]
            assert open_image(data).tobytes() == open_image(whole[index]).tobytes()
        else:
            broken += 1
    assert broken > number / 2


def test_every_part_of_the_corpus_is_read_before_it_is_damaged():
    for name, (part, wrap) in PARTS.items():
        assert read_provenance(wrap(part)).evidence[0].code != "absent", name
    for name, data in WHOLE.items():
        assert read_provenance(data).evidence[0].code != "absent", name


def test_damaged_parts():
    attack_parts(1, 2_500)


def test_damaged_files():
    attack_files(2, 2_500)


def test_damaged_records(monkeypatch):
    attack_records(3, 1_000, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_much_damage(seed, monkeypatch):
    attack_parts(seed, 20_000)
    attack_files(seed, 20_000)
    attack_records(seed, 2_000, monkeypatch)
