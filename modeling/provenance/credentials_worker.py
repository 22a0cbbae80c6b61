"""A process of its own in which the C2PA library reads one file: what goes wrong in native code ends here.

Run by `content_credentials`, never imported: it must start fast, so it imports nothing of this package.
Standard input: one line of JSON {"format": a MIME type, "settings": {...}}, then the file. Standard output: the
library's report as JSON, {} if the file holds no record, or {"error": what went wrong}.
"""

import io
import json
import sys

import c2pa

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
    file = io.BytesIO(sys.stdin.buffer.read())
    try:
        with (
            c2pa.Context.from_dict(request["settings"]) as context,
            c2pa.Reader(request["format"], file, context=context) as reader,
        ):
            answer = reader.json()
    except c2pa.C2paError.ManifestNotFound:
        answer = "{}"
    except c2pa.C2paError as error:
        answer = json.dumps({"error": str(error)[:200]})
    sys.stdout.buffer.write(
        (answer if len(answer) <= MAX_REPORT else json.dumps({"error": "The report is too long."})).encode()
    )


if __name__ == "__main__":
    main()
