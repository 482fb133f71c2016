"""What a program puts into a head arrives as one field of it, or is refused:
no line ends where the program did not end it (RFC 9112 section 2.2)."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawpeer import RawPeer, request

import twspy

# What would end a field, or a head.
evil = st.text(alphabet='\r\n\0\x0b\x0c\x85\u2028 :;,"aé\ud800', max_size=10)
value = st.one_of(evil, st.text(max_size=10), st.just('fine'))

FIELDS = {
    'host',
    'upgrade',
    'connection',
    'sec-websocket-key',
    'sec-websocket-version',
    'user-agent',
}


def head_of_client(**options: Any) -> list[bytes] | None:
    """The lines of the request, or None where there was none."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        received = bytearray()

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    while b'\r\n\r\n' not in received:
                        data = sock.recv(65536)
                        if not data:
                            return
                        received.extend(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            path = options.pop('path', '/')
            with pytest.raises((ValueError, TypeError, twspy.HandshakeError)):
                twspy.connect(f'ws://127.0.0.1:{port}{path}', **options)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    if not received:
        return None
    assert received.endswith(b'\r\n\r\n')
    assert received.count(b'\r\n\r\n') == 1
    return bytes(received[:-4]).split(b'\r\n')


def check_lines(lines: list[bytes], more: set[str]) -> None:
    names = set()
    assert lines[0].startswith(b'GET /') and lines[0].endswith(b' HTTP/1.1')
    assert lines[0].count(b' ') == 2
    for line in lines[1:]:
        name, colon, rest = line.partition(b': ')
        assert colon
        assert not set(rest) & set(b'\r\n\0')
        names.add(name.decode().lower())
    assert names <= FIELDS | more, names


@pytest.mark.parametrize(
    ('field', 'options'),
    [
        ('x-test', lambda text: {'headers': [('X-Test', text)]}),
        ('x-test', lambda text: {'headers': {'X-Test': text}}),
        ('origin', lambda text: {'origin': text}),
        ('user-agent', lambda text: {'user_agent': text}),
        ('sec-websocket-protocol', lambda text: {'protocols': [text]}),
        ('', lambda text: {'path': '/' + text}),
        ('', lambda text: {'path': '/?' + text}),
    ],
)
@given(text=value)
def test_requests(
    field: str, options: Callable[[str], dict[str, Any]], text: str
) -> None:
    lines = head_of_client(**options(text))
    if lines is not None:
        check_lines(lines, {field})


nearly = st.text(alphabet=' aA-', min_size=1, max_size=4)


@given(name=evil.filter(lambda name: ':' not in name) | nearly)
def test_names_of_fields(name: str) -> None:
    lines = head_of_client(headers=[(name, 'fine')])
    if lines is not None:
        check_lines(lines, {name.lower()})
        assert re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)  # a token


class Answering(twspy.Server):
    """Refuses, or lets in, with what the test has put there."""

    answer: twspy.Response

    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> twspy.Response:
        return self.answer


@given(st.data())
def test_answers(data: st.DataObject) -> None:
    with Answering(('127.0.0.1', 0), loglevel='CRITICAL') as server:
        for _ in range(8):
            name, text = data.draw(st.tuples(evil, value))
            status = data.draw(st.sampled_from([101, 403]))
            try:
                server.answer = twspy.Response(status, [(name, text)])
            except (TypeError, ValueError):
                continue
            with RawPeer.open(server.address) as peer:
                peer.send(request())
                got, fields = peer.read_head()
            if got == status:
                assert fields.get(name.lower()) == text.strip(' \t')
            else:
                assert got == 500


# --- what a websocket and credentials put there ---


def head_of_websocket(
    make: Callable[[socket.socket], twspy.websocket], host: str = 'localhost'
) -> list[bytes] | None:
    """As above, of the request that handshake() writes."""
    one, two = socket.socketpair()
    with one, two:
        try:
            sock = make(one)
        except (TypeError, ValueError):
            return None
        with sock:
            sock.setblocking(False)
            try:
                sock.handshake(host=host)
            except BlockingIOError:
                pass
            except (TypeError, ValueError):
                two.setblocking(False)
                with pytest.raises(BlockingIOError):
                    two.recv(1)
                return None
            received = two.recv(65536)
    assert received.endswith(b'\r\n\r\n')
    assert received.count(b'\r\n\r\n') == 1
    return received[:-4].split(b'\r\n')


@pytest.mark.parametrize(
    ('field', 'options'),
    [
        ('x-test', lambda text: {'headers': [('X-Test', text)]}),
        ('origin', lambda text: {'origin': text}),
        ('sec-websocket-protocol', lambda text: {'protocols': ['a', text]}),
        ('', lambda text: {'location': '/' + text}),
        ('', lambda text: {'location': text}),
    ],
)
@given(text=value)
def test_requests_of_a_websocket(
    field: str, options: Callable[[str], dict[str, Any]], text: str
) -> None:
    lines = head_of_websocket(lambda s: twspy.websocket(s, **options(text)))
    if lines is not None:
        check_lines(lines, {field})


