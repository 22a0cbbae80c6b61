"""What a file says about its origin: real files with the marks of real programs, and what stays private."""

import json
import struct
import zlib

import pytest

from modeling.images import ImageError
from modeling.provenance.evidence import MAX_SHOWN, Evidence, clean
from modeling.provenance.reading import read_provenance
from modeling.provenance.source_types import POINTS_TO, source_kind
from modeling.sentences import LANGUAGES, all_sentences
from tests.modeling.provenance.marked_files import (
    CAMERA,
    COMFY,
    DESCRIPTION,
    MAKE,
    MODEL,
    PROMPT,
    SETTINGS,
    SOFTWARE,
    USER_COMMENT,
    WEBUI,
    WITH_EXIF,
    behind_the_pixels,
    chunk,
    encoded,
    found,
    with_exif,
    with_texts,
    with_xmp,
    xmp_packet,
)

WITH_XMP = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def tools(data):
    """What generators are named: tool to model."""
    evidence = read_provenance(data).evidence
    return {
        item.values["tool"]: item.values.get("model", "")
        for item in evidence
        if item.points_to == "generated" and item.values
    }


@pytest.mark.parametrize("codec", [*WITH_EXIF, "GIF", "BMP", "PPM"])
def test_a_file_without_a_word_says_only_that_this_proves_nothing(codec):
    provenance = read_provenance(encoded(codec))
    assert [item.code for item in provenance.evidence] == ["absent"]
    assert provenance.evidence[0].points_to == "nothing"
    assert "proves nothing" in provenance.evidence[0].sentence()
    assert not provenance.has_location


def test_what_is_no_picture_is_refused_as_everywhere():
    with pytest.raises(ImageError, match="not a picture"):
        read_provenance(b"some text")


# IPTC source type, credit and other labels


@pytest.mark.parametrize("codec", WITH_XMP)
@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("trainedAlgorithmicMedia", {"stated_generated": ("generated", "moderate")}),
        ("compositeWithTrainedAlgorithmicMedia", {"stated_partly_generated": ("edited", "moderate")}),
        ("digitalCapture", {"stated_camera": ("camera", "weak")}),
        ("softwareImage", {"stated_drawn": ("nothing", "weak")}),
        ("noSuchTerm", {"absent": ("nothing", "weak")}),
    ],
)
def test_iptc_source_type_is_read_as_attribute_and_as_element(codec, term, finding):
    address = f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}"
    assert found(with_xmp(codec, f'Iptc4xmpExt:DigitalSourceType="{address}"')) == finding
    assert found(with_xmp(codec, f"iptcExt:DigitalSourceType='{address}'")) == finding
    element = f"<Iptc4xmpExt:DigitalSourceType>{address}</Iptc4xmpExt:DigitalSourceType>"
    assert found(with_xmp(codec, elements=element)) == finding


def test_xmp_behind_the_pixels_of_a_png_and_compressed_is_read():
    packet = xmp_packet('x:DigitalSourceType="trainedAlgorithmicMedia"')
    for flag, text in ((b"\0", packet), (b"\1", zlib.compress(packet))):
        data = behind_the_pixels(chunk(b"iTXt", b"XML:com.adobe.xmp\0" + flag + b"\0\0\0" + text))
        assert found(data) == {"stated_generated": ("generated", "moderate")}


@pytest.mark.parametrize("term", ["digsrctype:digitalCapture", "DIGITALCAPTURE", "https://x/digitalCapture/"])
def test_source_type_is_recognised_in_each_spelling(term):
    assert source_kind(term) == "camera"
    assert source_kind(None) == source_kind("") == ""


def test_google_credit_names_the_generator_and_an_edit_by_google_is_an_edit():
    assert tools(with_xmp(attributes='photoshop:Credit="Made with Google AI"')) == {"Google AI": ""}
    edit = read_provenance(with_xmp(attributes='photoshop:Credit="Edited with Google AI"')).evidence
    assert [(item.code, item.values) for item in edit] == [("editor", {"tool": "Google AI"})]


