"""permessage-deflate with other implementations: every combination of its
parameters, as client and as server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

import pytest
from deflating import (
    MESSAGES,
    EchoServer,
    Message,
    Traffic,
    check_traffic,
    send,
    size_of,
)
from interop.deflate_peers import MAX, PEERS, Peer, Terms
from programs import SOON

import twspy

MIB = 1 << 20
BITS = [None, 8, 9, 12, 15]

TEXT = ''.join(m for m in MESSAGES if isinstance(m, str))
LARGE: list[Message] = [
    'first',
    (TEXT * 40)[: MIB // 2],
    os.urandom(MIB),
    (TEXT * 40)[: MIB // 2],
    b'\xff' * MIB,
    'last',
]


@pytest.fixture(scope='module', params=PEERS)
def peer(request: pytest.FixtureRequest, node: str) -> Iterator[Peer]:
    peer = PEERS[request.param]()
    yield peer
    peer.end()


def check_terms(extensions: Sequence[twspy.Extension], terms: Terms) -> None:
    """What twspy takes for agreed is what one end has asked for."""
    (deflate,) = extensions
    assert type(deflate) is twspy.DeflateMessage
    assert deflate.server_no_context_takeover == terms.server_alone
    assert deflate.client_no_context_takeover == terms.client_alone
    server_bits = deflate.server_max_window_bits
    client_bits = deflate.client_max_window_bits
    assert server_bits is not None and client_bits is not None
    assert server_bits <= (terms.server_bits or 15)
    limit = 15 if terms.client_bits in (None, True) else terms.client_bits
    assert limit is not None and client_bits <= limit


def run_client(
    url: str, deflate: twspy.DeflateMessage, messages: Sequence[Message]
) -> tuple[tuple[twspy.Extension, ...], Traffic]:
    """Echo with twspy as the client."""
    with twspy.connect(url, compression=deflate, max_size=MAX) as connection:
        for number, message in enumerate(messages):
            send(connection, number, message)
            assert connection.recv(timeout=SOON).payload == message
        return connection.extensions, Traffic.of(connection.sock)


def run_server(
    peer: Peer,
    deflate: twspy.DeflateMessage,
    terms: Terms,
    messages: Sequence[Message],
) -> tuple[str | None, tuple[twspy.Extension, ...], Traffic]:
    """Echo with twspy as the server: how the client failed, if it did."""
    server = EchoServer(('127.0.0.1', 0), compression=deflate, max_size=MAX)
    with server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        outcome = peer.run(url, terms, messages)
        return outcome.error, server.extensions, server.traffic


ALONE = [*itertools.product([False, True], repeat=2)]
WISHES = [True, *BITS]  # of the client's window


@pytest.mark.parametrize('server_bits', BITS)
def test_client_asks(peer: Peer, server_bits: int | None) -> None:
    """A server of another implementation grants what twspy asks for."""
    declines = server_bits == 8 and not peer.deflates_8
    for (server, client), bits in itertools.product(ALONE, WISHES):
        terms = Terms(server, client, server_bits, bits)
        deflate = twspy.DeflateMessage(**terms.names)
        extensions, traffic = run_client(peer.url(Terms()), deflate, MESSAGES)
        if declines:
            assert extensions == ()
        else:
            check_terms(extensions, terms)
            check_traffic(traffic)


@pytest.mark.parametrize('server_bits', BITS)
def test_client_is_asked(peer: Peer, server_bits: int | None) -> None:
    """A server of another implementation limits twspy and itself."""
    if not peer.limits_clients or (server_bits == 8 and not peer.deflates_8):
        with pytest.raises((AssertionError, ValueError)):
            peer.url(Terms(True, True, server_bits, 9))
        return
    for (server, client), bits in itertools.product(ALONE, BITS):
        terms = Terms(server, client, server_bits, bits)
        deflate = twspy.DeflateMessage()
        extensions, traffic = run_client(peer.url(terms), deflate, MESSAGES)
        check_terms(extensions, terms)
        check_traffic(traffic)


@pytest.mark.parametrize('server_bits', BITS)
def test_server_asks(peer: Peer, server_bits: int | None) -> None:
    """A client of another implementation keeps to what twspy asks for."""
    for (server, client), bits in itertools.product(ALONE, WISHES):
        terms = Terms(server, client, server_bits, bits)
        error, extensions, traffic = run_server(
            peer, twspy.DeflateMessage(**terms.names), Terms(), MESSAGES
        )
        if bits == 8 and not peer.deflates_8:
            assert error is not None
        else:
            assert error is None
            check_terms(extensions, terms)
            check_traffic(traffic)


@pytest.mark.parametrize('server_bits', BITS)
def test_server_is_asked(peer: Peer, server_bits: int | None) -> None:
    """twspy grants what clients of other implementations offer."""
    every = [
        Terms(*alone, server_bits, bits)
        for alone, bits in itertools.product(ALONE, WISHES)
        if bits != 8 or peer.deflates_8
    ]
    if not peer.offers_all:
        every = [Terms(server_bits=server_bits)]
        if server_bits == 8:
            with pytest.raises(ValueError, match='not support wbits=8'):
                peer.run('ws://127.0.0.1:1', every[0], MESSAGES)
            return
    for terms in every:
        error, extensions, traffic = run_server(
            peer, twspy.DeflateMessage(), terms, MESSAGES
        )
        assert error is None
        check_terms(extensions, terms)
        check_traffic(traffic)


@pytest.mark.parametrize(
    'terms', [Terms(), Terms(False, False, 9, 9), Terms(True, True)]
)
def test_large_messages(peer: Peer, terms: Terms) -> None:
    deflate = twspy.DeflateMessage(**terms.names)
    extensions, traffic = run_client(peer.url(Terms()), deflate, LARGE)
    check_terms(extensions, terms)
    assert traffic.sent < size_of(LARGE) * 0.7
    error, extensions, traffic = run_server(peer, deflate, Terms(), LARGE)
    assert error is None
    check_terms(extensions, terms)
    assert traffic.sent < size_of(LARGE) * 0.7


def test_peer_that_does_not_compress(peer: Peer) -> None:
    """The other end has never heard of it, or is not asked."""
    url = peer.url(Terms())
    with twspy.connect(url, max_size=MAX) as connection:
        assert connection.extensions == ()
        for number, message in enumerate(MESSAGES):
            send(connection, number, message)
            assert connection.recv(timeout=SOON).payload == message
    with EchoServer(('127.0.0.1', 0), max_size=MAX) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        outcome = peer.run(url, Terms(), MESSAGES)
        assert (outcome.error, outcome.extensions) == (None, '')
        assert server.extensions == ()
