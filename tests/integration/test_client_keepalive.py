"""Connections of twspy.connect() while their programs do not receive: read
ahead, pings both ways, and what becomes of a server that is gone.

The keeper takes over within a second after the last recv(), or within a
quarter of ping_interval where that is less; tests that need it to be quick
choose a short one.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import signal
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from certificates import Certificates
from programs import run_python
from rawends import answer, in_thread, read_request
from rawpeer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawFrame,
    RawPeer,
    close_payload,
    pack,
)
from servers import SOON, EchoServer

import twspy

TAKES_OVER = 1.2  # seconds; a little more than it may take
BUSY = 6.0  # the same on a machine that does other things
NEVER: dict[str, Any] = {'ping_interval': None}
# Looks every millisecond; pongs are not waited for.
EAGER: dict[str, Any] = {'ping_interval': 0.004, 'ping_timeout': None}


class Peer(RawPeer):
    """A server by hand, whose frames are not masked."""

    def say(self, opcode: int, payload: bytes = b'', **how: Any) -> None:
        self.send(pack(opcode, payload, mask=False, **how))

    def next_but_pings(self) -> RawFrame:
        """The next frame that is no ping of the keepalive."""
        while True:
            frame = self.read_frame()
            if frame.opcode != PING:
                return frame


Connect = Callable[..., tuple[twspy.Connection, Peer]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to a server by hand. A `dropped` one is the test's alone."""
    with (
        socket.create_server(('127.0.0.1', 0), backlog=300) as listener,
        ExitStack() as stack,
    ):

        def connect(
            *, dropped: bool = False, **options: Any
        ) -> tuple[twspy.Connection, Peer]:
            port = listener.getsockname()[1]
            url = f'ws://127.0.0.1:{port}/'
            client = in_thread(lambda: twspy.connect(url, **options))
            sock, _ = listener.accept()
            peer = Peer(sock)
            _, head = read_request(peer)
            peer.send(answer(head))
            conn = client()
            assert isinstance(conn, twspy.Connection), conn
            stack.callback(peer.close)
            if not dropped:
                stack.callback(conn.sock.close)
            return conn, peer

        yield connect


def keepers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == 'twspy-keeper']


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, f'{what}: it does not come to that'
        time.sleep(0.01)


def is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def wait_for_keeper(peer: Peer) -> None:
    """Returns when the keeper has read what the peer has sent so far."""
    token = os.urandom(8)
    peer.say(PING, token)
    while peer.next_but_pings()[:2] != (PONG, token):
        pass


# Reading ahead ------------------------------------------------------------


def test_ping_is_answered_while_the_program_sleeps(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    for payload in b'before', b'again':
        start = time.monotonic()
        peer.say(PING, payload)
        assert peer.read_frame()[:2] == (PONG, payload)
        assert time.monotonic() - start < BUSY
    peer.say(TEXT, b'hello')
    assert conn.recv().payload == 'hello'
    # It has received, and does no more.
    peer.say(PING, b'after')
    assert peer.read_frame()[:2] == (PONG, b'after')


def test_order_is_kept_and_handlers_run_in_the_program(
    connect: Connect,
) -> None:
    conn, peer = connect(**NEVER)
    heard: list[tuple[object, int]] = []

    def note(what: object) -> Any:
        heard.append((what, threading.get_ident()))
        return what

    conn.onping = note  # type: ignore[method-assign]
    conn.onpong = note  # type: ignore[method-assign]
    conn.add_hook(recv=note)
    peer.say(TEXT, b'1')
    peer.say(PING, b'2')
    peer.say(BINARY, b'3')
    peer.say(PONG, b'4')
    peer.say(TEXT, 'größer'.encode(), fin=False)
    peer.say(PING, b'5')
    wait_for_keeper(peer)
    assert heard == []
    peer.say(0, b'!')
    assert conn.recv() == twspy.TextMessage('1')
    assert conn.recv(0.1) == twspy.BinaryMessage(b'3')
    assert conn.recv() == twspy.TextMessage('größer!')
    what = [payload for payload, _ in heard]
    assert what[:4] == [
        twspy.TextMessage('1'),
        b'2',
        twspy.BinaryMessage(b'3'),
        b'4',
    ]
    assert what[4] == b'5'
    assert what[-1] == twspy.TextMessage('größer!')
    assert {thread for _, thread in heard} == {threading.get_ident()}


def test_what_was_read_ahead_is_streamed_from_memory(
    connect: Connect,
) -> None:
    conn, peer = connect(**NEVER)
    text = '€' * 50_000
    heard: list[bytes] = []
    conn.onping = heard.append  # type: ignore[method-assign]
    peer.say(TEXT, text.encode())
    peer.say(PING, b'between')
    peer.say(BINARY, b'two')
    peer.say(TEXT)
    peer.say(BINARY, bytes(100_000), fin=False)
    wait_for_keeper(peer)
    stream = conn.recv_stream(max_size=150_000)
    chunks = [next(stream)]
    assert stream.opcode == TEXT
    assert conn.recv().payload == b'two'  # has its own place in the queue
    assert heard == [b'between']
    chunks += stream
    assert ''.join(chunks) == text
    assert [len(chunk.encode()) for chunk in chunks] == [65535, 65535, 18930]
    assert list(conn.recv_stream()) == []
    # The rest has not been there yet.
    stream = conn.recv_stream()
    assert len(next(stream)) == 65536
    peer.say(0, b'end')
    assert b''.join(stream).endswith(b'\0end')


def test_what_was_read_ahead_is_larger_than_a_stream_may_be(
    connect: Connect,
) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'12345')
    wait_for_keeper(peer)
    waiting = in_thread(lambda: next(conn.recv_stream(max_size=4)))
    assert peer.next_but_pings().close_code == 1009
    peer.close()
    error = waiting()
    assert isinstance(error, twspy.ProtocolError)
    assert error.code == 1009
    with pytest.raises(twspy.SocketClosed):
        conn.recv()


