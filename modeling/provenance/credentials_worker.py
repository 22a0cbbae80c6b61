"""A process of its own in which the C2PA library reads one file: what goes wrong in native code ends here.

Run by `content_credentials`, never imported: it must start fast, so it imports nothing of this package.
Standard input: one line of JSON {"format": a MIME type, "options": {...}}, then the file. Standard output: the
library's report as JSON, or {"error": what went wrong}.
"""

import json
import sys

import encypher_c2pa

MEMORY_LIMIT = 2 * 2**30  # bytes of address space
MAX_REPORT = 4 * 2**20  # characters; a real report has under a hundred thousand


def limit_memory() -> None:
    """Keep a hostile record from taking the machine's memory (where the system has such limits)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def main() -> None:
    """Read one request, write one answer."""
    limit_memory()
    request = json.loads(sys.stdin.buffer.readline())
    file, form, options = sys.stdin.buffer.read(), request["format"], request["options"]
    report = dict(encypher_c2pa.verify(file, form, online=False, **options))
    if report["present"]:
        # The report proper names who issued the signer's certificate. The signer stands only in the form for the
        # strict rules, whose further demands (a time stamp, an answer on revocation) are not those of the standard.
        strict = encypher_c2pa.verify(file, form, online=False, strict_conformance=True, **options)
        report["signer"] = _signer(strict["content_credentials"])
    answer = json.dumps(report)
    sys.stdout.write(answer if len(answer) <= MAX_REPORT else json.dumps({"error": "The report is too long."}))


def _signer(credentials: dict | None) -> dict:
    """The name in the certificate of who signed last, by its parts ("O", "CN")."""
    manifests = (credentials or {}).get("manifests") or [{}]
    return manifests[0].get("signature", {}).get("certificateInfo", {}).get("subject", {})


if __name__ == "__main__":
    main()
