"""`python -m train collect`."""

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

from .collect import LEFT_OUT_FILE, collect
from .download import AddressCheck, is_public_address
from .options import CollectArguments


def collect_set(arguments: CollectArguments) -> None:
    """Collect the set of a manifest, and print what came of it."""
    output = Path(arguments.output)
    collected = collect(
        Path(arguments.manifest),
        output,
        raw_address=arguments.raw_address,
        lfs_address=arguments.lfs_address,
        is_admitted=_admitted(arguments),
    )
    taken, left_out = sum(collected.taken.values()), sum(collected.left_out.values())
    print(f"collected: {taken} of {taken + left_out} pictures in {output}")
    for part, number in collected.taken.items():
        print(f"  {part}.parquet: {number}")
    if left_out:
        print(f"left out: {left_out}, listed in {output / LEFT_OUT_FILE}; a second run asks again where that may help")
        for reason, number in sorted(collected.left_out.items()):
            print(f"  {reason}: {number}")


def _admitted(arguments: CollectArguments) -> AddressCheck:
    """Public addresses, and those of a mirror that was named."""
    mirrors = {
        name for name in ("raw_address", "lfs_address") if getattr(arguments, name) != getattr(CollectArguments, name)
    }
    named = set()
    for name in mirrors:
        address = getattr(arguments, name)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{name}` must begin with http:// or https:// and a host, got {address!r}.")
        named |= {ipaddress.ip_address(answer[4][0]) for answer in socket.getaddrinfo(parts.hostname, None)}
    return lambda address: is_public_address(address) or address in named