def test_streams_and_the_keeper(connect: Connect) -> None:
    """It leaves a message in chunks alone, and skips one that was left."""
    conn, peer = connect(**EAGER)
    peer.say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    peer.say(0, b'two', fin=False)
    peer.say(PING, b'not yet')
    end = time.monotonic() + 0.2  # it looks, and must not read
    while time.monotonic() < end:
        assert peer.read_frame().opcode == PING
    assert next(stream) == 'two'
    peer.say(0, b'three', fin=False)
    assert next(stream) == 'three'
    assert peer.next_but_pings()[:2] == (PONG, b'not yet')
    del stream
    wait_for_keeper(peer)
    peer.say(0, b'rest')
    peer.say(TEXT, b'next')
    wait_for_keeper(peer)
    assert conn.recv().payload == 'next'
    stream = conn.recv_stream()
    peer.say(TEXT, b'x', fin=False)
    assert next(stream) == 'x'
    stream.close()
    peer.say(0, b'y')
    peer.say(TEXT, b'last')
    wait_for_keeper(peer)
    assert list(stream) == []
    assert conn.recv().payload == 'last'


def test_a_stream_that_was_overtaken(connect: Connect) -> None:
    """What was read ahead since is not taken for its rest."""
    conn, peer = connect(**EAGER)
    peer.say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    peer.say(0, b'rest')
    peer.say(TEXT, b'two')
    assert conn.recv().payload == 'two'
    peer.say(TEXT, b'three')
    wait_for_keeper(peer)
    with pytest.raises(RuntimeError, match='the rest of this'):
        next(stream)
    assert conn.recv().payload == 'three'


def test_full_queue_stops_reading(connect: Connect) -> None:
    conn, peer = connect(**NEVER, max_queue=3)
    wait_for_keeper(peer)
    block = bytes(100_000)
    sent = 0
    peer.sock.settimeout(1)
    rest = b''
    with pytest.raises(TimeoutError):
        while True:
            rest = pack(BINARY, block, mask=False)
            while rest:
                rest = rest[peer.sock.send(rest) :]
            sent += 1
    assert 3 < sent < 300  # what the system takes
    peer.sock.settimeout(SOON)
    finish = in_thread(lambda: peer.send(rest))
    got = 0
    while got <= sent:
        assert conn.recv(SOON).payload == block
        got += 1
    assert finish() is None
    with pytest.raises(TimeoutError):
        conn.recv(0.05)


def test_no_more_than_max_queue_is_parsed(connect: Connect) -> None:
    conn, peer = connect(**NEVER, max_queue=5)
    conn.onping = print  # type: ignore[method-assign]
    wait_for_keeper(peer)
    peer.send(b''.join(pack(TEXT, b'%d' % i, mask=False) for i in range(20)))
    # One read brings all of them; what is left over waits as it came.
    wait_until(lambda: conn.sock.pending() == 15, 'pending')
    assert [conn.recv().payload for _ in range(20)] == [
        str(i) for i in range(20)
    ]


def test_flood_of_pings(connect: Connect) -> None:
    """All are answered; their handler gets the first ones."""
    conn, peer = connect(**NEVER)
    heard: list[bytes] = []
    conn.onping = heard.append  # type: ignore[method-assign]
    wait_for_keeper(peer)
    for number in range(1000):
        peer.say(PING, b'%d' % number)
        assert peer.read_frame().payload == b'%d' % number
    peer.say(TEXT, b'done')
    assert conn.recv(SOON).payload == 'done'
    assert heard[1:] == [b'%d' % number for number in range(255)]


def test_slow_program_is_kept_up_with(connect: Connect) -> None:
    """A full queue is read on when the program has taken something, and was
    away for a moment."""
    conn, peer = connect(**NEVER, max_queue=2)
    wait_for_keeper(peer)
    peer.send(b''.join(pack(TEXT, b'%d' % i, mask=False) for i in range(6)))
    wait_until(lambda: conn.sock.pending() == 4, 'pending')
    assert conn.recv().payload == '0'
    wait_until(lambda: conn.sock.pending() == 3, 'pending')
    assert [conn.recv().payload for _ in range(5)] == list('12345')


