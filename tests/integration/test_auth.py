"""Servers that ask who it is: over plain sockets, and with other clients."""

from __future__ import annotations

import logging
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import websockets.exceptions
import websockets.sync.client
from conftest import find_program
from credentials import basic, challenges, digest
from programs import wait_for_port
from rawpeer import CLOSE, RawPeer, close_payload, request
from servers import SOON, EchoServer

import twspy
from twspy import HA1, BasicAuth, DigestAuth

USERS = {'Aladdin': 'open sesame', 'Jäsøn Doe': 'Secret, øder not?'}
KEY = 'dGhlIHNhbXBsZSBub25jZQ=='


def check(username: str, password: str) -> bool:
    return USERS.get(username) == password


def by_hash(username: str) -> HA1 | None:
    password = USERS.get(username)
    if password is None:
        return None
    return HA1.of(username, 'twspy', password)


class Server(EchoServer):
    """Tells of the user name of each client that it opens."""

    def onopen(self, client: twspy.Connection) -> None:
        self.events.put(('open', client, client.username))

    def next_name(self) -> str | None:
        name: str | None = self.wait_for('open')[1]
        return name


class Challenged(RawPeer):
    """Keeps the challenges of a 401, as they may be several."""

    def read_refusal(self) -> tuple[int, list[str], str]:
        """The status, the challenges and the body of a refusal."""
        while b'\r\n\r\n' not in self.buffer:
            self.read_more()
        lines = self.buffer.split(b'\r\n\r\n', 1)[0].decode('latin-1')
        values = re.findall('\r\nWWW-Authenticate: ([^\r]*)', lines)
        status, head, body = self.read_answer()
        assert head['connection'] == 'close'
        assert head['content-type'].startswith('text/plain')
        return status, values, body


def ask(
    server: twspy.Server,
    authorization: str | bytes | None = None,
    path: str = '/',
) -> tuple[int, list[str], str]:
    """Ask for an upgrade that is refused."""
    with Challenged.open(server.address) as peer:
        assert isinstance(peer, Challenged)
        peer.send(with_credentials(authorization, path))
        return peer.read_refusal()


def with_credentials(
    authorization: str | bytes | None, path: str = '/'
) -> bytes:
    sent = request(path)
    if authorization is not None:
        if isinstance(authorization, str):
            authorization = authorization.encode()
        field = b'Authorization: ' + authorization
        sent = sent.replace(b'\r\n\r\n', b'\r\n' + field + b'\r\n\r\n')
    return sent


@contextmanager
def connected(
    server: twspy.Server, authorization: str, path: str = '/'
) -> Iterator[RawPeer]:
    """Ask for an upgrade that is accepted."""
    with RawPeer.open(server.address) as peer:
        peer.send(with_credentials(authorization, path))
        status, head = peer.read_head()
        assert status == 101, (head, peer.buffer)
        yield peer


def challenge_of(
    server: twspy.Server, algorithm: str = 'SHA-256'
) -> dict[str, str]:
    status, values, _ = ask(server)
    assert status == 401
    return challenges(values)[algorithm]


# --- Basic ---


def test_basic() -> None:
    with Server(auth=BasicAuth(check, 'my place')) as server:
        for wrong in (None, basic('Aladdin', 'x'), basic('x', 'open sesame')):
            status, values, body = ask(server, wrong)
            assert status == 401
            assert values == ['Basic realm="my place", charset="UTF-8"']
            assert body.strip()
        for name, password in USERS.items():
            with connected(server, basic(name, password)) as peer:
                peer.echo()
                client, username = server.wait_for('open')
                assert username == client.username == name
                assert client.sock.username == name
                assert client.sock.request.headers['Authorization']
                peer.send_frame(CLOSE, close_payload(1000))
                assert peer.read_frame().close_code == 1000
            server.wait_for('close')
            assert client.username == name  # and is kept


def test_without_auth_nobody_has_a_name() -> None:
    with Server() as server, connected(server, basic('a', 'b')) as peer:
        peer.echo()
        client, username = server.wait_for('open')
        assert username is None
        assert client.sock.username is None


