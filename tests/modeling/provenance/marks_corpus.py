"""The corpus of the fuzz target for marks: parts that hold every kind of mark, and the file that each is put into.

Run by hand, it writes the whole files, for other fuzzers: `python -m tests.modeling.provenance.marks_corpus FOLDER`.
"""

import json
import struct
import sys
from pathlib import Path

from PIL import Image

from tests.modeling.provenance.marked_files import (
    CAMERA,
    COMFY,
    DESCRIPTION,
    EXIF_DIRECTORY,
    GPS,
    SETTINGS,
    USER_COMMENT,
    WEBUI,
    behind_the_pixels,
    chunk,
    encoded,
    with_hidden,
    with_xmp,
    xmp_packet,
)

LABEL = '{"AIGC": {"Label": "1", "ContentProducer": "x"}}'
NOVELAI = json.dumps({"Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Comment": '{"uncond_scale": 1}'})
WORDS = [
    *(b'"', b"'", b"<", b">", b"</", b"\\", b"\0", b"\n", b"=", b"&amp;", b"&#x", b"\xff\xfe", b"\x1c\x02\x6e\0"),
    *(
        b"<rdf:li>",
        b'rdf:resource="',
        b"x:Credit=",
        b"<e:DigitalSourceType>",
        b"AISystemUsed",
        b"trainedAlgorithmicMedia",
    ),
    *(b"Steps: 1, ", b"Sampler: ", b"Model: ", b'"class_type"', b'"ckpt_name": "', b'"base_model"', b'"prompt"'),
    *(b"AIGC", b'"Label": "1"', b"Signature: ", b"Edited with ", b"Job ID: ", b"NovelAI", b"Photoshop", b"UNICODE\0"),
    *(
        b"stealth_pngcomp",
        b"\x1f\x8b\x08",
        b"eXIf",
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"II*\0",
        b"MM\0*",
        b"\xff\xe1",
        b"\xff\xfe",
    ),
    *("\u202e\u200b\ud83d".encode("utf-8", "surrogatepass"), "提示词".encode(), b"\xf0\x9f\x98\x80"),
]
WORDS = [word if isinstance(word, bytes) else bytes([word]) for word in WORDS]


def exif_block() -> bytes:
    """A camera's fields, a comment with settings, coordinates."""
    exif = Image.Exif()
    exif.update({**CAMERA, DESCRIPTION: "Signature: x", 315: "0f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f"})
    exif.get_ifd(EXIF_DIRECTORY).update(SETTINGS | {USER_COMMENT: b"ASCII\0\0\0" + WEBUI.encode()})
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 29.5)})
    return exif.tobytes()[6:]


def xmp() -> bytes:
    """Every property that is looked for."""
    attributes = (
        'x:DigitalSourceType="digitalCapture" xmp:CreatorTool="Draw Things" photoshop:Credit="Made with Google AI" '
        'e:AISystemUsed="X" e:AISystemVersionUsed="2" e:AIPromptInformation="p" tiff:Make="Canon" tiff:Model="R5" '
        'exif:ExposureTime="1" exif:FNumber="2" exif:FocalLength="3" aux:Lens="L" exif:GPSLatitude="1" '
        'dcterms:provenance="https://example.com/x"'
    )
    label = LABEL.replace('"', "&quot;")
    items = f"<rdf:li>{label}</rdf:li><rdf:li e:softwareAgent='GIMP'/>"
    return xmp_packet(attributes, f"<TC260:AIGC><rdf:Seq>{items}</rdf:Seq></TC260:AIGC>")


def jpeg_with(marker: int, content: bytes) -> bytes:
    """A JPEG with a segment before all others."""
    data = encoded("JPEG")
    content = content[:65_000]
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def iptc_block() -> bytes:
    """A credit line in the older form, as Photoshop stores it."""
    credit = b"\x1c\x02\x6e\0\x13Made with Google AI"
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(credit)) + credit


def _hidden(content: bytes) -> bytes:
    return with_hidden(content[:1200].decode("latin-1"), compress=len(content) % 2 == 0)


# Parts that are damaged, each with the way into a file whose frame stays whole.
PARTS = {
    "EXIF in a PNG": (exif_block(), lambda part: behind_the_pixels(chunk(b"eXIf", part))),
    "EXIF in a JPEG": (b"Exif\0\0" + exif_block(), lambda part: jpeg_with(0xE1, part)),
    "XMP in a PNG": (xmp(), lambda part: behind_the_pixels(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + part))),
    "XMP in a JPEG": (b"http://ns.adobe.com/xap/1.0/\0" + xmp(), lambda part: jpeg_with(0xE1, part)),
    "settings of the web UI": (WEBUI.encode(), lambda part: behind_the_pixels(chunk(b"tEXt", b"parameters\0" + part))),
    "settings of ComfyUI": (COMFY.encode(), lambda part: behind_the_pixels(chunk(b"tEXt", b"prompt\0" + part))),
    "settings of NovelAI": (
        NOVELAI.encode(),
        lambda part: behind_the_pixels(chunk(b"iTXt", b"Comment\0\0\0\0\0" + part)),
    ),
    "label in a comment": (LABEL.encode(), lambda part: jpeg_with(0xFE, part)),
    "IPTC": (iptc_block(), lambda part: jpeg_with(0xED, part)),
    "hidden settings": (NOVELAI.encode(), _hidden),
}
# Files that are damaged anywhere.
WHOLE = {
    "label.jpg": jpeg_with(0xFE, LABEL.encode()),
    "exif.png": behind_the_pixels(chunk(b"eXIf", exif_block()), chunk(b"tEXt", b"prompt\0" + COMFY.encode())),
    "xmp.webp": with_xmp("WEBP", 'x:DigitalSourceType="trainedAlgorithmicMedia"'),
    "comment.gif": encoded("GIF", comment=LABEL.encode()),
}


def main(folder: str) -> None:
    """Write every file of the corpus."""
    files = WHOLE | {f"{name}.bin": wrap(part) for name, (part, wrap) in PARTS.items()}
    for name, data in files.items():
        Path(folder, name.replace(" ", "_")).write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1])
