"""Open websockets, whose peer is made of a plain socket, and bridged TLS."""

import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from rawends import Ends, client_end, server_end

if TYPE_CHECKING:
    from certificates import Certificates


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


@pytest.fixture
def make_tls(certificates: 'Certificates') -> Iterator[Callable[[str], Any]]:
    """Makes what makes TLS connections: tlsends.Maker('server')."""
    from tlsends import Maker, streams, wait_until

    makers: list[Maker] = []

    def make(role: str) -> Maker:
        makers.append(Maker(certificates, role))
        return makers[-1]

    yield make
    for maker in makers:
        maker.close()
    wait_until(lambda: not streams())


@pytest.fixture
def serve(make_tls: Callable[[str], Any]) -> Any:
    return make_tls('server')


@pytest.fixture
def dial(make_tls: Callable[[str], Any]) -> Any:
    return make_tls('client')


@pytest.fixture(params=['server', 'client'])
def make(
    request: pytest.FixtureRequest, make_tls: Callable[[str], Any]
) -> Any:
    """Both sides of TLS, one after the other."""
    return make_tls(request.param)
