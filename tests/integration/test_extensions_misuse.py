"""Extensions of users that do what they may not: it is said, and nothing
hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from extending import Plain, like, raw_client, raw_server
from rawends import in_thread, masks, tcp_pair
from rawpeer import BINARY, PING, TEXT, RawPeer, request
from servers import SOON, EchoServer

import twspy
from twspy import Frame


def ends(
    side: str, extension: Any, **options: Any
) -> tuple[twspy.websocket, RawPeer]:
    if side == 'client':
        return raw_client([extension], extension.name, **options)
    sock, peer, _ = raw_server([extension], extension.name, **options)
    return sock, peer


SIDES = pytest.mark.parametrize('side', ['client', 'server'])


# --- onsend() that sends elsewhere ---


class Crossing(Plain):
    """Sends to another connection, and waits before until it is there."""

    name = 'x-crossing'
    barrier: threading.Barrier
    call: Callable[[], object] | None = None

    def onsend(self, frame: Frame) -> Frame:
        call, self.call = self.call, None
        if call is not None:
            self.barrier.wait(SOON)
            call()
        return frame


class Both(EchoServer):
    """Keeps its clients, in order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(extensions=[Crossing], **options)
        self.both: list[twspy.Connection] = []

    def onopen(self, client: twspy.Connection) -> None:
        self.both.append(client)
        super().onopen(client)


@pytest.mark.parametrize('how', ['send', 'timeout', 'broadcast', 'stream'])
def test_two_that_wait_for_each_other(how: str) -> None:
    """Each is in its onsend(), and sends to the other one."""

    def send_to(client: twspy.Connection) -> object:
        if how == 'stream':
            return client.send_stream().__enter__()
        if how == 'broadcast':
            return server.broadcast('x', to=[client])
        return client.send('x', timeout=0.3 if how == 'timeout' else None)

    # Where the caller has a time of its own, that counts.
    limit = 600 if how == 'timeout' else 0.3
    with Both(send_timeout=limit) as server:
        offer = {'Sec_WebSocket_Extensions': 'x-crossing'}
        with (
            RawPeer.connect(server.address, **offer) as one,
            RawPeer.connect(server.address, **offer) as two,
        ):
            for _ in range(2):
                server.wait_for('open')
            barrier = threading.Barrier(2)
            for client, other in (server.both, server.both[::-1]):
                extension: Any = client.extensions[0]
                extension.barrier = barrier
                extension.call = lambda other=other: send_to(other)
            results = [
                in_thread(lambda client=client: client.send('y'))
                for client in server.both
            ]
            raised = [result() for result in results]
            if how == 'broadcast':  # it tells nobody else
                raised.append(server.wait_for('error')[1])
            errors = [e for e in raised if isinstance(e, TimeoutError)]
            assert errors
            assert all(
                isinstance(error, TimeoutError) or error is None
                for error in raised
            ), raised
            assert 'in onsend() of an extension of the same' in str(errors[0])
            # Nothing is broken by that.
            for client, peer in zip(server.both, (one, two), strict=True):
                if how != 'stream':
                    client.send('behind')
                while how != 'stream' and peer.read_frame().payload != (
                    b'behind'
                ):
                    pass


def test_no_time_to_send_is_some_for_onsend() -> None:
    """send_timeout=0 is about the peer, not about another thread that is in
    onsend() for a moment."""
    entered = threading.Event()

    class Slow(Plain):
        name = 'x-slow'

        def onsend(self, frame: Frame) -> Frame:
            if frame.payload == b'slow':
                entered.set()
                # Long enough for the other one to find it there, or not.
                threading.Event().wait(0.05)
            return frame

    with EchoServer(extensions=[Slow], send_timeout=0) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-slow'
        ) as peer:
            (client,) = server.wait_for('open')
            slow = in_thread(lambda: client.send('slow'))
            assert entered.wait(SOON)
            client.send('behind')
            assert slow() is None
            assert peer.read_frame().payload == b'slow'
            assert peer.read_frame().payload == b'behind'


# --- bits and opcodes that nobody knows of ---


class Marking(Plain):
    """Sends what it is told to."""

    name = 'x-marking'
    rsv2 = True
    opcodes = (4,)
    how: dict[str, Any]

    def __init__(self) -> None:
        self.how = {}

    def onsend(self, frame: Frame) -> Frame:
        return like(frame, frame.payload, **self.how)


UNCLAIMED = [
    ({'rsv1': True}, 'with rsv1, which .* not claimed: .* rsv1 = True in'),
    ({'rsv3': True}, 'rsv3 = True in the class'),
    ({'rsv1': True, 'rsv2': True, 'rsv3': True}, 'with rsv1'),
    ({'opcode': 3}, r'reserved opcode 3, which .* opcodes = \(3,\) in'),
]
CLAIMED: list[dict[str, Any]] = [{'rsv2': True}, {'opcode': 4}, {}]


