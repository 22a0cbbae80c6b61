"""Values of XMP packets: each way to write them, and packets that are damaged or hostile."""

import pytest

from modeling.xmp import MAX_TAGS, MAX_VALUE, read_xmp

LINK = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


@pytest.mark.parametrize(
    "packet",
    [
        f'<rdf:Description e:DigitalSourceType="{LINK}"/>',
        f"<rdf:Description rdf:about='' e:DigitalSourceType = '{LINK}'>",
        f"<e:DigitalSourceType>{LINK}</e:DigitalSourceType>",
        f"<DigitalSourceType>\n  {LINK}\n</DigitalSourceType>",
        f'<e:DigitalSourceType rdf:resource="{LINK}"/>',
        f"<e:DigitalSourceType><rdf:Bag><rdf:li rdf:resource='{LINK}'/></rdf:Bag></e:DigitalSourceType>",
        f"<e:DigitalSourceType><rdf:Seq><rdf:li>{LINK}</rdf:li></rdf:Seq></e:DigitalSourceType>",
        f"<e:DigitalSourceType rdf:parseType='Resource'><rdf:value>{LINK}</rdf:value></e:DigitalSourceType>",
    ],
)
def test_a_property_is_found_however_it_is_written(packet):
    assert read_xmp(f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{packet}") == {"DigitalSourceType": [LINK]}


def test_all_values_are_kept_in_order_and_entities_are_resolved():
    packet = '<a:T a:u="&lt;1&gt;">one</a:T><rdf:li>two &amp; three</rdf:li><b:T a:u="x > y">four</b:T>'
    assert read_xmp(packet) == {"u": ["<1>", "x > y"], "T": ["one", "two & three", "four"]}


def test_parts_of_a_structure_stand_under_their_own_names():
    packet = '<m:History><rdf:Seq><rdf:li e:action="saved" e:softwareAgent="GIMP"/></rdf:Seq></m:History>'
    assert read_xmp(packet) == {"action": ["saved"], "softwareAgent": ["GIMP"]}


@pytest.mark.parametrize("packet", ["", "<", "<a", "<a b='", "<a b=>", "<<>>", "a=b", "<a:b:c>", "\0<\ud800>"])
def test_damage_gives_nothing(packet):
    assert read_xmp(packet) == {}


def test_what_is_whole_in_a_damaged_packet_is_read():
    assert read_xmp('<a x="1"/><b y="2 <c z="3"/>') == {"x": ["1"], "z": ["3"]}


def test_number_and_length_are_bounded():
    assert len(read_xmp("<a>1" * (MAX_TAGS + 9))["a"]) == MAX_TAGS
    assert len(read_xmp(f"<a>{'x' * 99_999}")["a"][0]) == MAX_VALUE