@pytest.mark.parametrize(
    ('sent', 'status'),
    [
        ('Basic', 401),
        ('Basic YTpi!', 400),
        ('Basic YTp=', 401),
        ('Basic SuRzOng=', 401),
        ('Digest username="Aladdin"', 401),
        ('Bearer token', 401),
        (b'Basic \xff', 400),
        ('=', 400),
        ('', 400),
    ],
)
def test_junk_is_refused_and_the_server_lives_on(
    sent: str | bytes, status: int
) -> None:
    with Server(auth=BasicAuth(check)) as server:
        got, values, _ = ask(server, sent)
        assert (got, len(values)) == (status, status == 401)
        with connected(server, basic('Aladdin', 'open sesame')) as peer:
            peer.echo()
    assert not [e for e in server.events.queue if e[0] == 'error']


def test_two_fields_are_refused() -> None:
    good = basic('Aladdin', 'open sesame')
    with Server(auth=BasicAuth(check)) as server:
        twice = f'{good}\r\nAuthorization: {good}'
        assert ask(server, twice)[0] == 400


def test_refusals_count_and_are_logged_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, 'twspy'):
        with Server(loglevel=logging.DEBUG, auth=BasicAuth(check)) as server:
            ask(server)
            ask(server, basic('secret-name', 'secret-word'))
            ask(server, 'Basic secret!')
            assert server.stats()['refused'] == 3
            assert server.stats()['accepted'] == 0
    assert 'refused with 401' in caplog.text
    assert 'refused with 400' in caplog.text
    assert 'secret' not in caplog.text
    assert basic('secret-name', 'secret-word')[6:] not in caplog.text


def test_policy_comes_first() -> None:
    """No password is asked for where none would help."""
    asked: list[str] = []

    def note(username: str, password: str) -> bool:
        asked.append(username)
        return True

    with Server(
        auth=BasicAuth(note),
        locations=['/chat'],
        trusted_origins='same-origin',
    ) as server:
        assert ask(server, basic('a', 'b'), '/other')[0] == 404
        sent = with_credentials(basic('a', 'b'), '/chat').replace(
            b'Upgrade: ', b'Origin: http://evil.example\r\nUpgrade: ', 1
        )
        with Challenged.open(server.address) as peer:
            peer.send(sent)
            assert peer.read_answer()[0] == 403
        assert asked == []
        with connected(server, basic('a', 'b'), '/chat') as peer:
            peer.echo()
        assert asked == ['a']


# --- Digest ---


@pytest.mark.parametrize('algorithm', ['SHA-256', 'MD5'])
@pytest.mark.parametrize('path', ['/', '/chat?room=1&x="y"'])
def test_digest(algorithm: str, path: str) -> None:
    with Server(auth=DigestAuth(USERS.get)) as server:
        challenge = challenge_of(server, algorithm)
        quoted = path.replace('"', '\\"')
        for count, (name, password) in enumerate(USERS.items(), 1):
            good = digest(
                challenge,
                name,
                password,
                uri=path,
                nc=f'{count:08x}',
                change={'uri': f'"{quoted}"'},
            )
            with connected(server, good, path) as peer:
                peer.echo()
                assert server.next_name() == name
        wrong = digest(challenge, 'Aladdin', 'x', uri=path, nc='0000000a')
        if '"' not in path:
            status, values, _ = ask(server, wrong, path)
            assert status == 401
            assert 'stale' not in values[0]


def test_digest_by_hash() -> None:
    auth = DigestAuth(by_hash, algorithms=['SHA-256'])
    with Server(auth=auth) as server:
        good = digest(challenge_of(server), 'Aladdin', 'open sesame')
        with connected(server, good) as peer:
            peer.echo()
            assert server.next_name() == 'Aladdin'
        for name in ('Aladdin', 'nobody'):
            wrong = digest(challenge_of(server), name, 'x')
            status, _, body = ask(server, wrong)
            assert (status, body) == (401, 'wrong user name or password\n')


