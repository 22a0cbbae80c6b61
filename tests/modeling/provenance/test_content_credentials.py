"""Content Credentials: real files, signed in the test by C2PA's own library with certificates made in the test."""

import datetime
import http.server
import io
import json
import shutil
import subprocess
import threading
import zlib
from importlib.metadata import metadata

import c2pa
import encypher_c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from PIL import Image

from modeling.images import open_image
from modeling.provenance import content_credentials
from modeling.provenance.reading import read_provenance

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
FORMATS = ("JPEG", "PNG", "WEBP")
NO_THUMBNAILS = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
USAGES = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
USAGES += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]


def usage(*allowed):
    return x509.KeyUsage(**{name: name in allowed for name in USAGES})


def certificates(days=30, ocsp=None, usages=ExtendedKeyUsageOID.EMAIL_PROTECTION, roots_key=None, name="Test"):
    """A root of our own and a signer's certificate: (chain, private key, root), each as PEM."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [roots_key or ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())]
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])
        for organisation in (f"{name} Root", f"{name} Works")
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

    is_critical = usages == ExtendedKeyUsageOID.TIME_STAMPING
    signer = certificate(1, False, days).add_extension(x509.ExtendedKeyUsage([usages]), is_critical)
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


def signed(chain, data, codec="JPEG", actions=(), edit=False, remote=None, assertions=(), time_stamps=None, **fields):
    """`data` with a signed record, as an edit of itself if `edit`; `remote` only names an address of the record."""
    mime = f"image/{codec.lower()}"
    manifest = {
        "claim_generator_info": [{"name": "Test <b>Writer</b>", "version": "1.2"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}, *assertions],
        **fields,
    }
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain[0], chain[1], time_stamps))
    builder = c2pa.Builder(manifest, context=NO_THUMBNAILS)
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
    date = content_credentials.TRUST_LIST_DATE
    assert record.values == {"issuer": "Test Works", "tool": "Test b Writer /b 1.2", "date": date}
    assert f"is not on the official C2PA trust list (as of {date})" in record.sentence()
    assert statement.values == {"tool": "Imaginator"}


@pytest.mark.parametrize("codec", FORMATS)
def test_signer_on_the_trust_list_makes_a_statement_strong(chain, codec):
    data = signed(chain, picture(codec), codec, [created("digitalCapture")])
    assert found(data, trust_anchors=chain[2]) == {
        "credentials_trusted": ("nothing", "strong"),
        "signed_camera": ("camera", "strong"),
    }


def test_date_of_the_trust_list_is_that_of_the_installed_library():
    assert f"trust snapshot dated `{content_credentials.TRUST_LIST_DATE}`" in metadata("encypher-c2pa").get_payload()


def test_record_of_the_first_version_of_the_standard_is_read(chain):
    created_by = created("trainedAlgorithmicMedia") | {"softwareAgent": "DALL-E"}
    data = signed(chain, picture(), actions=[created_by], claim_version=1, claim_generator="Old/1.0")
    evidence = {item.code: item.values for item in read_provenance(data).evidence}
    assert evidence["signed_generated"] == {"tool": "DALL-E"}


def test_source_type_in_signed_metadata_is_a_statement(chain):
    iptc = {"Iptc4xmpExt:DigitalSourceType": IPTC + "trainedAlgorithmicMedia"}
    names = {"@context": {"Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"}}
    assertion = {"label": "c2pa.metadata", "kind": "Json", "data": names | iptc}
    data = signed(chain, picture(), actions=[created("compositeCapture")], assertions=[assertion])
    assert found(data)["signed_generated"] == ("generated", "moderate")


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


@pytest.fixture
def two_days_later(monkeypatch):
    """Records are read as they will be in two days, when a certificate of one day is out of date."""
    run = subprocess.run

    def run_later(command, **options):
        head, _, file = options.pop("input").partition(b"\n")
        request = json.loads(head)
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
        request["options"]["validation_time"] = later.isoformat()
        return run(command, input=json.dumps(request).encode() + b"\n" + file, **options)

    monkeypatch.setattr(content_credentials.subprocess, "run", run_later)


def test_expired_certificate_is_told_apart_from_damage(two_days_later):
    brief = certificates(days=1)
    data = signed(brief, picture(), actions=[created("trainedAlgorithmicMedia")])
    assert found(data, trust_anchors=brief[2]) == {
        "credentials_expired": ("nothing", "weak"),
        "signed_generated": ("generated", "moderate"),
    }
    changed = bytearray(data)
    changed[-500] ^= 1
    assert "credentials_changed" in found(bytes(changed))


TIME_STAMP_SETTINGS = """[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = chain.pem
certs = root.pem
signer_key = key.pem
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


@pytest.fixture
def time_stamps(tmp_path):
    """A local authority for time stamps, by OpenSSL: its address and the certificate of its root."""
    if not shutil.which("openssl"):
        pytest.skip("OpenSSL's command is not installed")
    chain, key, root = certificates(usages=ExtendedKeyUsageOID.TIME_STAMPING, name="Time")
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "root.pem").write_text(root)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "settings").write_text(TIME_STAMP_SETTINGS)
    run = subprocess.run  # not the one of `two_days_later`
    command = ["openssl", "ts", "-reply", "-config", "settings", "-queryfile", "query", "-out", "reply"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            (tmp_path / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            run(command, cwd=tmp_path, check=True, capture_output=True)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write((tmp_path / "reply").read_bytes())

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", root
        running.shutdown()


def test_trusted_time_stamp_keeps_a_record_valid_when_its_certificate_runs_out(time_stamps, two_days_later):
    address, root = time_stamps
    brief = certificates(days=1)
    data = signed(brief, picture(), actions=[created("trainedAlgorithmicMedia")], time_stamps=address)
    assert "credentials_expired" in found(data, trust_anchors=brief[2])
    assert "credentials_trusted" in found(data, trust_anchors=brief[2], time_stamp_anchors=root)
    assert "credentials_unknown_issuer" in found(data, time_stamp_anchors=root)
    # What vouches for times does not vouch for signers.
    assert "credentials_unknown_issuer" in found(data, trust_anchors=root, time_stamp_anchors=root)


def test_revoked_certificate_is_told_apart(server):
    roots_key = ec.generate_private_key(ec.SECP256R1())
    address, asked = server
    chain = certificates(ocsp=f"{address}/ocsp", roots_key=roots_key)
    asked.answer = revoked(chain[0], roots_key)
    data = signed(chain, picture(), actions=[created("digitalCapture")])
    # Here nobody is asked; so the library is, for once, and its report is what a stapled answer would give.
    options = {"online": True, "online_allow_private_networks": True, "trust_pem": chain[2]}
    report = encypher_c2pa.verify(data, "image/jpeg", **options)
    assert asked
    assert content_credentials._state(report) == "revoked"


def revoked(chain, roots_key):
    """The answer of a revocation service, signed by the root: the signer's key is in wrong hands."""
    leaf, root = x509.load_pem_x509_certificates(chain)
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf,
        issuer=root,
        algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.REVOKED,
        this_update=now - hour,
        next_update=now + hour,
        revocation_time=now - hour,
        revocation_reason=x509.ReasonFlags.key_compromise,
    )
    by_root = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, root)
    return by_root.sign(roots_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


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


class Asked(list):
    """Paths that a server was asked for, and what it answers; nothing is "not found"."""

    answer = b""


@pytest.fixture
def server():
    """A local server and the paths that it was asked for."""
    asked = Asked()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked.append(self.path)
            self.send_response(200 if asked.answer else 404)
            self.send_header("Content-Type", "application/ocsp-response")
            self.end_headers()
            self.wfile.write(asked.answer)

        def log_message(self, *arguments):
            pass

    Handler.do_GET = Handler.do_POST = Handler.answer
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_record_stored_elsewhere_is_not_fetched(chain, server, monkeypatch):
    address, asked = server
    data = signed(chain, picture(), remote=f"{address}/record.c2pa", actions=[created("digitalCapture")])
    encypher_c2pa.verify(data, "image/jpeg", online=True, online_allow_private_networks=True)  # it can
    assert asked == ["/record.c2pa"]
    asked.clear()
    monkeypatch.setenv("ENCYPHER_C2PA_ONLINE", "on")
    assert content_credentials._codes(content_credentials._report(data, "image/jpeg", "", "")) == {
        "manifest.inaccessible"
    }
    assert found(data) == {"credentials_elsewhere": ("nothing", "weak")}
    assert not asked


def test_revocation_service_is_not_asked(server, monkeypatch):
    address, asked = server
    data = signed(certificates(ocsp=f"{address}/ocsp"), picture(), actions=[created("digitalCapture")])
    encypher_c2pa.verify(data, "image/jpeg", online=True, online_allow_private_networks=True)  # it can
    assert asked
    asked.clear()
    monkeypatch.setenv("ENCYPHER_C2PA_ONLINE", "on")
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


def test_a_few_bytes_like_those_of_a_record_say_nothing(chain):
    mark = content_credentials._RECORD.search(signed(chain, picture(), actions=[created("digitalCapture")]))[0]
    assert found(picture(comment=mark[8:])) == {"absent": ("nothing", "weak")}
    assert found(picture(comment=mark)) == {"credentials_unreadable": ("nothing", "weak")}


@pytest.mark.parametrize("codec", FORMATS)
def test_damaged_records_raise_nothing_and_are_never_valid(chain, codec):
    data = signed(chain, picture(codec), codec, [created("digitalCapture")])
    start = content_credentials._RECORD.search(data).end()
    chunk = data.find(b"caBX") - 4
    rng = np.random.default_rng(3)
    for _ in range(8):
        damaged = bytearray(data)
        for place in rng.integers(start, start + 1500, size=20):
            damaged[place] ^= int(rng.integers(1, 256))
        if codec == "PNG":  # or its checksum would give it away first
            length = int.from_bytes(damaged[chunk : chunk + 4]) + 4
            damaged[chunk + 4 + length : chunk + 8 + length] = zlib.crc32(
                damaged[chunk + 4 : chunk + 4 + length]
            ).to_bytes(4)
        codes = found(bytes(damaged)).keys()
        assert codes & {"credentials_changed", "credentials_invalid", "credentials_unreadable"}, codes
        assert not codes & {"credentials_trusted", "credentials_unknown_issuer"}
