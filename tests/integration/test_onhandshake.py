"""Server.onhandshake(): the program looks at a request before it is
accepted."""

from __future__ import annotations

import gc
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

import pytest
import websockets.sync.client
from credentials import basic
from rawpeer import RawPeer, request
from servers import SOON, EchoServer

import twspy
from twspy import BasicAuth, HandshakeError, Headers, Response

Decide = Callable[[twspy.Connection, twspy.Request], Any]


class Server(EchoServer):
    """Has a function decide."""

    def __init__(self, decide: Decide, **options: Any) -> None:
        super().__init__(**options)
        self.decide = decide
        self.clients_to_be: list[twspy.Connection] = []

    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> Response | None:
        self.clients_to_be.append(client)
        response: Response | None = self.decide(client, request)
        return response


class Peer(RawPeer):
    def read_fields(self) -> tuple[int, Headers]:
        """Read an answer's head, with fields that come twice."""
        while b'\r\n\r\n' not in self.buffer:
            self.read_more()
        head, self.buffer = self.buffer.split(b'\r\n\r\n', 1)
        first, *lines = head.decode('latin-1').split('\r\n')
        fields = Headers([tuple(f.split(': ', 1)) for f in lines])  # type: ignore
        return int(first.split()[1]), fields


def answer(server: twspy.Server, sent: bytes) -> tuple[int, Headers, bytes]:
    """Ask for what is refused; status, fields and body."""
    with Peer.open(server.address) as peer:
        assert isinstance(peer, Peer)
        peer.send(sent)
        status, fields = peer.read_fields()
        assert status != 101
        assert fields['Connection'].startswith('close')
        body = peer.read_exactly(int(fields['Content-Length']))
        peer.expect_end()
        return status, fields, body


def accepted(server: twspy.Server, sent: bytes) -> Headers:
    """Ask for what is accepted; the fields of the 101."""
    with Peer.open(server.address) as peer:
        assert isinstance(peer, Peer)
        peer.send(sent)
        status, fields = peer.read_fields()
        assert status == 101, (status, peer.buffer)
        peer.echo()
        return fields


def no_decision(client: twspy.Connection, request: twspy.Request) -> None:
    return None


# --- accepting ---


def test_it_is_asked_before_the_client_is_open() -> None:
    order: list[str] = []

    def decide(client: twspy.Connection, request: twspy.Request) -> None:
        order.append('handshake')
        assert client.state == 'connecting'
        assert client.username == 'Aladdin'
        assert request.method == 'GET'
        assert request.path == '/chat'
        assert parse_qs(request.query) == {'token': ['a b']}
        assert request.headers['Cookie'] == 'session=1'
        assert request.remote_address == client.remote_address
        assert repr(client) == f'<twspy.Connection {client} connecting>'
        client.token = 'a b'  # type: ignore[attr-defined]

    class Ordered(Server):
        def onopen(self, client: twspy.Connection) -> None:
            order.append('open')
            super().onopen(client)

    auth = BasicAuth(lambda user, password: True)
    with Ordered(decide, auth=auth) as server:
        sent = request(
            '/chat?token=a%20b',
            Cookie='session=1',
            Authorization=basic('Aladdin', ''),
        )
        with Peer.open(server.address) as peer:
            peer.send(sent)
            assert peer.read_head()[0] == 101
            peer.echo()
            (client,) = server.wait_for('open')
            assert order == ['handshake', 'open']
            assert client is server.clients_to_be[0]
            assert client.token == 'a b'
            assert client.remote_address == peer.address
            assert client.state == 'open'
            assert client.sock.request.path == '/chat'
        server.wait_for('close')
        assert client.state == 'closed'


def test_it_may_add_fields() -> None:
    def decide(client: twspy.Connection, request: twspy.Request) -> Response:
        fields = ('Set-Cookie', 'a=1'), ('Set-Cookie', 'b=2')
        return Response(101, [*fields, ('X-Name', 'J\xe4n')])

    with Server(decide) as server:
        fields = accepted(server, request())
        assert fields.get_all('Set-Cookie') == ['a=1', 'b=2']
        assert fields['X-Name'] == 'J\xe4n'
        assert fields.get_all('Upgrade') == ['websocket']
        assert 'Sec-WebSocket-Protocol' not in fields
        assert 'Content-Length' not in fields


def test_101_without_fields() -> None:
    with Server(lambda client, request: Response(101)) as server:
        assert len(accepted(server, request())) == 3


