"""Labels about a picture's source that programs set and anybody can change: those of IPTC and of China."""

import re
from collections.abc import Iterator

from ..file_metadata import DESCRIPTION, USER_COMMENT, XP_COMMENT, FileMetadata
from .evidence import Evidence, Strength
from .source_types import POINTS_TO, source_kind

# IPTC's present name of the property, and those of its earlier versions.
_SOURCE_TYPES = ("DigitalSourceType", "DigitalSourcefileType", "DigitalSourceFileType")
# IPTC 2025.1 on the AI that made the picture; its name is read by `generator_marks`.
_AI_FIELDS = ("AISystemUsed", "AISystemVersionUsed", "AIPromptInformation", "AIPromptWriterName")
# GB 45438-2025: an object named AIGC whose Label is 1 (made by AI), 2 (perhaps) or 3 (suspected). In JSON within JSON
# the quotes have backslashes.
_AIGC_LABEL = re.compile(r"""\\{0,3}["']?Label\\{0,3}["']?\s{0,9}[:=]\s{0,9}\\{0,3}["']?([123])\b""")
_AIGC_LENGTH = 4_000  # characters; the object has some hundred


def label_evidence(metadata: FileMetadata) -> list[Evidence]:
    """IPTC's source type and fields about AI, China's mark, and a signed record that is stored elsewhere."""
    evidence = []
    kinds = dict.fromkeys(
        source_kind(value) for name in _SOURCE_TYPES for value in metadata.xmp_values.get(name, ())[:20]
    )
    if any(metadata.xmp_value(name) for name in _AI_FIELDS):
        kinds["generated"] = None
    for kind in filter(None, kinds):
        strength: Strength = "moderate" if "generated" in kind else "weak"
        evidence.append(Evidence(f"stated_{kind}", {}, POINTS_TO[kind], strength))
    evidence += _aigc(metadata)
    if metadata.xmp_value("provenance").lower().startswith("http"):
        evidence.append(Evidence("credentials_elsewhere"))
    return evidence


def _aigc(metadata: FileMetadata) -> list[Evidence]:
    """China's mark, from wherever it may stand; the clearest label counts."""
    labels = sorted(label[1] for text in _aigc_objects(metadata) if (label := _AIGC_LABEL.search(text)))
    if not labels:
        return []
    if labels[0] == "1":
        return [Evidence("aigc", {}, "generated", "moderate")]
    return [Evidence("aigc_possible", {}, "generated", "weak")]


def _aigc_objects(metadata: FileMetadata) -> Iterator[str]:
    """Text that begins with the object: the field of that name, or where a longer text names it."""
    yield metadata.texts.get("AIGC", "")[:_AIGC_LENGTH]
    yield " ".join(metadata.xmp_values.get("AIGC", ()))[:_AIGC_LENGTH]
    if "ContentProducer" in metadata.xmp_values:  # a structure with parts of its own; Label alone is a colour
        yield f"Label: {metadata.xmp_value('Label')}"
    fields = (USER_COMMENT, DESCRIPTION, XP_COMMENT)
    free = [*metadata.texts.values(), *metadata.comments, *(metadata.exif.get(tag, "") for tag in fields)]
    free += [metadata.xmp_value(name) for name in ("UserComment", "description")]
    for text in free:
        if (position := text.find("AIGC")) >= 0:
            yield text[position : position + _AIGC_LENGTH]


__all__ = ["label_evidence"]
