"""`auth` of a listening websocket, and of handshake(server=True)."""

from __future__ import annotations

import errno
import gc
import logging
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from credentials import basic, challenges, digest
from rawends import in_thread, tcp_pair
from rawpeer import TEXT, RawPeer, request

import twspy
from twspy import BasicAuth, DigestAuth

USERS = {'Aladdin': 'open sesame', 'Jäsøn Doe': 'Secret', '': ''}
GOOD = basic('Aladdin', 'open sesame')


def check(username: str, password: str) -> bool:
    return USERS.get(username) == password


def listening(auth: Any, **options: Any) -> twspy.websocket:
    sock = twspy.websocket(auth=auth, **options)
    sock.bind(('127.0.0.1', 0))
    sock.listen()
    sock.settimeout(10)
    return sock


def asking(listener: twspy.websocket, sent: bytes) -> RawPeer:
    """A peer that has said something, which waits at the listener."""
    peer = RawPeer.open(listener.getsockname())
    peer.send(sent)
    return peer


def with_auth(authorization: str, path: str = '/') -> bytes:
    return request(path, Authorization=authorization)


# --- accept() ---


@pytest.mark.parametrize('name', USERS)
def test_accept_basic(name: str) -> None:
    with listening(BasicAuth(check, 'my place')) as listener:
        sent = with_auth(basic(name, USERS[name]))
        wrong = asking(listener, request())
        bad = asking(listener, with_auth(basic('Aladdin', 'x')))
        junk = asking(listener, with_auth('Basic !'))
        with asking(listener, sent) as peer, listener.accept() as client:
            assert client.username == name
            assert twspy.Connection(client).username == name
            assert client.request.headers['Authorization'].startswith('Basic')
            assert peer.read_head()[0] == 101
            peer.send_frame(TEXT, b'hello')
            assert client.recv().payload == b'hello'
            assert listener.username is None
            for other, status in ((wrong, 401), (bad, 401), (junk, 400)):
                with other:
                    got, head = other.read_head()
                    assert got == status
                    assert head.get('www-authenticate') == (
                        'Basic realm="my place", charset="UTF-8"'
                        if status == 401
                        else None
                    )


@pytest.mark.parametrize('algorithm', ['SHA-256', 'MD5'])
def test_accept_digest(algorithm: Any) -> None:
    auth = DigestAuth(USERS.get, algorithms=[algorithm])
    with listening(auth) as listener:
        done = in_thread(lambda: listener.accept())
        with RawPeer.open(listener.getsockname()) as peer:
            peer.send(request('/a'))
            status, head, _ = peer.read_answer()
            assert status == 401
        challenge = challenges([head['www-authenticate']])[algorithm]
        good = digest(challenge, 'Aladdin', 'open sesame', uri='/a')
        with asking(listener, with_auth(good, '/a')) as peer:
            assert peer.read_head()[0] == 101
            client: Any = done()
            with client:
                assert client.username == 'Aladdin'
        # A copy is refused.
        done = in_thread(lambda: listener.accept())
        with asking(listener, with_auth(good, '/a')) as peer:
            status, head, _ = peer.read_answer()
            assert status == 401
            assert head['www-authenticate'].endswith('stale=true')
        challenge = challenges([head['www-authenticate']])[algorithm]
        good = digest(challenge, 'Aladdin', 'open sesame', uri='/a')
        with asking(listener, with_auth(good, '/a')) as peer:
            assert peer.read_head()[0] == 101
            client = done()
            client.close()


def test_frames_behind_the_request_are_kept() -> None:
    with listening(BasicAuth(check)) as listener:
        sent = with_auth(GOOD) + b'\x81\x85\0\0\0\0hello'
        for size in (len(sent), 100, 1):
            with RawPeer.open(listener.getsockname()) as peer:
                result = in_thread(listener.accept)
                for start in range(0, len(sent), size):
                    peer.send(sent[start : start + size])
                client: Any = result()
                with client:
                    assert client.recv().payload == b'hello'


def test_without_auth_nobody_has_a_name() -> None:
    with listening(None) as listener:
        with asking(listener, with_auth(GOOD)), listener.accept() as client:
            assert client.username is None
            assert twspy.Connection(client).username is None


def test_policy_comes_first() -> None:
    def fail(username: str, password: str) -> bool:
        raise AssertionError('asked')

    with listening(BasicAuth(fail), locations=['/chat']) as listener:
        listener.setblocking(False)
        with asking(listener, with_auth(GOOD, '/other')) as peer:
            drive(listener)
            assert peer.read_head()[0] == 404
        with asking(listener, b'GET / HTTP/1.1\r\nHost: a\r\n\r\n') as peer:
            drive(listener)
            assert peer.read_head()[0] == 426