@pytest.mark.parametrize(
    'name', ['sec-websocket-protocol', 'SEC-WebSocket-Protocol']
)
def test_it_may_choose_the_subprotocol(name: str) -> None:
    """Among those that were offered, whatever the server would choose."""

    def decide(client: twspy.Connection, request: twspy.Request) -> Response:
        return Response(101, {name: request.query})

    with Server(decide, protocols=['b']) as server:
        for chosen in ('a', 'b', 'c'):
            sent = request(
                f'/?{chosen}',
                Sec_WebSocket_Protocol='a, b\r\nSec-WebSocket-Protocol: c',
            )
            with Peer.open(server.address) as peer:
                assert isinstance(peer, Peer)
                peer.send(sent)
                status, fields = peer.read_fields()
                assert status == 101
                assert fields.get_all(name) == [chosen]
                peer.echo()
                (client,) = server.wait_for('open')
                assert client.sock.protocol == chosen
        with websockets.sync.client.connect(
            'ws://{}:{}/?superchat'.format(*server.address),
            subprotocols=['chat', 'superchat'],  # type: ignore[list-item]
            proxy=None,
        ) as other:
            assert other.subprotocol == 'superchat'


def test_without_a_choice_the_server_chooses() -> None:
    with Server(
        lambda client, request: Response(101, {'X-A': '1'}), protocols=['b']
    ) as server:
        sent = request(Sec_WebSocket_Protocol='a, b')
        assert accepted(server, sent)['Sec-WebSocket-Protocol'] == 'b'


# --- refusing ---


@pytest.mark.parametrize(
    ('decision', 'status', 'fields', 'body'),
    [
        (Response(403), 403, {}, b''),
        (
            Response(401, {'WWW-Authenticate': 'Bearer'}, 'who?'),
            401,
            {
                'WWW-Authenticate': 'Bearer',
                'Content-Type': 'text/plain; charset=utf-8',
            },
            b'who?',
        ),
        (
            Response(302, {'Location': 'https://example.com/'}),
            302,
            {'Location': 'https://example.com/'},
            b'',
        ),
        (
            Response(
                503,
                {'Retry-After': '5', 'Connection': 'keep-alive'},
                b'\0\xff',
            ),
            503,
            {'Retry-After': '5', 'Connection': 'close'},
            b'\0\xff',
        ),
        (HandshakeError('go away'), 403, {}, b'go away\n'),
        (HandshakeError('no ä', 404), 404, {}, 'no ä\n'.encode()),
        (
            HandshakeError('x', 401, {'WWW-Authenticate': 'Bearer'}, b'{}'),
            401,
            {'WWW-Authenticate': 'Bearer'},
            b'{}',
        ),
        (
            HandshakeError('x', 400, [('X-A', '1'), ('X-B', '2')]),
            400,
            {'X-A': '1', 'X-B': '2'},
            b'x\n',
        ),
    ],
    ids=str,
)
def test_it_may_refuse(
    decision: Any, status: int, fields: dict[str, str], body: bytes
) -> None:
    def decide(client: twspy.Connection, request: twspy.Request) -> Any:
        if isinstance(decision, Exception):
            raise decision
        return decision

    with Server(decide) as server:
        got, head, content = answer(server, request())
        assert (got, content) == (status, body)
        assert {name: head[name] for name in fields} == fields
        assert server.stats()['refused'] == 1
        assert server.stats()['accepted'] == 0
        server.decide = no_decision
        accepted(server, request())
        (client,) = server.wait_for('open')
        assert client is server.clients_to_be[1]
    # Nothing else was called: it was never open.
    events = list(server.events.queue)
    assert [e[0] for e in events if e[1] is server.clients_to_be[0]] == []
    assert [e for e in events if e[0] == 'error'] == []


def test_a_refusal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def decide(client: twspy.Connection, request: twspy.Request) -> Response:
        if request.path == '/raise':
            raise HandshakeError('not\ntoday, ä' + 500 * 'x')
        return Response(418)

    with caplog.at_level(logging.DEBUG, 'twspy'):
        with Server(decide, loglevel=logging.DEBUG) as server:
            answer(server, request('/raise'))
            answer(server, request('/'))
    assert 'refused with 403: not?today, ?xxx' in caplog.text
    assert 'refused with 418: refused by onhandshake()' in caplog.text
    assert 200 * 'x' not in caplog.text


# --- mistakes ---


class Unpacked(Response):
    def pack(self, head_only: bool = False) -> bytes:
        return 'text'  # type: ignore[return-value]


