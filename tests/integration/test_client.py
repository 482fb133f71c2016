"""connect() against servers that are odd, hostile, or elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import gc
import inspect
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from ports import refusing_port
from rawends import answer, tcp_pair
from rawpeer import TEXT, RawPeer, pack
from rawservers import (
    Asked,
    redirect,
    response,
    route,
    say,
    serving,
    welcome,
)
from servers import EchoServer

import twspy
from twspy import HandshakeError
from twspy._dialer import Dialer
from twspy.client import ConnectOptions


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the tests says must not matter."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def leaks_nothing() -> Iterator[None]:
    gc.collect()
    before = count_sockets()
    yield
    gc.collect()
    assert count_sockets() <= before  # some of the test before may go yet


def count_sockets() -> int:
    """The process's open sockets; what the thread of keepalive waits with is
    none, and comes with the first connection."""
    count = 0
    for name in os.listdir('/proc/self/fd'):
        try:
            target = os.readlink(f'/proc/self/fd/{name}')
        except FileNotFoundError:  # what has listed them
            continue
        count += target.startswith('socket:')
    return count


def refused(url: str, **options: Any) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        twspy.connect(url, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    return caught.value


# --- options ---


def test_signature_shows_all_options() -> None:
    """The three lists of options are the same, and their defaults those of
    websocket()."""
    parameters = inspect.signature(twspy.connect).parameters
    given = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in ('url', 'connection_class')
    }
    fields = {
        field.name: field.default
        for field in dataclasses.fields(Dialer)
        if field.init and field.name not in ('url', 'connection_class')
    }
    assert given == fields
    assert set(given) == set(get_type_hints_of_options())
    sock = inspect.signature(twspy.websocket).parameters
    for name in set(given) & set(sock):
        assert given[name] == sock[name].default, name
    doc = inspect.getdoc(twspy.connect) or ''
    for name in given:
        assert f'\n{name} ' in doc or f'\n{name}: ' in doc, name


def get_type_hints_of_options() -> dict[str, Any]:
    from ssl import SSLContext

    names = {'SSLContext': SSLContext, 'Mapping': dict}
    return get_type_hints(ConnectOptions, localns=names)


def test_what_is_sent() -> None:
    with serving(welcome) as server:
        twspy.connect(
            f'{server.url}/ü?q',
            protocols=(name for name in ('a', 'b')),
            headers=(field for field in [('X-Api', 'key'), ('X-Api', '2')]),
            origin='http://example.com',
        ).sock.close()
    (asked,) = server.requests
    assert asked.target == '/%C3%BC?q'
    assert asked.head['host'] == f'127.0.0.1:{server.port}'
    assert asked.head['origin'] == 'http://example.com'
    assert asked.head['user-agent'] == f'twspy/{twspy.__version__}'
    assert asked.head['sec-websocket-protocol'] == 'a, b'
    assert asked.head['x-api'] == '2'
    assert 'authorization' not in asked.head


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'user_agent': 'me/1'}, 'me/1'),
        ({'user_agent': None}, None),
        ({'headers': {'USER-agent': 'x'}}, 'x'),
        ({'headers': {'USER-agent': 'x'}, 'user_agent': 'y'}, 'x'),
    ],
)
def test_user_agent(options: dict[str, Any], expected: str | None) -> None:
    with serving(welcome) as server:
        twspy.connect(server.url, **options).sock.close()
    assert server.requests[0].head.get('user-agent') == expected


def test_connection_class_and_keepalive() -> None:
    class Mine(twspy.Connection):
        kept: tuple[Any, ...] = ()

        def _keep(self, *arguments: Any) -> None:
            self.kept = arguments

    with serving(welcome) as server:
        made = twspy.connect(
            server.url,
            connection_class=Mine,
            ping_interval=None,
            ping_timeout=3,
            max_queue=4,
        )
        assert type(made) is Mine
        assert made.kept == (None, 3, 4)
        made.sock.close()


def test_connection_class_that_raises() -> None:
    def fail(sock: twspy.websocket) -> twspy.Connection:
        socks.append(sock)
        raise LookupError

    socks: list[twspy.websocket] = []
    with serving(welcome) as server, pytest.raises(LookupError):
        twspy.connect(server.url, connection_class=fail)
    assert socks[0].fileno() == -1


@pytest.mark.parametrize(
    ('options', 'error', 'why'),
    [
        ({'redirects': -1}, ValueError, 'redirects'),
        ({'redirects': True}, ValueError, 'redirects'),
        ({'redirects': '5'}, ValueError, 'redirects'),
        ({'open_timeout': 0}, ValueError, 'open_timeout'),
        ({'open_timeout': float('nan')}, ValueError, 'open_timeout'),
        ({'open_timeout': '1'}, TypeError, 'open_timeout'),
        ({'open_timeout': True}, TypeError, 'open_timeout'),
        ({'close_timeout': -1}, ValueError, 'close_timeout'),
        ({'max_size': -1}, ValueError, 'max_size'),
        ({'headers': 'X: y'}, TypeError, 'headers is str'),
        ({'headers': [('a', 'b', 'c')]}, TypeError, 'headers is list'),
        ({'headers': {'Host': 'x'}}, ValueError, 'Host'),
        ({'user_agent': 'a\r\nX: y'}, ValueError, 'User-Agent'),
        ({'proxy': 5}, TypeError, 'proxy is int'),
        ({'ssl': 1, 'ssl_args': {'verify': True}}, TypeError, 'both given'),
        ({'sock': 1, 'path': 'x'}, TypeError, 'both given'),
        ({'sock': 1, 'proxy': 'http://p'}, TypeError, 'proxy'),
        ({'path': 'x', 'proxy': 'http://p'}, TypeError, 'proxy'),
        ({'path': 'x', 'source_address': ('', 0)}, TypeError, 'source_addr'),
        ({'path': 5}, TypeError, 'path|int'),
        ({'nonsense': 1}, TypeError, 'nonsense'),
    ],
)
def test_bad_options(
    options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        twspy.connect('ws://127.0.0.1:1/', **options)


def test_credentials_given_twice() -> None:
    with pytest.raises(TypeError, match='auth') as caught:
        twspy.connect('ws://user:s3cret@127.0.0.1:1/', auth=('u', 's3cret'))
    assert 's3cret' not in str(caught.value)


# --- redirects ---


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    routes = {
        '/a/1': redirect('2?x', status),
        '/a/2?x': redirect('/b', status),
        '/b': redirect('?y#f', status),
    }
    with serving(route(routes)) as server:
        with twspy.connect(f'{server.url}/a/1') as connection:
            assert connection.sock.location == '/b?y'
            assert connection.sock.response is not None
            assert connection.sock.response.status == 101
            connection.sock.close()
    assert server.targets == ['/a/1', '/a/2?x', '/b', '/b?y']


def test_redirects_to_another_server_and_back() -> None:
    """What belongs to the first server does not get to the second one, nor
    back to the first."""
    headers = [
        ('Authorization', 'Bearer s3cret'),
        ('Cookie', 'a=s3cret'),
        ('Proxy-Authorization', 'Basic s3cret'),
        ('X-Api', 'key'),
    ]
    with serving(welcome) as other:
        routes = {'/': redirect('/same'), '/same': redirect(f'{other.url}/x')}
        with serving(route(routes)) as server:
            twspy.connect(
                server.url, headers=headers, origin='http://o.example'
            ).sock.close()
            # There and back again.
            other.react = say(redirect(f'http://127.0.0.1:{server.port}/y'))
            twspy.connect(
                server.url, headers=headers, origin='http://o.example'
            ).sock.close()
    assert server.targets == ['/', '/same', '/', '/same', '/y']
    assert other.targets == ['/x', '/x']
    same, elsewhere = server.requests[1], other.requests[0]
    back = server.requests[4]
    assert same.head['authorization'] == 'Bearer s3cret'
    assert same.head['cookie'] == 'a=s3cret'
    assert same.head['proxy-authorization'] == 'Basic s3cret'
    for asked in elsewhere, back:
        assert 's3cret' not in str(asked)
        assert asked.head['x-api'] == 'key'
        assert asked.head['origin'] == 'http://o.example'
        assert asked.head['user-agent'].startswith('twspy/')
    assert elsewhere.head['host'] == f'127.0.0.1:{other.port}'


def guard(peer: RawPeer, asked: Asked) -> None:
    """Welcomes who has the right password, and asks others for it."""
    login = base64.b64encode('jürgen:p@ss/wörd'.encode()).decode()
    if asked.head.get('authorization') == f'Basic {login}':
        welcome(peer, asked)
    else:
        challenge = 'Basic realm="x", charset="UTF-8"'
        say(response(401, WWW_Authenticate=challenge))(peer, asked)


CREDENTIALS = [
    {'auth': ('jürgen', 'p@ss/wörd')},
    {'userinfo': 'j%C3%BCrgen:p%40ss%2Fw%c3%b6rd@'},
]


@pytest.mark.parametrize('given', CREDENTIALS)
def test_credentials(given: dict[str, Any]) -> None:
    """Sent where they are asked for, also behind a redirect on the origin."""

    def react(peer: RawPeer, asked: Asked) -> None:
        if asked.target == '/':
            say(redirect('/x'))(peer, asked)
        else:
            guard(peer, asked)

    given = dict(given)
    with serving(react) as server:
        userinfo = given.pop('userinfo', '')
        url = server.url.replace('//', f'//{userinfo}')
        twspy.connect(url, **given).sock.close()
    assert server.targets == ['/', '/x', '/x']
    sent = ['authorization' in asked.head for asked in server.requests]
    assert sent == [False, False, True]


@pytest.mark.parametrize('given', CREDENTIALS)
def test_credentials_stay_with_their_origin(given: dict[str, Any]) -> None:
    given = dict(given)
    userinfo = given.pop('userinfo', '')
    with serving(guard) as other:
        with serving(route({'/': redirect(f'{other.url}/x')})) as server:
            url = server.url.replace('//', f'//{userinfo}')
            error = refused(url, **given)
    assert error.status == 401
    assert other.targets == ['/x']
    assert 'authorization' not in other.requests[0].head


def test_each_hop_has_its_own_key() -> None:
    """And what could be read only once is sent with each of them."""
    with serving(route({'/': redirect('/x')})) as server:
        twspy.connect(
            server.url,
            protocols=(name for name in ('a', 'b')),
            headers=(field for field in [('X-Api', 'key')]),
        ).sock.close()
    keys = {asked.head['sec-websocket-key'] for asked in server.requests}
    assert len(keys) == 2
    for asked in server.requests:
        assert asked.head['sec-websocket-protocol'] == 'a, b'
        assert asked.head['x-api'] == 'key'


def test_a_loop_ends() -> None:
    with serving(say(redirect('/again?t=s3cret', 307))) as server:
        error = refused(server.url)
        assert len(server.requests) == 11
        assert error.status == 307
        assert error.headers['Location'] == '/again?t=s3cret'
        assert error.body == b'elsewhere\n'
        assert '307' in str(error)
        assert 'more than 10' in str(error)
        assert "'/again?...'" in str(error)
        refused(server.url, redirects=2)
        assert len(server.requests) == 14


def test_redirects_can_be_switched_off() -> None:
    with serving(say(redirect('/x'))) as server:
        error = refused(server.url, redirects=0)
    assert len(server.requests) == 1
    assert (error.status, error.headers['Location']) == (302, '/x')
    assert '302' in str(error)
    assert "'/x'" in str(error)


@pytest.mark.parametrize(
    'location',
    [
        'ftp://127.0.0.1/',
        'file:///etc/passwd',
        'ws://user:s3cret@127.0.0.1/',
        '//:1/',
        '/a b',
        'http:/x',
        'ws://[::1',
    ],
)
def test_redirects_that_lead_nowhere(location: str) -> None:
    with serving(say(redirect(location))) as server:
        error = refused(server.url)
    assert len(server.requests) == 1
    assert error.status == 302
    assert '302' in str(error)
    assert 's3cret' not in str(error)


@pytest.mark.parametrize(
    'data',
    [
        response(302),
        response(300, Location='/x'),
        response(304, Location='/x'),
        response(200, Location='/x'),
        response(503, Location='/x'),
    ],
)
def test_what_is_no_redirect(data: bytes) -> None:
    with serving(say(data)) as server:
        error = refused(server.url)
    assert len(server.requests) == 1
    assert 'expected 101' in str(error)


def test_a_failure_behind_a_redirect_says_where() -> None:
    with refusing_port() as port:
        url = f'ws://127.0.0.1:{port}/x'
        with serving(say(redirect(url))) as server:
            with pytest.raises(ConnectionRefusedError) as caught:
                twspy.connect(server.url)
    assert caught.value.__notes__ == [f'This was at {url}, by a redirect.']


def test_redirect_to_tls() -> None:
    """Followed, to a port where nobody listens."""
    with serving(say(redirect('https://127.0.0.1:1/'))) as server:
        with pytest.raises(ConnectionRefusedError) as caught:
            twspy.connect(server.url)
        assert 'wss://127.0.0.1:1/' in caught.value.__notes__[0]


# --- time ---


def test_open_timeout_covers_all_hops() -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        gone.wait(0.3)
        say(redirect('/'))(peer, asked)

    gone = threading.Event()
    with serving(react) as server:
        start = time.monotonic()
        with pytest.raises(TimeoutError, match='timed out'):
            twspy.connect(server.url, open_timeout=1.0)
        took = time.monotonic() - start
        gone.set()
    assert 0.9 < took < 3.0
    assert 2 <= len(server.requests) <= 4


def test_open_timeout_of_a_silent_server() -> None:
    with serving(lambda peer, asked: None) as server:
        start = time.monotonic()
        with pytest.raises(TimeoutError, match='timed out'):
            twspy.connect(server.url, open_timeout=0.3)
        assert 0.25 < time.monotonic() - start < 3.0


# --- servers that break off, and junk ---


GOOD = (
    b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n'
    b'Connection: Upgrade\r\nSec-WebSocket-Accept: '
)


@pytest.mark.parametrize('end', ['shutdown', 'close', 'reset'])
@pytest.mark.parametrize(
    'sent', [b'', b'H', b'HTTP/1.1 1', GOOD[:40], GOOD, GOOD + b'x\r\n']
)
def test_server_that_breaks_off(sent: bytes, end: str) -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        if sent:
            peer.send(sent)
        if end == 'shutdown':
            peer.sock.shutdown(socket.SHUT_WR)
        elif end == 'reset':
            peer.reset()
        else:
            peer.close()

    with serving(react) as server:
        with pytest.raises(ConnectionError) as caught:
            twspy.connect(server.url)
    assert getattr(caught.value, 'status', None) is None


def test_server_that_hangs_up_at_once() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ConnectionError):
            twspy.connect(f'ws://127.0.0.1:{listener.getsockname()[1]}/')
        thread.join()


@pytest.mark.parametrize(
    'data',
    [
        b'SSH-2.0-OpenSSH_9\r\n',
        b'220 smtp.example ESMTP\r\n',
        b'\x15\x03\x01\x00\x02\x02\x16',
        b'\0' * 1000,
        b'HTTP/1.1\r\n\r\n',
        b'HTTP/1.1 abc Words\r\n\r\n',
        b'HTTP/1.1 302\r\nLocation /x\r\n\r\n',
        b'HTTP/1.1 302 Found\r\nLocation: /\x1b[31m\r\n\r\n',
        b'HTTP/1.1 302 Found\r\nLocation: /a\0b\r\n\r\n',
        b'HTTP/1.1 302 Found\r\nLocation: /a\r b\r\n\r\n',
        b'HTTP/2.0 101 Switching Protocols\r\n\r\n',
        b'A' * 20000,
        b'HTTP/1.1 200 OK\r\n' + b'X: y\r\n' * 200 + b'\r\n',
    ],
)
def test_junk(data: bytes) -> None:
    with serving(say(data)) as server:
        error = refused(server.url)
    assert error.status in (None, 200)
    assert len(server.requests) == 1


def test_refusal_is_fit_for_a_log() -> None:
    body = b'no\r\n\x1b[31mthank you\n' + b'x' * 500
    data = response(
        403, body, Content_Type='text/plain', Set_Cookie='id=s3cret'
    ).replace(b'Some Words', b'Some W\xf6rds')
    with serving(say(data)) as server:
        error = refused(server.url)
    text = str(error)
    assert 'the server answered 403 Some W?rds' in text
    assert 'body: no \\x1b[31mthank you xxx' in text
    assert 'header fields: Content-Type, Set-Cookie, Content-Length' in text
    assert 's3cret' not in text
    assert len(text) < 400
    assert error.body == body


# --- other ways to a server ---


def test_ipv6() -> None:
    sock = socket.create_server(('::1', 0), family=socket.AF_INET6)
    with serving(welcome, sock) as server:
        url = f'ws://[0:0::1]:{server.port}/'
        with twspy.connect(url) as connection:
            assert connection.remote_address[0] == '::1'
            connection.sock.close()
    assert server.requests[0].head['host'] == f'[::1]:{server.port}'


def test_a_name_whatever_families_it_has() -> None:
    """localhost may have an IPv6 address as well, where nobody listens."""
    with serving(welcome) as server:
        connection = twspy.connect(f'ws://localhost:{server.port}/')
        assert connection.remote_address[0] == '127.0.0.1'
        connection.sock.close()


def test_source_address() -> None:
    with serving(welcome) as server:
        connection = twspy.connect(server.url, source_address=('127.0.0.2', 0))
        assert connection.local_address[0] == '127.0.0.2'
        connection.sock.close()


@pytest.mark.parametrize('kind', ['str', 'bytes', 'Path', 'abstract'])
def test_unix_socket(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / 's')
    path: Any = {
        'str': name,
        'bytes': os.fsencode(name),
        'Path': Path(name),
        'abstract': f'\0twspy-{os.getpid()}',
    }[kind]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    with serving(welcome, listener) as server:
        with twspy.connect('ws://api.example:8000/x?y', path=path) as made:
            assert made.sock.family == socket.AF_UNIX
            made.sock.close()
        (asked,) = server.requests
        assert asked.target == '/x?y'
        assert asked.head['host'] == 'api.example:8000'


def test_unix_socket_of_a_server(tmp_path: Path) -> None:
    path = tmp_path / 's'

    class Echo(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send(message)

    with Echo(path):
        with twspy.connect('ws://localhost/', path=path) as connection:
            connection.send('hello')
            assert connection.recv(timeout=10).payload == 'hello'


def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        twspy.connect('ws://localhost/', path=tmp_path / 's')
    (tmp_path / 's').touch()
    with pytest.raises(ConnectionRefusedError):
        twspy.connect('ws://localhost/', path=tmp_path / 's')


def test_unix_socket_with_a_full_backlog(tmp_path: Path) -> None:
    """Where a socket that doesn't block fails at once."""
    path = str(tmp_path / 's')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = []
        while True:
            sock = socket.socket(socket.AF_UNIX)
            waiting.append(sock)
            sock.setblocking(False)
            try:
                sock.connect(path)
            except BlockingIOError:
                break
        start = time.monotonic()
        with pytest.raises(TimeoutError, match='backlog'):
            twspy.connect('ws://localhost/', path=path, open_timeout=0.3)
        assert 0.25 < time.monotonic() - start < 3.0
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize('by', ['sock', 'path'])
def test_redirects_lead_nowhere_without_a_host(
    tmp_path: Path, by: str
) -> None:
    path = str(tmp_path / 's')
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with serving(say(redirect('/x')), listener) as server:
        options: dict[str, Any] = {'path': path}
        if by == 'sock':
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            options = {'sock': sock}
        error = refused('ws://localhost/', **options)
        assert f'with {by}' in str(error)
        assert len(server.requests) == 1