def drive(listener: twspy.websocket, turns: int = 20) -> None:
    """Let a non-blocking listener go on, where nobody connects."""
    for _ in range(turns):
        with pytest.raises(BlockingIOError):
            listener.accept()
        time.sleep(0.005)


def test_refusals_are_logged_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, 'twspy'):
        with listening(BasicAuth(check)) as listener:
            listener.setblocking(False)
            with asking(
                listener, with_auth(basic('secret-name', 'secret-word'))
            ) as peer:
                drive(listener)
                assert peer.read_head()[0] == 401
    assert '401 wrong user name or password' in caplog.text
    assert 'secret' not in caplog.text


def test_what_check_raises_does_not_come_out_of_accept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A peer must not be able to end a loop of accept() calls."""

    def look_up(username: str, password: str) -> bool:
        return {'Aladdin': 'open sesame'}[username] == password

    with listening(BasicAuth(look_up)) as listener:
        bad = asking(listener, with_auth(basic('nobody', 'secret-word')))
        with asking(listener, with_auth(GOOD)), listener.accept() as client:
            assert client.username == 'Aladdin'
        with bad:
            status, head = bad.read_head()
            assert status == 500
            assert 'www-authenticate' not in head
    assert "KeyError: 'nobody'" in caplog.text
    assert "<BasicAuth realm='twspy'>: handler raised" in caplog.text
    assert 'secret-word' not in caplog.text


@pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_does(error: type[BaseException]) -> None:
    def leave(username: str, password: str) -> bool:
        if password == 'leave':
            raise error
        return True

    with listening(BasicAuth(leave)) as listener:
        with asking(listener, with_auth(basic('a', 'leave'))) as peer:
            with pytest.raises(error):
                listener.accept()
            assert peer.read_head()[0] == 500
            peer.buffer = b''
            # The next call goes on.
            with asking(listener, with_auth(GOOD)):
                with listener.accept() as client:
                    assert client.username == 'Aladdin'
            peer.expect_end()


def test_open_timeout_holds_for_a_slow_check() -> None:
    def slow(username: str, password: str) -> bool:
        if username == 'slow':
            time.sleep(0.5)
        return True

    with listening(BasicAuth(slow), open_timeout=0.2) as listener:
        with asking(listener, with_auth(basic('slow', ''))) as peer:
            client = in_thread(listener.accept)
            peer.expect_end()
            with asking(listener, with_auth(GOOD)) as other:
                assert other.read_head()[0] == 101
                result: Any = client()
                assert result.username == 'Aladdin'
                result.close()


def test_closing_amid_a_check() -> None:
    go = threading.Event()
    begun = threading.Event()

    def slow(username: str, password: str) -> bool:
        begun.set()
        go.wait(10)
        return False

    listener = listening(BasicAuth(slow))
    with asking(listener, with_auth(GOOD)):
        result = in_thread(listener.accept)
        assert begun.wait(10)
        listener.close()
        go.set()
        error = result()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF


# --- handshake(server=True) ---


def serve(
    sent: bytes, auth: Any, **options: Any
) -> tuple[twspy.websocket, RawPeer, Any]:
    """What becomes of a server's handshake: None, or what it raised."""
    one, two = tcp_pair()
    sock = twspy.websocket(one, auth=auth, **options)
    peer = RawPeer(two)
    peer.send(sent)
    two.shutdown(socket.SHUT_WR)
    try:
        sock.handshake(server=True)
    except Exception as error:
        return sock, peer, error
    return sock, peer, None


def test_handshake() -> None:
    sock, peer, error = serve(with_auth(GOOD), BasicAuth(check))
    with sock, peer:
        assert error is None
        assert sock.username == 'Aladdin'
        assert peer.read_head()[0] == 101
    for sent, status in (
        (request(), 401),
        (with_auth(basic('Aladdin', 'x')), 401),
        (with_auth('Basic !'), 400),
    ):
        sock, peer, error = serve(sent, BasicAuth(check))
        with sock, peer:
            assert isinstance(error, twspy.HandshakeError)
            assert error.status == status
            assert sock.username is None
            assert peer.read_head()[0] == status


