"""Data sets of the true schemas, and the server that has their real pictures."""

import pytest

from tests.data_sets import write_elsa_d3, write_openfake
from tests.picture_server import PictureServer


@pytest.fixture
def server():
    with PictureServer() as server:
        yield server


@pytest.fixture
def elsa_d3(tmp_path, server):
    return write_elsa_d3(tmp_path, server.url)


@pytest.fixture
def openfake(tmp_path):
    return write_openfake(tmp_path)
