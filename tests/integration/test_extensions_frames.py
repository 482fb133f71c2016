"""What extensions of users do to frames, against peers that are made of plain
sockets: rules, failures, order, and all ways to send and receive."""

from __future__ import annotations

import gc
import os
import queue
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from extending import (
    Mirror,
    Numbered,
    Plain,
    Shift,
    Signals,
    like,
    raw_client,
    raw_server,
)
from programs import wait_for_port
from rawends import fill_up, in_thread, masks, wait_until_receiving
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
)
from servers import SOON, EchoServer

import twspy
from twspy import Frame

RSV1, RSV2, RSV3 = 4, 2, 1

Ends = tuple[twspy.websocket, RawPeer]


class Events(twspy.Connection):
    """Keeps what its handlers are called with."""

    def __init__(self, sock: twspy.websocket) -> None:
        super().__init__(sock)
        self.events: list[tuple[str, Any]] = []

    def onmessage(self, message: twspy.Message) -> None:
        self.events.append(('message', message.payload))

    def onerror(self, error: Exception) -> None:
        self.events.append(('error', error))

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.events.append(('close', (message.code, message.reason)))


class Peers:
    """Ends of twspy whose peers are by hand, closed after the test."""

    def __init__(self) -> None:
        self.opened: list[Any] = []

    def client(self, *extensions: Any, **options: Any) -> Ends:
        answered = ', '.join(
            f'{one.name}; by={one.by}' if isinstance(one, Shift) else one.name
            for one in extensions
        )
        return self.keep(*raw_client(extensions, answered, **options))

    def server(self, *extensions: Any, **options: Any) -> Ends:
        offered = ', '.join(
            f'{one.name}; by={one.by}' if isinstance(one, Shift) else one.name
            for one in extensions
        )
        sock, peer, _ = raw_server(extensions, offered, **options)
        return self.keep(sock, peer)

    def keep(self, sock: twspy.websocket, peer: RawPeer) -> Ends:
        self.opened += [sock, peer]
        return sock, peer


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    for one in made.opened:
        one.close()


@pytest.fixture(params=['client', 'server'])
def ends(request: pytest.FixtureRequest, peers: Peers) -> Any:
    """Makes ends of either side with extensions."""
    return getattr(peers, request.param)


@contextmanager
def visiting(
    *extensions: Any, **options: Any
) -> Iterator[tuple[EchoServer, RawPeer]]:
    """An echo server, and a client by hand that uses these extensions."""
    offered = ', '.join(
        f'{one.name}; by={one.by}' if isinstance(one, Shift) else one.name
        for one in extensions
    )
    with EchoServer(extensions=extensions, **options) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions=offered
        ) as peer:
            yield server, peer


def say(
    sock: twspy.websocket, peer: RawPeer, opcode: int, *args: Any, **how: Any
) -> None:
    peer.send_frame(opcode, *args, mask=masks(sock), **how)


# --- rules ---

BROKEN = [
    # what comes, and why that ends the connection
    ([(TEXT, b'x', {'rsv': RSV3})], 1002, 'reserved bits'),
    ([(TEXT, b'x', {'rsv': RSV1 | RSV3})], 1002, 'reserved bits'),
    ([(5, b'x', {})], 1002, 'reserved opcode 0x5'),
    ([(13, b'x', {})], 1002, 'reserved opcode 0xd'),
    ([(PING, b'x', {'rsv': RSV1})], 1002, 'reserved bits'),
    ([(CLOSE, b'', {'rsv': RSV2})], 1002, 'reserved bits'),
    ([(4, b'x', {'rsv': RSV2})], 1002, 'reserved bits'),
    ([(12, b'x' * 126, {})], 1002, 'over 125'),
    ([(12, b'', {'fin': False})], 1002, 'fragmented control'),
    (
        [(TEXT, b'x', {'fin': False}), (CONTINUATION, b'', {'rsv': RSV2})],
        1002,
        'continuation frame with reserved bits',
    ),
    ([(CONTINUATION, b'x', {})], 1002, 'without a message to continue'),
    (
        [(TEXT, b'x', {'fin': False}), (TEXT, b'y', {})],
        1002,
        'inside a fragmented message',
    ),
    ([(TEXT, b'\xff', {})], 1007, 'not valid UTF-8'),
    ([(TEXT, b'\x00', {'rsv': RSV1})], 1007, 'not valid UTF-8'),
    ([(BINARY, b'x' * 1001, {})], 1009, 'the limit is 1000'),
    ([(BINARY, b'x' * 1001, {'rsv': RSV2})], 1009, 'the limit is 1000'),
    ([(BINARY, b'', {'length': 10_000})], 1009, '10000 bytes'),
    (
        [(BINARY, b'x' * 900, {'fin': False, 'rsv': RSV2})]
        + [(CONTINUATION, b'x' * 900, {'fin': False})] * 3,
        1009,
        '2274',
    ),
]


