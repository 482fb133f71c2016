"""Requests that are wrong get a 4xx that says why. Tests are named after what
they catch."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from rawpeer import TEXT, RawPeer, pack, request
from servers import EchoServer


@pytest.fixture(scope='module')
def server() -> Iterator[EchoServer]:
    with EchoServer(protocols=['chat', 'json']) as server:
        yield server


def answer_to(server: EchoServer, sent: bytes) -> tuple[int, str]:
    """Send a request that must be refused; return status and body."""
    with RawPeer.open(server.address) as peer:
        peer.send(sent)
        status, head, body = peer.read_answer()
        assert head['content-type'].startswith('text/plain')
        assert 'close' in head['connection']
        assert body.strip(), 'the body says why'
        if status == 426:
            assert head['sec-websocket-version'] == '13'
            assert head['upgrade'].lower() == 'websocket'
        if status == 405:
            assert 'GET' in head['allow']
    with RawPeer.connect(server.address) as peer:
        peer.echo()
    return status, body


GOOD = request()
BAD = {
    'bare_lf': (GOOD.replace(b'\r\n', b'\n'), 400),
    'folded_header': (request(X='a\r\n b'), 400),
    'space_before_colon': (GOOD.replace(b'Host:', b'Host :'), 400),
    'nul_in_header': (request(X='a\0b'), 400),
    'header_split_on_vertical_tab': (request(X='a\x0bUpgrade: b'), 400),
    'escape_in_path': (request('/\x1b[31m'), 400),
    'space_in_path': (request('/a b'), 400),
    'non_ascii_path': (request('/\xe9'), 400),
    'no_host': (request(remove=('Host',)), 400),
    'two_hosts': (GOOD.replace(b'\r\n\r\n', b'\r\nHost: b\r\n\r\n'), 400),
    'lower_case_version': (GOOD.replace(b'HTTP/1.1', b'http/1.1'), 400),
    'http_2': (GOOD.replace(b'HTTP/1.1', b'HTTP/2.0'), 505),
    'http_1_0_upgrade': (GOOD.replace(b'HTTP/1.1', b'HTTP/1.0'), 400),
    'no_request_line': (b'hello\r\n\r\n', 400),
    'tls_hello_at_a_plain_port': (b'\x16\x03\x01\x02\x00\x01\x00\x01', 400),
    'post': (GOOD.replace(b'GET', b'POST'), 405),
    'plain_delete': (b'DELETE / HTTP/1.1\r\nHost: a\r\n\r\n', 405),
    'content_length_on_upgrade_is_smuggling': (
        request(Content_Length='5') + b'GET /',
        400,
    ),
    'transfer_encoding_on_upgrade_is_smuggling': (
        request(Transfer_Encoding='chunked'),
        400,
    ),
    'notupgrade_is_not_upgrade': (request(Connection='notupgrade'), 400),
    'no_connection_field': (request(remove=('Connection',)), 400),
    'no_key': (request(remove=('Sec-WebSocket-Key',)), 400),
    'short_key': (request(key='c2hvcnQ='), 400),
    'key_not_base64': (request(key='!' * 24), 400),
    'no_version': (request(remove=('Sec-WebSocket-Version',)), 426),
    'version_8': (request(Sec_WebSocket_Version='8'), 426),
    'version_overflow': (
        request(Sec_WebSocket_Version='4294967309'),
        426,
    ),
    'bad_protocol_list': (request(Sec_WebSocket_Protocol='a b'), 400),
    'non_ascii_protocol_aborts': (
        request(Sec_WebSocket_Protocol='ch\xe4t'),
        400,
    ),
    'unclosed_quote_in_extensions': (
        request(Sec_WebSocket_Extensions='x; y="z'),
        400,
    ),
    'plain_request': (b'GET / HTTP/1.1\r\nHost: a\r\n\r\n', 426),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_request(server: EchoServer, name: str) -> None:
    sent, expected = BAD[name]
    status, _ = answer_to(server, sent)
    assert status == expected


@pytest.mark.parametrize('byte', range(0x80, 0x100))
def test_high_bytes_in_every_field(server: EchoServer, byte: int) -> None:
    for name in ('Host', 'Upgrade', 'Connection', 'Sec_WebSocket_Key'):
        with RawPeer.open(server.address) as peer:
            peer.send(request(**{name: f'a{chr(byte)}b'}))
            status, _ = peer.read_head()
            # Without an Upgrade that counts it is a plain request.
            assert status in (101, 400, 426), (name, byte)


def test_header_flood_is_431(server: EchoServer) -> None:
    many = {f'X-{n}': 'y' for n in range(200)}
    status, _ = answer_to(server, request(**many))
    assert status == 431


def test_header_line_limit_holds_across_reads(server: EchoServer) -> None:
    with RawPeer.open(server.address) as peer:
        peer.send(b'GET / HTTP/1.1\r\nHost: a\r\nX: ')
        try:
            for _ in range(100):
                peer.send(b'y' * 1000)
                time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, _ = peer.read_head()
        assert status == 431


def test_head_byte_by_byte(server: EchoServer) -> None:
    with RawPeer.open(server.address) as peer:
        for byte in request(X='y' * 2000):
            peer.send(bytes([byte]))
        status, _ = peer.read_head()
        assert status == 101
        peer.echo()


def test_early_frame_before_101(server: EchoServer) -> None:
    with RawPeer.open(server.address) as peer:
        peer.send(request() + pack(TEXT, b'early'))
        status, _ = peer.read_head()
        assert status == 101
        assert peer.read_frame()[:2] == (TEXT, b'early')


@pytest.mark.parametrize(
    ('offered', 'chosen'),
    [
        ('json, chat', 'json'),
        ('nope,chat ,json', 'chat'),
        ('nope', None),
    ],
)
def test_clients_order_chooses_the_protocol(
    server: EchoServer, offered: str, chosen: str | None
) -> None:
    with RawPeer.open(server.address) as peer:
        peer.send(request(Sec_WebSocket_Protocol=offered))
        status, head = peer.read_head()
        assert status == 101
        assert head.get('sec-websocket-protocol') == chosen
        (client,) = server.wait_for('open', peer)
        assert client.sock.protocol == chosen


def test_content_length_zero_is_tolerated(server: EchoServer) -> None:
    with RawPeer.connect(server.address, Content_Length='0') as peer:
        peer.echo()


def test_upgrade_in_a_list(server: EchoServer) -> None:
    fields = {'Upgrade': 'h2c, WebSocket', 'Connection': 'keep-alive, UPGRADE'}
    with RawPeer.connect(server.address, **fields) as peer:
        peer.echo()


def test_head_request_gets_no_body(server: EchoServer) -> None:
    with RawPeer.open(server.address) as peer:
        peer.send(b'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n')
        status, head = peer.read_head()
        assert status == 426
        assert int(head['content-length']) > 0
        peer.expect_end()


def test_locations() -> None:
    with EchoServer(locations=['/chat']) as server:
        with RawPeer.connect(server.address, '/chat?room=1') as peer:
            (client,) = server.wait_for('open', peer)
            assert client.sock.location == '/chat'
            assert client.sock.request.query == 'room=1'
            peer.echo()
        for path in ('/', '/chat/', '/Chat', '/chatty', '/chat%00'):
            with RawPeer.open(server.address) as peer:
                peer.send(request(path))
                assert peer.read_answer()[0] == 404


SAME = {
    'http://example.com': 101,
    'https://example.com': 101,
    'HTTP://EXAMPLE.com': 101,
    'http://example.com:80': 101,
    'http://example.com:81': 403,
    'http://example.com.evil.org': 403,
    'http://evil-example.com': 403,
    'http://example.com@evil.org': 403,
    'http://example.co': 403,
    'http://example.com/': 403,
    'null': 403,
    'http://evil.org http://example.com': 403,
    'ftp://example.com': 403,
}


@pytest.mark.parametrize('origin', SAME)
def test_same_origin_is_not_fooled(origin: str) -> None:
    with EchoServer(trusted_origins='same-origin') as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request(host='example.com', Origin=origin))
            assert peer.read_head()[0] == SAME[origin]


@pytest.mark.parametrize(
    ('origin', 'status'),
    [
        ('https://app.example', 101),
        ('https://app.example:443', 101),
        ('http://app.example', 403),
        ('https://app.example.evil.org', 403),
        ('https://xapp.example', 403),
        ('https://app.example:8443', 403),
        ('null', 403),
    ],
)
def test_listed_origins_are_exact(origin: str, status: int) -> None:
    origins = ['https://app.example']
    with EchoServer(trusted_origins=origins) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request(Origin=origin))
            assert peer.read_head()[0] == status
        with RawPeer.connect(server.address) as peer:  # no browser
            peer.echo()


def test_silent_and_half_open_peers_are_evicted_on_time() -> None:
    with EchoServer(open_timeout=0.3) as server:
        silent = RawPeer.open(server.address)
        half = RawPeer.open(server.address)
        half.send(request()[:50])
        with RawPeer.connect(server.address) as peer:
            peer.echo()  # nobody is held up
        for late in (silent, half):
            assert late.sock.recv(1) == b''
            late.close()


def test_peer_vanishes_at_each_byte_of_the_handshake(
    server: EchoServer,
) -> None:
    sent = request()
    for size in range(0, len(sent), 7):
        peer = RawPeer.open(server.address)
        peer.send(sent[:size])
        if size % 2:
            peer.reset()
        else:
            peer.sock.shutdown(socket.SHUT_RDWR)
            peer.close()
    with RawPeer.connect(server.address) as other:
        other.echo()
