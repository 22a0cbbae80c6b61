"""What a file itself says about where its picture comes from: evidence beside the score, never mixed into it.

Works on the original bytes: saving a picture anew removes most of this. Nothing here judges pixels, and a file without
a word proves nothing, since most sites and messengers remove every word.
"""

import re
from dataclasses import dataclass
from typing import Any

from ..file_metadata import (
    CAPTURE_SETTINGS,
    LENS,
    MAKE,
    MODEL,
    PROCESSING_SOFTWARE,
    SOFTWARE,
    FileMetadata,
    read_metadata,
)
from .content_credentials import TRUST_LIST_DATE, read_credentials
from .evidence import Evidence, clean
from .generator_marks import AI_GENERATED, EDITED_WITH, generator_evidence, generator_name
from .hidden_settings import read_hidden_settings
from .labels import label_evidence
from .searched import searched

_EDITORS = re.compile(
    r"\b(photoshop|lightroom|camera raw|gimp|affinity|pixelmator|snapseed|picsart|canva|capture one|darktable"
    r"|rawtherapee|luminar|paint\.net|picasa|vsco|facetune2?|meitu|beautyplus|remini|polarr|photoscape|photodirector"
    r"|paintshop|krita|acdsee|topaz|dxo|on1|fotor|pixlr|photoroom|inshot|lensa)\b",
    re.IGNORECASE,
)
_SETTINGS_AS_MAKE = re.compile(r"(prompt|workflow) ?:", re.IGNORECASE)  # ComfyUI's, in a WebP
_XMP_CAPTURE_SETTINGS = ("ExposureTime", "FNumber", "ISOSpeedRatings", "DateTimeOriginal", "FocalLength")
_MAX_EDITORS = 5
_STRENGTH_ORDER = ("strong", "moderate", "weak")


@dataclass(frozen=True)
class Provenance:
    """Everything that a file says about its origin.

    Attributes:
        evidence: the findings, the strongest first; never empty.
        has_location: the file holds coordinates. They are neither shown nor kept.
    """

    evidence: tuple[Evidence, ...]
    has_location: bool

    @property
    def marks(self) -> tuple[Evidence, ...]:
        """The findings of a file that says something."""
        return tuple(item for item in self.evidence if item.code != "absent")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, each finding with its English sentence."""
        return {
            "evidence": [item.to_dict() | {"sentence": item.sentence()} for item in self.evidence],
            "has_location": self.has_location,
            "searched": [
                {"code": kind.code, "found": kind.found, "generators": list(kind.generators)}
                for kind in searched(self.evidence)
            ],
            "trust_list_date": TRUST_LIST_DATE,
        }


def read_provenance(data: bytes, trust_anchors: str = "", time_stamp_anchors: str = "") -> Provenance:
    """Read what a picture's file says about its origin.

    Args:
        data: the whole file as it was delivered, not saved anew.
        trust_anchors: certificates (PEM) of signers of Content Credentials to trust besides those of the official
            list.
        time_stamp_anchors: the same for time stamps.

    Returns:
        The findings. Damaged metadata is left out; no words at all give the finding "absent", which points to nothing.

    Raises:
        ImageError: the file is no picture that `modeling.images.read_header` accepts.
    """
    metadata = read_metadata(data)
    found = [
        *read_credentials(data, metadata.format, trust_anchors, time_stamp_anchors),
        *label_evidence(metadata),
        *generator_evidence(metadata, read_hidden_settings(data)),
        *_camera_evidence(metadata),
        *_editor_evidence(metadata),
    ]
    found.sort(key=lambda item: _STRENGTH_ORDER.index(item.strength))  # a stable sort
    distinct: dict[tuple[str, ...], Evidence] = {}
    for item in found:
        distinct.setdefault((item.code, *item.values.values()), item)
    return Provenance(tuple(distinct.values()) or (Evidence("absent"),), metadata.has_location)


def _camera_evidence(metadata: FileMetadata) -> list[Evidence]:
    """A camera's make, model and settings. A photo of a screen has them too, and anybody can write them."""
    exif = metadata.exif
    make = clean(exif.get(MAKE)) or clean(metadata.xmp_value("Make"))  # some editors keep only the copy in XMP
    model = clean(exif.get(MODEL)) or clean(metadata.xmp_value("Model"))
    software = exif.get(SOFTWARE, "")
    # Some generators write their own name or their settings in these fields.
    named = generator_name(make) or generator_name(software) or AI_GENERATED.match(software)
    if not make or named or _SETTINGS_AS_MAKE.match(make):
        return []
    camera = model if model.lower().startswith(make.lower()) else clean(f"{make} {model}")
    in_xmp = sum(name in metadata.xmp_values for name in _XMP_CAPTURE_SETTINGS)
    if not model or max(in_xmp, sum(tag in exif for tag in CAPTURE_SETTINGS)) < 3:
        return [Evidence("camera_name", {"camera": camera}, "camera", "weak")]
    if lens := clean(exif.get(LENS)) or clean(metadata.xmp_value("LensModel") or metadata.xmp_value("Lens")):
        return [Evidence("camera_lens", {"camera": camera, "lens": lens}, "camera", "moderate")]
    return [Evidence("camera", {"camera": camera}, "camera", "moderate")]


def _editor_evidence(metadata: FileMetadata) -> list[Evidence]:
    """A program for editing pictures by the name that it left."""
    exif, history = metadata.exif, metadata.xmp_values.get("softwareAgent", [])
    names = [exif.get(SOFTWARE, ""), exif.get(PROCESSING_SOFTWARE, ""), metadata.texts.get("Software", "")]
    names += [metadata.xmp_value("CreatorTool"), *history[:100]]
    editors = [name for name in names if _EDITORS.search(name[:400]) and not generator_name(name)]
    for credit in (metadata.credit, metadata.xmp_value("Credit")):
        if found := EDITED_WITH.match(credit):  # "Edited with Google AI"
            editors.append(credit[found.end() :])
    distinct = list(dict.fromkeys(map(clean, editors)))[:_MAX_EDITORS]
    return [Evidence("editor", {"tool": name}, "edited", "weak") for name in distinct]


__all__ = ["Evidence", "Provenance", "read_provenance"]