@pytest.mark.parametrize(('frames', 'code', 'text'), BROKEN)
def test_broken_rules_end_a_connection(
    ends: Any, frames: Any, code: int, text: str
) -> None:
    sock, peer = ends(Mirror, Signals, Shift(1), max_size=1000)
    conn = twspy.Connection(sock)
    for opcode, payload, how in frames:
        say(sock, peer, opcode, payload, **how)
    peer.sock.shutdown(1)  # so that nobody waits for more
    with pytest.raises(twspy.ProtocolError, match=text) as caught:
        conn.recv()
    assert caught.value.code == code
    frame = peer.read_frame()
    assert frame.close_code == code
    assert text in frame.close_reason


@pytest.mark.parametrize(('frames', 'code', 'text'), BROKEN)
def test_broken_rules_end_a_servers_client(
    frames: Any, code: int, text: str
) -> None:
    extensions = (Mirror, Signals, Shift(1))
    with visiting(*extensions, max_size=1000) as (server, peer):
        for opcode, payload, how in frames:
            peer.send_frame(opcode, payload, **how)
        frame = peer.read_frame()
        assert frame.close_code == code
        assert text in frame.close_reason
        _, told, _ = server.wait_for('close', peer)
        assert told == code
        assert not [e for e in list(server.events.queue) if e[0] == 'error']


@pytest.mark.parametrize('fragmented', [False, True])
def test_websocket_recv_raises(ends: Any, fragmented: bool) -> None:
    sock, peer = ends(Shift(1))
    say(sock, peer, TEXT, b'b', rsv=RSV1, fin=not fragmented)
    say(sock, peer, CONTINUATION, b'b', rsv=RSV2)
    assert sock.recv() == Frame(TEXT, 'a', final=not fragmented)
    for _ in range(2):
        with pytest.raises(twspy.ProtocolError, match='reserved bits'):
            sock.recv()


def test_frames_of_messages_at_a_websocket(ends: Any) -> None:
    """Fragments are joined for who wants the whole, and come so."""
    sock, peer = ends(Mirror)
    say(sock, peer, BINARY, b'ab', rsv=RSV2, fin=False)
    say(sock, peer, PING, b'between')
    say(sock, peer, CONTINUATION, b'', fin=False)
    say(sock, peer, CONTINUATION, b'c')
    say(sock, peer, TEXT, b'plain', fin=False)
    say(sock, peer, CONTINUATION, b'')
    frames = sock.recvn(3)
    assert [(f.opcode, f.payload) for f in frames] == [
        (PING, b'between'),
        (BINARY, b'cba'),
        (TEXT, b'plain'),
    ]
    assert all(f.final and not f.rsv2 for f in frames)


def test_sent_at_a_websocket(ends: Any) -> None:
    sock, peer = ends(Mirror, Shift(1))
    ping = twspy.ControlFrame(PING, b'ping')
    sock.send(Frame(TEXT, 'abc'), ping, Frame(BINARY, b''))
    assert [(f.opcode, f.payload, f.rsv) for f in read(peer, 3)] == [
        (TEXT, b'dcb', RSV1 | RSV2),
        (PING, b'ping', 0),
        (BINARY, b'', RSV1 | RSV2),
    ]
    for frame in (Frame(TEXT, 'x', final=False), Frame(CONTINUATION, 'x')):
        with pytest.raises(ValueError, match='x-mirror works on whole mess'):
            sock.send(frame)
    sock.send(ping)
    assert peer.read_frame().opcode == PING
    with pytest.raises(TypeError, match='takes Frame objects'):
        sock.send('text')  # type: ignore[arg-type]


def read(peer: RawPeer, count: int) -> list[Any]:
    return [peer.read_frame() for _ in range(count)]


def test_cut_behind_who_wants_the_whole(ends: Any) -> None:
    sock, peer = ends(Mirror, Shift(1))
    twspy.Connection(sock).send('abcde', fragment_size=2)
    frames = read(peer, 3)
    assert [(f.opcode, f.payload, f.rsv, f.fin) for f in frames] == [
        (TEXT, b'fe', RSV1 | RSV2, False),
        (CONTINUATION, b'dc', RSV1, False),
        (CONTINUATION, b'b', RSV1, True),
    ]


