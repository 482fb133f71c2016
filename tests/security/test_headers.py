"""Hostile header fields: too many, too long, of any byte, made to be slow to
look at, and parameters of extensions that make no sense."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import zlib
from collections.abc import Iterator

import pytest
from rawends import answer, client_end, read_request, tcp_pair
from rawpeer import TEXT, RawPeer, request
from rawservers import say, serving
from servers import EchoServer
from victims import KINDS, victim

import twspy

MIB = 1 << 20
RSV1 = 4


@pytest.fixture(scope='module')
def server() -> Iterator[EchoServer]:
    with EchoServer(
        protocols=['chat'], compression='deflate', auth=None
    ) as server:
        yield server


def status_of(server: EchoServer, sent: bytes) -> int:
    with RawPeer.open(server.address) as peer:
        peer.send(sent)
        return peer.read_head()[0]


def with_lines(*lines: bytes) -> bytes:
    return request()[:-2] + b'\r\n'.join([*lines, b'', b''])


# --- one more than may be ---


@pytest.mark.parametrize('limit', [6, 128, 256])
def test_one_line_too_many(limit: int) -> None:
    own = request().count(b'\r\n') - 2
    with EchoServer(max_header_lines=limit) as server:
        fits = with_lines(*[b'X: y'] * (limit - own))
        assert status_of(server, fits) == 101
        more = with_lines(*[b'X: y'] * (limit - own + 1))
        assert status_of(server, more) == 431
        # However many there are, and never finished.
        with RawPeer.open(server.address) as peer:
            with contextlib.suppress(OSError):
                peer.send(b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 200_000)
            assert peer.read_head()[0] == 431
        with RawPeer.connect(server.address) as peer:
            peer.echo()


@pytest.mark.parametrize('cut', [1, 700, 1448])
def test_the_limits_hold_across_reads(cut: int) -> None:
    """A line is not as long as what one read has brought of it."""
    with EchoServer(max_head_size=2000) as server:
        wire = request(X='y' * (2000 - len(request(X=''))))
        assert len(wire) == 2000
        for extra, status in ((b'', 101), (b'y', 431)):
            sent = wire.replace(b'yyy', b'yyy' + extra, 1)
            with RawPeer.open(server.address) as peer:
                for start in range(0, len(sent), cut):
                    peer.send(sent[start : start + cut])
                assert peer.read_head()[0] == status


@pytest.mark.parametrize(
    ('limits', 'extra'),
    [
        ({'max_header_lines': 4}, b'X: y\r\n' * 2),
        ({}, b'X: y\r\n' * 126),
        ({}, b'X: ' + b'y' * 16384 + b'\r\n'),
        ({'max_head_size': 300}, b'X: ' + b'y' * 300 + b'\r\n'),
        ({}, b'X: ' + b'y' * 4_000_000),
    ],
)
def test_answers_have_limits_too(limits: dict[str, int], extra: bytes) -> None:
    def react(peer: RawPeer, asked: object) -> None:
        head = answer(asked.head)  # type: ignore[attr-defined]
        peer.send(head[:-2] + extra + b'\r\n')

    with serving(react) as server:
        with pytest.raises(twspy.HandshakeError):
            twspy.connect(server.url, **limits)  # type: ignore[arg-type]


# --- bytes ---

FIELDS = [
    'Host',
    'Upgrade',
    'Connection',
    'Sec_WebSocket_Key',
    'Sec_WebSocket_Version',
    'Sec_WebSocket_Protocol',
    'Sec_WebSocket_Extensions',
    'Origin',
    'Content_Length',
    'Transfer_Encoding',
    'Authorization',
    'Cookie',
    'X_Anything',
]


@pytest.mark.parametrize('name', FIELDS)
def test_every_high_byte_in_every_field(server: EchoServer, name: str) -> None:
    """None of them ends a process, a thread or the server."""
    usual = {'Sec_WebSocket_Version': '13', 'Upgrade': 'websocket'}
    usual |= {'Connection': 'Upgrade', 'Sec_WebSocket_Protocol': 'chat'}
    for byte in range(0x80, 0x100):
        value = usual.get(name, 'a') + chr(byte)
        status = status_of(server, request(**{name: value}))
        if name in ('Authorization', 'Cookie', 'Origin', 'X_Anything'):
            assert status == 101, byte
        else:
            assert status in (400, 426), byte
    with RawPeer.connect(server.address) as peer:
        peer.echo()


@pytest.mark.parametrize('where', ['name', 'method', 'path', 'version'])
def test_every_high_byte_elsewhere(server: EchoServer, where: str) -> None:
    for byte in [*range(0x80, 0x100), 0, 11, 12, 27, 127]:
        raw = bytes([byte])
        sent = {
            'name': with_lines(b'X' + raw + b': y'),
            'method': request().replace(b'GET', b'GE' + raw + b'T'),
            'path': request().replace(b'/ ', b'/a' + raw + b' ', 1),
            'version': request().replace(b'HTTP/1.1', b'HTTP/1.' + raw),
        }[where]
        assert status_of(server, sent) in (400, 405), byte


ANSWERED = [
    'Upgrade',
    'Connection',
    'Sec_WebSocket_Accept',
    'Sec_WebSocket_Protocol',
    'Sec_WebSocket_Extensions',
    'X_Anything',
]


@pytest.mark.parametrize('name', ANSWERED)
def test_every_high_byte_in_an_answer(name: str) -> None:
    for byte in range(0x80, 0x100):
        one, two = tcp_pair()
        sock = twspy.websocket(one, protocols=['chat'])
        sock.setblocking(False)
        with sock, RawPeer(two) as peer:
            with pytest.raises(BlockingIOError):
                sock.handshake(host='localhost')
            _, head = read_request(peer)
            peer.send(answer(head, **{name: 'a' + chr(byte)}))
            sock.settimeout(10)
            if name == 'X_Anything':
                sock.handshake(host='localhost')
                assert sock.response.headers['X-Anything'] == 'a' + chr(byte)
                continue
            with pytest.raises(twspy.HandshakeError) as caught:
                sock.handshake(host='localhost')
            assert str(caught.value).isprintable()


# --- made to be slow, or to mean something to a program ---

HOSTILE = {
    'spaces': ('X', lambda n: 'a' + ' ' * n + 'b'),
    'tabs behind': ('X', lambda n: 'a' + '\t' * n),
    'spaces in a list': (
        'Sec_WebSocket_Protocol',
        lambda n: 'a,' + ' ' * n + 'b',
    ),
    'commas': ('Connection', lambda n: ',' * n + 'Upgrade'),
    'elements': ('Upgrade', lambda n: 'a,' * (n // 2) + 'websocket'),
    'subprotocols': (
        'Sec_WebSocket_Protocol',
        lambda n: ','.join(f'p{i}' for i in range(n // 6)),
    ),
    'quotes': (
        'Sec_WebSocket_Extensions',
        lambda n: 'a; b="' + '\\a' * (n // 2) + '"',
    ),
    'quotes without an end': (
        'Sec_WebSocket_Extensions',
        lambda n: 'a; b="' + '\\"' * (n // 2),
    ),
    'semicolons': ('Sec_WebSocket_Extensions', lambda n: 'a' + ';' * n),
    'equal parameters': (
        'Sec_WebSocket_Extensions',
        lambda n: 'permessage-deflate' + ';a' * (n // 2),
    ),
    'parameters': (
        'Sec_WebSocket_Extensions',
        lambda n: (
            'permessage-deflate' + ''.join(f';a{i}' for i in range(n // 7))
        ),
    ),
    'parameters of an own one': (
        'Sec_WebSocket_Extensions',
        lambda n: 'x-own' + ''.join(f';a{i}' for i in range(n // 7)),
    ),
    'offers': (
        'Sec_WebSocket_Extensions',
        lambda n: ','.join(['permessage-deflate;x'] * (n // 21)),
    ),
    'origin': ('Origin', lambda n: 'http://' + 'a.' * (n // 2)),
    'credentials': (
        'Authorization',
        lambda n: 'Digest ' + ','.join(f'a{i}=b' for i in range(n // 8)),
    ),
    'quotes of credentials': (
        'Authorization',
        lambda n: 'Digest a="' + '\\"' * (n // 2),
    ),
    'base64': ('Authorization', lambda n: 'Basic ' + 'QTpi' * (n // 4)),
}


class Own(twspy.Extension):
    """Declines whatever is offered."""

    name = 'x-own'

    def negotiate(self, params: dict[str, str | None]) -> None:
        return None


def handshake_time(
    auth: twspy.BasicAuth | twspy.DigestAuth | None, wire: bytes
) -> float:
    """Processor time of the handshake alone, whatever comes of it."""
    one, two = tcp_pair()
    sock = twspy.websocket(
        one,
        max_head_size=2 * MIB,
        protocols=[f'q{i}' for i in range(20)],
        compression='deflate',
        extensions=[Own],
        auth=auth,
        trusted_origins='same-origin',
    )
    with sock, RawPeer(two):
        two.shutdown(socket.SHUT_WR)  # so that a refusal need not linger
        start = time.process_time()
        with contextlib.suppress(twspy.HandshakeError):
            sock.handshake(server=True, initial=wire)
        return time.process_time() - start


@pytest.mark.parametrize('name', HOSTILE)
def test_no_field_takes_more_than_linear_time(name: str) -> None:
    field, make = HOSTILE[name]
    auth: twspy.BasicAuth | twspy.DigestAuth | None = None
    if field == 'Authorization':
        auth = twspy.DigestAuth({}.get)
        if name == 'base64':
            auth = twspy.BasicAuth(lambda user, password: False)
    small = request(**{field: make(1 << 16)})
    large = request(**{field: make(1 << 19)})  # eight times as much
    quotients = []
    for _ in range(3):
        base = min(handshake_time(auth, small) for _ in range(3))
        quotients.append(handshake_time(auth, large) / base)
        if quotients[-1] < 12:
            return
    assert min(quotients) < 24, quotients  # a square would be 64


@pytest.mark.parametrize(
    'word', ['constructor', '__proto__', 'toString', '__class__', 'keys']
)
def test_names_of_languages_mean_nothing(
    server: EchoServer, word: str
) -> None:
    fields = {
        'Sec_WebSocket_Protocol': f'{word}, chat',
        'Sec_WebSocket_Extensions': f'{word}; {word}={word}, {word}',
        word: word,
    }
    with RawPeer.open(server.address) as peer:
        peer.send(request(**fields))
        status, head = peer.read_head()
        assert status == 101
        assert head['sec-websocket-protocol'] == 'chat'
        assert 'sec-websocket-extensions' not in head
        peer.echo()


# --- permessage-deflate ---

BITS = ['0', '7', '16', '', '+12', '-9', '08', '012', '12.0', '1e1', '99999']
BITS += ['9' * 400, '0x0c', '"12', '12 13', 'true', '\xb9', '1\xb2']


@pytest.mark.parametrize('side', ['server', 'client'])
def test_offers_of_windows_that_make_no_sense(
    server: EchoServer, side: str
) -> None:
    """Declined (RFC 7692 section 7.1), never taken for a size."""
    for bits in BITS:
        offer = f'permessage-deflate; {side}_max_window_bits={bits}'
        with RawPeer.open(server.address) as peer:
            peer.send(request(Sec_WebSocket_Extensions=offer))
            status, head = peer.read_head()
            if status != 101:
                assert status == 400, bits
                continue
            assert 'sec-websocket-extensions' not in head, bits
            peer.echo()


DUPLICATES = [
    'server_no_context_takeover; server_no_context_takeover',
    'client_max_window_bits; client_max_window_bits=12',
    'server_max_window_bits=12; server_max_window_bits=12',
    'server_no_context_takeover=1',
    'unheard_of',
    'client_max_window_bits=12; x',
]


@pytest.mark.parametrize('params', DUPLICATES)
def test_offers_with_wrong_parameters(server: EchoServer, params: str) -> None:
    offer = f'permessage-deflate; {params}'
    with RawPeer.open(server.address) as peer:
        peer.send(request(Sec_WebSocket_Extensions=offer))
        status, head = peer.read_head()
        assert (status, 'sec-websocket-extensions' in head) == (101, False)
        peer.echo()


@pytest.mark.parametrize(
    'params',
    [
        *(f'server_max_window_bits={bits}' for bits in BITS),
        *(f'client_max_window_bits={bits}' for bits in BITS),
        'client_max_window_bits',
        *DUPLICATES,
    ],
)
def test_answers_with_wrong_parameters(params: str) -> None:
    """They end the handshake; no window is made of them."""
    one, two = tcp_pair()
    sock = twspy.websocket(one, compression='deflate')
    sock.setblocking(False)
    with sock, RawPeer(two) as peer:
        with pytest.raises(BlockingIOError):
            sock.handshake(host='localhost')
        _, head = read_request(peer)
        fields = {'Sec_WebSocket_Extensions': f'permessage-deflate; {params}'}
        peer.send(answer(head, **fields))
        sock.settimeout(10)
        with pytest.raises(twspy.HandshakeError) as caught:
            sock.handshake(host='localhost')
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 800


def garbage() -> dict[str, bytes]:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    good = deflater.compress(b'text' * 100)
    good += deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
    return {
        'a block of no kind': b'\x07',
        'ones': b'\xff' * 200,
        'a length that is not its complement': b'\x00\x05\x00\x05\x00hello',
        'a reference before the beginning': b'\x62\x04\x22\x00\x05',
        'tables that are too large': b'\xfd' + b'\xff' * 100,
        'cut in the middle': good[: len(good) // 2],
        'one bit': bytes([good[0] ^ 2]) + good[1:],
        'zlib instead of deflate': zlib.compress(b'text' * 100),
        'gzip': b'\x1f\x8b\x08' + bytes(50),
    }


@pytest.mark.parametrize('name', garbage())
@pytest.mark.parametrize('kind', KINDS)
def test_garbage_instead_of_deflate(kind: str, name: str) -> None:
    fields = {'Sec_WebSocket_Extensions': 'permessage-deflate'}
    with victim(kind, fields, compression='deflate') as end:
        end.send(TEXT, garbage()[name], rsv=RSV1)
        # A stream that is cut off fails at once, or with what follows.
        end.send(TEXT, garbage()['a block of no kind'], rsv=RSV1)
        assert end.expect(1007)


# --- what is said of it ---


def test_the_notice_of_an_origin_is_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By default a page of any origin may connect, and one line tells of the
    first: of the peer's words no more than a line, and none unprintable."""
    hostile = 'http://' + 'a' * 12_000 + '\xa0\x85\xad'
    for value in (hostile, 'http://evil.example'):
        caplog.clear()
        with caplog.at_level(logging.WARNING, 'twspy'):
            with EchoServer() as server:
                with RawPeer.connect(server.address, Origin=value) as peer:
                    peer.echo()
        (record,) = caplog.records
        text = record.getMessage()
        assert value[:20] in text
        assert 'trusted_origins' in text
        assert len(text) < 600
        assert text.isprintable()


