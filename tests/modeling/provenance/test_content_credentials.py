"""Content Credentials: real files, signed in the test by the library itself with certificates made in the test."""

import datetime
import http.server
import io
import json
import threading
import zlib

import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from PIL import Image

from modeling.images import open_image
from modeling.provenance import content_credentials
from modeling.provenance.reading import read_provenance
from tests.waiting import wait_for

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
FORMATS = ("JPEG", "PNG", "WEBP")
USAGES = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
USAGES += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]


def usage(*allowed):
    return x509.KeyUsage(**{name: name in allowed for name in USAGES})


def certificates(days=30, ocsp=None):
    """A root of our own and a signer's certificate: (chain, private key, root), each as PEM."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])
        for organisation in ("Test Root", "Test Works")
    ]

    def certificate(owner, is_root, days):
        return (
            x509.CertificateBuilder(names[0], names[owner], keys[owner].public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_root, None), True)
            .add_extension(usage("key_cert_sign") if is_root else usage("digital_signature"), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[owner].public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )

    signer = certificate(1, False, days).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
    )
    if ocsp:
        place = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
        signer = signer.add_extension(x509.AuthorityInformationAccess([place]), False)
    root, leaf = (
        builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        for builder in (certificate(0, True, 60), signer)
    )
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return leaf + root, key, root.decode()


@pytest.fixture(scope="module")
def chain():
    return certificates()


def picture(codec="JPEG", seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, codec, **options)
    return buffer.getvalue()


def created(source_type):
    return {
        "action": "c2pa.created",
        "digitalSourceType": IPTC + source_type,
        "softwareAgent": {"name": "Imaginator", "version": "3"},
    }


def signed(chain, data, codec="JPEG", actions=(), edit=False, remote=None, assertions=()):
    """`data` with a signed record, as an edit of itself if `edit`; `remote` only names an address of the record."""
    mime = f"image/{codec.lower()}"
    manifest = {
        "claim_generator_info": [{"name": "Test <b>Writer</b>", "version": "1.2"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}, *assertions],
    }
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain[0], chain[1], None))
    builder = c2pa.Builder(manifest)
    if edit:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    if remote:
        builder.set_remote_url(remote)
        builder.set_no_embed()
    output = io.BytesIO()
    builder.sign(signer, mime, io.BytesIO(data), output)
    return output.getvalue()


def with_changed_pixel(data, codec):
    """One byte of the pixels changed, well inside them."""
    data = bytearray(data)
    if codec != "PNG":
        data[len(data) - 500 if codec == "JPEG" else data.index(b"VP8 ") + 500] ^= 1
        return bytes(data)
    start = data.index(b"IDAT")
    end = start + 4 + int.from_bytes(data[start - 4 : start])
    pixels = bytearray(zlib.decompress(data[start + 4 : end]))
    pixels[500] ^= 1
    content = b"IDAT" + zlib.compress(pixels)
    length, checksum = (len(content) - 4).to_bytes(4), zlib.crc32(content).to_bytes(4)
    return bytes(data[: start - 4] + length + content + checksum + data[end + 4 :])


def found(data, **options):
    """Code to (points_to, strength) of every finding."""
    provenance = read_provenance(data, **options)
    assert provenance.evidence
    return {item.code: (item.points_to, item.strength) for item in provenance.evidence}


@pytest.mark.parametrize("codec", FORMATS)
def test_intact_record_of_an_unknown_signer_is_never_strong(chain, codec):
    data = signed(chain, picture(codec), codec, [created("trainedAlgorithmicMedia")])
    provenance = read_provenance(data)
    assert {item.code: (item.points_to, item.strength) for item in provenance.evidence} == {
        "credentials_unknown_issuer": ("nothing", "moderate"),
        "signed_generated": ("generated", "moderate"),
    }
    record, statement = provenance.evidence
    assert record.values == {"issuer": "Test Works", "tool": "Test b Writer /b 1.2"}
    assert "anybody can sign under any name" in record.sentence()
    assert statement.values == {"tool": "Imaginator"}


@pytest.mark.parametrize("codec", FORMATS)
def test_signer_on_the_trust_list_makes_a_statement_strong(chain, codec):
    data = signed(chain, picture(codec), codec, [created("digitalCapture")])
    assert found(data, trust_anchors=chain[2]) == {
        "credentials_trusted": ("nothing", "strong"),
        "signed_camera": ("camera", "strong"),
    }


def test_another_trust_list_does_not_help(chain):
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    assert "credentials_unknown_issuer" in found(data, trust_anchors=certificates()[2])


@pytest.mark.parametrize("codec", FORMATS)
def test_camera_statement_of_an_unknown_signer_is_weak(chain, codec):
    data = signed(chain, picture(codec), codec, [created("digitalCapture")])
    assert found(data)["signed_camera"] == ("camera", "weak")


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize("trusted", [False, True])
def test_one_changed_pixel_byte_breaks_the_record(chain, codec, trusted):
    data = with_changed_pixel(signed(chain, picture(codec), codec, [created("digitalCapture")]), codec)
    assert open_image(data).size == (160, 120)
    assert found(data, trust_anchors=chain[2] if trusted else "") == {
        "credentials_changed": ("edited", "weak"),
        "stated_camera": ("camera", "weak"),
    }


def test_record_moved_to_another_picture_is_noticed(chain):
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    start = end = data.index(b"\xff\xeb")
    while data[end : end + 2] == b"\xff\xeb":
        end += 2 + int.from_bytes(data[end + 2 : end + 4])
    other = picture(seed=1)
    assert "credentials_changed" in found(other[:start] + data[start:end] + other[start:])


def test_record_changed_after_signing_is_invalid(chain):
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    assert found(data.replace(b"digitalCapture", b"digitalCaptuRe")) == {
        "credentials_invalid": ("nothing", "weak"),
        "stated_camera": ("camera", "weak"),
    }


def test_expired_certificate_is_told_apart_from_damage(chain):
    brief = certificates(days=2 / 86_400)
    data = signed(brief, picture(), actions=[created("trainedAlgorithmicMedia")])
    changed = bytearray(data)
    changed[-500] ^= 1
    wait_for(lambda: "credentials_expired" in found(data))
    assert found(data) == {
        "credentials_expired": ("nothing", "weak"),
        "signed_generated": ("generated", "moderate"),
    }
    assert "credentials_changed" in found(bytes(changed))


def test_earlier_version_and_the_edits_since_are_named(chain):
    first = signed(chain, picture(), actions=[created("trainedAlgorithmicMedia")])
    cropped = {"action": "c2pa.cropped"}
    data = signed(chain, first, actions=[cropped, {"action": "c2pa.color_adjustments"}], edit=True)
    provenance = read_provenance(data, chain[2])
    evidence = {item.code: item for item in provenance.evidence}
    assert evidence.keys() == {"credentials_trusted", "signed_generated", "signed_edits"}
    # The trusted signer of the edit only passes on what the version before said.
    assert evidence["signed_generated"].strength == "moderate"
    assert evidence["signed_edits"].points_to == "edited"
    assert evidence["signed_edits"].values == {"actions": "cropped, color_adjustments"}


def test_generated_content_that_an_edit_added_makes_the_picture_partly_generated(chain):
    fill = {"action": "c2pa.edited", "digitalSourceType": IPTC + "trainedAlgorithmicMedia"}
    data = signed(chain, picture(), actions=[created("digitalCapture"), fill])
    assert found(data) == {
        "credentials_unknown_issuer": ("nothing", "moderate"),
        "signed_camera": ("camera", "weak"),
        "signed_partly_generated": ("edited", "moderate"),
        "signed_edits": ("edited", "weak"),
    }


@pytest.mark.parametrize(
    ("source_type", "code"),
    [
        ("compositeWithTrainedAlgorithmicMedia", "signed_partly_generated"),
        ("computationalCapture", "signed_camera"),
        ("screenCapture", "signed_screen"),
        ("digitalCreation", "signed_drawn"),
        ("negativeFilm", "signed_scan"),
        ("humanEdits", "signed_edited"),
    ],
)
def test_each_source_type_has_its_statement(chain, source_type, code):
    assert code in found(signed(chain, picture(), actions=[created(source_type)]))


def test_coordinates_in_a_record_are_noted_and_not_shown(chain):
    exif = {
        "label": "stds.exif",
        "kind": "Json",
        "data": {"@context": {"exif": "http://ns.adobe.com/exif/1.0/"}, "exif:GPSLatitude": "39,21.102N"},
    }
    data = signed(chain, picture(), actions=[created("digitalCapture")], assertions=[exif])
    provenance = read_provenance(data)
    assert provenance.has_location
    assert "39,21" not in json.dumps(provenance.to_dict())


@pytest.fixture
def server():
    """A local server and the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    Handler.do_GET = Handler.do_POST = Handler.answer
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_record_stored_elsewhere_is_not_fetched(chain, server):
    address, asked = server
    data = signed(chain, picture(), remote=f"{address}/record.c2pa", actions=[created("digitalCapture")])
    with pytest.raises(c2pa.C2paError):  # the library's own settings do fetch
        c2pa.Reader("image/jpeg", io.BytesIO(data))
    assert asked == ["/record.c2pa"]
    asked.clear()
    assert content_credentials._report(data, "image/jpeg", "")["error"]
    assert found(data) == {"credentials_elsewhere": ("nothing", "weak")}
    assert not asked