@SIDES
@pytest.mark.parametrize(('how', 'text'), UNCLAIMED)
def test_what_is_not_claimed_is_not_sent(
    side: str, how: dict[str, Any], text: str
) -> None:
    sock, peer = ends(side, Marking)
    with sock, peer:
        conn = twspy.Connection(sock)
        extension: Any = sock.extensions[0]
        extension.how = how
        for send in (
            lambda: conn.send('x'),
            lambda: sock.send(Frame(TEXT, 'x')),
        ):
            with pytest.raises(ValueError, match=text) as caught:
                send()
            assert str(caught.value).startswith('onsend() of the extension ')
        for how in CLAIMED:
            extension.how = how
            conn.send('x')
            frame = peer.read_frame()
            assert frame.rsv == (2 if 'rsv2' in how else 0)
            assert frame.opcode == how.get('opcode', TEXT)


@pytest.mark.parametrize(('how', 'text'), UNCLAIMED)
def test_what_is_not_claimed_is_not_sent_by_a_server(
    how: dict[str, Any], text: str
) -> None:
    with EchoServer(extensions=[Marking]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-marking'
        ) as peer:
            (client,) = server.wait_for('open')
            client.extensions[0].how = how
            with pytest.raises(ValueError, match=text):
                client.send('x')
            client.extensions[0].how = {'rsv2': True}
            client.send('y')
            frame = peer.read_frame()
            assert (frame.payload, frame.rsv) == (b'y', 2)


@SIDES
def test_bits_of_the_program_itself_pass(side: str) -> None:
    """Who reads and writes frames may have an extension of his own."""
    sock, peer = ends(side, Marking)
    with sock, peer:
        extension: Any = sock.extensions[0]
        extension.how = {}
        sock.send(Frame(BINARY, b'x', rsv1=True))
        assert peer.read_frame().rsv == 4


# --- what it raises, and what it looks like ---


class Raising(Plain):
    """Raises, where it is told to."""

    name = 'x-raising'
    error: Exception

    def __init__(self, where: str = '') -> None:
        self.where = where
        self.error = TimeoutError('timed out')

    def onsend(self, frame: Frame) -> Frame:
        if self.where == 'onsend':
            raise self.error
        return frame

    def onrecv(self, frame: Frame) -> Frame:
        if self.where == 'onrecv':
            raise self.error
        return frame


@SIDES
@pytest.mark.parametrize('reader', ['conn', 'sock', 'stream', 'iter'])
def test_a_timeout_of_onrecv_is_no_timeout_of_recv(
    side: str, reader: str
) -> None:
    sock, peer = ends(side, Raising('onrecv'), close_timeout=0.001)
    with sock, peer:
        conn = twspy.Connection(sock)
        read: Callable[[], object] = {
            'conn': lambda: conn.recv(timeout=5),
            'sock': sock.recv,
            'stream': lambda: list(conn.recv_stream(timeout=5)),
            'iter': lambda: next(conn),
        }[reader]
        sock.settimeout(0.001)
        if reader in ('conn', 'sock'):
            with pytest.raises(TimeoutError) as caught:
                sock.recv() if reader == 'sock' else conn.recv()
            assert not hasattr(caught.value, '__notes__')
            assert conn.state == 'open'
        sock.settimeout(30)
        peer.send_frame(TEXT, b'x', mask=masks(sock))
        with pytest.raises(TimeoutError) as caught:
            read()
        assert caught.value.__notes__ == [
            'raised by onrecv() of the extension x-raising'
        ]
        # And it does not come again: the connection has ended.
        kinds = (twspy.SocketClosed, twspy.ProtocolError)
        with pytest.raises(kinds, match='x-raising failed'):
            read()
        if reader != 'sock':
            assert conn.state == 'closed'
            assert peer.read_frame().close_code == 1011


@SIDES
def test_a_timeout_of_onsend(side: str) -> None:
    sock, peer = ends(side, Raising('onsend'))
    with sock, peer:
        conn = twspy.Connection(sock)
        for _ in range(2):  # the same exception, with one note
            with pytest.raises(TimeoutError) as caught:
                conn.send('x')
            assert caught.value.__notes__ == [
                'raised by onsend() of the extension x-raising'
            ]
        conn.send_ping(b'still')
        assert peer.read_frame().opcode == PING


def test_an_exception_that_takes_no_notes() -> None:
    class Closed(Exception):
        def add_note(self, note: str) -> None:
            raise LookupError(note)

    sock, peer = ends('client', Raising('onsend'))
    with sock, peer:
        extension: Any = sock.extensions[0]
        extension.error = Closed('no luck')
        with pytest.raises(Closed, match='no luck') as caught:
            twspy.Connection(sock).send('x')
        assert caught.value is extension.error


def test_a_timeout_of_onrecv_on_a_server() -> None:
    with EchoServer(extensions=[Raising('onrecv')]) as server:
        with RawPeer.connect(
            server.address, Sec_WebSocket_Extensions='x-raising'
        ) as peer:
            peer.send_frame(TEXT, b'x')
            assert peer.read_frame().close_code == 1011
            _, error = server.wait_for('error')
            assert isinstance(error, TimeoutError)
            assert error.__notes__ == [
                'raised by onrecv() of the extension x-raising'
            ]