def test_replayed_credentials_are_refused() -> None:
    """Whoever has listened can't come in with what it has heard."""
    with Server(auth=DigestAuth(USERS.get)) as server:
        good = digest(challenge_of(server), 'Aladdin', 'open sesame')
        with connected(server, good) as peer:
            peer.echo()
            for _ in range(3):
                status, values, _ = ask(server, good)
                assert status == 401
                assert values[0].endswith(', stale=true')
            peer.echo()
        assert server.stats()['accepted'] == 1


def test_of_many_that_send_the_same_one_comes_in() -> None:
    def slow_password_of(username: str) -> str | None:
        barrier.wait(SOON)  # all are at the same point
        return USERS.get(username)

    count = 8
    barrier = threading.Barrier(count)
    with ExitStack() as stack:
        server = Server(auth=DigestAuth(slow_password_of))
        stack.enter_context(server)
        good = digest(challenge_of(server), 'Aladdin', 'open sesame')
        peers = [
            stack.enter_context(RawPeer.open(server.address))
            for _ in range(count)
        ]
        for peer in peers:
            peer.send(with_credentials(good))
        assert sorted(peer.read_head()[0] for peer in peers) == (
            [101] + [401] * (count - 1)
        )


def test_stale_nonce_is_asked_for_anew() -> None:
    auth = DigestAuth(USERS.get, nonce_lifetime=0.5)
    with Server(auth=auth) as server:
        challenge = challenge_of(server)
        time.sleep(0.6)  # longer than it lives
        old = digest(challenge, 'Aladdin', 'open sesame')
        status, values, _ = ask(server, old)
        assert status == 401
        assert all(value.endswith(', stale=true') for value in values)
        fresh = challenges(values)['SHA-256']
        good = digest(fresh, 'Aladdin', 'open sesame')
        with connected(server, good) as peer:
            peer.echo()


@pytest.mark.parametrize(
    ('change', 'status'),
    [
        ({'uri': '"/other"'}, 400),
        ({'nc': '1'}, 400),
        ({'qop': None}, 400),
        ({'username': None}, 400),
        ({'realm': '"other"'}, 401),
        ({'algorithm': 'MD5-sess'}, 401),
        ({'response': '"' + '0' * 64 + '"'}, 401),
    ],
)
def test_digest_junk(change: dict[str, str | None], status: int) -> None:
    with Server(auth=DigestAuth(USERS.get)) as server:
        challenge = challenge_of(server)
        junk = digest(challenge, 'Aladdin', 'open sesame', change=change)
        got, values, _ = ask(server, junk)
        assert (got, len(values)) == (status, 2 * (status == 401))
        good = digest(challenge, 'Aladdin', 'open sesame')
        with connected(server, good) as peer:
            peer.echo()


def test_servers_share_what_asks() -> None:
    """One DigestAuth of two servers: its nonces are good at both, and once."""
    auth = DigestAuth(USERS.get)
    with Server(auth=auth) as one, Server(auth=auth) as two:
        good = digest(challenge_of(one), 'Aladdin', 'open sesame')
        with connected(two, good) as peer:
            peer.echo()
        assert ask(one, good)[0] == 401


WORKERS = """
import os, twspy

class Server(twspy.Server):
    def onopen(self, client):
        client.send(f'{self.worker} {client.username}')

server = Server(
    ('127.0.0.1', 0), auth=twspy.DigestAuth({'Aladdin': 'open sesame'}.get)
)
print(server.address[1], flush=True)
server.run(workers=3)
"""


