"""IPTC's vocabulary for where a picture comes from, sorted into the few kinds that matter here.

The same terms stand in XMP, unsigned, and in Content Credentials, signed.

References:
    IPTC NewsCodes, scheme digitalsourcetype, http://cv.iptc.org/newscodes/digitalsourcetype/
"""

from .evidence import PointsTo

# A kind is the last part of a sentence's code ("signed_generated", "stated_camera").
POINTS_TO: dict[str, PointsTo] = {
    "generated": "generated",
    "partly_generated": "edited",
    "edited": "edited",
    "camera": "camera",
    "scan": "nothing",
    "screen": "nothing",
    "drawn": "nothing",
}
_KINDS = {
    "trainedAlgorithmicMedia": "generated",
    "compositeWithTrainedAlgorithmicMedia": "partly_generated",
    "compositeSynthetic": "partly_generated",
    "algorithmicallyEnhanced": "edited",
    "humanEdits": "edited",
    "minorHumanEdits": "edited",
    "composite": "edited",
    "compositeCapture": "edited",
    "digitalCapture": "camera",
    "computationalCapture": "camera",
    "negativeFilm": "scan",
    "positiveFilm": "scan",
    "print": "scan",
    "screenCapture": "screen",
    "virtualRecording": "screen",
    "algorithmicMedia": "drawn",
    "dataDrivenMedia": "drawn",
    "digitalArt": "drawn",
    "digitalCreation": "drawn",
    "softwareImage": "drawn",
}
_BY_LOWER_CASE = {term.lower(): kind for term, kind in _KINDS.items()}


def source_kind(term: object) -> str:
    """The kind of a term, given as an address, as "digsrctype:NAME" or as the bare name; "" if it is unknown."""
    if not isinstance(term, str):
        return ""
    return _BY_LOWER_CASE.get(term.strip().rstrip("/").replace(":", "/").rpartition("/")[2].lower(), "")


__all__ = ["POINTS_TO", "source_kind"]
