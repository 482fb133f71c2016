"""Extensions of users, end to end: what both ends agree on, at each kind of
handshake, and messages that pass through them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pytest
from certificates import Certificates
from extending import (
    Mirror,
    Numbered,
    Plain,
    Shift,
    Signals,
    raw_client,
    raw_server,
)
from rawends import answer, in_thread
from rawpeer import RawPeer, request
from rawservers import Asked, serving
from servers import EchoServer

import twspy
from twspy import Extension

ALL = [Shift(3), Mirror, Numbered, Plain]
MESSAGES: list[str | bytes] = [
    '',
    'hello',
    'aé€🌍',
    b'',
    b'\0\xff' * 3,
    'x' * 126,
    b'y' * 70_000,
    'é' * 200_000,
]


def names(extensions: tuple[Extension, ...]) -> list[str]:
    return [one.name for one in extensions]


def check_echo(conn: twspy.Connection) -> None:
    """Messages of all sizes, in all ways, come back as they were."""
    for message in MESSAGES:
        conn.send(message)
        assert conn.recv().payload == message
        conn.send(message, fragment_size=1000)
        assert conn.recv().payload == message


@contextmanager
def accepting(**options: Any) -> Iterator[tuple[int, list[Any]]]:
    """A listening websocket, whose clients are echoed to, and those."""
    accepted: list[Any] = []
    sock = twspy.websocket(**options)
    sock.bind(('127.0.0.1', 0))
    sock.listen()

    def echo(client: twspy.websocket) -> None:
        with client, suppress(twspy.SocketClosed):
            conn = twspy.Connection(client)
            for message in conn:
                conn.send(message)

    def serve() -> None:
        threads = []
        try:
            while True:
                client = sock.accept()
                accepted.append(client)
                threads.append(threading.Thread(target=echo, args=(client,)))
                threads[-1].start()
        except OSError:
            for thread in threads:
                thread.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()[1], accepted
    finally:
        sock.shutdown(2)
        thread.join()
        sock.close()


@contextmanager
def serving_all(**options: Any) -> Iterator[tuple[int, list[Any]]]:
    """The same with a Server."""
    with EchoServer(**options) as server:
        yield server.address[1], server.clients


WAYS = pytest.mark.parametrize('way', [accepting, serving_all])


# --- both ends are twspy's ---


@WAYS
@pytest.mark.parametrize(
    'extensions',
    [[Shift], [Shift(250)], [Mirror], [Numbered], [Signals], ALL],
    ids=['class', 'instance', 'messages', 'numbers', 'opcodes', 'all'],
)
def test_messages_pass(way: Any, extensions: list[Any]) -> None:
    with (
        way(extensions=extensions) as (port, _),
        twspy.connect(
            f'ws://127.0.0.1:{port}/', extensions=extensions
        ) as conn,
    ):
        assert len(conn.extensions) == len(extensions)
        assert conn.extensions == conn.sock.extensions
        check_echo(conn)


@WAYS
def test_what_was_agreed_on(way: Any) -> None:
    template = Shift(9)
    with way(extensions=[Plain, Shift, Mirror]) as (port, _):
        url = f'ws://127.0.0.1:{port}/'
        with (
            twspy.connect(url, extensions=[template, Mirror()]) as one,
            twspy.connect(url, extensions=[template]) as other,
            twspy.connect(url) as none,
        ):
            assert names(one.extensions) == ['x-mirror', 'x-shift']
            assert one.sock.response is not None
            assert one.sock.response.headers['Sec-WebSocket-Extensions'] == (
                'x-mirror, x-shift; by=9'
            )
            assert names(other.extensions) == ['x-shift']
            assert none.extensions == ()
            assert none.sock.extensions == ()
            # An instance for each connection, and the template for none.
            assert other.extensions[0] is not one.extensions[1]
            assert template not in one.extensions + other.extensions
            for conn in (one, other, none):
                check_echo(conn)


def test_what_a_servers_client_has() -> None:
    with (
        EchoServer(extensions=[Shift, Mirror]) as server,
        twspy.connect(
            f'ws://127.0.0.1:{server.address[1]}/', extensions=[Shift(7)]
        ),
    ):
        (client,) = server.wait_for('open')
        assert names(client.extensions) == ['x-shift']
        assert client.extensions[0].by == 7
        assert client.sock.extensions == client.extensions
        with pytest.raises(RuntimeError):
            client.sock.recv()


def test_what_an_accepted_websocket_has() -> None:
    with (
        accepting(extensions=[Shift]) as (port, accepted),
        twspy.connect(
            f'ws://127.0.0.1:{port}/', extensions=[Shift(7)]
        ) as conn,
    ):
        check_echo(conn)
        assert [one.by for one in accepted[0].extensions] == [7]


def test_connected_sockets() -> None:
    """handshake() of both sides, by pair()."""
    client, server = twspy.pair(extensions=ALL)
    with client, server:
        assert names(client.extensions) == names(server.extensions)
        for one, other in ((client, server), (server, client)):
            one.send('over there')
            assert other.recv().payload == 'over there'


@WAYS
def test_encrypted(way: Any, certificates: Certificates) -> None:
    options: dict[str, Any] = {'extensions': ALL}
    if way is serving_all:
        with way(ssl_args=server_args(certificates), **options) as (port, _):
            check_secure(port, certificates)
        return
    sock = twspy.websocket(**options)
    with sock:
        sock.enable_ssl(**server_args(certificates))
        sock.bind(('127.0.0.1', 0))
        sock.listen()

        def echo() -> None:
            with sock.accept() as accepted:
                conn = twspy.Connection(accepted)
                for message in conn:
                    conn.send(message)

        join = in_thread(echo)
        check_secure(sock.getsockname()[1], certificates)
        assert join() is None


def server_args(certificates: Certificates) -> dict[str, Any]:
    identity = certificates.server
    return {'certfile': identity.certfile, 'keyfile': identity.keyfile}


def check_secure(port: int, certificates: Certificates) -> None:
    with twspy.connect(
        f'wss://localhost:{port}/',
        extensions=ALL,
        ssl_args={'cafile': certificates.cafile},
    ) as conn:
        assert conn.sock.secure
        assert len(conn.extensions) == len(ALL)
        check_echo(conn)


def test_loops() -> None:
    server = EchoServer(extensions=ALL)
    server.start(loops=2)
    try:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        for _ in range(6):
            with twspy.connect(url, extensions=ALL) as conn:
                check_echo(conn)
    finally:
        server.stop()


# --- handshakes ---


def test_several_fields_are_one_list() -> None:
    """RFC 6455 section 11.3.2."""
    head = request().removesuffix(b'\r\n')
    head += b'Sec-WebSocket-Extensions: x-foo, x-shift; by=2\r\n'
    head += b'sec-websocket-extensions: x-plain\r\n\r\n'
    with EchoServer(extensions=[Plain, Shift]) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(head)
            status, fields = peer.read_head()
    assert status == 101
    assert fields['sec-websocket-extensions'] == 'x-shift; by=2, x-plain'


@pytest.mark.parametrize(
    ('offered', 'answered'),
    [
        ('x-shift; by="3"', 'x-shift; by=3'),
        ('x-shift; by=3; by=3', None),
        ('x-shift; by', None),
        ('x-shift; by=no, x-shift; by=4', 'x-shift; by=4'),
        ('x-unknown', None),
        ('x-other, x-shift; by=1', 'x-other'),
    ],
)
@pytest.mark.parametrize('kind', ['handshake', 'accept', 'Server'])
def test_offers(kind: str, offered: str, answered: str | None) -> None:
    class Other(Plain):
        name = 'x-other'
        rsv1 = True

    extensions = [Other, Shift]
    if kind == 'handshake':
        sock, peer, got = raw_server(extensions, offered)
        with sock, peer:
            assert got == answered
            assert len(sock.extensions) == int(answered is not None)
        return
    way = accepting if kind == 'accept' else serving_all
    with (
        way(extensions=extensions) as (port, _),
        RawPeer.open(('127.0.0.1', port)) as peer,
    ):
        peer.send(request(Sec_WebSocket_Extensions=offered))
        status, fields = peer.read_head()
        assert status == 101
        assert fields.get('sec-websocket-extensions') == answered


@pytest.mark.parametrize(
    ('before', 'answered'), [(63, 'x-plain'), (64, None), (1000, None)]
)
def test_as_many_offers_are_looked_at(
    before: int, answered: str | None
) -> None:
    """A head has room for thousands, and each costs a copy of a template."""
    offers = ', '.join(['x-plain;a'] * before + ['x-plain'])
    sock, peer, got = raw_server([Plain], offers)
    with sock, peer:
        assert got == answered


@pytest.mark.parametrize('offered', ['', ',', ' , ,\t,'])
@pytest.mark.parametrize('extensions', [[], [Plain]])
def test_an_empty_list_offers_nothing(
    extensions: list[type[Extension]], offered: str
) -> None:
    sock, peer, got = raw_server(extensions, offered)
    with sock, peer:
        assert got is None
        assert sock.extensions == ()


@pytest.mark.parametrize(
    ('answered', 'text'),
    [
        ('x-foo', "'x-foo', which was not offered"),
        ('x-shift; by=2; by=2', 'which has a parameter twice'),
        ('x-shift; by=2, x-shift; by=2', 'x-shift is there twice'),
        ('x-shift; by=4', 'by is 4, expected 2'),
        ('x-shift; by=2, x-mirror', "can't come behind x-shift"),
        ('x-shift;', 'HTTP'),
    ],
)
def test_answers_refused(answered: str, text: str) -> None:
    with pytest.raises(twspy.HandshakeError) as caught:
        raw_client([Shift(2), Mirror], answered)
    assert caught.value.status == 101
    assert text in str(caught.value) or text == 'HTTP'


def test_an_answer_where_nothing_was_offered() -> None:
    with pytest.raises(twspy.HandshakeError):
        raw_client([], 'x-shift')


def test_a_repeated_field_in_the_answer() -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        head = answer(asked.head).removesuffix(b'\r\n')
        peer.send(head + b'Sec-WebSocket-Extensions: x-plain\r\n' * 2)
        peer.send(b'\r\n')

    with serving(react) as server:
        with pytest.raises(twspy.HandshakeError, match='expected one'):
            twspy.connect(server.url, extensions=[Plain])


class Counted(Plain):
    """Notes each instance, and which offers it makes."""

    name = 'x-counted'
    made: ClassVar[list[Counted]] = []

    def __init__(self) -> None:
        Counted.made.append(self)
        self.offers = 0

    def offer(self) -> dict[str, str | int | None]:
        assert self.offers == 0
        self.offers += 1
        return {}


def test_fresh_instances_at_each_hop() -> None:
    """Redirects, and a second try with credentials."""
    Counted.made.clear()

    def react(peer: RawPeer, asked: Asked) -> None:
        assert asked.head['sec-websocket-extensions'] == 'x-counted'
        if asked.target == '/':
            peer.send(
                b'HTTP/1.1 302 Found\r\nLocation: /there\r\n'
                b'Content-Length: 0\r\n\r\n'
            )
        elif 'authorization' not in asked.head:
            peer.send(
                b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n'
                b'WWW-Authenticate: Basic realm="x"\r\n\r\n'
            )
        else:
            peer.send(answer(asked.head, Sec_WebSocket_Extensions='x-counted'))
            peer.sock.recv(1000)

    with serving(react) as server:
        with twspy.connect(
            server.url, extensions=[Counted], auth=('me', 'secret')
        ) as conn:
            offering = [one for one in Counted.made if one.offers]
            assert len(offering) == len(server.requests) == 3
            assert conn.extensions == (offering[-1],)


def test_onhandshake_stands_beside() -> None:
    class Asks(EchoServer):
        def onhandshake(
            self, client: twspy.Connection, request: twspy.Request
        ) -> twspy.Response:
            assert client.extensions == ()
            return twspy.Response(101, {'X-Asked': 'yes'})

    with (
        Asks(extensions=ALL) as server,
        twspy.connect(
            f'ws://127.0.0.1:{server.address[1]}/', extensions=ALL
        ) as conn,
    ):
        assert conn.sock.response is not None
        assert conn.sock.response.headers['X-Asked'] == 'yes'
        check_echo(conn)


class Refusing(Plain):
    """Raises what it is told to, in which method it is told to."""

    name = 'x-refusing'

    def __init__(self, where: str, error: BaseException) -> None:
        self.where = where
        self.error = error

    def offer(self) -> dict[str, str | int | None]:
        self.fail('offer')
        return {}

    def negotiate(
        self, params: dict[str, str | None]
    ) -> dict[str, str | int | None]:
        self.fail('negotiate')
        return {}

    def accept(self, params: dict[str, str | None]) -> None:
        self.fail('accept')

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error


def test_what_offer_raises() -> None:
    error = LookupError('no luck')
    with EchoServer(extensions=[Plain]) as server:
        with pytest.raises(LookupError) as caught:
            twspy.connect(
                f'ws://127.0.0.1:{server.address[1]}/',
                extensions=[Refusing('offer', error)],
            )
    assert caught.value is error


@pytest.mark.parametrize('error', [ValueError('no luck'), LookupError('no')])
def test_what_accept_raises(error: Exception) -> None:
    expected = (
        twspy.HandshakeError if isinstance(error, ValueError) else LookupError
    )
    with EchoServer(extensions=[Refusing('', error)]) as server:
        with pytest.raises(expected, match='no'):
            twspy.connect(
                f'ws://127.0.0.1:{server.address[1]}/',
                extensions=[Refusing('accept', error)],
            )


def test_what_negotiate_raises_on_a_server() -> None:
    error = LookupError('no luck')
    with EchoServer(extensions=[Refusing('negotiate', error)]) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request(Sec_WebSocket_Extensions='x-refusing'))
            status, _, _ = peer.read_answer()
            assert status == 500
        _, got = server.wait_for('error')
        assert got is error
        with RawPeer.connect(server.address) as peer:
            peer.echo()


@pytest.mark.parametrize('kind', ['handshake', 'accept'])
def test_what_negotiate_raises_on_a_websocket(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = LookupError('no luck')
    extensions = [Refusing('negotiate', error)]
    with caplog.at_level(logging.ERROR):
        if kind == 'handshake':
            with pytest.raises(twspy.HandshakeError, match='agree on ext'):
                raw_server(extensions, 'x-refusing')
        else:
            with accepting(extensions=extensions) as (port, _):
                with RawPeer.open(('127.0.0.1', port)) as peer:
                    peer.send(request(Sec_WebSocket_Extensions='x-refusing'))
                    status, _, _ = peer.read_answer()
                    assert status == 500
                with twspy.connect(f'ws://127.0.0.1:{port}/') as conn:
                    check_echo(conn)
    assert any('no luck' in record.getMessage() for record in caplog.records)


def test_wrong_answers_of_negotiate() -> None:
    class Wrong(Plain):
        def negotiate(self, params: dict[str, str | None]) -> Any:
            return {'a': 'b c'}

    with EchoServer(extensions=[Wrong]) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request(Sec_WebSocket_Extensions='x-plain'))
            assert peer.read_answer()[0] == 500
        _, error = server.wait_for('error')
        assert isinstance(error, ValueError)


def test_peers_that_vanish_while_they_are_accepted() -> None:
    """What was agreed on with them goes, too."""
    alive = []

    class Lives(Plain):
        name = 'x-lives'

        def negotiate(
            self, params: dict[str, str | None]
        ) -> dict[str, str | int | None]:
            alive.append(self)
            return {}

    with accepting(extensions=[Lives]) as (port, accepted):
        peers = []
        for _ in range(3):
            peer = RawPeer.open(('127.0.0.1', port))
            peer.send(request(Sec_WebSocket_Extensions='x-lives'))
            peers.append(peer)
            assert peer.read_head()[0] == 101
        for peer in peers:
            peer.close()
    assert len(alive) == len(accepted) == 3