def test_workers_share_their_nonces() -> None:
    """The answer to one worker's challenge comes to another, and a copy of it
    to a third."""

    class Address:
        address = ('127.0.0.1', 0)

    where: Any = Address()
    with subprocess.Popen(
        [sys.executable, '-c', WORKERS], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            where.address = ('127.0.0.1', port)
            wait_for_port(port)
            seen = set()
            for _ in range(40):
                good = digest(challenge_of(where), 'Aladdin', 'open sesame')
                with connected(where, good) as peer:
                    worker, name = peer.read_frame().payload.split()
                    assert name == b'Aladdin'
                    seen.add(worker)
                for _ in range(4):
                    assert ask(where, good)[0] == 401
            assert len(seen) > 1  # or nothing was shown
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0


# --- what the program's own function does ---


def wrong_type(username: str) -> Any:
    return b'open sesame'


@pytest.mark.parametrize(
    ('auth', 'error', 'text'),
    [
        (BasicAuth(lambda u, p: {}[u]), KeyError, 'Aladdin'),
        (DigestAuth(lambda u: {}[u]), KeyError, 'Aladdin'),
        (DigestAuth(wrong_type), TypeError, 'returned bytes, expected a str'),
        (
            BasicAuth(lambda: True),  # type: ignore[arg-type, misc]
            TypeError,
            'takes 0 positional',
        ),
    ],
)
def test_failure_of_the_function(
    auth: Any, error: type[Exception], text: str
) -> None:
    with Server(auth=auth) as server:
        for _ in range(2):
            if isinstance(auth, BasicAuth):
                sent = basic('Aladdin', 'open sesame')
            else:
                challenge = challenge_of(server)
                sent = digest(challenge, 'Aladdin', 'open sesame')
            status, values, body = ask(server, sent)
            assert (status, values) == (500, [])
            assert 'Aladdin' not in body
            client, caught = server.wait_for('error')
            assert client is None
            assert type(caught) is error
            assert text in str(caught)
            assert 'open sesame' not in str(caught)


def test_default_onerror_logs_no_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(username: str, password: str) -> bool:
        raise LookupError('the database is down')

    with twspy.Server(('127.0.0.1', 0), auth=BasicAuth(fail)) as server:
        assert ask(server, basic('Aladdin', 'open sesame'))[0] == 500
    assert 'the database is down' in caplog.text
    assert 'Traceback' in caplog.text
    assert 'open sesame' not in caplog.text


def test_exit_in_the_function_stops_the_server() -> None:
    def leave(username: str, password: str) -> bool:
        raise SystemExit(5)

    server = Server(auth=BasicAuth(leave)).start()
    assert isinstance(server, Server)
    with RawPeer.open(server.address) as peer:
        peer.send(with_credentials(basic('a', 'b')))
        with pytest.raises(SystemExit):
            server._runner.done.wait(SOON)
            server.stop()


def test_slow_check_holds_up_nobody() -> None:
    """Five that are looked at for a second each, side by side."""
    count, takes = 5, 1.0
    begun = threading.Semaphore(0)

    def slow(username: str, password: str) -> bool:
        if username == 'slow':
            begun.release()
            time.sleep(takes)
        return True

    with ExitStack() as stack:
        server = stack.enter_context(Server(auth=BasicAuth(slow)))
        quick = stack.enter_context(connected(server, basic('quick', '')))
        peers = []
        start = time.monotonic()
        for _ in range(count):
            peer = stack.enter_context(RawPeer.open(server.address))
            peer.send(with_credentials(basic('slow', '')))
            peers.append(peer)
        for _ in range(count):
            assert begun.acquire(timeout=SOON)
        # All are inside, and a client's echo and new clients go on.
        slowest = 0.0
        echoes = 0
        while time.monotonic() < start + takes * 0.8:
            before = time.monotonic()
            quick.echo()
            with connected(server, basic('quick', '')) as other:
                other.echo()
            slowest = max(slowest, time.monotonic() - before)
            echoes += 1
        assert echoes > 5
        assert slowest < takes / 2
        for peer in peers:
            assert peer.read_head()[0] == 101
            peer.echo()
        assert time.monotonic() - start < takes * count  # side by side


def test_open_timeout_holds_for_a_slow_check() -> None:
    go = threading.Event()
    done: queue.Queue[str] = queue.Queue()

    def slow(username: str, password: str) -> bool:
        if username == 'slow':
            go.wait(SOON)
            done.put(username)
        return True

    with Server(auth=BasicAuth(slow), open_timeout=0.3) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(with_credentials(basic('slow', '')))
            deadline = time.monotonic() + SOON
            while server.stats()['refused'] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            go.set()
            peer.expect_end()  # no 101
        assert done.get(timeout=SOON) == 'slow'
        with connected(server, basic('quick', '')) as peer:
            peer.echo()
            assert server.next_name() == 'quick'
        assert server.stats()['accepted'] == 1


def test_who_is_looked_at_takes_no_place() -> None:
    """Or anybody could keep the others out of max_clients, without a
    password."""
    go = threading.Event()
    begun = threading.Semaphore(0)

    def slow(username: str, password: str) -> bool:
        if password:
            return True
        begun.release()
        go.wait(SOON)
        return username == 'late'

    with ExitStack() as stack:
        stack.callback(go.set)
        server = stack.enter_context(
            Server(auth=BasicAuth(slow), max_clients=1)
        )
        peers = []
        for name in ('evil', 'evil', 'late'):
            peer = stack.enter_context(RawPeer.open(server.address))
            peer.send(with_credentials(basic(name, '')))
            peers.append(peer)
            assert begun.acquire(timeout=SOON)
        good = stack.enter_context(connected(server, basic('good', 'word')))
        good.echo()
        assert ask(server, basic('other', 'word'))[0] == 503
        go.set()
        assert [p.read_head()[0] for p in peers] == [401, 401, 503]
        good.echo()


def test_vanishing_while_it_is_looked_at() -> None:
    go = threading.Event()
    begun = threading.Event()

    def slow(username: str, password: str) -> bool:
        if username == 'slow':
            begun.set()
            go.wait(SOON)
        return True

    with Server(auth=BasicAuth(slow)) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(with_credentials(basic('slow', '')))
            assert begun.wait(SOON)
            peer.reset()
        go.set()
        with connected(server, basic('quick', '')) as peer:
            peer.echo()
            assert server.next_name() == 'quick'


def test_stop_amid_a_slow_check() -> None:
    go = threading.Event()
    begun = threading.Event()

    def slow(username: str, password: str) -> bool:
        begun.set()
        go.wait(SOON)
        return True

    server = Server(auth=BasicAuth(slow), max_join_time=0.1).start()
    with RawPeer.open(server.address) as peer:
        peer.send(with_credentials(basic('slow', '')))
        assert begun.wait(SOON)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        go.set()
        stopping.join(SOON)
        assert not stopping.is_alive()
        with pytest.raises(EOFError):
            while True:
                peer.read_more()


# --- plain requests ---


class Pages(Server):
    """A public page and a private one."""

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        if request.path == '/health':
            return twspy.Response(200, body='fine')
        assert self.auth is not None
        user = self.auth.authenticate(request)
        if isinstance(user, twspy.Response):
            return user
        return twspy.Response(200, body=f'hello {user}')


def get(server: twspy.Server, path: str, method: str = 'GET') -> Any:
    with Challenged.open(server.address) as peer:
        peer.send(f'{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
        if method == 'HEAD':
            return peer.read_head()
        return peer.read_answer()


def test_plain_requests_are_not_asked() -> None:
    with Pages(auth=BasicAuth(check)) as server:
        assert get(server, '/health')[0] == 200
        assert get(server, '/private')[0] == 401
        status, head = get(server, '/private', 'HEAD')
        assert status == 401
        assert head['www-authenticate'].startswith('Basic ')
    with Server(auth=BasicAuth(check)) as server:
        assert get(server, '/')[0] == 426


def opener(server: twspy.Server, handler: Any) -> Any:
    handler.add_password('twspy', f'http://{host(server)}/', *USER)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), handler
    )


