"""Where the page listens: HOST and PORT of the environment, checked before the model is loaded."""

import errno
import os
import socket
from collections.abc import Mapping

DEFAULT_PORT = "7860"


def listening_address(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port that the page can listen on; GRADIO_SERVER_NAME, which a Space sets, stands in for HOST.

    Raises:
        ValueError: PORT is no port, HOST is no address of this machine, or another program has the port.
    """
    host = environment.get("HOST") or environment.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    given = environment.get("PORT") or DEFAULT_PORT
    if not given.isdecimal() or not 0 < int(given) < 2**16:
        raise ValueError(f"PORT must be a number from 1 to 65535, got {given!r}.")
    port = int(given)
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family):
            return host, port
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            message = f"Port {port} of {host} is taken by another program: end it, or set PORT to another number."
        elif isinstance(error, PermissionError):
            message = f"PORT={port} is only for the system's administrator: set PORT to a number above 1023."
        else:
            message = f"HOST must be an address of this machine, such as 127.0.0.1 or 0.0.0.0, got {host!r} ({error})."
        raise ValueError(message) from error


__all__ = ["listening_address"]
