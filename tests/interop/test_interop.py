"""twspy with clients and servers of other implementations."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from interop import client_ends, server_ends
from interop.client_ends import Client, Closed, Refused
from interop.server_ends import Server

GREETING = 'Grüße an 世界 🌍'
MIB = 1 << 20

CLIENTS: dict[str, type[Client]] = {
    'twspy': client_ends.Twspy,
    **client_ends.FOREIGN,
}
SERVERS = {**server_ends.TWSPY, **server_ends.FOREIGN}
PAIRS = [
    (client, server)
    for client in CLIENTS
    for server in SERVERS
    if client == 'twspy' or server in server_ends.TWSPY
]


@pytest.fixture(scope='module', params=PAIRS, ids='-'.join)
def pair(
    request: pytest.FixtureRequest, node: str
) -> Iterator[tuple[type[Client], Server]]:
    client, server_name = request.param
    server = SERVERS[server_name]()
    yield CLIENTS[client], server
    server.end()


@pytest.fixture
def server(pair: tuple[type[Client], Server]) -> Server:
    return pair[1]


@pytest.fixture
def client(pair: tuple[type[Client], Server]) -> Iterator[Client]:
    kind, server = pair
    client = kind(f'ws://127.0.0.1:{server.port}/')
    yield client
    client.end()
    server.closed()


def test_messages_come_back(client: Client) -> None:
    messages: list[str | bytes] = [
        'Hello',
        GREETING,
        '',
        b'',
        bytes(range(256)),
        'a' * 125,
        'b' * 126,
        'c' * 65535,
        'd' * 65536,
        'é' * (MIB // 2),
        os.urandom(MIB),
    ]
    for message in messages:
        client.send(message)
        answer = client.recv()
        assert type(answer) is type(message)
        assert answer == message


def test_many_messages_in_flight_keep_their_order(client: Client) -> None:
    messages = [f'{GREETING} {number}' for number in range(200)]
    for message in messages:
        client.send(message)
    assert [client.recv() for _ in messages] == messages


def test_fragments(client: Client, server: Server) -> None:
    # One implementation can receive fragments, but not send them.
    assert client.fragments or server.fragments
    if client.fragments:
        parts = ['Grüß', 'e an ', '世界', '']
        client.send_fragments(parts)
        assert client.recv() == 'Grüße an 世界'
        client.send('and on')
        assert client.recv() == 'and on'
    if server.fragments:
        client.send('!fragments Gruß an die Welt')
        assert client.recv() == 'GrußandieWelt'


def test_pings_of_both_sides(client: Client) -> None:
    client.ping(b'are you there?')
    client.send('!ping still?')
    assert client.recv() == 'pong still?'
    client.send('on')
    assert client.recv() == 'on'


CODES = [(1000, ''), (1001, 'gone'), (3000, 'Grüße'), (4999, 'x' * 123)]


@pytest.mark.parametrize(('code', 'reason'), CODES)
def test_client_closes(
    pair: tuple[type[Client], Server], code: int, reason: str
) -> None:
    kind, server = pair
    client = kind(f'ws://127.0.0.1:{server.port}/')
    try:
        client.send('Hello')
        assert client.recv() == 'Hello'
        client.close(code, reason)
        assert server.closed() == (code, reason)
    finally:
        client.end()


@pytest.mark.parametrize(('code', 'reason'), CODES)
def test_server_closes(
    pair: tuple[type[Client], Server], code: int, reason: str
) -> None:
    kind, server = pair
    client = kind(f'ws://127.0.0.1:{server.port}/')
    try:
        client.send(f'!close {code} {reason}')
        with pytest.raises(Closed) as caught:
            client.recv()
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert server.closed()[0] == (code if client.echoes_code else 1000)
    finally:
        client.end()


@pytest.mark.parametrize(
    ('offered', 'chosen'),
    [((), None), (('chat', 'superchat'), 'superchat'), (('chat',), None)],
)
def test_subprotocols(
    pair: tuple[type[Client], Server],
    offered: tuple[str, ...],
    chosen: str | None,
) -> None:
    kind, server = pair
    url = f'ws://127.0.0.1:{server.port}/'
    if kind.needs_protocol and offered and chosen is None:
        with pytest.raises(ConnectionError, match='no subprotocol'):
            kind(url, offered)
        server.closed()
        return
    client = kind(url, offered)
    try:
        assert client.protocol == chosen
        client.send('Hello')
        assert client.recv() == 'Hello'
    finally:
        client.end()
        server.closed()


def test_refusal(pair: tuple[type[Client], Server]) -> None:
    kind, server = pair
    with pytest.raises(Refused) as caught:
        kind(f'ws://127.0.0.1:{server.port}{server_ends.FORBIDDEN}')
    assert caught.value.status == server.refusal


@pytest.mark.parametrize('name', server_ends.TWSPY)
@pytest.mark.parametrize('kind', CLIENTS.values(), ids=CLIENTS)
def test_message_over_the_limit_is_closed_with_1009(
    kind: type[Client], name: str, node: str
) -> None:
    server = server_ends.TWSPY[name]()
    try:
        client = kind(f'ws://127.0.0.1:{server.port}/')
        try:
            client.send(b'x' * (MIB + 1))
            with pytest.raises(Closed) as caught:
                client.recv()
            assert caught.value.code == 1009
        finally:
            client.end()
        assert server.closed()[0] == 1009
    finally:
        server.end()
