"""Files with the marks of real programs."""

import gzip
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from modeling.images import ImageError, read_header
from modeling.provenance.reading import read_provenance
from tests.pictures import chunk

WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
MAKE, MODEL, SOFTWARE, DESCRIPTION, EXIF_DIRECTORY, GPS, USER_COMMENT = 271, 272, 305, 270, 0x8769, 0x8825, 0x9286
PROMPT = "a private wish about somebody"
WEBUI = (
    f"{PROMPT}, Model: hidden\nNegative prompt: Steps: 3, blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model hash: a, Model: sdxl_base_1.0, Version: 1"
)
COMFY = json.dumps(
    {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder\\flux1-dev.safetensors"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": f'{PROMPT} "ckpt_name": "trap"'}},
    }
)
CAMERA = {MAKE: "Canon", MODEL: "Canon EOS R5", SOFTWARE: "Firmware Version 1.8.1"}
SETTINGS = {33434: 0.01, 33437: 2.8, 34855: 100, 36867: "2024:05:06 07:08:09", 42036: "RF50mm F1.2L USM"}


def encoded(codec="JPEG", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, codec, **options)
    return buffer.getvalue()


def with_texts(**texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text) if "é" in text else info.add_text(key, text)
    return encoded("PNG", pnginfo=info)


def with_exif(codec="JPEG", main=(), inner=(), gps=()):
    exif = Image.Exif()
    exif.update(dict(main))
    exif.get_ifd(EXIF_DIRECTORY).update(dict(inner))
    exif.get_ifd(GPS).update(dict(gps))
    return encoded(codec, exif=exif.tobytes())


def xmp_packet(attributes="", elements=""):
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'{attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def with_xmp(codec="JPEG", attributes="", elements=""):
    return encoded(codec, **xmp_option(codec, xmp_packet(attributes, elements)))


def xmp_option(codec, packet):
    """How Pillow writes XMP differs by format."""
    if codec == "TIFF":
        return {"tiffinfo": {700: packet}}
    if codec != "PNG":
        return {"xmp": packet}
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    return {"pnginfo": info}


def behind_the_pixels(*chunks):
    return encoded("PNG")[:-12] + b"".join(chunks) + chunk(b"IEND", b"")


def with_hidden(text, way="alpha", compress=True, codec="PNG", mode="RGBA", length=None):
    """Text in the lowest bits of the pixels: eight bits a letter, down the columns."""
    content = gzip.compress(text.encode()) if compress else text.encode()
    kind = ("png" if way == "alpha" else "rgb") + ("comp" if compress else "info")
    size = 8 * len(content) if length is None else length
    bits = np.unpackbits(np.frombuffer(f"stealth_{kind}".encode() + struct.pack(">I", size) + content, np.uint8))
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, len(mode)), dtype=np.uint8)
    if mode == "RGBA":
        pixels[:, :, 3] = 255
    columns = pixels.transpose(1, 0, 2)
    flat = (columns[:, :, 3:] if way == "alpha" else columns[:, :, :3]).reshape(-1)
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    if way == "alpha":
        columns[:, :, 3] = flat.reshape(128, 96)
    else:
        columns[:, :, :3] = flat.reshape(128, 96, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, codec, **({"lossless": True, "exact": True} if codec == "WEBP" else {}))
    return buffer.getvalue()


def found(data):
    """Code to (points_to, strength) of every finding."""
    return {item.code: (item.points_to, item.strength) for item in read_provenance(data).evidence}


def provenance_of(data):
    """What is read of a file; `None` where its header is refused as by everything else."""
    try:
        provenance = read_provenance(data)
    except ImageError:
        with pytest.raises(ImageError):
            read_header(data)
        return None
    json.dumps(provenance.to_dict())
    assert provenance.evidence
    return provenance