def test_nothing_is_lost_between_two_readers(connect: Connect) -> None:
    conn, peer = connect(**EAGER)
    count = 3000
    chance = random.Random(7)
    done = threading.Event()

    def send() -> None:
        for number in range(count):
            part = b'%d' % number
            kind = number % 3
            if kind == 0:
                peer.say(TEXT, part)
            elif kind == 1:
                wire = pack(TEXT, part * 500, mask=False)
                cut = chance.randrange(len(wire))
                peer.send(wire[:cut])
                if number % 50 == 1:
                    time.sleep(chance.random() * 0.01)
                peer.send(wire[cut:])
            else:
                peer.say(TEXT, part, fin=False)
                peer.say(PONG, part)
                peer.say(0)
            if number % 5 == 0:
                time.sleep(chance.random() * 0.004)

    def swallow() -> None:
        peer.sock.settimeout(0.1)
        while not done.is_set():
            try:
                peer.read_more()
            except TimeoutError:
                pass
            peer.buffer = b''

    pongs: list[bytes] = []
    conn.onpong = pongs.append  # type: ignore[method-assign]
    sender, reader = in_thread(send), in_thread(swallow)
    choice = random.Random(8)
    timeouts = 0
    try:
        for number in range(count):
            expected = str(number) * (500 if number % 3 == 1 else 1)
            while True:
                try:
                    assert conn.recv(choice.random() * 0.002).payload == (
                        expected
                    )
                    break
                except TimeoutError:
                    timeouts += 1
            if number % 50 == 0:
                time.sleep(choice.random() * 0.02)
    finally:
        done.set()
        assert sender() is None
        assert reader() is None
    assert pongs == [b'%d' % i for i in range(2, count, 3)]
    assert timeouts > 0


def test_two_threads_of_the_program(connect: Connect) -> None:
    conn, peer = connect(**EAGER)
    first = in_thread(lambda: conn.recv(SOON))
    wait_until(lambda: is_receiving(conn), 'recv()')
    for _ in range(50):
        with pytest.raises(twspy.ConcurrencyError):
            conn.recv(SOON)
    peer.say(TEXT, b'for one')
    assert first() == twspy.TextMessage('for one')


def is_receiving(conn: twspy.Connection) -> bool:
    """Whether another thread waits in recv()."""
    try:
        conn.recv(0.001)
    except twspy.ConcurrencyError:
        return True
    except TimeoutError:
        return False
    raise AssertionError('something has come')


def test_what_else_may_not_read(connect: Connect) -> None:
    conn, peer = connect()
    for read in conn.sock.recv, lambda: conn.sock.recvn(1):
        with pytest.raises(RuntimeError, match='max_queue=None'):
            read()
    peer.say(TEXT, b'ahead')
    wait_for_keeper(peer)
    with pytest.raises(RuntimeError, match='lose bytes'):
        conn.sock.detach()
    assert conn.recv().payload == 'ahead'
    conn, peer = connect(max_queue=None)
    peer.say(TEXT, b'frame')
    assert conn.sock.recv().payload == b'frame'


@pytest.mark.parametrize('kind', ['hook', 'non-blocking', 'none'])
def test_nothing_is_read_ahead(connect: Connect, kind: str) -> None:
    """Pings of ours go out, silence is nobody's fault, hooks see frames in
    the program's thread."""
    options = {'max_queue': None} if kind == 'none' else {}
    conn, peer = connect(ping_interval=0.1, ping_timeout=0.1, **options)
    threads: list[int] = []

    def note(frame: twspy.Frame) -> twspy.Frame:
        threads.append(threading.get_ident())
        return frame

    if kind == 'hook':
        conn.sock.add_hook(recv=note)
    elif kind == 'non-blocking':
        conn.sock.setblocking(False)
    peer.say(PING, b'unheard')
    peer.say(TEXT, b'in the socket')
    for _ in range(5):
        assert peer.read_frame().opcode == PING
    assert conn.state == 'open'
    assert conn.recv().payload == 'in the socket'
    assert peer.next_but_pings()[:2] == (PONG, b'unheard')
    assert threads == [threading.get_ident()] * len(threads)
    assert len(threads) == (2 if kind == 'hook' else 0)
    if kind == 'non-blocking':
        # From now on it may be.
        conn.sock.settimeout(30)
        peer.say(PING, b'heard')
        assert peer.next_but_pings()[:2] == (PONG, b'heard')


def test_what_was_left_to_write_leaves(connect: Connect) -> None:
    """send() owns what it could not write in time; the program sleeps."""
    conn, peer = connect(**NEVER)
    wait_for_keeper(peer)
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    large = bytes(1 << 20)
    conn.send(large, timeout=0.05)
    assert len(peer.next_but_pings().payload) == len(large)


