"""Content Credentials (C2PA): the signed record that some cameras, generators and editors put into a file.

What a signature proves depends on who made it. The library checks that the file is unchanged since it was signed and,
if a trust list is given, that the signer is on it. Without one, the name in the certificate is only a claim: everybody
can make a certificate and sign. So a statement is strong only if the record is intact and its signer trusted. From a
signer that we cannot check, "made by AI" counts as moderate, since few gain by claiming it, and "taken by a camera" as
weak, since a deceiver would claim exactly that.

Nothing is fetched: no record stored elsewhere, no revocation list, no trust list (a test watches the network). The
library is native code, so it runs in a process of its own with limits of time and memory, and only for files that hold
a record at all.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .evidence import Evidence, Strength, clean
from .source_types import POINTS_TO, source_kind

TIME_LIMIT = 10.0  # seconds; a signed file of 50 MB takes about one
WORKER = Path(__file__).with_name("credentials_worker.py")
# By Pillow's names of the formats.
MIME_TYPES = {name: f"image/{name.lower()}" for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF")}
MAX_MANIFESTS = 16
MAX_ACTIONS = 8
# Every record starts with a box of this type and identifier.
_RECORD_MARK = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x008\x9bq"
_HASH_MISMATCHES = {f"assertion.{kind}Hash.mismatch" for kind in ("data", "bmff", "boxes", "collection")}
_EXPIRED = {"signingCredential.expired", "claimSignature.outsideValidity"}
_HARMLESS_ACTIONS = {"created", "opened", "converted", "transcoded", "repackaged", "published", "saved", "unknown"}


def read_credentials(data: bytes, file_format: str, trust_anchors: str = "") -> list[Evidence]:
    """What the signed record in a file says.

    Args:
        data: the whole file.
        file_format: Pillow's name of its format.
        trust_anchors: the certificates of a trust list (PEM); without it no signer is trusted.

    Returns:
        First what the record itself is worth, then its statements; nothing if the file holds no record.
    """
    if _RECORD_MARK not in data or file_format not in MIME_TYPES:
        return []
    report = _report(data, MIME_TYPES[file_format], trust_anchors)
    if not report:
        return []  # the mark stood there by chance
    manifests = _chain(report)
    if not manifests:
        return [Evidence("credentials_unreadable")]
    state = _state(report)
    signer = clean(_dict(manifests[0].get("signature_info")).get("issuer")) or "?"
    names = {"issuer": signer, "tool": _claim_generator(manifests[0])}
    intact = state in ("trusted", "unknown_issuer", "expired")
    strength: Strength = "strong" if state == "trusted" else "moderate" if state == "unknown_issuer" else "weak"
    evidence = [Evidence(f"credentials_{state}", names, "edited" if state == "changed" else "nothing", strength)]
    evidence += _source_statements(manifests, state, intact)
    if intact and (edits := _edits(manifests)):
        evidence.append(Evidence("signed_edits", {"actions": edits}, "edited", "weak"))
    return evidence


def _report(data: bytes, mime_type: str, trust_anchors: str) -> dict[str, Any]:
    """The library's report on a file, {} where it finds no record, {"error": ...} where it gives no report."""
    settings = {
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
            # With no trust list of its own a time stamp still tells that the certificate was valid when it signed.
            "verify_timestamp_trust": bool(trust_anchors),
        },
        "core": {
            "allowed_network_hosts": [],
            "decode_identity_assertions": False,
            "max_decompressed_manifest_size_in_mb": 16,
        },
        "trust": {"trust_anchors": trust_anchors} if trust_anchors else {},
    }
    request = json.dumps({"format": mime_type, "settings": settings}).encode() + b"\n" + data
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(WORKER)],
            input=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIME_LIMIT,
            check=True,
        )
        return _dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
        return {"error": "No answer."}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _state(report: dict[str, Any]) -> str:
    """What the record is worth: trusted, unknown_issuer, expired, changed or invalid."""
    state = report.get("validation_state")
    if state in ("Trusted", "Valid"):
        return "trusted" if state == "Trusted" else "unknown_issuer"
    failures = {status.get("code") for status in _dicts(report.get("validation_status"))}
    failures.discard("signingCredential.untrusted")
    if failures & _HASH_MISMATCHES:
        return "changed"
    return "expired" if failures and failures <= _EXPIRED else "invalid"


def _chain(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest manifest and the manifests of the picture's earlier versions, newest first."""
    manifests = _dict(report.get("manifests"))
    chain: list[dict[str, Any]] = []
    label = report.get("active_manifest")
    while isinstance(label, str) and label in manifests and len(chain) < MAX_MANIFESTS:
        manifest = _dict(manifests.pop(label))
        chain.append(manifest)
        parents = [one for one in _dicts(manifest.get("ingredients")) if one.get("relationship") == "parentOf"]
        label = parents[0].get("active_manifest") if parents else None
    return chain


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    assertions = _dicts(manifest.get("assertions"))
    labels = ("c2pa.actions", "c2pa.actions.v2")
    return [
        action
        for assertion in assertions
        if assertion.get("label") in labels
        for action in _dicts(_dict(assertion.get("data")).get("actions"))
    ]


def _source_statements(manifests: list[dict[str, Any]], state: str, intact: bool) -> list[Evidence]:
    """One finding for each kind of source that the actions name, from the newest version that names it."""
    found: dict[str, Evidence] = {}
    for age, manifest in enumerate(manifests):
        for action in _actions(manifest):
            kind = source_kind(action.get("digitalSourceType"))
            if kind == "generated" and action.get("action") != "c2pa.created":
                kind = "partly_generated"  # what was made by AI is what this action added
            if not kind or kind in found:
                continue
            strength: Strength = "moderate" if intact and "generated" in kind else "weak"
            if state == "trusted":  # of earlier versions the trusted signer only passes on what they said
                strength = "moderate" if age else "strong"
            if intact:
                tool = _program(action) or _claim_generator(manifest)
                found[kind] = Evidence(f"signed_{kind}", {"tool": tool}, POINTS_TO[kind], strength)
            else:
                found[kind] = Evidence(f"stated_{kind}", {}, POINTS_TO[kind], "weak")
    return list(found.values())


def _program(action: dict[str, Any]) -> str:
    """The program that did an action; old records give its name alone."""
    program = action.get("softwareAgent")
    return clean(program) or clean(_dict(program).get("name"))


def _claim_generator(manifest: dict[str, Any]) -> str:
    """The program that wrote a manifest, "?" if it does not say."""
    infos = _dicts(manifest.get("claim_generator_info"))
    info = infos[0] if infos else {}
    name = " ".join(filter(None, (clean(info.get("name")), clean(info.get("version")))))
    return clean(name) or clean(manifest.get("claim_generator")) or "?"


def _edits(manifests: list[dict[str, Any]]) -> str:
    """The distinct actions that changed the picture, as the record names them: "cropped, color_adjustments"."""
    names = (action.get("action") for manifest in manifests for action in _actions(manifest))
    short = dict.fromkeys(clean(name).removeprefix("c2pa.") for name in names)
    return clean(", ".join([name for name in short if name and name not in _HARMLESS_ACTIONS][:MAX_ACTIONS]))


__all__ = ["MIME_TYPES", "TIME_LIMIT", "read_credentials"]