def test_credit_of_the_older_iptc_block_is_read():
    credit = b"\x1c\x02\x6e\0\x13Made with Google AI"
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(credit)) + credit
    data = encoded()
    assert tools(data[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + data[2:]) == {"Google AI": ""}


@pytest.mark.parametrize(("label", "code"), [("1", "aigc"), ("2", "aigc_possible"), ("3", "aigc_possible")])
def test_chinese_label_for_ai_content_is_read_from_xmp_and_png_text(label, code):
    value = f'{{"Label":"{label}","ContentProducer":"001"}}'
    assert code in found(with_texts(AIGC=value))
    escaped = value.replace('"', "&quot;")
    assert code in found(with_xmp(attributes=f'TC260:AIGC="{escaped}"'))


# Generators


PNG_MARKS = {
    "web UI": ({"parameters": WEBUI}, {"Stable Diffusion web UI": "sdxl_base_1.0"}),
    "web UI, not Latin": ({"parameters": WEBUI + " é"}, {"Stable Diffusion web UI": "sdxl_base_1.0"}),
    "ComfyUI": ({"prompt": COMFY}, {"ComfyUI": "flux1-dev.safetensors"}),
    "ComfyUI workflow": ({"workflow": '{"nodes": [], "links": [], "text": ""}'}, {"ComfyUI": ""}),
    "InvokeAI": (
        {"invokeai_metadata": json.dumps({"positive_prompt": PROMPT, "model": {"name": "juggernaut", "hash": "x"}})},
        {"InvokeAI": "juggernaut"},
    ),
    "InvokeAI 2": (
        {"sd-metadata": json.dumps({"model_weights": "sd-1.5", "image": {"prompt": PROMPT}}), "Dream": PROMPT},
        {"InvokeAI": "sd-1.5"},
    ),
    "NovelAI": (
        {"Software": "NovelAI", "Source": "NovelAI Diffusion V4.5 1229B44F", "Description": PROMPT, "Comment": "{}"},
        {"NovelAI": "NovelAI Diffusion V4.5 1229B44F"},
    ),
    "Fooocus": (
        {"fooocus_scheme": "fooocus", "parameters": json.dumps({"prompt": PROMPT, "base_model": "juggernautXL_v8"})},
        {"Fooocus": "juggernautXL_v8"},
    ),
    "SwarmUI": (
        {"parameters": json.dumps({"sui_image_params": {"prompt": PROMPT, "model": "flux/dev"}})},
        {"SwarmUI": "dev"},
    ),
    "Easy Diffusion": (
        {"prompt": PROMPT, "use_stable_diffusion_model": "C:\\Users\\me\\sd-v1-4"},
        {"Easy Diffusion": "sd-v1-4"},
    ),
    "Midjourney": (
        {"Description": f"{PROMPT} --v 6 Job ID: 0f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f", "Author": "me"},
        {"Midjourney": ""},
    ),
}


@pytest.mark.parametrize(("texts", "named"), PNG_MARKS.values(), ids=PNG_MARKS)
def test_settings_in_a_png_name_tool_and_model_and_keep_the_prompt_private(texts, named):
    data = with_texts(**texts)
    assert tools(data) == named
    findings = found(data)
    assert findings["prompt"] == ("generated", "weak")
    assert set(findings) <= {"generator", "generator_model", "prompt"}
    answer = json.dumps(read_provenance(data).to_dict()["evidence"])
    assert "private" not in answer.replace("private text", "") and "hidden" not in answer and "Users" not in answer


@pytest.mark.parametrize("codec", WITH_EXIF)
@pytest.mark.parametrize("mark", [b"UNICODE\0", b"ASCII\0\0\0", b"\0" * 8, b""])
def test_web_ui_settings_in_the_exif_comment_are_read(codec, mark):
    text = WEBUI.encode("utf-16-be" if mark == b"UNICODE\0" else "ascii")
    data = with_exif(codec, inner={USER_COMMENT: mark + text})
    assert tools(data) == {"Stable Diffusion web UI": "sdxl_base_1.0"}
    assert "prompt" in found(data)


def test_exif_comment_of_the_other_byte_order_is_read():
    data = with_exif(inner={USER_COMMENT: b"UNICODE\0" + WEBUI.encode("utf-16-le")})
    assert tools(data) == {"Stable Diffusion web UI": "sdxl_base_1.0"}


EXIF_MARKS = {
    "FLUX": (
        {SOFTWARE: "AI generated;txt2img;flux", MAKE: "Black Forest Labs", MODEL: "flux-dev", DESCRIPTION: PROMPT},
        {"Black Forest Labs": "flux-dev"},
    ),
    "Qwen": ({SOFTWARE: "AI generated;t2i;qwen", MAKE: "Qwen", MODEL: "qwen-image"}, {"Qwen": "qwen-image"}),
    "Fooocus": (
        {SOFTWARE: "Fooocus v2.5.5", USER_COMMENT: json.dumps({"prompt": PROMPT, "base_model": "jugg"})},
        {"Fooocus": "jugg"},
    ),
    "ComfyUI WebP": ({MODEL: f"prompt:{COMFY}", MAKE: "workflow:{}"}, {"ComfyUI": "flux1-dev.safetensors"}),
    "DALL-E": ({SOFTWARE: "DALL-E 3"}, {"OpenAI": ""}),
    "Firefly": ({SOFTWARE: "Adobe Firefly 3"}, {"Adobe Firefly": ""}),
    "DreamStudio": ({SOFTWARE: "DreamStudio by stability.ai"}, {"DreamStudio": ""}),
}


@pytest.mark.parametrize(("fields", "named"), EXIF_MARKS.values(), ids=EXIF_MARKS)
def test_generators_that_write_exif_are_named_and_never_taken_for_a_camera(fields, named):
    data = with_exif("WEBP", fields, {33434: 0.01, 33437: 2.8, 34855: 100})
    assert tools(data) == named
    assert not {"camera", "camera_lens", "camera_name"} & set(found(data))
    assert PROMPT not in json.dumps(read_provenance(data).to_dict())


def test_draw_things_in_xmp_is_named():
    settings = json.dumps({"c": PROMPT, "uc": "", "model": "flux_1_schnell_q5p.ckpt"}).replace('"', "&quot;")
    elements = (
        "<xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>"
        f'<rdf:li xml:lang="x-default">{settings}</rdf:li></rdf:Alt></exif:UserComment>'
    )
    assert tools(with_xmp("PNG", elements=elements)) == {"Draw Things": "flux_1_schnell_q5p.ckpt"}


def test_caption_that_only_speaks_of_a_generator_is_no_mark():
    caption = "My talk about Midjourney, DALL-E and Stable Diffusion. Steps: many. Job ID: 12"
    data = with_texts(Description=caption, Title=caption, Comment=caption)
    assert found(data) == {"absent": ("nothing", "weak")}
    assert found(encoded("JPEG", comment=caption.encode())) == {"absent": ("nothing", "weak")}


# Cameras and editors


PRIVATE = {42033: "SERIAL-4711", 42032: "Owner Name", 42037: "LENS-SERIAL-12"}


@pytest.mark.parametrize("codec", WITH_EXIF)
def test_camera_with_its_settings_is_moderate_and_private_fields_stay_private(codec):
    gps = {1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.2)}
    provenance = read_provenance(with_exif(codec, {**CAMERA, 315: "An Artist"}, SETTINGS | PRIVATE, gps))
    (camera,) = provenance.evidence
    assert (camera.code, camera.points_to, camera.strength) == ("camera_lens", "camera", "moderate")
    assert camera.values == {"camera": "Canon EOS R5", "lens": "RF50mm F1.2L USM"}
    assert provenance.has_location
    shown = repr(provenance) + json.dumps(provenance.to_dict())
    assert not [secret for secret in ("4711", "Owner", "LENS-", "Artist", "29.5", "48", "2024") if secret in shown]