# The end, met ahead -------------------------------------------------------


def test_close_frame_behind_messages(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'1')
    peer.say(TEXT, b'2')
    peer.say(CLOSE, close_payload(1000, 'enough'))
    frame = peer.read_frame()  # while the program sleeps
    assert (frame.opcode, frame.close_code) == (CLOSE, 1000)
    peer.expect_end()
    assert conn.state == 'closed'
    with pytest.raises(twspy.SocketClosed, match='enough'):
        conn.send('too late')
    peer.close()
    wait_until(lambda: conn.sock.fileno() == -1, 'closing')
    assert [message.payload for message in conn] == ['1', '2']
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert caught.value.ended_by == 'peer'
    assert caught.value.received == (1000, 'enough')


def test_program_meets_the_end_while_the_keeper_lingers(
    connect: Connect,
) -> None:
    conn, peer = connect(**NEVER, close_timeout=0.3)
    peer.say(CLOSE, close_payload(1001))
    assert peer.read_frame().opcode == CLOSE
    peer.expect_end()
    with pytest.raises(twspy.SocketClosed):
        conn.recv()
    assert conn.sock.fileno() == -1


@pytest.mark.parametrize('reset', [False, True])
def test_lingering_ends(connect: Connect, reset: bool) -> None:
    """The server does not end the stream, or says more; nobody waits."""
    conn, peer = connect(**NEVER, close_timeout=0.3)
    peer.say(CLOSE, close_payload(1000))
    assert peer.read_frame().opcode == CLOSE
    if reset:
        with contextlib.suppress(OSError):  # it has gone meanwhile
            peer.send(bytes(3 << 20))
    wait_until(lambda: conn.sock.fileno() == -1, 'closing')


def test_broken_rule_behind_messages(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'good')
    peer.say(TEXT, b'\xff')
    frame = peer.read_frame()
    assert (frame.opcode, frame.close_code) == (CLOSE, 1007)
    peer.close()
    assert conn.recv().payload == 'good'
    with pytest.raises(twspy.ProtocolError, match='UTF-8'):
        conn.recv()
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert caught.value.ended_by == 'limit'


def test_stream_that_ends(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'last words')
    peer.send(pack(TEXT, b'half', mask=False)[:-1])
    peer.close()
    wait_until(lambda: conn.state == 'closed', 'the end')
    assert conn.recv().payload == 'last words'
    with pytest.raises(twspy.SocketClosed, match='middle of a frame') as e:
        conn.recv()
    assert (e.value.code, e.value.ended_by) == (1006, 'network')


def test_reset(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'read ahead')
    wait_for_keeper(peer)
    peer.reset()
    wait_until(lambda: conn.state == 'closed', 'the end')
    assert conn.recv().payload == 'read ahead'
    for _ in range(2):
        with pytest.raises(twspy.SocketClosed) as caught:
            conn.recv()
        assert caught.value.errno == errno.ECONNRESET


class Noting(twspy.Connection):
    """Notes what is called, and where."""

    def __init__(self, sock: twspy.websocket) -> None:
        super().__init__(sock)
        self.events: list[object] = []

    def onopen(self) -> None:
        self.events.append('open')

    def onmessage(self, message: twspy.Message) -> None:
        self.events.append(message.payload)

    def onping(self, payload: bytes) -> None:
        self.events.append(payload)

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.events.append(message.code)


def test_receive_forever_after_the_end(connect: Connect) -> None:
    conn, peer = connect(**NEVER, connection_class=Noting)
    assert isinstance(conn, Noting)
    peer.say(TEXT, b'1')
    peer.say(PING, b'2')
    peer.say(TEXT, b'3')
    peer.say(CLOSE, close_payload(4000))
    assert peer.read_frame().opcode == PONG
    assert peer.read_frame().opcode == CLOSE
    peer.close()
    assert conn.events == []
    conn.receive_forever()
    assert conn.events == ['open', '1', b'2', '3', 4000]


def test_hook_that_fails_ends_nothing(connect: Connect) -> None:
    """An OSError of a hook is not the connection's, though that is over."""
    conn, peer = connect(**NEVER, connection_class=Noting)
    assert isinstance(conn, Noting)

    def fail(message: twspy.Message) -> twspy.Message:
        if message.payload == '1':
            raise OSError('of the hook')
        return message

    conn.add_hook(recv=fail)
    for part in b'1', b'2':
        peer.say(TEXT, part)
    peer.say(CLOSE, close_payload(1000))
    assert peer.read_frame().opcode == CLOSE
    peer.close()
    with pytest.raises(OSError, match='of the hook'):
        conn.receive_forever()
    conn.receive_forever()
    assert conn.events == ['open', '2', 1000]


# Closing ------------------------------------------------------------------


