"""Content Credentials (C2PA): the signed record that some cameras, generators and editors put into a file.

What a signature proves depends on who made it. The library checks that the file is unchanged since it was signed, and
whether the signer is on the official trust list, of which it carries a snapshot (`TRUST_LIST_DATE`). From others the
name in the certificate is only a claim: everybody can make a certificate and sign. So a statement is strong only if
the record is intact and its signer trusted. From a signer that is not on the list, "made by AI" counts as moderate,
since few gain by claiming it, and "taken by a camera" as weak, since a deceiver would claim exactly that.

A certificate counts as of the time of signing where a trusted time stamp confirms it, otherwise as of now.

Nothing is fetched: no record stored elsewhere, no revocation list, no newer trust list (a test watches the network).
The library is native code, so it runs in a process of its own with limits of time and memory, and only for files that
hold a record at all.

References:
    C2PA 2.4, https://spec.c2pa.org/specifications/specifications/2.4/
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from .evidence import Evidence, Strength, clean
from .source_types import POINTS_TO, source_kind

# Of the lists in the pinned version of encypher-c2pa: C2PA's of signers and of time stamps, and IPTC's of publishers.
TRUST_LIST_DATE = "2026-09-24"
TIME_LIMIT = 4.0  # seconds; a signed file of 50 MB takes half of one
WORKER = Path(__file__).with_name("credentials_worker.py")
# By Pillow's names of the formats.
MIME_TYPES = {name: f"image/{name.lower()}" for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF")}
MAX_MANIFESTS = 16
MAX_ACTIONS = 8
# Every record starts with a box of this type and identifier.
_RECORD = re.compile(rb"jumb....jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x008\x9bq", re.DOTALL)
_HASH_MISMATCHES = {f"assertion.{kind}Hash.mismatch" for kind in ("data", "bmff", "boxes", "collection")}
_EXPIRED = {"signingCredential.expired", "claimSignature.outsideValidity"}
_REVOKED = {"signingCredential.revoked", "signingCredential.ocsp.revoked"}
_UNTRUSTED = {"signingCredential.untrusted"}
_WATERMARKS = {"watermarked", "watermarked.bound", "watermarked.unbound"}
_HARMLESS_ACTIONS = {"created", "opened", "converted", "transcoded", "repackaged", "published", "saved", "unknown"}
_METADATA = ("c2pa.metadata", "cawg.metadata", "stds.iptc", "stds.iptc.photo-metadata")


def read_credentials(
    data: bytes, file_format: str, trust_anchors: str = "", time_stamp_anchors: str = ""
) -> list[Evidence]:
    """What the signed record in a file says.

    Args:
        data: the whole file.
        file_format: Pillow's name of its format.
        trust_anchors: certificates (PEM) of signers that are trusted besides those of the official list.
        time_stamp_anchors: the same for time stamps.

    Returns:
        First what the record itself is worth, then its statements; nothing if the file holds no record.
    """
    if file_format not in MIME_TYPES or not _RECORD.search(data):
        return []
    report = _report(data, MIME_TYPES[file_format], trust_anchors, time_stamp_anchors)
    manifests = _chain(report)
    if not manifests:
        elsewhere = "manifest.inaccessible" in _codes(report)
        return [] if elsewhere else [Evidence("credentials_unreadable")]
    state = _state(report)
    names = {"issuer": _signer(report), "tool": _claim_generator(manifests[0]), "date": TRUST_LIST_DATE}
    intact = state in ("trusted", "unknown_issuer", "expired")
    strength: Strength = "strong" if state == "trusted" else "moderate" if state == "unknown_issuer" else "weak"
    evidence = [Evidence(f"credentials_{state}", names, "edited" if state == "changed" else "nothing", strength)]
    evidence += _source_statements(manifests, state, intact)
    actions = _action_names(manifests) if intact else []
    if edits := [name for name in actions if name not in _HARMLESS_ACTIONS | _WATERMARKS]:
        evidence.append(Evidence("signed_edits", {"actions": clean(", ".join(edits[:MAX_ACTIONS]))}, "edited", "weak"))
    if _WATERMARKS.intersection(actions):
        evidence.append(Evidence("signed_watermark"))
    return evidence


def _report(data: bytes, mime_type: str, trust_anchors: str, time_stamp_anchors: str) -> dict[str, Any]:
    """The library's report on a file, {"error": ...} where it gives none."""
    options = {"trust_pem": trust_anchors or None, "tsa_trust_pem": time_stamp_anchors or None}
    request = json.dumps({"format": mime_type, "options": options}).encode() + b"\n" + data
    # The operator's switches and saved answers of the library's own command line must not reach it here.
    offline = {"ENCYPHER_C2PA_ONLINE": "off", "ENCYPHER_C2PA_TELEMETRY": "off"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(WORKER)],
            input=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIME_LIMIT,
            check=True,
            env=os.environ | offline,
        )
        return _dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
        return {"error": "No answer."}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _codes(report: dict[str, Any]) -> set[str]:
    """What the library holds against the record and its signer."""
    return {str(item.get("code")) for item in _dicts(_dict(report.get("validation_results")).get("failure"))}