def test_handshakes_share_what_asks() -> None:
    """The challenge comes on one connection, the answer on another."""
    auth = DigestAuth(USERS.get)
    sock, peer, error = serve(request(), auth)
    with sock, peer:
        assert error.status == 401
        _, head = peer.read_head()
    challenge = challenges([head['www-authenticate']])['MD5']
    good = digest(challenge, 'Aladdin', 'open sesame')
    for expected in (None, 401):
        sock, peer, error = serve(with_auth(good), auth)
        with sock, peer:
            assert (error and error.status) == expected


def test_handshake_where_check_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sock, peer, error = serve(
        with_auth(GOOD), BasicAuth(lambda user, password: 1 // 0 == 1)
    )
    with sock, peer:
        assert isinstance(error, twspy.HandshakeError)
        assert error.status == 500
        assert peer.read_head()[0] == 500
    assert 'ZeroDivisionError' in caplog.text


def test_handshake_with_a_check_that_takes_too_long() -> None:
    def slow(username: str, password: str) -> bool:
        time.sleep(0.3)
        return True

    sock, peer, error = serve(
        with_auth(GOOD), BasicAuth(slow), open_timeout=0.2
    )
    with sock, peer:
        assert isinstance(error, TimeoutError)
        with pytest.raises((EOFError, ConnectionResetError)):
            peer.read_more()


# --- whose it is ---


def connect(sock: twspy.websocket) -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        sock.connect(server.getsockname())


def listen(sock: twspy.websocket) -> None:
    sock.bind(('127.0.0.1', 0))
    sock.listen()


def be_client(sock: twspy.websocket) -> None:
    sock.handshake()


def be_server(sock: twspy.websocket) -> None:
    sock.handshake(server=True)


@pytest.mark.parametrize(
    ('auth', 'call', 'text'),
    [
        (
            BasicAuth(check),
            connect,
            'connect() by a websocket whose auth is a BasicAuth, which is '
            "what a server asks with: a client gives auth=('user', "
            "'password')",
        ),
        (DigestAuth(USERS.get), be_client, 'handshake() by a websocket whose'),
        (
            ('Aladdin', 'open sesame'),
            listen,
            'listen() by a websocket whose auth is a tuple, which is what a '
            'client gives: a server takes BasicAuth(check) or DigestAuth(',
        ),
        (('Aladdin', 'open sesame'), be_server, 'handshake() by a websocket'),
    ],
)
def test_auth_of_the_other_side(
    auth: Any, call: Callable[[twspy.websocket], None], text: str
) -> None:
    with twspy.websocket(auth=auth) as sock:
        with pytest.raises(TypeError, match=re.escape(text)) as caught:
            call(sock)
        assert 'sesame' not in str(caught.value)


def test_accept_of_a_listening_socket_that_was_taken_over() -> None:
    plain = socket.create_server(('127.0.0.1', 0))
    with twspy.websocket(plain, auth=('a', 'b')) as sock:
        with pytest.raises(TypeError, match=r'accept\(\) by a websocket'):
            sock.accept()


@pytest.mark.parametrize(
    ('auth', 'error', 'text'),
    [
        (('a',), TypeError, 'auth is a tuple of 1, expected'),
        (('a', 'b', 'c'), TypeError, 'auth is a tuple of 3, expected'),
        (('secret', b'b'), TypeError, 'auth has a password that is bytes'),
        ((None, 'secret'), TypeError, 'auth has a user name that is NoneType'),
        (('a:b', 'secret'), ValueError, 'a user name with a colon'),
        (('a\n', 'secret'), ValueError, 'user name with a control character'),
        (('a', 'secret\0'), ValueError, 'password with a control character'),
        (('a', 'secret\udc80'), ValueError, 'or a lone surrogate'),
        (['a', 'secret'], TypeError, 'auth is list, expected BasicAuth('),
        ('secret', TypeError, 'auth is str, expected BasicAuth('),
        (check, TypeError, 'auth is function, expected BasicAuth('),
    ],
)
def test_wrong_auth_is_named(
    auth: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        twspy.websocket(auth=auth)
    assert 'secret' not in str(caught.value)
    assert caught.value.__context__ is None


def test_credentials_of_a_client_are_taken() -> None:
    for auth in (('', ''), ('Jäsøn Doe', 'Secret: or not?'), ('a"\\', '"')):
        with twspy.websocket(auth=auth) as sock:
            assert 'Secret' not in repr(sock)
            assert sock.username is None


def test_what_asks_may_be_part_of_a_cycle() -> None:
    class Listener(twspy.websocket):
        def __init__(self) -> None:
            super().__init__(auth=BasicAuth(self.check))

        def check(self, username: str, password: str) -> bool:
            return False

    listener = Listener()
    listener.close()
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None