def test_close_with_a_full_queue(connect: Connect) -> None:
    conn, peer = connect(**NEVER, max_queue=2)
    wait_for_keeper(peer)
    peer.send(pack(TEXT, b'unread', mask=False) * 20)
    wait_until(lambda: conn.sock.pending() == 18, 'a full queue')

    def finish() -> RawFrame:
        frame = peer.next_but_pings()
        peer.say(CLOSE, frame.payload)
        peer.expect_end()
        peer.close()
        return frame

    other = in_thread(finish)
    conn.close(1001, 'off')
    frame = other()
    assert isinstance(frame, RawFrame)
    assert (frame.opcode, frame.close_code) == (CLOSE, 1001)
    # What was read ahead is discarded.
    with pytest.raises(twspy.SocketClosed, match='off'):
        conn.recv()


def test_close_with_a_full_queue_and_no_answer(connect: Connect) -> None:
    conn, peer = connect(**NEVER, max_queue=2, close_timeout=0.3)
    block = pack(BINARY, bytes(100_000), mask=False)
    peer.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            peer.send(block)
    start = time.monotonic()
    conn.close()
    assert 0.2 < time.monotonic() - start < BUSY
    assert conn.sock.fileno() == -1


def test_close_of_what_has_ended(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    peer.say(TEXT, b'unread')
    peer.say(CLOSE, close_payload(1000))
    assert peer.read_frame().opcode == CLOSE
    peer.expect_end()
    peer.close()
    conn.close()
    assert conn.sock.fileno() == -1
    with pytest.raises(twspy.SocketClosed):
        conn.recv()


@pytest.mark.parametrize('receiving', [False, True])
def test_close_from_another_thread(connect: Connect, receiving: bool) -> None:
    for _ in range(10):
        conn, peer = connect(**EAGER)
        ends: list[Callable[[], object]] = []
        if receiving:
            ends.append(in_thread(conn.recv))
        peer.say(PING, b'keep it busy')
        ends.append(in_thread(conn.close))
        frame = peer.next_but_pings()
        while frame.opcode == PONG:
            frame = peer.next_but_pings()
        assert frame.opcode == CLOSE
        peer.say(CLOSE, frame.payload)
        peer.close()
        assert ends.pop()() is None
        if receiving:
            assert isinstance(ends.pop()(), twspy.SocketClosed)
        assert conn.sock.fileno() == -1


def test_sockets_close_at_once(connect: Connect) -> None:
    """The descriptor is not kept, and may be somebody else's next."""
    for _ in range(20):
        conn, peer = connect(**EAGER)
        number = conn.sock.fileno()
        peer.say(PING)
        peer.next_but_pings()
        conn.sock.close()
        # Without a GIL the keeper may be about to leave it.
        wait_until(lambda n=number: is_free(n), 'the descriptor is closed')
        with pytest.raises(twspy.SocketClosed):
            conn.recv()


# Keepalive ----------------------------------------------------------------


def check_lost(error: BaseException | None) -> None:
    assert isinstance(error, twspy.SocketClosed), error
    assert error.ended_by == 'keepalive'
    assert error.code == 1006
    assert error.reason == 'did not answer a ping within ping_timeout'
    assert error.sent is not None
    assert error.sent[0] == 1011
    assert error.received is None
    assert error.ping_age is not None
    assert 0.2 < error.ping_age < SOON


@pytest.mark.parametrize('hook', [False, True])
def test_silent_server_ends_a_recv_under_way(
    connect: Connect, hook: bool
) -> None:
    conn, peer = connect(ping_interval=0.2, ping_timeout=0.3)
    if hook:
        conn.sock.add_hook(recv=lambda frame: frame)
    start = time.monotonic()
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert 0.4 < time.monotonic() - start < BUSY
    check_lost(caught.value)
    assert conn.sock.fileno() == -1
    assert peer.read_frame().opcode == PING
    frame = peer.read_frame()
    assert (frame.opcode, frame.close_code) == (CLOSE, 1011)


def test_silent_server_ends_what_comes_next(connect: Connect) -> None:
    conn, peer = connect(ping_interval=0.2, ping_timeout=0.3)
    peer.say(TEXT, b'its last words')
    wait_until(lambda: conn.state == 'closed', 'the end')
    assert conn.sock.fileno() == -1
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.send('x')
    check_lost(caught.value)
    assert conn.recv().payload == 'its last words'
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    check_lost(caught.value)
    conn.close()


def test_silent_server_ends_a_send_under_way(connect: Connect) -> None:
    conn, peer = connect(ping_interval=0.2, ping_timeout=0.5)
    block = bytes(1 << 20)
    with pytest.raises(twspy.SocketClosed) as caught:
        for _ in range(100):
            conn.send(block)
    assert caught.value.ended_by == 'keepalive'
    peer.close()


def test_server_that_answers_is_kept(connect: Connect) -> None:
    """And its pongs are not the program's."""
    conn, peer = connect(ping_interval=0.2, ping_timeout=2)
    heard: list[bytes] = []
    conn.onpong = heard.append  # type: ignore[method-assign]
    assert conn.latency is None
    for number in range(6):
        if number == 3:  # from now on in recv()
            waiting = in_thread(conn.recv)
        frame = peer.read_frame()
        assert frame.opcode == PING
        time.sleep(0.05)
        peer.say(PONG, frame.payload)
    wait_until(lambda: conn.latency, 'an answer')
    assert conn.latency is not None
    assert 0.05 <= conn.latency < 2
    peer.say(PONG, b'unasked')
    peer.say(TEXT, b'done')
    assert waiting() == twspy.TextMessage('done')
    assert heard == [b'unasked']


def test_any_bytes_are_a_sign_of_life(connect: Connect) -> None:
    conn, peer = connect(ping_interval=0.2, ping_timeout=1)
    wire = pack(TEXT, b'x' * 12, mask=False)
    waiting = in_thread(conn.recv)
    for number in range(len(wire) - 1):
        peer.send(wire[number : number + 1])
        time.sleep(0.15)
    assert conn.state == 'open'
    peer.send(wire[-1:])
    assert waiting() == twspy.TextMessage('x' * 12)


def test_full_queue_is_not_silence(connect: Connect) -> None:
    """The pong may be behind what is not read; the server is still pinged."""
    conn, peer = connect(ping_interval=0.2, ping_timeout=0.2, max_queue=1)
    for _ in range(2):
        peer.say(TEXT, b'x')
    pings = [peer.read_frame().opcode for _ in range(6)]
    assert pings == [PING] * 6
    assert conn.state == 'open'
    assert conn.recv().payload == 'x'
    assert conn.recv().payload == 'x'
    with pytest.raises(twspy.SocketClosed):
        conn.recv()


def test_ping_in_a_long_queue(connect: Connect) -> None:
    """The server takes its time with what it is sent, and is there."""
    conn, peer = connect(ping_interval=0.2, ping_timeout=2)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    size = 3 << 20
    sending = in_thread(lambda: conn.send(bytes(size)))
    got = 0
    while got < size:
        got += len(peer.sock.recv(1 << 17))
        time.sleep(0.1)  # seconds in all
    assert sending() is None
    assert conn.state == 'open'


@pytest.mark.parametrize(
    'options',
    [
        {'ping_interval': None},
        {'ping_interval': None, 'ping_timeout': 0.1},
        {'ping_interval': None, 'max_queue': None},
    ],
)
def test_switched_off(connect: Connect, options: dict[str, Any]) -> None:
    conn, peer = connect(**options)
    peer.sock.settimeout(1.5)
    with pytest.raises(TimeoutError):
        peer.read_more()
    assert conn.state == 'open'
    assert conn.latency is None


def test_waits_without_end(connect: Connect) -> None:
    conn, peer = connect(ping_interval=0.1, ping_timeout=None)
    assert [peer.read_frame().opcode for _ in range(5)] == [PING] * 5
    assert conn.state == 'open'


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'ping_interval': 0}, ValueError, 'ping_interval'),
        ({'ping_interval': '1'}, TypeError, 'ping_interval'),
        ({'ping_timeout': -1}, ValueError, 'ping_timeout'),
        ({'max_queue': 0}, ValueError, 'max_queue is 0'),
        ({'max_queue': 1.5}, TypeError, 'max_queue'),
    ],
)
def test_wrong_options(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        twspy.connect('ws://127.0.0.1:9/', **options)


def test_only_connect_keeps() -> None:
    one, two = twspy.pair()
    one._keep(None, None, 16)
    with pytest.raises(RuntimeError, match='kept already'):
        one._keep(20, 20, 16)
    one.sock.close()
    two.sock.close()


# One thread for all -------------------------------------------------------


def test_many_connections_and_one_thread() -> None:
    with EchoServer(ping_interval=0.5) as server, ExitStack() as stack:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        pinging = [twspy.connect(url, ping_interval=0.3) for _ in range(100)]
        silent = [twspy.connect(url, **NEVER) for _ in range(100)]
        conns = pinging + silent
        for conn in conns:
            stack.callback(conn.sock.close)
        assert len(keepers()) == 1
        # Nobody receives; the silent ones answer the server's pings.
        wait_until(lambda: all(conn.latency for conn in pinging), 'pongs')
        names = {conn.local_address for conn in silent}
        clients = [c for c in server.clients if c.remote_address in names]
        assert len(clients) == 100
        wait_until(lambda: all(client.latency for client in clients), 'pongs')
        for number, conn in enumerate(conns):
            conn.send(str(number))
        for number, conn in enumerate(conns):
            assert conn.recv(SOON).payload == str(number)
        assert len(keepers()) == 1


def test_thread_ends_and_comes_back(connect: Connect) -> None:
    conn, peer = connect(**NEVER)
    wait_for_keeper(peer)  # which now waits for the socket alone
    conn.sock.close()
    wait_until(lambda: not keepers(), 'the end of the thread')
    _, peer = connect()
    assert len(keepers()) == 1
    peer.say(PING)
    assert peer.read_frame().opcode == PONG


def test_dropped_connection_is_collected(connect: Connect) -> None:
    for ahead in False, True:
        conn, peer = connect(dropped=True, **EAGER)
        peer.say(TEXT, b'unread')
        if ahead:
            wait_for_keeper(peer)
        gone = weakref.ref(conn)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            del conn
            gc.collect()
        assert gone() is None
        assert [w.category for w in caught] == [ResourceWarning]
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                peer.read_frame()


def test_cycle_is_collected(connect: Connect) -> None:
    conn, peer = connect(dropped=True, **EAGER)
    peer.say(TEXT, b'unread')
    wait_for_keeper(peer)
    conn.itself = conn  # type: ignore[attr-defined]
    gone = weakref.ref(conn)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        del conn
        gc.collect()
    assert gone() is None


def test_websocket_outlives_its_connection(connect: Connect) -> None:
    conn, peer = connect(**EAGER)
    sock = conn.sock
    wait_for_keeper(peer)
    del conn
    gc.collect()
    peer.say(TEXT, b'a frame')
    assert sock.recv().payload == b'a frame'


class Alarm(BaseException):
    """What the handler raises."""


def test_interrupted_recv_loses_nothing(connect: Connect) -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for options in {}, EAGER:
            conn, peer = connect(**options)
            for _ in range(3):
                wire = pack(TEXT, b'whole', mask=False)
                peer.send(wire[:3])
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                start = time.monotonic()
                with pytest.raises(Alarm):
                    conn.recv()
                assert 0.05 < time.monotonic() - start < 5
                peer.send(wire[3:])
                assert conn.recv().payload == 'whole'
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# TLS ----------------------------------------------------------------------


@pytest.fixture(params=['native', 'context'])
def tls(
    request: pytest.FixtureRequest, certificates: Certificates
) -> dict[str, Any]:
    if request.param == 'context':
        return {'ssl': certificates.client_context(None)}
    return {'ssl_args': {'cafile': certificates.cafile}}


class Counting(twspy.Server):
    """Sends so many messages, now and then with a pause."""

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        chance = random.Random(3)
        for number in range(int(message.payload)):
            client.send(f'{number} ' + 'x' * chance.choice([0, 100, 40_000]))
            if number % 20 == 0:
                time.sleep(chance.random() * 0.005)


def test_tls(tls: dict[str, Any], certificates: Certificates) -> None:
    args = {'certfile': certificates.server.combined}
    count = 1000
    choice = random.Random(4)
    with Counting(
        ('127.0.0.1', 0), ssl_args=args, ping_interval=0.5, ping_timeout=3
    ) as server:
        url = f'wss://localhost:{server.address[1]}/'
        for options in NEVER, EAGER:
            with twspy.connect(url, **options, **tls) as conn:
                time.sleep(4.5)  # the server pings
                conn.send(str(count))
                for number in range(count):
                    while True:
                        try:
                            text = conn.recv(choice.random() * 0.002).payload
                            break
                        except TimeoutError:
                            continue
                    assert text.split()[0] == str(number)
                    if number % 50 == 0:
                        time.sleep(choice.random() * 0.03)
                if options is EAGER:
                    assert conn.latency


# Processes ----------------------------------------------------------------

PROGRAM = """
import os, sys, threading, time, warnings
import twspy
conn = twspy.connect(sys.argv[1], ping_interval=0.2, ping_timeout=5)

def keepers():
    return [t for t in threading.enumerate() if t.name == 'twspy-keeper']
"""


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer(ping_interval=0.5, ping_timeout=4) as server:
        yield server


def run(
    server: twspy.Server, tmp_path: Path, program: str, *flags: str
) -> tuple[int, list[str]]:
    path = tmp_path / 'program.py'
    path.write_text(PROGRAM + program, encoding='utf-8')
    url = f'ws://127.0.0.1:{server.address[1]}/'
    with run_python(*flags, str(path), url, cwd=tmp_path) as program_run:
        return program_run.wait(), program_run.lines


def test_fork(server: EchoServer, tmp_path: Path) -> None:
    """The child forgets what the parent goes on with."""
    program = """
quiet = twspy.connect(sys.argv[1], ping_interval=None)
# From CPython 3.12 on, a fork beside threads.
warnings.simplefilter('ignore', DeprecationWarning)
for _ in range(3):
    conn.send('before')
    time.sleep(1.2)  # read ahead
    child = os.fork()
    if child == 0:
        assert not keepers(), keepers()
        assert conn.recv().payload == 'before'
        other = twspy.connect(sys.argv[1], ping_interval=0.2)
        assert len(keepers()) == 1
        while other.latency is None:
            time.sleep(0.01)
        other.close()
        conn.sock.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(keepers()) == 1
    assert conn.recv().payload == 'before'
    conn.send('after')
    assert conn.recv().payload == 'after'
    first = conn.latency
    time.sleep(1.2)
    while conn.latency == first:
        time.sleep(0.01)
quiet.send('still there')
print(quiet.recv().payload)
conn.close()
quiet.close()
"""
    assert run(server, tmp_path, program) == (0, ['still there'])


@pytest.mark.parametrize(
    'program',
    [
        '',
        'conn.send("x"); time.sleep(1.2)',
        'threading.Thread(target=conn.recv, daemon=True).start(); '
        'time.sleep(0.7)',
        'more = [twspy.connect(sys.argv[1], ping_interval=0.004) '
        'for _ in range(20)]; time.sleep(0.1)',
        'conn.itself = conn',
        'import atexit; atexit.register(conn.close)',
        'import atexit; atexit.register(lambda: conn.send("late"))',
        'import atexit; atexit.register(lambda: twspy.connect(sys.argv[1]))',
    ],
)
@pytest.mark.parametrize('times', [3])
def test_exit_with_connections_open(
    server: EchoServer, tmp_path: Path, program: str, times: int
) -> None:
    for _ in range(times):
        assert run(server, tmp_path, program) == (0, [])


def test_thread_ends_before_the_interpreter(
    server: EchoServer, tmp_path: Path
) -> None:
    path = tmp_path / 'early.py'
    text = 'import atexit, threading\n'
    text += 'atexit.register(lambda: print(len(keepers())))\n'
    path.write_text(text + PROGRAM, encoding='utf-8')
    url = f'ws://127.0.0.1:{server.address[1]}/'
    with run_python(path, url, cwd=tmp_path) as program:
        assert program.wait() == 0
        assert program.lines == ['0']


def test_exit_by_ctrl_c(server: EchoServer, tmp_path: Path) -> None:
    program = """
import signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.8)
try:
    conn.recv()
except KeyboardInterrupt:
    print('interrupted')
conn.send('x')
print(conn.recv().payload)
"""
    assert run(server, tmp_path, program) == (0, ['interrupted', 'x'])


SLOW_KEEPER = """
import sys, threading, twspy
entered, leave = threading.Event(), threading.Event()

def profile(frame, event, argument):
    if (
        event == 'call'
        and frame.f_code.co_name == '__init__'
        and frame.f_code.co_filename.endswith('errors.py')
    ):
        entered.set()
        leave.wait(10)

threading.setprofile(profile)
conn = twspy.connect(sys.argv[1], ping_interval=None)
threading.setprofile(None)
assert entered.wait(10)
for number in range(4):
    try:
        print(conn.recv(0.3 if number == 1 else 10).payload)
    except Exception as error:
        print(type(error).__name__)
    if number == 1:
        threading.Timer(0.2, leave.set).start()
"""


@pytest.mark.parametrize('kind', ['ProtocolError', 'SocketClosed'])
def test_recv_waits_for_the_keeper(kind: str, tmp_path: Path) -> None:
    """That reads at this instant, and takes long, as an exception is made by
    Python code: this is no mistake of the program."""
    path = tmp_path / 'program.py'
    path.write_text(SLOW_KEEPER, encoding='utf-8')
    with socket.create_server(('127.0.0.1', 0)) as listener:
        url = f'ws://127.0.0.1:{listener.getsockname()[1]}/'
        with run_python(path, url, cwd=tmp_path) as program:
            peer = Peer(listener.accept()[0])
            peer.send(answer(read_request(peer)[1]))
            peer.say(TEXT, b'first')
            if kind == 'ProtocolError':
                peer.say(TEXT, b'\xff')
            else:
                wait_for_keeper(peer)
                peer.reset()
            assert program.wait() == 0
            assert program.lines == [
                'first',
                'TimeoutError',
                kind,
                'SocketClosed',
            ]
            peer.close()


def test_long_recv_and_then_none(connect: Connect) -> None:
    """The keeper has left a recv() that waits alone, and is called."""
    conn, peer = connect(**NEVER)
    waiting = in_thread(conn.recv)
    time.sleep(TAKES_OVER + 0.5)
    peer.say(TEXT, b'at last')
    assert waiting() == twspy.TextMessage('at last')
    start = time.monotonic()
    peer.say(PING, b'now')
    assert peer.read_frame()[:2] == (PONG, b'now')
    assert time.monotonic() - start < BUSY


def test_no_thread_can_be_started(server: EchoServer, tmp_path: Path) -> None:
    """A warning, and a connection without a keeper."""
    program = """
conn.close()
while keepers():
    time.sleep(0.01)
start = threading.Thread.start
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
conn = twspy.connect(sys.argv[1])
threading.Thread.start = start
conn.send('x')
print(conn.recv().payload)
conn.close()
with twspy.connect(sys.argv[1], ping_interval=0.1) as conn:
    while conn.latency is None:
        time.sleep(0.01)
"""
    status, lines = run(server, tmp_path, program)
    assert status == 0
    assert len(lines) == 2
    assert "can't start new thread" in lines[0]
    assert lines[1] == 'x'
