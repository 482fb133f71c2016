"""Clients that are asked who they are: auth=('user', 'password')."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from certificates import Certificates
from rawends import answer
from rawpeer import RawPeer
from rawservers import Asked, redirect, response, say, serving
from servers import SOON, EchoServer
from websockets.sync.server import ServerConnection, basic_auth, serve

import twspy

PASSWORDS = {'ada': 'lovelace', 'grüße': 'pässwort'}


def check(username: str, password: str) -> bool:
    return PASSWORDS.get(username) == password


SCHEMES: list[Any] = [
    pytest.param(lambda: twspy.BasicAuth(check), id='basic'),
    pytest.param(lambda: twspy.DigestAuth(PASSWORDS.get), id='digest'),
]


def challenge(value: str) -> bytes:
    return response(401, b'who?\n', WWW_Authenticate=value)


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('user', PASSWORDS)
def test_the_right_password(scheme: Any, user: str) -> None:
    with EchoServer(auth=scheme()) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/path?query=1'
        auth = (user, PASSWORDS[user])
        with twspy.connect(url, auth=auth) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'
            (client,) = server.wait_for('open')
            assert client.username == user


@pytest.mark.parametrize('scheme', SCHEMES)
def test_credentials_in_the_url(scheme: Any) -> None:
    with EchoServer(auth=scheme()) as server:
        url = f'ws://ada:lovelace@127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize(
    'auth', [None, ('ada', 'guess'), ('ada', ''), ('bob', 'lovelace')]
)
def test_the_wrong_password(scheme: Any, auth: Any) -> None:
    with EchoServer(auth=scheme()) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with pytest.raises(twspy.HandshakeError) as caught:
            twspy.connect(url, auth=auth)
        assert caught.value.status == 401
        assert 'guess' not in str(caught.value)


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('how', ['native', 'context'])
def test_over_tls(scheme: Any, how: str, certificates: Certificates) -> None:
    options: dict[str, Any] = {'ssl_args': {'cafile': certificates.cafile}}
    if how == 'context':
        options = {'ssl': certificates.client_context()}
    args = {'certfile': certificates.server.combined}
    with EchoServer(auth=scheme(), ssl_args=args) as server:
        url = f'wss://localhost:{server.address[1]}/'
        auth = 'ada', 'lovelace'
        with twspy.connect(url, auth=auth, **options) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('timeout', [None, 5.0, 0.0])
def test_a_websocket_with_a_family(scheme: Any, timeout: float | None) -> None:
    """connect() asks again under the number of the same descriptor."""
    with EchoServer(auth=scheme()) as server:
        with twspy.websocket(auth=('ada', 'lovelace')) as sock:
            sock.settimeout(timeout)
            number = sock.fileno()
            end = threading.Event()
            while not end.is_set():
                try:
                    sock.connect(server.address)
                    end.set()
                except BlockingIOError:
                    end.wait(0.001)
            assert sock.fileno() == number
            (client,) = server.wait_for('open')
            assert client.username == 'ada'
            assert client.remote_address == sock.getsockname()


def test_nothing_is_sent_before_it_is_asked_for() -> None:
    asked_for: list[str | None] = []

    def react(peer: RawPeer, asked: Asked) -> None:
        asked_for.append(asked.head.get('authorization'))
        if asked_for[-1] is None:
            say(challenge('Basic realm="x"'))(peer, asked)
        else:
            peer.send(answer(asked.head))

    with serving(react) as server:
        with twspy.websocket(auth=('ada', 'lovelace')) as sock:
            sock.connect(('127.0.0.1', server.port))
    assert asked_for == [None, 'Basic YWRhOmxvdmVsYWNl']


def test_the_strongest_scheme_is_taken() -> None:
    asked_for: list[str] = []

    def react(peer: RawPeer, asked: Asked) -> None:
        value = asked.head.get('authorization', '')
        if value:
            asked_for.append(value)
        say(
            b'HTTP/1.1 401 Who\r\n'
            b'WWW-Authenticate: Basic realm="x", Digest realm="x", '
            b'nonce="n1", qop="auth", algorithm=MD5\r\n'
            b'WWW-Authenticate: Digest realm="x", nonce="n2", qop="auth", '
            b'algorithm=SHA-256\r\n'
            b'WWW-Authenticate: Negotiate\r\n'
            b'Content-Length: 0\r\n\r\n'
        )(peer, asked)

    with serving(react) as server:
        with pytest.raises(twspy.HandshakeError, match='401'):
            twspy.connect(server.url, auth=('ada', 'lovelace'), proxy=None)
    (value,) = asked_for  # once: the server has said no
    assert value.startswith('Digest ')
    assert 'nonce="n2"' in value
    assert 'SHA-256' in value


def test_a_stale_nonce_is_another_try() -> None:
    nonces: list[str] = []

    def react(peer: RawPeer, asked: Asked) -> None:
        value = asked.head.get('authorization', '')
        nonces.append(value)
        say(
            challenge(
                f'Digest realm="x", nonce="n{len(nonces)}", qop="auth", '
                'algorithm=SHA-256, stale=true'
            )
        )(peer, asked)

    with serving(react) as server:
        with pytest.raises(twspy.HandshakeError, match='401'):
            twspy.connect(server.url, auth=('ada', 'lovelace'), proxy=None)
    assert len(nonces) == 3  # not for ever
    assert 'n1' in nonces[1]
    assert 'n2' in nonces[2]


@pytest.mark.parametrize(
    'value', ['', 'Bearer realm="x"', 'Digest', 'Basic realm="x', ',,,']
)
def test_challenges_that_nobody_knows(value: str) -> None:
    with serving(say(challenge(value))) as server:
        with pytest.raises(twspy.HandshakeError, match='401'):
            twspy.connect(server.url, auth=('ada', 'lovelace'), proxy=None)
        assert len(server.requests) == 1


def test_an_own_header_field_is_left_alone() -> None:
    with serving(say(challenge('Basic realm="x"'))) as server:
        with pytest.raises(twspy.HandshakeError, match='401'):
            twspy.connect(
                server.url,
                auth=('ada', 'lovelace'),
                headers={'Authorization': 'Bearer token'},
                proxy=None,
            )
        (asked,) = server.requests
        assert asked.head['authorization'] == 'Bearer token'


def test_credentials_stay_with_their_origin() -> None:
    with serving(say(challenge('Basic realm="x"'))) as other:
        with serving(say(redirect(other.url + '/'))) as server:
            with pytest.raises(twspy.HandshakeError, match='401'):
                twspy.connect(server.url, auth=('ada', 'lovelace'), proxy=None)
        assert [
            asked.head.get('authorization') for asked in other.requests
        ] == [None]


@contextmanager
def another_library(**options: Any) -> Iterator[int]:
    """A server that asks, by another library; its port."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, '127.0.0.1', 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(SOON)


