"""Where the page may listen is known before the model is loaded; what cannot be is said in our settings' names."""

import socket

import pytest

from space.address import listening_address


def test_host_and_port_come_from_the_environment():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert listening_address({"PORT": str(port)}) == ("127.0.0.1", port)
    assert listening_address({"PORT": str(port), "GRADIO_SERVER_NAME": "0.0.0.0"}) == ("0.0.0.0", port)
    assert (
        listening_address({"PORT": str(port), "GRADIO_SERVER_NAME": "0.0.0.0", "HOST": "localhost"})[0] == "localhost"
    )


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "7860.0", "1e3"])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match=rf"PORT must be a number from 1 to 65535, got '{port}'\."):
        listening_address({"PORT": port})


@pytest.mark.parametrize("host", ["192.0.2.1", "no host", "a..b"])
def test_an_address_of_no_machine_or_another_is_refused(host):
    with pytest.raises(ValueError, match=rf"HOST must be an address of this machine.* got '{host}'"):
        listening_address({"HOST": host, "PORT": "28113"})


def test_a_port_that_is_taken_is_said_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=rf"Port {port} of 127.0.0.1 is taken .* set PORT to another number"):
            listening_address({"PORT": str(port)})


@pytest.mark.parametrize(
    ("setting", "value"), [("PORT", "abc"), ("MODEL_ID", "nonsense"), ("MODEL_ID", "nobody/nothing"), ("BACKEND", "x")]
)
def test_a_page_with_a_wrong_setting_ends_in_a_sentence_that_names_it(python, setting, value):
    result = python.run("app.py", **{setting: value})
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith((f"error: {setting} must be", f"error: {setting}={value} cannot be used. "))
    assert "Traceback" not in result.stderr
