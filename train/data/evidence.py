"""How a label is known: the sentence of evidence of each picture, put into a few classes by its words."""

import re

SOURCE_ALONE = "nothing beyond its source"
REAL_BY_DATE = "in the repository, or dated, before such generators were in use"
GENERATED_BY_REPOSITORY = "the repository says so: README, folders, programs that made it"
# The first that matches counts: the strongest evidence stands first.
_REAL = (("whole camera EXIF in that very file", re.compile(r"EXIF of the camera|whole camera EXIF")),)
_GENERATED = (
    (
        "Content Credentials or a generator's mark, in the file or in files beside it",
        re.compile(r"C2PA|Content Credentials|trainedAlgorithmicMedia|Made with Google AI|xAI signature"),
    ),
    (
        "prompt, job or checkpoint in the file's metadata",
        re.compile(r"metadata|Job ID|embedded prompt|XMP"),
    ),
    ("the file's name: a generator's own, or one that names it", re.compile(r"file name|files? named")),
)


def known_by(label: str, evidence: str) -> str:
    """The class of evidence of a picture.

    Args:
        label: "real" or "generated".
        evidence: the sentence, or "" where there is none.
    """
    if not evidence:
        return SOURCE_ALONE
    classes = _REAL if label == "real" else _GENERATED
    rest = REAL_BY_DATE if label == "real" else GENERATED_BY_REPOSITORY
    return next((name for name, words in classes if words.search(evidence)), rest)


__all__ = ["GENERATED_BY_REPOSITORY", "REAL_BY_DATE", "SOURCE_ALONE", "known_by"]