def test_camera_name_alone_is_weak_and_a_make_is_not_said_twice():
    (name,) = read_provenance(with_exif(main={MAKE: "Apple", MODEL: "iPhone 15"})).evidence
    assert (name.code, name.strength, name.values) == ("camera_name", "weak", {"camera": "Apple iPhone 15"})
    assert found(with_exif(main={MODEL: "iPhone 15"})) == {"absent": ("nothing", "weak")}


def test_coordinates_in_xmp_are_noted():
    provenance = read_provenance(with_xmp(attributes='exif:GPSLatitude="48,51.5N"'))
    assert provenance.has_location and "48,51" not in repr(provenance)


@pytest.mark.parametrize("tool", ["Adobe Photoshop 25.1 (Windows)", "GIMP 2.10.36", "Snapseed 2.0", "paint.net 5.0"])
def test_editor_is_weak_and_named(tool):
    assert found(with_exif(main={SOFTWARE: tool})) == {"editor": ("edited", "weak")}
    (editor,) = read_provenance(with_xmp(attributes=f'xmp:CreatorTool="{tool}"')).evidence
    assert editor.values == {"tool": tool}
    assert "editor" in found(with_texts(Software=tool))


@pytest.mark.parametrize("software", ["17.5.1", "HDR+ 1.0.6", "Version1.0", "Windows 10", "S918BXXU3"])
def test_firmware_is_no_editor(software):
    assert found(with_exif(main={SOFTWARE: software})) == {"absent": ("nothing", "weak")}


