"""Open websockets, whose peer is made of a plain socket."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from rawends import Ends, client_end, server_end


@pytest.fixture
def client() -> Iterator[Ends]:
    sock, peer = client_end()
    with sock, peer:
        yield sock, peer


@pytest.fixture
def server() -> Iterator[Ends]:
    sock, peer = server_end()
    with sock, peer:
        yield sock, peer


@pytest.fixture(params=['client', 'server'])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[client_end, server_end])
def narrow(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Ends between which little fits: a Unix socket has one buffer, whose
    size stays as it is."""
    sock, peer = request.param(pair=socket.socketpair)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    with sock, peer:
        yield sock, peer