# --- recv() within recv() ---


class Nosy(Plain):
    """Calls a function with each frame that comes."""

    name = 'x-nosy'
    call: Callable[[], object] | None = None

    def onrecv(self, frame: Frame) -> Frame:
        if self.call is not None:
            self.call()
        return frame


@SIDES
@pytest.mark.parametrize('what', ['extension', 'hook'])
def test_recv_within_recv(side: str, what: str) -> None:
    sock, peer = ends(side, Nosy)
    with sock, peer:
        conn = twspy.Connection(sock)
        texts = []

        def receive(frame: Any = None) -> Any:
            for call in (
                sock.recv,
                lambda: sock.recvn(2),
                conn.recv,
                lambda: list(conn.recv_stream()),
            ):
                with pytest.raises(twspy.ConcurrencyError) as caught:
                    call()
                texts.append(str(caught.value))
            return frame

        if what == 'extension':
            extension: Any = sock.extensions[0]
            extension.call = receive
        else:
            sock.add_hook(recv=receive)
        peer.send_frame(TEXT, b'x', mask=masks(sock))
        assert conn.recv(timeout=SOON).payload == 'x'
        assert len(texts) == 4
        for text in texts:
            assert 'another thread' not in text
            assert 'onrecv() of an extension or a hook' in text


@SIDES
def test_recv_of_another_thread(side: str) -> None:
    """Where it is another one, it is said as before."""
    sock, peer = ends(side, Nosy)
    with sock, peer:
        caught = []

        def receive() -> None:
            caught.append(in_thread(sock.recv)())

        extension: Any = sock.extensions[0]
        extension.call = receive
        peer.send_frame(TEXT, b'x', mask=masks(sock))
        assert sock.recv().payload == b'x'
        assert isinstance(caught[0], twspy.ConcurrencyError)
        assert 'while another thread is receiving' in str(caught[0])


# --- what ends accept() ---


class Interrupting(Plain):
    """Ctrl-C, at the least suitable moment."""

    name = 'x-interrupting'
    error: BaseException = KeyboardInterrupt()

    def negotiate(self, params: dict[str, str | None]) -> Any:
        raise self.error


def interrupted(kind: str, **options: Any) -> RawPeer:
    """The client of a handshake that ended so; nothing is called again."""
    head = request(
        Sec_WebSocket_Extensions='x-interrupting', Authorization='Basic YTpi'
    )
    if kind == 'accept':
        listener = twspy.websocket(**options)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        peer = RawPeer.open(listener.getsockname())
        peer.send(head)
        listener.settimeout(SOON)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            listener.accept()
        peer.listener = listener  # type: ignore[attr-defined]
        return peer
    one, two = tcp_pair()
    sock = twspy.websocket(one, **options)
    peer = RawPeer(two)
    peer.send(head)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        sock.handshake(server=True)
    return peer


KINDS = pytest.mark.parametrize('kind', ['accept', 'handshake'])


@KINDS
@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupted_negotiation_is_answered(
    kind: str, error: BaseException
) -> None:
    extension = Interrupting()
    extension.error = error
    with interrupted(kind, extensions=[extension]) as peer:
        status, _, body = peer.read_answer()
        assert status == 500
        assert 'failed to agree on extensions' in body
        listener = getattr(peer, 'listener', None)
    if listener is not None:
        # It goes on where the program does.
        with listener, RawPeer.open(listener.getsockname()) as peer:
            peer.send(request())
            with listener.accept():
                assert peer.read_head()[0] == 101


@KINDS
def test_an_interrupted_check_of_credentials_is_answered(kind: str) -> None:
    def check(user: str, password: str) -> bool:
        raise KeyboardInterrupt

    with interrupted(kind, auth=twspy.BasicAuth(check)) as peer:
        assert peer.read_answer()[0] == 500
        if kind == 'accept':
            peer.listener.close()  # type: ignore[attr-defined]


@KINDS
def test_a_log_that_fails_leaves_nobody_unanswered(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt

    handler = Handler()
    extension = Interrupting()
    extension.error = LookupError('no luck')
    logging.getLogger('twspy').addHandler(handler)
    try:
        with interrupted(kind, extensions=[extension]) as peer:
            assert peer.read_answer()[0] == 500
            if kind == 'accept':
                peer.listener.close()  # type: ignore[attr-defined]
    finally:
        logging.getLogger('twspy').removeHandler(handler)


def test_an_interrupted_server_answers() -> None:
    """And stops, as of any handler's KeyboardInterrupt."""
    server = EchoServer(extensions=[Interrupting])
    server.start()
    with RawPeer.open(server.address) as peer:
        peer.send(request(Sec_WebSocket_Extensions='x-interrupting'))
        assert peer.read_answer()[0] == 500
    server.stop()
