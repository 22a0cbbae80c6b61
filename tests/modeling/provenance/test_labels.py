"""Labels of IPTC and of China wherever they may stand, and the signature that Grok writes."""

import json

import pytest

from modeling.provenance.reading import read_provenance
from tests.modeling.provenance.marked_files import (
    DESCRIPTION,
    MAKE,
    MODEL,
    PROMPT,
    SOFTWARE,
    USER_COMMENT,
    WEBUI,
    WITH_EXIF,
    encoded,
    found,
    with_exif,
    with_texts,
    with_xmp,
)

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ARTIST, PROCESSING_SOFTWARE, XP_COMMENT = 315, 11, 0x9C9C
LABEL = '{"AIGC": {"Label": "1", "ContentProducer": "001191310115MA1", "ProduceID": "x"}}'
UUID = "0f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f"


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_source_type_as_a_link_is_read(codec):
    element = f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{IPTC}trainedAlgorithmicMedia"/>'
    assert found(with_xmp(codec, elements=element)) == {"stated_generated": ("generated", "moderate")}


def test_several_source_types_are_all_read():
    items = "".join(f"<rdf:li>{IPTC}{term}</rdf:li>" for term in ("digitalCapture", "trainedAlgorithmicMedia"))
    element = f"<e:DigitalSourceType><rdf:Bag>{items}</rdf:Bag></e:DigitalSourceType>"
    assert found(with_xmp(elements=element)).keys() == {"stated_generated", "stated_camera"}


def test_fields_of_iptc_2025_1_name_the_system_and_keep_prompt_and_writer_private():
    attributes = 'e:AISystemUsed="Imaginator" e:AISystemVersionUsed="4.5" e:AIPromptWriterName="Jane Doe" '
    data = with_xmp(attributes=f'{attributes} e:AIPromptInformation="{PROMPT}"')
    provenance = read_provenance(data)
    evidence = {item.code: item.values for item in provenance.evidence}
    assert evidence == {
        "stated_generated": {},
        "generator_model": {"tool": "Imaginator", "model": "4.5"},
        "prompt": {},
    }
    assert not [secret for secret in (PROMPT, "Jane") if secret in json.dumps(provenance.to_dict())]


def test_a_prompt_by_iptc_alone_is_a_label():
    assert found(with_xmp(attributes=f'e:AIPromptInformation="{PROMPT}"')).keys() == {"stated_generated", "prompt"}


def unicode(text):
    return b"UNICODE\0" + text.encode("utf-16-be")


@pytest.mark.parametrize("codec", WITH_EXIF)
@pytest.mark.parametrize("label", [LABEL, LABEL.replace('"', r"\""), LABEL.replace(": ", ":"), "AIGC:{Label:1}"])
def test_chinese_label_in_exif_is_read(codec, label):
    for value in (b"ASCII\0\0\0" + label.encode(), label.encode(), unicode(label)):
        assert found(with_exif(codec, inner={USER_COMMENT: value})) == {"aigc": ("generated", "moderate")}
    assert "aigc" in found(with_exif(codec, main={DESCRIPTION: label}))


def test_chinese_label_in_each_comment_is_read():
    assert "aigc" in found(encoded("JPEG", comment=LABEL.encode()))
    assert "aigc" in found(encoded("GIF", comment=LABEL.encode()))
    two = encoded("JPEG", comment=b"last")
    first = b"\xff\xfe" + (len(LABEL) + 2).to_bytes(2) + LABEL.encode()
    assert "aigc" in found(two[:2] + first + two[2:])
    assert "aigc" in found(with_texts(Comment=f"some words {LABEL}"))
    assert "aigc" in found(with_exif(main={XP_COMMENT: LABEL.encode("utf-16-le")}))


def test_chinese_label_as_a_structure_in_xmp_is_read():
    parts = "<TC260:Label>2</TC260:Label><TC260:ContentProducer>x</TC260:ContentProducer>"
    element = f"<TC260:AIGC rdf:parseType='Resource'>{parts}</TC260:AIGC>"
    assert found(with_xmp(elements=element)) == {"aigc_possible": ("generated", "weak")}


@pytest.mark.parametrize("text", ['{"Label": "1"}', "AIGC is a word", '{"AIGC": {"Label": "4"}}', '{"AIGC": 1}'])
def test_words_that_are_no_label_say_nothing(text):
    assert found(with_exif(inner={USER_COMMENT: text.encode()})) == {"absent": ("nothing", "weak")}
    assert "aigc" not in found(with_xmp(attributes='xmp:Label="1"'))


def test_signature_of_grok_is_known():
    data = with_exif(main={ARTIST: UUID, DESCRIPTION: "Signature: dGVzdA=="})
    (mark,) = read_provenance(data).evidence
    assert (mark.code, mark.values, mark.points_to) == ("generator", {"tool": "Grok"}, "generated")
    assert found(with_exif(main={ARTIST: "A Person", DESCRIPTION: "Signature: x"})).keys() == {"absent"}
    assert found(with_exif(main={ARTIST: UUID, DESCRIPTION: "A view"})).keys() == {"absent"}


@pytest.mark.parametrize("prefix", ["exif:UserComment", "dc:description", "sd:parameters"])
def test_settings_in_xmp_are_read(prefix):
    text = WEBUI.replace("\n", "&#10;")
    data = with_xmp(elements=f"<{prefix}><rdf:Alt><rdf:li xml:lang='x-default'>{text}</rdf:li></rdf:Alt></{prefix}>")
    assert found(data).keys() == {"generator_model", "prompt"}


def test_settings_in_a_comment_of_windows_are_read():
    assert "generator_model" in found(with_exif(main={XP_COMMENT: WEBUI.encode("utf-16-le")}))


def test_camera_and_its_settings_are_read_from_xmp_alone():
    settings = 'exif:ExposureTime="1/100" exif:FNumber="28/10" exif:FocalLength="50/1" aux:Lens="RF50mm"'
    data = with_xmp(attributes=f'tiff:Make="Canon" tiff:Model="Canon EOS R5" {settings}')
    (camera,) = read_provenance(data).evidence
    assert (camera.code, camera.values) == ("camera_lens", {"camera": "Canon EOS R5", "lens": "RF50mm"})


def test_editors_of_the_history_are_named_once_and_a_few():
    steps = "".join(f'<rdf:li e:softwareAgent="Adobe Photoshop {n // 2}"/>' for n in range(40))
    evidence = read_provenance(with_xmp(elements=f"<m:History><rdf:Seq>{steps}</rdf:Seq></m:History>")).evidence
    assert [item.values["tool"] for item in evidence] == [f"Adobe Photoshop {n}" for n in range(5)]
    assert found(with_exif(main={PROCESSING_SOFTWARE: "darktable 4"})) == {"editor": ("edited", "weak")}


def test_clean_up_by_a_telephone_is_an_edit():
    (edit,) = read_provenance(with_xmp(attributes='photoshop:Credit="Apple Photos Clean Up"')).evidence
    assert (edit.code, edit.values) == ("editor", {"tool": "Apple Photos Clean Up"})


@pytest.mark.parametrize(
    ("name", "tool"), [("Doubao", "ByteDance (Doubao, Jimeng)"), ("即梦AI", "ByteDance (Doubao, Jimeng)")]
)
def test_generators_that_sign_with_their_name_are_known(name, tool):
    (mark,) = read_provenance(with_xmp(attributes=f'xmp:CreatorTool="{name}"')).evidence
    assert mark.values == {"tool": tool}
    assert found(with_exif(main={MAKE: "Apple", MODEL: "iPhone", SOFTWARE: "Recraft"})).keys() == {"generator"}