def test_cut_behind_who_wants_the_whole_on_a_server() -> None:
    class Cuts(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            client.send(message, fragment_size=2)

    with Cuts(extensions=[Mirror, Shift]) as server:
        with RawPeer.connect(
            server.address,
            Sec_WebSocket_Extensions='x-mirror, x-shift; by=1',
        ) as peer:
            peer.send_frame(TEXT, b'abc')
            frames = read(peer, 2)
    assert [(f.payload, f.rsv, f.fin) for f in frames] == [
        (b'dc', RSV1 | RSV2, False),
        (b'b', RSV1, True),
    ]


# --- opcodes ---


def test_opcodes_at_a_websocket(ends: Any) -> None:
    sock, peer = ends(Signals)
    for opcode in (3, 4, 12):
        say(sock, peer, opcode, b'x')
    assert [frame.opcode for frame in sock.recvn(3)] == [TEXT, 4, 12]
    sock.send(Frame(TEXT, 'disguise'), Frame(4, b'4'), Frame(12, b'12'))
    assert [(f.opcode, f.payload) for f in read(peer, 3)] == [
        (3, b'disguise'),
        (4, b'4'),
        (12, b'12'),
    ]


def test_opcodes_at_a_connection(ends: Any) -> None:
    sock, peer = ends(Signals)
    conn = twspy.Connection(sock)
    for opcode in (4, 12, 3):
        say(sock, peer, opcode, b'x')
    assert conn.recv() == twspy.TextMessage('x')


def test_opcodes_at_a_server() -> None:
    with visiting(Signals) as (server, peer):
        for opcode in (4, 12, 3):
            peer.send_frame(opcode, b'x')
        assert peer.read_frame().payload == b'x'
        (client,) = server.wait_for('open')
        client.sock.send(Frame(4, b'4'), Frame(12, b'12'))
        assert [frame.opcode for frame in read(peer, 2)] == [4, 12]


def test_opcodes_between_fragments(ends: Any) -> None:
    sock, peer = ends(Mirror, Signals)
    conn = twspy.Connection(sock)
    say(sock, peer, TEXT, b'ab', rsv=RSV2, fin=False)
    say(sock, peer, 4, b'x')
    say(sock, peer, 12, b'x')
    say(sock, peer, CONTINUATION, b'c')
    assert conn.recv() == twspy.TextMessage('cba')


# --- extensions that fail ---


class Failing(Plain):
    """Does to frames what it is told to."""

    name = 'x-failing'
    rsv1 = True

    def __init__(self, what: Any = None, sending: bool = False) -> None:
        self.what = what
        self.sending = sending

    def onsend(self, frame: Frame) -> Frame:
        return self.do(frame) if self.sending else frame

    def onrecv(self, frame: Frame) -> Frame:
        return frame if self.sending else self.do(frame)

    def do(self, frame: Frame) -> Any:
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what


CONTROL = twspy.ControlFrame(PING, b'')
FAILURES = [
    (LookupError('no luck'), LookupError),
    (ValueError('no luck'), ValueError),
    (TimeoutError('no luck'), TimeoutError),
    (BlockingIOError(11, 'no luck'), BlockingIOError),
    (ConnectionResetError('no luck'), ConnectionResetError),
    (twspy.SocketClosed(1000, 'no luck'), twspy.SocketClosed),
    (twspy.ProtocolError('no luck', 1005), twspy.ProtocolError),
    (None, TypeError),
    ('x', TypeError),
    (b'x', TypeError),
    (twspy.TextMessage('x'), TypeError),
    (CONTROL, ValueError),
]


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_come_out_of_recv(
    ends: Any, what: Any, error: type[Exception]
) -> None:
    sock, peer = ends(Failing(what))
    conn = twspy.Connection(sock)
    say(sock, peer, TEXT, b'x')
    peer.sock.shutdown(1)  # so that nobody waits for more
    with pytest.raises(error) as caught:
        conn.recv()
    assert what is caught.value or not isinstance(what, Exception)
    frame = peer.read_frame()
    assert frame.close_code == 1011
    assert frame.close_reason == 'extension x-failing failed'
    assert conn.state == 'closed'
    with pytest.raises(twspy.SocketClosed) as closed:
        conn.recv()
    assert closed.value.code == 1011
    assert closed.value.ended_by == 'us'


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_of_a_websocket(
    ends: Any, what: Any, error: type[Exception]
) -> None:
    sock, peer = ends(Failing(what))
    say(sock, peer, TEXT, b'x')
    with pytest.raises(error):
        sock.recv()
    with pytest.raises(twspy.ProtocolError, match='x-failing failed') as again:
        sock.recv()
    assert again.value.code == 1011
    sock.send(Frame(TEXT, 'still'))
    assert peer.read_frame().payload == b'still'


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_go_to_onerror(
    ends: Any, what: Any, error: type[Exception]
) -> None:
    sock, peer = ends(Failing(what))
    conn = Events(sock)
    say(sock, peer, TEXT, b'x')
    peer.sock.shutdown(1)
    conn.receive_forever()
    (first, raised), second = conn.events
    assert first == 'error'
    assert isinstance(raised, error)
    assert second == ('close', (1011, 'extension x-failing failed'))


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_on_a_server(what: Any, error: type[Exception]) -> None:
    with visiting(Failing(what)) as (server, peer):
        peer.send_frame(TEXT, b'x')
        assert peer.read_frame().close_code == 1011
        _, raised = server.wait_for('error')
        assert isinstance(raised, error)
        _, code, reason = server.wait_for('close')
        assert (code, reason) == (1011, 'extension x-failing failed')
        with RawPeer.connect(server.address) as other:
            other.echo()


@pytest.mark.parametrize('code', [1002, 1007, 1008, 4000])
def test_protocol_errors_keep_their_code(ends: Any, code: int) -> None:
    error = twspy.ProtocolError('so it says', code)
    sock, peer = ends(Failing(error))
    conn = Events(sock)
    say(sock, peer, TEXT, b'x')
    peer.sock.shutdown(1)
    conn.receive_forever()
    frame = peer.read_frame()
    assert (frame.close_code, frame.close_reason) == (code, 'so it says')
    assert conn.events == [('close', (code, 'so it says'))]
    with visiting(Failing(error)) as (server, visitor):
        visitor.send_frame(TEXT, b'x')
        assert visitor.read_frame().close_code == code
        assert server.wait_for('close')[1:] == (code, 'so it says')
        assert server.events.empty() or server.events.get()[0] == 'open'


def test_a_bit_that_nobody_takes_away(ends: Any) -> None:
    class Keeps(Failing):
        def do(self, frame: Frame) -> Frame:
            return frame

    sock, peer = ends(Keeps())
    say(sock, peer, TEXT, b'x', rsv=RSV1)
    with pytest.raises(twspy.ProtocolError, match='no extension understood'):
        twspy.Connection(sock).recv()
    assert peer.read_frame().close_code == 1002


def test_a_bit_that_onrecv_makes_up(ends: Any) -> None:
    sock, peer = ends(Failing(Frame(TEXT, 'x', rsv2=True)))
    say(sock, peer, TEXT, b'x')
    with pytest.raises(twspy.ProtocolError, match='no extension understood'):
        twspy.Connection(sock).recv()
    assert peer.read_frame().close_code == 1002


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_come_out_of_send(
    ends: Any, what: Any, error: type[Exception]
) -> None:
    sock, peer = ends(Failing(what, sending=True))
    conn = twspy.Connection(sock)
    for send in (
        lambda: conn.send('x'),
        lambda: sock.send(Frame(TEXT, 'x')),
        lambda: sock.send(twspy.ControlFrame(PING, b''), Frame(TEXT, 'x')),
    ):
        with pytest.raises(error):
            send()
    conn.send_ping(b'still')
    frame = peer.read_frame()
    assert (frame.opcode, frame.payload) == (PING, b'still')


@pytest.mark.parametrize(('what', 'error'), FAILURES)
def test_failures_of_a_server_that_sends(
    what: Any, error: type[Exception]
) -> None:
    with visiting(Failing(what, sending=True)) as (server, peer):
        peer.send_frame(TEXT, b'x')
        _, raised = server.wait_for('error')
        assert isinstance(raised, error)
        server.broadcast('to all')
        if error is not BlockingIOError and error is not twspy.SocketClosed:
            assert isinstance(server.wait_for('error')[1], error)
        peer.send_frame(PING, b'still')
        assert peer.read_frame().payload == b'still'


# --- extensions that call back ---


class Nosy(Plain):
    """Calls a function with each frame."""

    name = 'x-nosy'

    def __init__(self) -> None:
        self.sending: Any = None
        self.receiving: Any = None

    def onsend(self, frame: Frame) -> Frame:
        if self.sending is not None:
            self.sending()
        return frame

    def onrecv(self, frame: Frame) -> Frame:
        if self.receiving is not None:
            self.receiving()
        return frame


def test_onsend_can_not_send(ends: Any) -> None:
    sock, peer = ends(Nosy)
    conn = twspy.Connection(sock)
    caught = []

    def send() -> None:
        for call in (
            lambda: conn.send('y'),
            lambda: sock.send(Frame(TEXT, 'y')),
            lambda: conn.send_stream().__enter__(),
            lambda: conn.close(),
            lambda: conn.send(twspy.CloseMessage(1000)),
        ):
            with pytest.raises(twspy.ConcurrencyError, match='onsend'):
                call()
            caught.append(call)

    conn.extensions[0].sending = send  # type: ignore[attr-defined]
    conn.send('x')
    assert len(caught) == 5
    assert peer.read_frame().payload == b'x'


def test_onsend_can_not_send_on_a_server() -> None:
    class Sends(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            def send() -> None:
                with pytest.raises(twspy.ConcurrencyError, match='onsend'):
                    client.send('y')
                with pytest.raises(twspy.ConcurrencyError, match='onsend'):
                    client.send_stream().__enter__()

            client.extensions[0].sending = send
            client.send(message)

    with Sends(extensions=[Nosy]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-nosy'
        ) as peer:
            peer.echo()


def test_onrecv_can_send_but_not_receive(ends: Any) -> None:
    sock, peer = ends(Nosy)
    conn = twspy.Connection(sock)

    def receive() -> None:
        conn.send('from within')
        with pytest.raises(twspy.ConcurrencyError):
            conn.recv()

    conn.extensions[0].receiving = receive  # type: ignore[attr-defined]
    say(sock, peer, TEXT, b'x')
    assert conn.recv() == twspy.TextMessage('x')
    assert peer.read_frame().payload == b'from within'


def test_onrecv_on_a_server_can_send_but_not_receive() -> None:
    class Receives(EchoServer):
        def onopen(self, client: Any) -> None:
            def receive() -> None:
                client.send('from within')
                client.extensions[0].receiving = None
                client.recv()

            client.extensions[0].receiving = receive

    with Receives(extensions=[Nosy]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-nosy'
        ) as peer:
            peer.send_frame(TEXT, b'x')
            peer.send_frame(TEXT, b'y')
            assert peer.read_frame().payload == b'from within'
            assert peer.read_frame().close_code == 1011
            _, error = server.wait_for('error')
            assert isinstance(error, twspy.ConcurrencyError)


# --- order ---


def test_threads_that_send_at_once(ends: Any) -> None:
    sock, peer = ends(Numbered)
    conn = twspy.Connection(sock)
    each = 200
    joins = [
        in_thread(lambda: [conn.send('x' * 50) for _ in range(each)])
        for _ in range(4)
    ]
    for number in range(4 * each):
        frame = peer.read_frame()
        assert frame.payload == b'%d:' % number + b'x' * 50
    for join in joins:
        assert join() == [None] * each


def test_threads_that_send_to_a_servers_client() -> None:
    with visiting(Numbered) as (server, peer):
        (client,) = server.wait_for('open')
        each = 150
        sends: list[Callable[[], object]] = [
            lambda: client.send('x' * 50),
            lambda: client.send(b'x' * 50, fragment_size=50),
            lambda: client.sock.send(Frame(TEXT, 'x' * 50)),
            lambda: server.broadcast('x' * 50),
        ]
        joins = [
            in_thread(lambda send=send: [send() for _ in range(each)])  # type: ignore[misc]
            for send in sends
        ]
        for number in range(4 * each):
            frame = peer.read_frame()
            assert frame.payload == b'%d:' % number + b'x' * 50
        for join in joins:
            assert len(join()) == each  # type: ignore[arg-type]


@pytest.mark.parametrize('size', [10, 100_000])
def test_nothing_is_looked_at_twice(peers: Peers, size: int) -> None:
    """A call that has raised for want of room has asked nobody."""
    sock, peer = peers.server(Numbered)
    for one in sock, peer.sock:  # few frames will do
        for buffer in socket.SO_SNDBUF, socket.SO_RCVBUF:
            one.setsockopt(socket.SOL_SOCKET, buffer, 1 << 14)
    count = fill_up(sock, b'x' * size)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            sock.send(Frame(BINARY, b'x' * size))
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.send(Frame(BINARY, b'x' * size))
    assert sock.extensions[0].sent == count  # type: ignore[attr-defined]

    def send_on() -> None:
        sock.settimeout(SOON)
        sock.send(Frame(BINARY, b'last'))

    join = in_thread(send_on)
    for number in range(count):
        payload = peer.read_frame().payload
        assert payload == b'%d:' % number + b'x' * size
    assert peer.read_frame().payload == b'%d:last' % count
    assert join() is None


def test_nobody_is_asked_where_there_is_no_room(peers: Peers) -> None:
    """Not even where nothing of this end's is left to be sent."""
    sock, _ = peers.server(Numbered)
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        same.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                same.send(bytes(1 << 16))
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.send(Frame(BINARY, b'x'))
    assert sock.extensions[0].sent == 0  # type: ignore[attr-defined]


def test_control_frames_pass_by(peers: Peers) -> None:
    """Also while onsend() takes its time."""
    sock, peer = peers.server(Nosy)
    conn = twspy.Connection(sock)
    entered = threading.Event()
    go_on = threading.Event()

    def wait() -> None:
        entered.set()
        assert go_on.wait(SOON)

    conn.extensions[0].sending = wait  # type: ignore[attr-defined]
    sending = in_thread(lambda: conn.send('slow'))
    assert entered.wait(SOON)
    conn.send_ping(b'quick')
    receiving = in_thread(conn.recv)
    wait_until_receiving(sock)
    peer.send_frame(PING, b'you?')
    go_on.set()
    got = {peer.read_frame().payload for _ in range(3)}
    assert got == {b'slow', b'quick', b'you?'}
    peer.send_frame(TEXT, b'end')
    assert sending() is None
    assert receiving() == twspy.TextMessage('end')


# --- streams ---


def test_sent_in_pieces(ends: Any) -> None:
    sock, peer = ends(Shift(1), Numbered)
    conn = twspy.Connection(sock)
    with conn.send_stream(text=True, fragment_size=3) as out:
        out.write('abcd')
        conn.send_ping(b'')
        other = in_thread(lambda: conn.send('zz'))
        out.write('efg')
    assert other() is None
    frames = [f for f in read(peer, 5) if f.opcode != PING]
    assert [(f.opcode, f.payload, f.rsv, f.fin) for f in frames] == [
        (TEXT, b'0:bcd', RSV1 | RSV3, False),
        (CONTINUATION, b'1:efg', RSV1 | RSV3, False),
        (CONTINUATION, b'2:h', RSV1 | RSV3, True),
        (TEXT, b'3:{{', RSV1 | RSV3, True),
    ]


def test_sent_in_pieces_to_a_servers_client() -> None:
    with visiting(Numbered) as (server, peer):
        (client,) = server.wait_for('open')
        with client.send_stream(fragment_size=2) as out:
            out.write(b'abc')
            other = in_thread(lambda: client.send(b'zz'))
            assert server.broadcast('skipped') == 0
            out.write(b'd')
        assert other() is None
        frames = read(peer, 4)
        assert [(f.opcode, f.payload, f.fin) for f in frames] == [
            (BINARY, b'0:ab', False),
            (CONTINUATION, b'1:cd', False),
            (CONTINUATION, b'2:', True),
            (BINARY, b'3:zz', True),
        ]


def test_control_frames_between_pieces_to_a_servers_client() -> None:
    with visiting(Numbered) as (server, peer):
        (client,) = server.wait_for('open')
        with client.send_stream(fragment_size=1) as out:
            out.write(b'ab')
            client.sock.send(twspy.ControlFrame(PING, b'mine'))
            other = in_thread(
                lambda: client.sock.send(twspy.ControlFrame(PING, b'other'))
            )
            assert other() is None
        kinds = [(f.opcode, f.payload) for f in read(peer, 5)]
        assert [kind for kind in kinds if kind[0] == PING] == [
            (PING, b'mine'),
            (PING, b'other'),
        ]
        assert kinds[-1][0] == CONTINUATION


def test_not_in_pieces_for_who_wants_the_whole(ends: Any) -> None:
    sock, peer = ends(Mirror)
    conn = twspy.Connection(sock)
    with pytest.raises(ValueError, match='x-mirror works on whole messages'):
        with conn.send_stream() as out:
            out.write(b'x')
    conn.send('whole')
    assert peer.read_frame().payload == b'elohw'
    with visiting(Mirror) as (server, visitor):
        (client,) = server.wait_for('open')
        with pytest.raises(ValueError, match='x-mirror works on whole'):
            with client.send_stream() as out:
                out.write(b'x')
        visitor.send_frame(TEXT, b'x')
        assert visitor.read_frame().payload == b'x'


def test_received_in_pieces(ends: Any) -> None:
    sock, peer = ends(Shift(1))
    conn = twspy.Connection(sock)
    say(sock, peer, BINARY, b'b' * 70_000, rsv=RSV1, fin=False)
    stream = conn.recv_stream()
    assert next(stream) == b'a' * 65536
    say(sock, peer, CONTINUATION, b'c' * 10, rsv=RSV1)
    say(sock, peer, TEXT, b'next')
    assert b''.join(stream) == b'a' * (70_000 - 65536) + b'b' * 10
    assert conn.recv() == twspy.TextMessage('next')


@pytest.mark.parametrize('leave', [False, True])
def test_received_in_pieces_by_a_server(leave: bool) -> None:
    class Streams(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            if message.payload == b'stream':
                got = []
                # Kept, so that nothing else ends it.
                client.stream = client.recv_stream()
                for chunk in client.stream:
                    got.append(chunk)
                    if leave:
                        break
                client.send(b'%d' % sum(map(len, got)))
            else:
                client.send(message)

    with Streams(extensions=[Shift]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-shift; by=0'
        ) as peer:
            peer.send_frame(BINARY, b'stream', rsv=RSV1)
            peer.send_frame(BINARY, b'b' * 70_000, rsv=RSV1, fin=False)
            if not leave:
                peer.send_frame(PING)
                assert peer.read_frame().opcode == PONG
            peer.send_frame(CONTINUATION, b'c' * 10, rsv=RSV1)
            got = peer.read_frame().payload
            assert got == (b'65536' if leave else b'70010')
            peer.send_frame(BINARY, b'next')
            assert peer.read_frame().payload == b'next'
        assert server.stats()['messages_in'] >= 2


# --- connections as ever ---


def test_hooks_stand_outside(ends: Any) -> None:
    sock, peer = ends(Shift(1))
    seen = []

    def see(frame: Frame) -> Frame:
        seen.append((frame.payload, frame.rsv1))
        return like(frame, frame.payload + b'!')

    sock.add_hook(send=see, recv=see)
    conn = twspy.Connection(sock)
    conn.send('a')
    assert peer.read_frame().payload == b'b"'
    say(sock, peer, TEXT, b'd', rsv=RSV1)
    assert conn.recv() == twspy.TextMessage('c!')
    assert seen == [(b'a', False), (b'c', False)]


def test_hooks_of_a_servers_client() -> None:
    with visiting(Shift(1)) as (server, peer):
        (client,) = server.wait_for('open')
        client.sock.add_hook(send=lambda frame: like(frame, b'hooked'))
        client.send('x')
        assert peer.read_frame().payload == b'ipplfe'
        with client.send_stream() as out:
            out.write(b'y')
        assert peer.read_frame().payload == b'ipplfe'


def test_recv_in_a_handler() -> None:
    class Asks(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            client.send('more?')
            more = client.recv()
            client.send(message.payload + more.payload)

    with Asks(extensions=[Mirror]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-mirror'
        ) as peer:
            peer.send_frame(TEXT, b'ba', rsv=RSV2)
            assert peer.read_frame().payload == b'?erom'
            peer.send_frame(TEXT, b'd', fin=False, rsv=RSV2)
            peer.send_frame(PING, b'')
            assert peer.read_frame().opcode == PONG
            peer.send_frame(CONTINUATION, b'c')
            assert peer.read_frame().payload == b'dcba'


def test_failures_in_recv_of_a_handler() -> None:
    class Asks(EchoServer):
        def onopen(self, client: Any) -> None:
            try:
                client.recv()
            except LookupError:
                self.events.put(('caught', client))

    extension = Failing(LookupError('no luck'))
    with Asks(extensions=[extension]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-failing'
        ) as peer:
            peer.send_frame(TEXT, b'x')
            assert peer.read_frame().close_code == 1011
            server.wait_for('caught')
            assert server.wait_for('close')[1] == 1011


def test_close_handshakes(ends: Any) -> None:
    sock, peer = ends(Failing(LookupError('not asked any more')))
    conn = twspy.Connection(sock)
    joined = in_thread(lambda: conn.close(1000, 'bye'))
    frame = peer.read_frame()
    assert (frame.close_code, frame.close_reason) == (1000, 'bye')
    say(sock, peer, TEXT, b'late')
    say(sock, peer, CLOSE, close_payload(1000))
    assert joined() is None
    assert conn.state == 'closed'


def test_close_handshakes_of_a_server() -> None:
    extension = Failing(LookupError('not asked any more'))
    with visiting(extension) as (server, peer):
        (client,) = server.wait_for('open')
        joined = in_thread(client.close)
        assert peer.read_frame().close_code == 1000
        peer.send_frame(TEXT, b'late')
        peer.send_frame(CLOSE, close_payload(1000))
        assert joined() is None
        assert server.wait_for('close')[1] == 1000
        assert server.events.empty()


def test_the_keeper_reads_ahead() -> None:
    """And answers pings, for a program that does something else."""

    class Pings(EchoServer):
        def onpong(self, client: Any, payload: bytes) -> None:
            self.events.put(('pong', client, payload))

    with Pings(extensions=[Shift]) as server:
        with twspy.connect(
            f'ws://127.0.0.1:{server.address[1]}/', extensions=[Shift(4)]
        ) as conn:
            (client,) = server.wait_for('open')
            client.send('read ahead')
            client.send_ping(b'there?')
            assert server.wait_for('pong')[1] == b'there?'
            assert conn.recv() == twspy.TextMessage('read ahead')


def test_what_the_keeper_meets() -> None:
    error = LookupError('no luck')
    with EchoServer(extensions=[Plain]) as server:

        class Fails(Failing):
            name = 'x-plain'
            rsv1 = False

        with twspy.connect(
            f'ws://127.0.0.1:{server.address[1]}/', extensions=[Fails(error)]
        ) as conn:
            (client,) = server.wait_for('open')
            client.send('x')
            assert server.wait_for('close')[1] == 1011
            with pytest.raises(LookupError):
                conn.recv()
            with pytest.raises(twspy.SocketClosed):
                conn.recv()


def test_onsent_and_statistics() -> None:
    class Tells(EchoServer):
        def onsent(self, client: Any, message: twspy.Message) -> None:
            self.events.put(('sent', client, message.payload))

    with Tells(extensions=[Shift]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-shift; by=1'
        ) as peer:
            peer.send_frame(TEXT, b'bc', rsv=RSV1)
            assert peer.read_frame().payload == b'bc'
            assert server.wait_for('sent')[1] == 'ab'
            stats = server.stats()
            assert stats['messages_in'] == stats['messages_out'] == 1
            assert stats['bytes_in'] == stats['bytes_out'] == 2


def test_broadcast() -> None:
    with EchoServer(extensions=[Shift]) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with (
            twspy.connect(url, extensions=[Shift(1)]) as one,
            twspy.connect(url, extensions=[Shift(2)]) as two,
            twspy.connect(url) as three,
        ):
            for _ in range(3):
                server.wait_for('open')
            assert server.broadcast('to all') == 3
            for conn in (one, two, three):
                assert conn.recv() == twspy.TextMessage('to all')


def test_reconnecting() -> None:
    with EchoServer(extensions=[Numbered]) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        connections = twspy.reconnect(url, extensions=[Numbered])
        for round_ in range(3):
            conn = next(connections)
            conn.send(f'round {round_}')
            assert conn.recv() == twspy.TextMessage(f'round {round_}')
            server.clients[0].close(1012)
            with pytest.raises(twspy.SocketClosed):
                conn.recv()
        connections.close()


def test_garbage() -> None:
    """An extension that knows its connection does not keep it."""
    gone: queue.Queue[str] = queue.Queue()

    class Knows(Plain):
        def __init__(self) -> None:
            self.conn: Any = None

    client, server = twspy.pair(extensions=[Knows])
    for conn, name in ((client, 'client'), (server, 'server')):
        conn.extensions[0].conn = conn  # type: ignore[attr-defined]
        weakref.finalize(conn, gone.put, name)
    client.sock.close()
    server.sock.close()
    del client, server, conn
    gc.collect()
    assert sorted((gone.get_nowait(), gone.get_nowait())) == [
        'client',
        'server',
    ]


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from extending import Mirror, Numbered, Shift
import twspy

class Server(twspy.Server):
    def onmessage(self, client, message):
        client.send(f'{self.worker}: {message.payload}')

server = Server(('127.0.0.1', 0), extensions=[Mirror, Shift, Numbered])
print(server.address[1], flush=True)
server.run(workers=2)
"""


def test_workers() -> None:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [sys.executable, '-c', PROGRAM, here], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wait_for_port(port)
        seen = set()
        for _ in range(200):
            with twspy.connect(
                f'ws://127.0.0.1:{port}/',
                extensions=[Mirror, Shift(3), Numbered],
            ) as conn:
                conn.send('hello')
                worker, _, text = conn.recv().payload.partition(': ')  # type: ignore[arg-type,type-var]
                assert text == 'hello'
                seen.add(worker)
            if len(seen) == 2:
                break
        assert seen == {'0', '1'}
    finally:
        process.terminate()
        process.communicate(timeout=SOON)