OWN = (
    'Upgrade',
    'Connection',
    'Sec-WebSocket-Accept',
    'sec-websocket-extensions',
    'Sec-WebSocket-Version',
    'Sec-WebSocket-Key',
    'Content-Length',
    'Transfer-Encoding',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Proxy-Connection',
)
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    *(
        (Response(101, {name: 'x'}), ValueError, f'Response(101) with {name},')
        for name in OWN
    ),
    (Response(101, body=b'x'), ValueError, 'Response(101) with a body'),
    (Response(100), ValueError, 'refused with status 100, expected 300'),
    (Response(200, body='fine'), ValueError, 'refused with status 200'),
    (Response(299), ValueError, 'refused with status 299'),
    (
        Response(101, {'Sec-WebSocket-Protocol': 'other'}),
        ValueError,
        "'other', expected one of what the client offered: ['a', 'b']",
    ),
    (
        Response(101, {'Sec-WebSocket-Protocol': ''}),
        ValueError,
        "Sec-WebSocket-Protocol '', expected one",
    ),
    (
        Response(101, [('Sec-WebSocket-Protocol', 'a')] * 2),
        ValueError,
        "'a, a', expected one",
    ),
    (True, TypeError, 'onhandshake() returned bool, expected None'),
    (b'HTTP/1.1 403', TypeError, 'onhandshake() returned bytes'),
    ((403, 'x'), TypeError, 'onhandshake() returned tuple'),
    (Unpacked(403), TypeError, 'pack() returned str, expected bytes'),
    (HandshakeError('x', 200), ValueError, 'refused with status 200'),
    (HandshakeError('x', 101), ValueError, 'refused with status 101'),
    (HandshakeError('x', 99), ValueError, 'status must be 100 to 999'),
    (HandshakeError('x', 403, {'X A': '1'}), ValueError, 'not the name'),
    (HandshakeError('x', 403, {'A': '1\r\n2'}), ValueError, 'the value of A'),
    (LookupError('mine'), LookupError, 'mine'),
    (TimeoutError('mine'), TimeoutError, 'mine'),
]


@pytest.mark.parametrize(('decision', 'error', 'text'), MISTAKES)
def test_mistakes_are_errors(
    decision: Any, error: type[Exception], text: str
) -> None:
    def decide(client: twspy.Connection, request: twspy.Request) -> Any:
        if isinstance(decision, Exception):
            raise decision
        return decision

    with Server(decide) as server:
        sent = request(Sec_WebSocket_Protocol='a, b')
        status, _, body = answer(server, sent)
        assert status == 500
        assert b'mine' not in body
        client, caught = server.wait_for('error')
        assert client is server.clients_to_be[0]
        assert type(caught) is error
        assert text in str(caught)
        assert client.state == 'closed'
        server.decide = no_decision
        accepted(server, sent)


def test_exit_stops_the_server() -> None:
    def decide(client: twspy.Connection, request: twspy.Request) -> None:
        raise SystemExit(5)

    server = Server(decide).start()
    assert isinstance(server, Server)
    with RawPeer.open(server.address) as peer:
        peer.send(request())
        assert server._runner.done.wait(SOON)
        with pytest.raises(SystemExit):
            server.stop()


# --- the client-to-be ---


def test_it_can_not_send_yet() -> None:
    def decide(client: Any, request: twspy.Request) -> None:
        for call in (
            lambda: client.send('x'),
            lambda: client.send_ping(),
            lambda: client.recv(),
            lambda: client.close(),
            lambda: next(client),
            lambda: client.receive_forever(),
            lambda: client.sock,
        ):
            with pytest.raises(RuntimeError, match='handshake of this client'):
                call()
        assert client.queued == 0
        assert client.latency is None
        assert client.local_address is None
        assert server.broadcast('x', to=[client]) == 0
        assert client not in server.clients
        client.add_hook(recv=lambda message: twspy.TextMessage('hooked'))

    with Server(decide) as server:
        with RawPeer.connect(server.address) as peer:
            peer.send_frame(1, b'plain')
            assert peer.read_frame().payload == b'hooked'


def test_who_was_refused_can_not_send_either() -> None:
    with Server(lambda client, request: Response(403)) as server:
        answer(server, request())
        (client,) = server.clients_to_be
        assert client.state == 'closed'
        with pytest.raises(RuntimeError, match='was not let in'):
            client.send('x')
        with pytest.raises(RuntimeError, match='was not let in'):
            client.sock  # noqa: B018
        assert server.broadcast('x', to=[client]) == 0
        assert server.clients == []
        assert str(client).startswith('127.0.0.1:')
        gone = weakref.ref(client)
        del client
        server.clients_to_be.clear()
        gc.collect()
        assert gone() is None


def test_peer_that_is_gone_before_its_101() -> None:
    go = threading.Event()
    begun = threading.Event()

    def decide(client: twspy.Connection, request: twspy.Request) -> None:
        if request.path == '/slow':
            begun.set()
            go.wait(SOON)

    with Server(decide) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request('/slow'))
            assert begun.wait(SOON)
            peer.reset()
        go.set()
        accepted(server, request())
        deadline = time.monotonic() + SOON
        while server.clients_to_be[0].state != 'closed':
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert server.clients_to_be[0].state == 'closed'


# --- who is asked, and when ---