@given(text=st.one_of(evil, st.text(max_size=8), value.map('a'.__add__)))
def test_hosts(text: str) -> None:
    lines = head_of_websocket(twspy.websocket, text)
    if lines is not None:
        check_lines(lines, set())


class Challenging:
    """A server that asks once for credentials, and keeps both requests."""

    def __init__(self, challenge: str) -> None:
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.challenge = challenge.encode('latin-1', 'replace')
        self.heads: list[bytes] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                with sock:
                    received = b''
                    while b'\r\n\r\n' not in received:
                        data = sock.recv(65536)
                        if not data:
                            break
                        received += data
                    else:
                        self.heads.append(received)
                        sock.sendall(
                            b'HTTP/1.1 401 No\r\nWWW-Authenticate: %s\r\n'
                            b'Content-Length: 0\r\n\r\n' % self.challenge
                        )
                        sock.shutdown(socket.SHUT_WR)
                        while sock.recv(65536):
                            pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


quoted = st.text(
    alphabet='ab \t"\\,=\x7f\xe9', max_size=8
)  # a header field can have it


@given(
    user=value.filter(lambda text: ':' not in text),
    password=value,
    kind=st.sampled_from(['Basic', 'Digest']),
    realm=quoted,
    nonce=quoted,
    opaque=quoted,
)
def test_credentials(
    user: str, password: str, kind: str, realm: str, nonce: str, opaque: str
) -> None:
    """Of a program, in answer to what a server has written."""
    challenge = f'{kind} realm="{realm}"'
    if kind == 'Digest':
        challenge += f', nonce="{nonce}", opaque="{opaque}", qop="auth"'
    server = Challenging(challenge)
    try:
        port = server.listener.getsockname()[1]
        with pytest.raises((ValueError, twspy.HandshakeError)):
            twspy.connect(
                f'ws://127.0.0.1:{port}/',
                auth=(user, password),
                user_agent=None,
            )
    finally:
        server.close()
    for head in server.heads:
        assert head.endswith(b'\r\n\r\n')
        assert head.count(b'\r\n\r\n') == 1
        check_lines(head[:-4].split(b'\r\n'), {'authorization'})


@given(realm=value, kind=st.sampled_from([twspy.BasicAuth, twspy.DigestAuth]))
def test_realms(realm: str, kind: Any) -> None:
    """In the 401 of a server."""
    try:
        auth = kind(lambda *args: None, realm)
    except (TypeError, ValueError):
        return
    one, two = socket.socketpair()
    with RawPeer(two) as peer:
        sock = twspy.websocket(one, auth=auth, close_timeout=0.001)
        with pytest.raises(twspy.HandshakeError):
            sock.handshake(server=True, initial=request())
        status, head = peer.read_head()
    assert status == 401
    assert f'realm="{realm}"' in head['www-authenticate']
    assert realm.isascii() and realm.isprintable()


@given(name=evil, text=value)
def test_fields_of_a_servers_answer(name: str, text: str) -> None:
    """The option `headers` of a websocket that serves."""
    one, two = socket.socketpair()
    with one, RawPeer(two) as peer:
        try:
            sock = twspy.websocket(one, headers=[('X-' + name, text)])
        except (TypeError, ValueError):
            return
        with sock:
            sock.handshake(server=True, initial=request())
            status, head = peer.read_head()
    assert status == 101
    assert set(head) == {
        'upgrade',
        'connection',
        'sec-websocket-accept',
        f'x-{name}'.lower(),
    }


@given(path=evil)
def test_locations(path: str) -> None:
    """Where a redirect leads, an answer that somebody else has written."""
    location = ('/a' + path).encode('latin-1', 'replace')
    if b'\r' in location or b'\n' in location or b'\0' in location:
        return  # the head would be another one
    answered = []

    def react(peer: RawPeer, head: bytes) -> None:
        answered.append(head)
        if len(answered) == 1:
            peer.send(
                b'HTTP/1.1 302 Found\r\nLocation: %s\r\n'
                b'Content-Length: 0\r\n\r\n' % location
            )

    lines = head_of_redirected(react)
    if lines is not None:
        check_lines(lines, set())


def head_of_redirected(
    react: Callable[[RawPeer, bytes], None],
) -> list[bytes] | None:
    """The last request, of two at most."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        heads = []

        def serve() -> None:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    sock, _ = listener.accept()
                    with RawPeer(sock) as peer:
                        while b'\r\n\r\n' not in peer.buffer:
                            peer.read_more()
                        heads.append(peer.buffer)
                        react(peer, peer.buffer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            with pytest.raises(twspy.HandshakeError):
                twspy.connect(f'ws://127.0.0.1:{port}/')
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert len(heads) <= 2
    assert all(head.endswith(b'\r\n\r\n') for head in heads)
    return heads[-1][:-4].split(b'\r\n') if len(heads) == 2 else None
