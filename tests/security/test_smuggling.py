"""Requests that two parties could read differently, and bits that nobody has
agreed on: a proxy in front of us must not be made to pass on what we have
refused, or what it has not seen."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from rawends import answer, read_request
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    pack,
    request,
)
from rawservers import Asked, say, serving
from servers import EchoServer
from victims import KINDS, victim

import twspy


class Pages(EchoServer):
    """Notes the plain requests that it is asked."""

    def __init__(self) -> None:
        super().__init__(trusted_origins='same-origin', auth=None)
        self.pages: list[str] = []

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        self.pages.append(request.target)
        return twspy.Response(200, body='a page\n')


@pytest.fixture
def server() -> Iterator[Pages]:
    with Pages() as server:
        yield server


def with_lines(*lines: bytes) -> bytes:
    return request()[:-2] + b'\r\n'.join([*lines, b'', b''])


GOOD = request()
SECOND = b'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'

# What a proxy may take for a body, or for the end of a head, and we don't.
AMBIGUOUS = {
    'length': with_lines(b'Content-Length: 44'),
    'length of 0, twice': with_lines(b'Content-Length: 0, 0'),
    'two lengths': with_lines(b'Content-Length: 0', b'Content-Length: 44'),
    'two equal lengths': with_lines(*[b'Content-Length: 0'] * 2),
    'length with a sign': with_lines(b'Content-Length: +0'),
    'negative length': with_lines(b'Content-Length: -1'),
    'hexadecimal length': with_lines(b'Content-Length: 0x0'),
    'empty length': with_lines(b'Content-Length:'),
    'length in a list': with_lines(b'Content-Length: 44, 0'),
    'length behind a tab': with_lines(b'Content-Length:\t44'),
    'chunks': with_lines(b'Transfer-Encoding: chunked'),
    'chunks and a length': with_lines(
        b'Transfer-Encoding: chunked', b'Content-Length: 0'
    ),
    'other chunks': with_lines(b'Transfer-Encoding: xchunked'),
    'chunks in a list': with_lines(b'Transfer-Encoding: gzip, chunked'),
    'no encoding': with_lines(b'Transfer-Encoding: identity'),
    'empty encoding': with_lines(b'Transfer-Encoding:'),
    'encoding with a vertical tab': with_lines(
        b'Transfer-Encoding: \x0bchunked'
    ),
    'space before the colon': with_lines(b'Transfer-Encoding : chunked'),
    'tab before the colon': with_lines(b'Content-Length\t: 44'),
    'folded': with_lines(b'X: y', b' Transfer-Encoding: chunked'),
    'folded encoding': with_lines(b'Transfer-Encoding:', b'\tchunked'),
    'bare CR': with_lines(b'X: y\rTransfer-Encoding: chunked'),
    'bare LF': with_lines(b'X: y\nTransfer-Encoding: chunked'),
    'bare LFs at the end': GOOD[:-4] + b'\n\n',
    'CR CR LF': GOOD[:-4] + b'\r\r\n\r\n',
    'form feed': with_lines(b'X: y\x0cTransfer-Encoding: chunked'),
    'NUL': with_lines(b'X: y\0'),
    'line without a colon': with_lines(b'Transfer-Encoding chunked'),
    'line without a name': with_lines(b': chunked'),
    'empty line in front': b'\r\n' + GOOD,
    'space in front': b' ' + GOOD,
    'two hosts': with_lines(b'Host: other'),
    'host with a user': GOOD.replace(b'localhost', b'a@localhost'),
    'host with a path': GOOD.replace(b'localhost', b'localhost/a'),
    'two hosts in one': GOOD.replace(b'localhost', b'localhost, other'),
    'two spaces': GOOD.replace(b' / ', b'  / '),
    'tab as a space': GOOD.replace(b'GET / ', b'GET\t/ '),
    'no target': GOOD.replace(b' / ', b' '),
    'target of a proxy': GOOD.replace(b' / ', b' localhost:80 '),
    'two targets': GOOD.replace(b' / ', b' / /other '),
    'version of two figures': GOOD.replace(b'1.1', b'1.10'),
    'no version': GOOD.replace(b' HTTP/1.1', b''),
    'HTTP/1.0': GOOD.replace(b'1.1', b'1.0'),
    'HTTP/2': GOOD.replace(b'1.1', b'2.0'),
    'preface of HTTP/2': b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'another method': GOOD.replace(b'GET', b'POST'),
    'method in lower case': GOOD.replace(b'GET', b'get'),
    'version 8': GOOD.replace(b': 13', b': 8'),
    'version 13 with a sign': GOOD.replace(b': 13', b': +13'),
    'version 013': GOOD.replace(b': 13', b': 013'),
    'versions': GOOD.replace(b': 13', b': 13, 8'),
    'version twice': with_lines(b'Sec-WebSocket-Version: 13'),
    'version beyond 32 bits': GOOD.replace(b': 13', b': 4294967309'),
    'version beyond 64 bits': GOOD.replace(b': 13', b': 18446744073709551629'),
    'key twice': with_lines(b'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='),
    'no connection': request(remove=('Connection',)),
    'connection that is a longer word': request(Connection='notupgrade'),
    'connection of words': request(Connection='keep-alive; upgrade'),
}


@pytest.mark.parametrize('name', AMBIGUOUS)
def test_what_is_ambiguous_ends_the_connection(
    server: Pages, name: str
) -> None:
    """One answer, none of them a 101, and nothing behind it is looked at."""
    with RawPeer.open(server.address) as peer:
        peer.send(AMBIGUOUS[name] + SECOND * 3)
        status, head, _ = peer.read_answer()  # and the end behind it
        assert status in (400, 405, 426, 505)
        assert head['connection'].split(',')[0] == 'close'
    assert server.pages == []
    with RawPeer.connect(server.address) as peer:
        peer.echo()


@pytest.mark.parametrize(
    ('sent', 'pages'),
    [
        (SECOND.replace(b'smuggled', b'first') + SECOND, ['/first']),
        (
            b'GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\n\r\n'
            + SECOND,
            None,
        ),
        (
            b'GET /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked'
            b'\r\n\r\n0\r\n\r\n' + SECOND,
            None,
        ),
        (request(Upgrade='h2c') + SECOND, ['/']),
        (request(remove=('Upgrade',)) + SECOND, ['/']),
    ],
)
def test_no_request_follows_another(
    server: Pages, sent: bytes, pages: list[str] | None
) -> None:
    """Whatever the first one says of what is behind it."""
    with RawPeer.open(server.address) as peer:
        peer.send(sent)
        status, head, _ = peer.read_answer()
        assert head['connection'].lower() == 'close'
        assert status == 200 or pages is None
    assert '/smuggled' not in server.pages
    assert pages is None or server.pages == pages


def test_an_upgrade_without_its_words_is_none(server: Pages) -> None:
    """Both fields, each with the word in its list: else it is a page."""
    for fields in (
        {'Upgrade': 'websockets'},
        {'Upgrade': 'xwebsocket'},
        {'Upgrade': 'web socket'},
        {'Upgrade': 'websocket/13'},
        {'Upgrade': '"websocket"'},
    ):
        with RawPeer.open(server.address) as peer:
            peer.send(request(**fields))
            status, _ = peer.read_head()
            assert status in (200, 400), fields


def test_frames_before_the_101_wait_for_it(server: Pages) -> None:
    """They are frames, not a request, and of a refused client nothing."""
    with RawPeer.open(server.address) as peer:
        peer.send(request() + pack(TEXT, b'early') + SECOND)
        assert peer.read_head()[0] == 101
        assert peer.read_frame().payload == b'early'
        assert peer.read_frame().close_code == 1002  # 'G' is no frame
    with RawPeer.open(server.address) as peer:
        origin = {'Origin': 'http://evil.example'}
        peer.send(request(**origin) + pack(TEXT, b'early'))
        assert peer.read_answer()[0] == 403
    assert server.pages == []


# --- the other direction ---

WRONG_ANSWERS = {
    'key of another': {'Sec_WebSocket_Accept': 'AAAAAAAAAAAAAAAAAAAAAAAAAAA='},
    'no upgrade': {'Upgrade': 'xwebsocket'},
    'two protocols': {'Upgrade': 'h2c'},
    'no connection': {'Connection': 'notupgrade'},
    'a subprotocol': {'Sec_WebSocket_Protocol': 'chat'},
    'an extension': {'Sec_WebSocket_Extensions': 'permessage-deflate'},
}


@pytest.mark.parametrize('name', WRONG_ANSWERS)
def test_a_client_says_nothing_before_a_good_answer(name: str) -> None:
    """A cache or a page that is not a WebSocket never sees a frame."""
    got: list[bytes] = []

    def react(peer: RawPeer, asked: Asked) -> None:
        peer.send(answer(asked.head, **WRONG_ANSWERS[name]))
        peer.sock.shutdown(socket.SHUT_WR)
        while data := peer.sock.recv(1000):
            got.append(data)

    with serving(react) as server:
        with pytest.raises(twspy.HandshakeError):
            twspy.connect(server.url)
    assert got == []


@pytest.mark.parametrize(
    'wire',
    [
        b'HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n',
        b'HTTP/1.0 101 OK\r\n\r\n',
        b'HTTP/1.1 101\r\n\r\n',
        b'HTTP/1.1 1O1 OK\r\n\r\n',
        b'HTTP/1.1 0101 OK\r\n\r\n',
        b'HTTP/1.1 101 OK\n\n',
        b'HTTP/1.1 101 OK\r\nX : y\r\n\r\n',
        b'HTTP/1.1 101 OK\r\n X: y\r\n\r\n',
        b'HTTP/2 101 OK\r\n\r\n',
        b'ICY 101 OK\r\n\r\n',
        b'\x81\x05hello',
        b'HTTP/1.1 100 Continue\r\n\r\n' * 40,
        b'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n' * 40,
    ],
)
def test_answers_that_are_none(wire: bytes) -> None:
    with serving(say(wire)) as server:
        with pytest.raises(twspy.HandshakeError) as caught:
            twspy.connect(server.url)
        assert str(caught.value).isprintable()


def test_a_request_is_not_split_by_what_it_holds() -> None:
    """What the client writes has one end, whatever its arguments are."""

    def react(peer: RawPeer, asked: Asked) -> None:
        peer.send(answer(asked.head))

    with serving(react) as server:
        url = f'{server.url}/a%0d%0aX:%20y?b=%0D%0A%0D%0AGET%20/'
        fields = {'X-Y': 'a\tb\xe9'}
        twspy.connect(url, headers=fields, close_timeout=0).close()
    (asked,) = server.requests
    assert asked.target == '/a%0d%0aX:%20y?b=%0D%0A%0D%0AGET%20/'
    assert asked.head['x-y'] == 'a\tb\xe9'
    assert 'x' not in asked.head


# --- reserved bits ---


FRAMES = {
    'text': [(TEXT, True)],
    'binary': [(BINARY, True)],
    'first of fragments': [(TEXT, False)],
    'continuation': [(TEXT, False), (CONTINUATION, True)],
    'continuation that goes on': [(BINARY, False), (CONTINUATION, False)],
    'ping': [(PING, True)],
    'pong': [(PONG, True)],
    'close': [(CLOSE, True)],
    'ping between': [(TEXT, False), (PING, True)],
}
RSV1 = 4


@pytest.mark.parametrize('agreed', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_reserved_bits(kind: str, agreed: bool) -> None:
    """On each kind of frame; RSV1 belongs to the first frame of a message,
    and to that only where compression was agreed on (RFC 7692 section 6)."""
    fields = {}
    options = {}
    if agreed:
        fields = {'Sec_WebSocket_Extensions': 'permessage-deflate'}
        options = {'compression': 'deflate'}
    for name, rsv in itertools.product(FRAMES, range(1, 8)):
        frames = FRAMES[name]
        opens_message = len(frames) == 1 and frames[0][0] in (TEXT, BINARY)
        if agreed and rsv == RSV1 and opens_message:
            continue  # right, see test_headers.py
        with victim(kind, fields, **options) as end:
            *others, (opcode, final) = frames
            for before, goes_on in others:
                end.send(before, b'a', fin=goes_on)
            payload = b'\x03\xe8' if opcode == CLOSE else b'b'
            end.send(opcode, payload, fin=final, rsv=rsv)
            assert end.expect(1002), (name, rsv)


def test_requests_are_read_by_hand_too() -> None:
    """The table is good but for what it is named after."""
    with EchoServer() as server, RawPeer.open(server.address) as peer:
        peer.send(with_lines(b'Content-Length: 0'))
        assert peer.read_head()[0] == 101
    one, two = socket.socketpair()
    with RawPeer(one) as sender, RawPeer(two) as reader:
        sender.send(GOOD)
        first, head = read_request(reader)
        assert first == 'GET / HTTP/1.1'
        assert head['sec-websocket-version'] == '13'