def test_only_what_may_be_accepted_is_asked_about() -> None:
    auth = BasicAuth(lambda user, password: user == 'good')
    with ExitStack() as stack:
        server = stack.enter_context(
            Server(
                no_decision,
                auth=auth,
                locations=['/chat'],
                trusted_origins='same-origin',
                max_clients=1,
            )
        )
        good = basic('good', '')
        for status, sent in (
            (426, b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
            (400, request('/chat', Authorization=good, remove=('Host',))),
            (404, request('/other', Authorization=good)),
            (
                403,
                request('/chat', Authorization=good, Origin='http://evil'),
            ),
            (401, request('/chat')),
            (401, request('/chat', Authorization=basic('bad', ''))),
        ):
            assert answer(server, sent)[0] == status
        assert server.clients_to_be == []
        peer = stack.enter_context(
            RawPeer.connect(server.address, '/chat', Authorization=good)
        )
        peer.echo()
        assert answer(server, request('/chat', Authorization=good))[0] == 503
        assert len(server.clients_to_be) == 1


def test_override_on_the_instance() -> None:
    asked: list[str] = []

    def onhandshake(
        client: twspy.Connection, request: twspy.Request
    ) -> Response | None:
        asked.append(request.path)
        return Response(403) if request.path == '/no' else None

    server = EchoServer()
    server.onhandshake = onhandshake  # type: ignore[method-assign]
    with server:
        assert answer(server, request('/no'))[0] == 403
        accepted(server, request('/yes'))
    assert asked == ['/no', '/yes']


def test_without_an_override_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no Request is made, so that handshakes cost what they cost."""
    with EchoServer() as server:

        def fail(*args: Any) -> None:
            raise AssertionError('asked')

        monkeypatch.setattr(server, 'onhandshake', fail)
        accepted(server, request())
        server.wait_for('close')
    assert not [e for e in server.events.queue if e[0] == 'error']


def test_default_accepts() -> None:
    class Polite(EchoServer):
        def onhandshake(
            self, client: twspy.Connection, request: twspy.Request
        ) -> Response | None:
            return super().onhandshake(client, request)

    with Polite() as server:
        accepted(server, request())


def test_slow_decisions_hold_up_nobody() -> None:
    takes, count = 1.0, 5
    begun = threading.Semaphore(0)

    def decide(
        client: twspy.Connection, request: twspy.Request
    ) -> Response | None:
        if request.path != '/slow':
            return None
        begun.release()
        time.sleep(takes)
        return Response(101, {'X-Slow': '1'})

    with ExitStack() as stack:
        server = stack.enter_context(Server(decide))
        quick = stack.enter_context(RawPeer.connect(server.address))
        peers = []
        start = time.monotonic()
        for _ in range(count):
            peer = stack.enter_context(RawPeer.open(server.address))
            peer.send(request('/slow'))
            peers.append(peer)
        for _ in range(count):
            assert begun.acquire(timeout=SOON)
        echoes = 0
        while time.monotonic() < start + takes * 0.8:
            quick.echo()
            accepted(server, request())
            echoes += 1
        assert echoes > 5
        for peer in peers:
            status, head = peer.read_head()
            assert (status, head['x-slow']) == (101, '1')
            peer.echo()
        assert time.monotonic() - start < takes * count


def test_open_timeout_holds_for_a_slow_decision() -> None:
    go = threading.Event()

    def decide(client: twspy.Connection, request: twspy.Request) -> None:
        if request.path == '/slow':
            go.wait(SOON)

    with Server(decide, open_timeout=0.3) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request('/slow'))
            deadline = time.monotonic() + SOON
            while server.stats()['refused'] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            go.set()
            peer.expect_end()
        accepted(server, request())
        assert server.stats()['accepted'] == 1


# --- what it is for ---


def test_token_of_a_browser() -> None:
    """In a header for programs, in the query for browsers, in a cookie."""

    class Tokens(EchoServer):
        def onhandshake(
            self, client: Any, request: twspy.Request
        ) -> Response | None:
            field = request.headers.get('Authorization', '')
            token = (
                field.removeprefix('Bearer ')
                or parse_qs(request.query).get('token', [''])[0]
                or re.sub('.*session=', '', request.headers.get('Cookie', ''))
            )
            if token != 'sesame':
                raise HandshakeError(
                    'log in first', 401, {'WWW-Authenticate': 'Bearer'}
                )
            client.token = token
            return None

    with Tokens() as server:
        for sent in (
            request(Authorization='Bearer sesame'),
            request('/?token=sesame'),
            request(Cookie='a=b; session=sesame'),
        ):
            accepted(server, sent)
            assert server.wait_for('open')[0].token == 'sesame'
        for sent in (
            request(),
            request(Authorization='Bearer x'),
            request('/?token=x'),
        ):
            status, fields, body = answer(server, sent)
            assert (status, body) == (401, b'log in first\n')
            assert fields['WWW-Authenticate'] == 'Bearer'
