"""The values in an XMP packet by their names: one pass of bounded patterns instead of an XML parser.

A packet comes from a stranger. Without a parser no nesting, entity or broken tag can cost time or memory, and what is
whole in a damaged packet is still read. Prefixes are not looked at, since every writer may choose its own.
"""

import html
import re

MAX_TAGS = 20_000
MAX_VALUE = 20_000  # characters; the settings of a generator have some thousand
# A tag with the text behind it. Nothing in it is tried twice (`++`), and no part goes beyond the next "<".
_TAG = re.compile(
    r"""<(/?)((?:[\w.-]{1,40}+:)?)([\w.-]{1,80}+)((?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+)>([^<]*+)""",
)
_ATTRIBUTE = re.compile(r"""((?:[\w.-]{1,40}+:)?)([\w.-]{1,80}+)\s{0,9}=\s{0,9}("[^"]*+"|'[^']*+')""")
_NO_PROPERTIES = ("xmlns:", "xml:")


def read_xmp(packet: str) -> dict[str, list[str]]:
    """All values of each property by its local name, in the order of the packet.

    A value stands as an attribute, as the text of an element, as an item of a list (`rdf:li`) or as a link
    (`rdf:resource`). Parts of a structure stand under their own names.
    """
    values: dict[str, list[str]] = {}
    owner = ""
    for number, tag in enumerate(_TAG.finditer(packet)):
        if number == MAX_TAGS:
            break
        closing, prefix, name, attributes, text = tag.groups()
        if not closing and prefix != "rdf:":
            owner = name
        for attribute in _ATTRIBUTE.finditer(attributes):
            its_prefix, its_name, value = attribute.groups()
            if its_prefix == "rdf:":
                its_name = owner if its_name == "resource" else ""
            if its_name and its_prefix not in _NO_PROPERTIES:
                _add(values, its_name, value[1:-1])
        if not closing:
            _add(values, owner, text)
    return values


def _add(values: dict[str, list[str]], name: str, value: str) -> None:
    if text := html.unescape(value[:MAX_VALUE]).strip():
        values.setdefault(name, []).append(text)


__all__ = ["read_xmp"]
