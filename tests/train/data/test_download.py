"""Fetching pictures by URL: small real files from a loopback server, which only these tests admit."""

import ipaddress
import json
import socket
from collections import Counter

import pytest

from tests.picture_server import is_loopback
from tests.pictures import picture
from train.data import download
from train.data.download import download_pictures, is_public_address, picture_path


@pytest.fixture
def tight_limits(monkeypatch):
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    monkeypatch.setattr(download, "TOTAL_SECONDS", 1.5)
    monkeypatch.setattr(download, "MAX_PICTURE_BYTES", 20_000)


@pytest.fixture
def resolve_to(monkeypatch):
    """Let every name resolve to the given addresses, one list a look-up."""

    def patch(*answers):
        remaining = list(answers)

        def getaddrinfo(host, port, *arguments, **options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in remaining.pop(0)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return remaining

    return patch


def failure(folder):
    (line,) = [line for line in (folder / "failures.jsonl").read_text().splitlines() if line]
    return json.loads(line)


def test_pictures_are_fetched_unchanged_and_only_once(server, tmp_path):
    urls = [f"{server.url}/picture-{i}" for i in range(40)] + [f"{server.url}/moved", f"{server.url}/gone"]
    counts = download_pictures(iter(urls), tmp_path, is_admitted=is_loopback)
    assert counts == Counter({"fetched": 41, "dead link": 1})
    assert picture_path(tmp_path, urls[7]).read_bytes() == picture(seed=7)
    assert picture_path(tmp_path, f"{server.url}/moved").read_bytes() == picture(seed=1)
    assert not list(tmp_path.rglob("*.partial*"))
    asked = len(server.requests)
    assert download_pictures(urls, tmp_path, is_admitted=is_loopback) == counts
    assert len(server.requests) == asked


def test_an_interrupted_download_goes_on(server, tmp_path):
    urls = [f"{server.url}/picture-{i}" for i in range(3)]
    download_pictures(urls[:1], tmp_path, is_admitted=is_loopback)
    (tmp_path / "failures.jsonl").write_text(f'{{"url": "{urls[1]}", "rea')  # killed in the middle of a line
    assert download_pictures([*urls, f"{server.url}/gone"], tmp_path, is_admitted=is_loopback)["fetched"] == 3
    assert [path for path, _ in server.requests].count("/picture-0") == 1
    again = download_pictures([f"{server.url}/gone"], tmp_path, is_admitted=is_loopback)
    assert again == Counter({"dead link": 1})
    assert [path for path, _ in server.requests].count("/gone") == 1


@pytest.mark.parametrize(
    ("path", "reason", "detail"),
    [
        ("/gone", "dead link", "HTTP 404"),
        ("/loop", "dead link", "more than 5 redirects"),
        ("/page", "not a picture", "web page"),
        ("/half", "not a picture", "damaged"),
        ("/announced", "too large", "more than 20000 bytes"),
        ("/unannounced", "too large", "more than 20000 bytes"),
        ("/silent", "time-out", "ReadTimeout"),
        ("/drip", "time-out", "TimeoutError"),
        ("/inwards", "private address", "127.0.0.2"),
        ("/to-file", "no web address", "file:"),
    ],
)
def test_a_failure_is_counted_and_listed_with_its_reason(server, tmp_path, tight_limits, path, reason, detail):
    counts = download_pictures([server.url + path], tmp_path, is_admitted=is_loopback)
    assert counts == Counter({reason: 1})
    entry = failure(tmp_path)
    assert (entry["url"], entry["reason"]) == (server.url + path, reason)
    assert detail in entry["detail"]
    assert not picture_path(tmp_path, server.url + path).exists()


@pytest.mark.parametrize(
    ("path", "counts", "asked"),
    [
        ("/busy-503-1", {"fetched": 1}, 2),
        ("/busy-500-3", {"fetched": 1}, 4),
        ("/busy-520-2", {"fetched": 1}, 3),  # of a network in front of the server
        ("/busy-429-1", {"fetched": 1}, 2),
        ("/busy-503-9", {"busy server": 1}, 4),
        ("/busy-501-9", {"dead link": 1}, 1),
        ("/gone", {"dead link": 1}, 1),
    ],
)
def test_a_busy_server_is_asked_again_and_a_dead_link_is_not(server, tmp_path, monkeypatch, path, counts, asked):
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)
    assert download_pictures([server.url + path], tmp_path, is_admitted=is_loopback) == Counter(counts)
    assert len(server.requests) == asked
    assert download_pictures([server.url + path], tmp_path, is_admitted=is_loopback) == Counter(counts)
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "picture.jpg",
        "file:///etc/hostname",
        "data:image/png;base64,AA",
        "http://",
        "http://a:99999/",
        "http://[::1",
    ],
)
def test_what_is_no_web_address_is_not_asked_for(tmp_path, url):
    assert download_pictures([url], tmp_path, is_admitted=is_loopback) == Counter({"no web address": 1})


def test_a_closed_port_and_an_impossible_name_are_dead_links(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/", f"http://{'x' * 70}.example/", "http://.example/"]
    assert download_pictures(urls, tmp_path, is_admitted=is_loopback) == Counter({"dead link": 3})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_never_asked_by_default(server, tmp_path, host):
    url = f"http://{host}:{server.server_port}/picture-1"
    assert download_pictures([url], tmp_path) == Counter({"private address": 1})
    assert server.requests == []


def test_the_connection_goes_to_the_address_that_was_checked(server, tmp_path, resolve_to):
    left = resolve_to(["127.0.0.1"], ["10.0.0.1"])
    url = f"http://pictures.example:{server.server_port}/picture-1"
    assert download_pictures([url], tmp_path, is_admitted=is_loopback)["fetched"] == 1
    assert server.requests == [("/picture-1", f"pictures.example:{server.server_port}")]
    assert left == [["10.0.0.1"]]


def test_one_private_address_among_others_is_enough_to_refuse(server, tmp_path, resolve_to):
    resolve_to(["127.0.0.1", "10.0.0.1"])
    url = f"http://pictures.example:{server.server_port}/picture-1"
    assert download_pictures([url], tmp_path, is_admitted=is_loopback) == Counter({"private address": 1})
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::1", False),
        ("2001:0:a00:1::1", False),
    ],
)
def test_which_addresses_are_public(address, is_public):
    assert is_public_address(ipaddress.ip_address(address)) is is_public