def test_basic_with_another_library() -> None:
    asks = basic_auth(realm='x', credentials=('ada', 'lovelace'))
    with another_library(process_request=asks) as port:
        url = f'ws://127.0.0.1:{port}/'
        with twspy.connect(url, auth=('ada', 'lovelace')) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'
        with pytest.raises(twspy.HandshakeError, match='401'):
            twspy.connect(url, auth=('ada', 'guess'))


def test_open_timeout_covers_both_requests() -> None:
    """A server that asks, and then stays silent."""
    asked = threading.Event()

    def react(peer: RawPeer, request: Asked) -> None:
        if 'authorization' not in request.head:
            say(challenge('Basic realm="x"'))(peer, request)
        asked.set()

    with serving(react) as server:
        with pytest.raises(TimeoutError):
            twspy.connect(
                server.url,
                auth=('ada', 'lovelace'),
                open_timeout=0.7,
                proxy=None,
            )
    assert asked.is_set()


@pytest.mark.parametrize(
    ('auth', 'error'),
    [
        (('a:b', 'c'), ValueError),
        (('a', 'b\r\nc'), ValueError),
        (('a', 1), TypeError),
        (('a',), TypeError),
        ('ada', TypeError),
    ],
)
def test_bad_credentials(auth: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match='auth'):
        twspy.websocket(auth=auth)


def test_a_connected_stream_is_not_asked_again() -> None:
    ours, theirs = socket.socketpair()
    with twspy.websocket(ours, auth=('ada', 'lovelace')) as sock:
        with RawPeer(theirs) as peer:
            peer.send(challenge('Basic realm="x"'))
            with pytest.raises(twspy.HandshakeError, match='401'):
                sock.handshake(host='localhost')