def test_existing_socket() -> None:
    with serving(welcome) as server:
        sock = socket.create_connection(('127.0.0.1', server.port))
        with twspy.connect('ws://api.example/x', sock=sock) as connection:
            assert sock.fileno() == -1
            assert connection.remote_address == ('127.0.0.1', server.port)
            connection.sock.close()
    assert server.requests[0].target == '/x'
    assert server.requests[0].head['host'] == 'api.example'


def test_existing_socket_goes_with_a_failure() -> None:
    one, two = tcp_pair()
    with two:
        two.sendall(b'HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n')
        refused('ws://localhost/', sock=one)
        assert one.fileno() == -1
        two.settimeout(10)
        while two.recv(4096):
            pass


def test_existing_socket_stays_where_arguments_are_wrong() -> None:
    one, two = tcp_pair()
    with one, two:
        with pytest.raises(ValueError, match='max_size'):
            twspy.connect('ws://localhost/', sock=one, max_size=-1)
        assert one.fileno() >= 0


def test_the_environment_does_not_matter_for_existing_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('http_proxy', 'junk://')
    with serving(welcome) as server:
        sock = socket.create_connection(('127.0.0.1', server.port))
        twspy.connect('ws://localhost/', sock=sock).sock.close()


def test_frames_right_behind_the_answer() -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        peer.send(answer(asked.head) + pack(TEXT, b'early', mask=False))

    routes = route({'/': redirect('/x')})

    def either(peer: RawPeer, asked: Asked) -> None:
        (routes if asked.target == '/' else react)(peer, asked)

    with serving(either) as server:
        connection = twspy.connect(server.url)
        assert connection.recv(timeout=10).payload == 'early'
        connection.sock.close()


# --- pairs ---


def test_pair() -> None:
    with EchoServer():  # beside other threads
        client, server = twspy.pair(protocols=['a'], max_size=10)
        client.send('hello')
        assert server.recv(timeout=10).payload == 'hello'
        assert client.sock.protocol == 'a'
        client.sock.close()
        server.sock.close()


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'max_head_size': 64}, HandshakeError),
        ({'max_size': -1}, ValueError),
        ({'nonsense': 1}, TypeError),
        # With the server waiting, which must not be waited for.
        ({'headers': {'Host': 'x'}, 'open_timeout': None}, ValueError),
    ],
)
def test_pair_that_fails_leaves_nothing_open(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """The fixture counts descriptors."""
    before = threading.active_count()
    with pytest.raises(error):
        twspy.pair(**options)
    assert threading.active_count() == before