def test_revocation_service_is_not_asked(server):
    address, asked = server
    data = signed(certificates(ocsp=f"{address}/ocsp"), picture(), actions=[created("digitalCapture")])
    asking = c2pa.Context.from_dict({"verify": {"ocsp_fetch": True}})
    c2pa.Reader("image/jpeg", io.BytesIO(data), context=asking)
    assert asked
    asked.clear()
    assert "credentials_unknown_issuer" in found(data)
    assert not asked


def test_library_that_takes_too_long_costs_no_answer(chain, monkeypatch):
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    monkeypatch.setattr(content_credentials, "TIME_LIMIT", 0.001)
    assert found(data) == {"credentials_unreadable": ("nothing", "weak")}


def test_library_that_crashes_costs_no_answer(chain, monkeypatch, tmp_path):
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    crash = tmp_path / "crash.py"
    crash.write_text("import os, sys\nsys.stdin.buffer.read()\nos.abort()\n")
    monkeypatch.setattr(content_credentials, "WORKER", crash)
    assert found(data) == {"credentials_unreadable": ("nothing", "weak")}


def test_marks_of_a_record_without_one_say_nothing():
    data = picture(comment=content_credentials._RECORD_MARK)
    assert content_credentials._RECORD_MARK in data
    assert found(data) == {"absent": ("nothing", "weak")}


@pytest.mark.parametrize("codec", FORMATS)
def test_damaged_records_raise_nothing_and_are_never_valid(chain, codec):
    data = signed(chain, picture(codec), codec, [created("digitalCapture")])
    start = data.index(content_credentials._RECORD_MARK) + len(content_credentials._RECORD_MARK)
    chunk = data.find(b"caBX") - 4
    rng = np.random.default_rng(3)
    for _ in range(8):
        damaged = bytearray(data)
        for place in rng.integers(start, start + 4000, size=20):
            damaged[place] ^= int(rng.integers(1, 256))
        if codec == "PNG":  # or its checksum would give it away first
            length = int.from_bytes(damaged[chunk : chunk + 4]) + 4
            damaged[chunk + 4 + length : chunk + 8 + length] = zlib.crc32(
                damaged[chunk + 4 : chunk + 4 + length]
            ).to_bytes(4)
        codes = found(bytes(damaged)).keys()
        assert codes & {"credentials_changed", "credentials_invalid", "credentials_unreadable"}, codes
        assert not codes & {"credentials_trusted", "credentials_unknown_issuer"}