USER = ('Aladdin', 'open sesame')


def host(server: twspy.Server) -> str:
    return '{}:{}'.format(*server.address)


@pytest.mark.parametrize(
    ('auth', 'handler'),
    [
        (BasicAuth(check), urllib.request.HTTPBasicAuthHandler),
        (
            DigestAuth(USERS.get, algorithms=['MD5']),
            urllib.request.HTTPDigestAuthHandler,
        ),
    ],
)
def test_pages_for_urllib(auth: Any, handler: Callable[[], Any]) -> None:
    with Pages(auth=auth) as server:
        url = f'http://{host(server)}/private?x=1'
        client = opener(server, handler())
        for _ in range(2):
            with client.open(url, timeout=SOON) as answer:
                assert answer.read() == b'hello Aladdin'
        ignorant = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            ignorant.open(url, timeout=SOON)
        assert caught.value.code == 401
        caught.value.close()


# --- other clients ---


@pytest.fixture(scope='session')
def curl() -> str:
    return find_program('curl')


def run_curl(
    curl: str, server: twspy.Server, *options: str
) -> subprocess.Popen[str]:
    """Ask for an upgrade; where it comes to one curl waits for more."""
    fields = (
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        f'Sec-WebSocket-Key: {KEY}',
    )
    command = [curl, '-sSi', '--noproxy', '*', '--max-time', '30', *options]
    for field in fields:
        command += ['-H', field]
    url = f'http://{host(server)}/chat?x=1'
    return subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True)