def test_what_is_refused_is_told_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hostile = [
        request(Host='\x1b[31m' + 'a' * 9000),
        request(Sec_WebSocket_Key='\x85' * 9000),
        request(Sec_WebSocket_Extensions='\xff' * 9000),
        request(Upgrade='websocket', Connection='x' * 9000),
        b'\x1b]0;title\x07' * 900 + b'\r\n\r\n',
    ]
    with caplog.at_level(logging.DEBUG, 'twspy'):
        with EchoServer(loglevel='DEBUG') as server:
            for sent in hostile:
                with RawPeer.open(server.address) as peer:
                    peer.send(sent)
                    _, _, body = peer.read_answer()
                    assert body[:-1].isprintable()
                    assert len(body) < 600
    lines = [r.getMessage() for r in caplog.records]
    assert sum('refused' in line for line in lines) == len(hostile)
    assert all(line.isprintable() and len(line) < 600 for line in lines)


def test_raw_ends_agree() -> None:
    """Without anything hostile in it all of this works."""
    sock, peer = client_end(protocols=['chat'])
    with sock, peer:
        peer.send_frame(TEXT, b'fine', mask=False)
        assert sock.recv().payload == b'fine'
    with serving(say(b'HTTP/1.1 101 \r\n\r\n')) as server:
        with pytest.raises(twspy.HandshakeError):
            twspy.connect(server.url)