def _state(report: dict[str, Any]) -> str:
    """What the record is worth: trusted, unknown_issuer, expired, revoked, changed or invalid."""
    failures = _codes(report)
    if failures & _HASH_MISMATCHES:
        return "changed"
    if failures & _REVOKED or _dict(_dict(report.get("trust")).get("revocation")).get("status") == "revoked":
        return "revoked"
    if failures - _UNTRUSTED - _EXPIRED or report.get("validation_state") not in ("Trusted", "Valid"):
        return "invalid"
    if failures & _EXPIRED:
        return "expired"
    return "trusted" if report["validation_state"] == "Trusted" else "unknown_issuer"


def _signer(report: dict[str, Any]) -> str:
    """Who signed last, by the certificate: the organisation, or whatever name it gives; "?" if none."""
    name = _dict(report.get("signer"))
    return clean(name.get("O")) or clean(name.get("CN")) or "?"


def _chain(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest manifest and the manifests of the picture's earlier versions, newest first."""
    listed = _dict(report.get("manifest_report"))
    manifests = dict(_dict(listed.get("manifests")))
    chain: list[dict[str, Any]] = []
    label = listed.get("active_manifest")
    while isinstance(label, str) and label in manifests and len(chain) < MAX_MANIFESTS:
        manifest = _dict(manifests.pop(label))
        chain.append(manifest)
        label = _parent(manifest)
    return chain


def _assertions(manifest: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """The content of assertions by their labels; where there are several of one, a number follows it."""
    return [
        _dict(assertion.get("data"))
        for assertion in _dicts(manifest.get("assertions"))
        if str(assertion.get("label")).partition("__")[0] in names
    ]


def _parent(manifest: dict[str, Any]) -> str:
    """The label of the manifest that the picture had before, "" if there is none."""
    for ingredient in _assertions(manifest, "c2pa.ingredient", "c2pa.ingredient.v2", "c2pa.ingredient.v3"):
        if ingredient.get("relationship") == "parentOf":
            link = _dict(ingredient.get("activeManifest") or ingredient.get("c2pa_manifest"))
            return str(link.get("url")).rpartition("/")[2]
    return ""


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found = _assertions(manifest, "c2pa.actions", "c2pa.actions.v2")
    return [action for assertion in found for action in _dicts(assertion.get("actions"))]


def _metadata_sources(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What the signed metadata says of the whole picture's source, in the form of an action."""
    return [
        {"action": "c2pa.created", "digitalSourceType": value}
        for metadata in _assertions(manifest, *_METADATA)
        for name, value in metadata.items()
        if name.rpartition(":")[2] == "DigitalSourceType"
    ]


def _source_statements(manifests: list[dict[str, Any]], state: str, intact: bool) -> list[Evidence]:
    """One finding for each kind of source that the actions name, from the newest version that names it."""
    found: dict[str, Evidence] = {}
    for age, manifest in enumerate(manifests):
        for action in (*_actions(manifest), *_metadata_sources(manifest)):
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
    infos = manifest.get("claim_generator_info")  # one, or several in old records
    info = _dict(infos) or next(iter(_dicts(infos)), {})
    name = " ".join(filter(None, (clean(info.get("name")), clean(info.get("version")))))
    return clean(name) or clean(manifest.get("claim_generator")) or "?"


def _action_names(manifests: list[dict[str, Any]]) -> list[str]:
    """The distinct actions as the record names them: "cropped", "color_adjustments"."""
    names = (action.get("action") for manifest in manifests for action in _actions(manifest))
    return [name for name in dict.fromkeys(clean(name).removeprefix("c2pa.") for name in names) if name]


__all__ = ["MIME_TYPES", "TIME_LIMIT", "TRUST_LIST_DATE", "read_credentials"]