def test_stronger_findings_come_first_and_each_once():
    data = with_exif(main={**CAMERA, SOFTWARE: "Adobe Photoshop 25"}, inner=SETTINGS)
    evidence = read_provenance(data).evidence
    assert [item.strength for item in evidence] == ["moderate", "weak"]
    assert len({(item.code, str(item.values)) for item in evidence}) == len(evidence)


# Sentences


def test_every_code_that_the_code_can_make_has_its_sentence_in_each_language():
    codes = {f"{prefix}_{kind}" for prefix in ("signed", "stated") for kind in POINTS_TO}
    states = ("trusted", "unknown_issuer", "expired", "revoked", "changed", "invalid", "unreadable", "elsewhere")
    codes |= {f"credentials_{state}" for state in states} | {
        "signed_edits",
        "signed_watermark",
        "absent",
        "aigc",
        "aigc_possible",
    }
    codes |= {
        "camera",
        "camera_lens",
        "camera_name",
        "editor",
        "generator",
        "generator_model",
        "prompt",
        "hidden_settings",
    }
    values = dict.fromkeys(("tool", "model", "issuer", "actions", "camera", "lens", "date"), "NAME")
    for language in LANGUAGES:
        assert set(all_sentences(language)["provenance"]) == codes
        for code in codes:
            text = Evidence(code, values).sentence(language)
            assert "—" not in text and "{" not in text


def test_values_from_a_file_are_cleaned_before_they_are_shown():
    hostile = "A\n\x00\x1b[31m\u202eevil\u200b <script>`x`</script> [click](http://x) {0} " + "long " * 99
    shown = clean(hostile)
    assert len(shown) <= MAX_SHOWN and shown.endswith("…")
    assert not set(shown) & set("\n\x00\x1b\u202e\u200b<>`[]{}")
    (editor,) = read_provenance(with_texts(Software=f"GIMP {hostile}")).evidence
    assert editor.values["tool"] == clean(f"GIMP {hostile}")
    assert clean(7) == clean(None) == clean("\n\t ") == ""
    assert clean("x" * 10**7) == "x" * (MAX_SHOWN - 1) + "…"