AUTHS: dict[str, tuple[str, Callable[[], Any]]] = {
    'basic': ('--basic', lambda: BasicAuth(check)),
    'any_of_basic': ('--anyauth', lambda: BasicAuth(check)),
    'digest': ('--digest', lambda: DigestAuth(USERS.get)),
    'any_of_digest': ('--anyauth', lambda: DigestAuth(USERS.get)),
    'sha256': (
        '--digest',
        lambda: DigestAuth(by_hash, algorithms=['SHA-256']),
    ),
    'md5': (
        '--digest',
        lambda: DigestAuth(USERS.get, 'a place', algorithms=['MD5']),
    ),
    'md5_first': (
        '--digest',
        lambda: DigestAuth(USERS.get, algorithms=['MD5', 'SHA-256']),
    ),
}


@pytest.mark.parametrize('how', AUTHS)
@pytest.mark.parametrize('name', USERS)
def test_curl_comes_in(curl: str, how: str, name: str) -> None:
    option, make = AUTHS[how]
    with Server(auth=make()) as server:
        user = f'{name}:{USERS[name]}'
        with run_curl(curl, server, option, '-u', user) as process:
            try:
                assert server.next_name() == name
            finally:
                process.kill()


@pytest.mark.parametrize('how', AUTHS)
def test_curl_is_refused(curl: str, how: str) -> None:
    option, make = AUTHS[how]
    with Server(auth=make()) as server:
        for user in ('Aladdin:x', 'nobody:open sesame', ':'):
            with run_curl(curl, server, option, '-u', user) as process:
                text, _ = process.communicate(timeout=SOON)
                assert process.returncode == 0
                statuses = re.findall(r'^HTTP/1.1 (\d+)', text, re.M)
                assert set(statuses) == {'401'}
                assert text.endswith('wrong user name or password\n')
        assert server.stats()['accepted'] == 0


def test_curl_after_a_stale_nonce(curl: str) -> None:
    """It tries again by itself, where it is told that the nonce is stale."""
    slow = threading.Event()

    def password_of(username: str) -> str | None:
        if not slow.is_set():
            slow.set()
            time.sleep(1.1)  # longer than the nonce lives
        return USERS.get(username)

    auth = DigestAuth(password_of, nonce_lifetime=1.0)
    with Server(auth=auth) as server:
        user = 'Aladdin:open sesame'
        with run_curl(curl, server, '--digest', '-u', user) as process:
            try:
                assert server.next_name() == 'Aladdin'
            finally:
                process.kill()
        assert server.stats()['refused'] == 2


def test_websockets_client_with_credentials_in_its_url() -> None:
    with Server(auth=BasicAuth(check)) as server:
        for name, password in USERS.items():
            user, word = quote(name), quote(password)
            url = f'ws://{user}:{word}@{host(server)}/'
            with websockets.sync.client.connect(url, proxy=None) as client:
                assert server.next_name() == name
                client.send('hello')
                assert client.recv() == 'hello'
        for user in ('Aladdin:x@', ''):
            with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
                websockets.sync.client.connect(
                    f'ws://{user}{host(server)}/', proxy=None
                )
            assert caught.value.response.status_code == 401
