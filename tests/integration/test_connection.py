"""Connection over a websocket of its own: messages, closing, handlers."""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawends import client_end, in_thread, server_end
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

End = Callable[..., tuple[twspy.websocket, RawPeer]]


@pytest.fixture(params=[client_end, server_end], ids=['client', 'server'])
def end(request: pytest.FixtureRequest) -> End:
    """Makes a Connection's websocket of either role, and its peer."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def ends(end: End) -> Iterator[tuple[twspy.Connection, RawPeer]]:
    sock, peer = end()
    yield twspy.Connection(sock), peer
    sock.close()
    peer.close()


def say(
    conn: twspy.Connection, peer: RawPeer, opcode: int, *rest: Any, **how: Any
) -> None:
    """Send a frame to the Connection, masked as its role demands."""
    server = conn.local_address == conn.sock.getsockname() and masks(conn)
    peer.send_frame(opcode, *rest, mask=server, **how)


def masks(conn: twspy.Connection) -> bool:
    """True where the peer is to mask: the Connection is a server's."""
    return ' server ' in repr(conn.sock)


def test_messages_both_ways(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    conn.send('größer')
    conn.send(b'\0\1')
    conn.send(twspy.TextMessage('x' * 70_000))
    conn.send(twspy.BinaryMessage(bytearray(3)))
    sent = [peer.read_frame() for _ in range(4)]
    assert [(f.opcode, f.payload) for f in sent] == [
        (TEXT, 'größer'.encode()),
        (BINARY, b'\0\1'),
        (TEXT, b'x' * 70_000),
        (BINARY, bytes(3)),
    ]
    assert all(f.masked is not masks(conn) for f in sent)
    say(conn, peer, TEXT, 'naïve'.encode())
    say(conn, peer, BINARY, b'\xff')
    assert conn.recv() == twspy.TextMessage('naïve')
    assert conn.recv() == twspy.BinaryMessage(b'\xff')


def test_fragments_with_a_ping_between(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    text = 'a — b'.encode()
    say(conn, peer, TEXT, text[:3], fin=False)
    say(conn, peer, PING, b'now')
    say(conn, peer, CONTINUATION, b'', fin=False)
    say(conn, peer, CONTINUATION, text[3:])
    assert conn.recv().payload == 'a — b'
    assert peer.read_frame()[:2] == (PONG, b'now')
    conn.send('12345', 2)
    frames = [peer.read_frame() for _ in range(3)]
    assert [f[:3] for f in frames] == [
        (TEXT, b'12', False),
        (CONTINUATION, b'34', False),
        (CONTINUATION, b'5', True),
    ]


def test_wrong_arguments(ends: tuple[twspy.Connection, RawPeer]) -> None:
    conn, _ = ends
    with pytest.raises(TypeError, match='expected a Message, str or a bytes'):
        conn.send(42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'connection\.sock\.send'):
        conn.send(twspy.Frame(1, 'x'))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='fragment_size is 0'):
        conn.send('x', 0)
    with pytest.raises(UnicodeEncodeError):
        conn.send('\ud800')
    with pytest.raises(twspy.PingError, match='126 bytes'):
        conn.send_ping(b'x' * 126)
    with pytest.raises(ValueError):
        conn.close(1006)
    with pytest.raises(ValueError):
        conn.close(1000, 'x' * 124)
    with pytest.raises(TypeError, match='expected a connected websocket'):
        twspy.Connection(None)  # type: ignore[arg-type]
    with twspy.websocket() as fresh:
        with pytest.raises(ValueError, match='not connected'):
            twspy.Connection(fresh)


def test_pings(ends: tuple[twspy.Connection, RawPeer]) -> None:
    conn, peer = ends
    heard: list[tuple[str, bytes]] = []
    conn.onping = lambda p: heard.append(('ping', p))  # type: ignore
    conn.onpong = lambda p: heard.append(('pong', p))  # type: ignore
    conn.send_ping()
    conn.send_ping('ü')
    assert [peer.read_frame()[:2] for _ in range(2)] == [
        (PING, b''),
        (PING, 'ü'.encode()),
    ]
    say(conn, peer, PING, b'1')
    say(conn, peer, PONG, b'2')
    say(conn, peer, TEXT, b'done')
    conn.recv()
    assert heard == [('ping', b'1'), ('pong', b'2')]
    assert peer.read_frame()[:2] == (PONG, b'1')


def test_last_ping_is_answered_where_pongs_were_left_out(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    """RFC 6455 section 5.5.3: a Pong stands for those before it, not for
    those behind it."""
    conn, peer = ends
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    count = 2000
    for number in range(count):
        say(conn, peer, PING, b'%0100d' % number)
    say(conn, peer, TEXT, b'done')
    assert conn.recv().payload == 'done'
    conn.send_ping(b'ours')
    joined = in_thread(conn.recv)
    answered = []
    while not answered or answered[-1] != count - 1:
        frame = peer.read_frame()
        assert frame.opcode == PONG
        answered.append(int(frame.payload))
    assert answered == sorted(set(answered))
    assert len(answered) < count, 'none was left out'
    assert peer.read_frame()[:2] == (PING, b'ours')
    say(conn, peer, TEXT, b'end')
    joined()


def test_timeout_in_the_middle_of_a_message_loses_nothing(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    say(conn, peer, TEXT, b'one', fin=False)
    with pytest.raises(TimeoutError):
        conn.recv(timeout=0.05)
    say(conn, peer, CONTINUATION, b' two')
    assert conn.recv(timeout=5).payload == 'one two'
    conn.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        conn.recv()


def test_close_by_the_peer(ends: tuple[twspy.Connection, RawPeer]) -> None:
    conn, peer = ends
    say(conn, peer, CLOSE, close_payload(3000, 'tschüß'))
    threading.Timer(0.05, peer.sock.shutdown, (1,)).start()
    for _ in range(2):
        with pytest.raises(twspy.SocketClosed) as caught:
            conn.recv()
        assert (caught.value.code, caught.value.reason) == (3000, 'tschüß')
    assert peer.read_frame().close_code == 3000
    peer.expect_end()
    assert conn.state == 'closed'
    with pytest.raises(twspy.SocketClosed):
        conn.send('x')
    conn.close()  # does nothing


def test_close_by_us(ends: tuple[twspy.Connection, RawPeer]) -> None:
    conn, peer = ends
    say(conn, peer, TEXT, b'unread')

    def answer() -> None:
        frame = peer.read_frame()
        assert (frame.close_code, frame.close_reason) == (1001, 'bye')
        say(conn, peer, TEXT, b'late')
        say(conn, peer, CLOSE, frame.payload)
        peer.expect_end()
        peer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    conn.close(1001, 'bye')
    thread.join(SOON)
    assert conn.state == 'closed'
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert caught.value.code == 1001


def test_close_without_answer_takes_the_close_timeout(end: End) -> None:
    sock, peer = end(close_timeout=0.2)
    conn = twspy.Connection(sock)
    begin = time.monotonic()
    conn.close()
    assert 0.15 < time.monotonic() - begin < 3
    assert conn.state == 'closed'
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert caught.value.code == 1006
    peer.close()


def test_close_beside_a_recv_in_another_thread(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    caught: list[BaseException] = []

    def receive() -> None:
        try:
            conn.recv()
        except twspy.SocketClosed as error:
            caught.append(error)

    reader = threading.Thread(target=receive)
    reader.start()
    time.sleep(0.1)
    with pytest.raises(twspy.ConcurrencyError):
        conn.recv()

    def answer() -> None:
        say(conn, peer, CLOSE, peer.read_frame().payload)
        peer.expect_end()
        peer.close()

    other = threading.Thread(target=answer)
    other.start()
    conn.close(4000)
    reader.join(SOON)
    other.join(SOON)
    assert [error.code for error in caught] == [4000]  # type: ignore


def test_both_sides_close_at_once() -> None:
    one, two = twspy.pair()
    threads = [threading.Thread(target=c.close) for c in (one, two)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert time.monotonic() - begin < 1.5
    assert (one.state, two.state) == ('closed', 'closed')


@pytest.mark.parametrize(
    ('code', 'frame'),
    [
        (1002, {'opcode': TEXT, 'rsv': 4}),
        (1002, {'opcode': 3}),
        (1002, {'opcode': CONTINUATION}),
        (1007, {'opcode': TEXT, 'payload': b'\xff'}),
        (1009, {'opcode': BINARY, 'length': 5000}),
    ],
)
def test_broken_rules_close_with_the_code(
    end: End, code: int, frame: dict[str, Any]
) -> None:
    sock, peer = end(max_size=4000)
    conn = twspy.Connection(sock)
    say(conn, peer, **frame)

    def watch() -> None:
        assert peer.read_frame().close_code == code
        peer.expect_end()
        peer.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.recv()
    assert caught.value.code == code
    watcher.join(SOON)
    with pytest.raises(twspy.SocketClosed) as closed:
        conn.recv()
    assert closed.value.code == code


def test_wrong_mask_is_1002(ends: tuple[twspy.Connection, RawPeer]) -> None:
    conn, peer = ends
    peer.send_frame(TEXT, b'hi', mask=not masks(conn))
    threading.Timer(0.1, peer.sock.shutdown, (1,)).start()
    with pytest.raises(twspy.ProtocolError, match='mask'):
        conn.recv()
    assert peer.read_frame().close_code == 1002


class Recorder(twspy.Connection):
    """Records its handlers' calls."""

    def __init__(self, sock: twspy.websocket) -> None:
        super().__init__(sock)
        self.calls: list[Any] = []

    def onopen(self) -> None:
        self.calls.append('open')

    def onmessage(self, message: twspy.Message) -> None:
        self.calls.append(message.payload)
        if message.payload == 'raise':
            raise LookupError('raised')
        if message.payload == 'exit':
            raise KeyboardInterrupt
        if message.payload == 'close':
            self.close(1001)

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.calls.append(('close', message.code))

    def onerror(self, error: Exception) -> None:
        self.calls.append(repr(error))


def test_receive_forever(end: End) -> None:
    sock, peer = end()
    conn = Recorder(sock)
    for text in (b'1', b'raise', b'2', b'exit', b'3'):
        say(conn, peer, TEXT, text)
    say(conn, peer, CLOSE, close_payload(1000))
    peer.sock.shutdown(1)
    with pytest.raises(KeyboardInterrupt):
        conn.receive_forever()
    conn.receive_forever()
    conn.receive_forever()
    assert conn.calls == [
        'open',
        '1',
        'raise',
        "LookupError('raised')",
        '2',
        'exit',
        '3',
        ('close', 1000),
    ]
    peer.close()


def test_receive_forever_ends_when_a_handler_closes(end: End) -> None:
    sock, peer = end()
    conn = Recorder(sock)
    say(conn, peer, TEXT, b'close')
    say(conn, peer, TEXT, b'unheard')
    say(conn, peer, CLOSE, close_payload(1001))
    peer.sock.shutdown(1)
    conn.receive_forever()
    assert conn.calls == ['open', 'close', ('close', 1001)]
    peer.close()


@pytest.mark.parametrize('reset', [False, True])
def test_peer_vanishes(end: End, reset: bool) -> None:
    sock, peer = end()
    conn = Recorder(sock)
    say(conn, peer, TEXT, b'last')
    time.sleep(0.05)
    if reset:
        peer.reset()
    else:
        peer.close()
    conn.receive_forever()
    assert conn.calls[-1] == ('close', 1006)
    assert str(conn) != 'unconnected'
    assert conn.remote_address


def test_iteration_ends_quietly_after_1000(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    for text in (b'a', b'b'):
        say(conn, peer, TEXT, text)
    say(conn, peer, CLOSE, close_payload(1000))
    peer.sock.shutdown(1)
    assert [m.payload for m in conn] == ['a', 'b']


def test_iteration_raises_after_anything_else(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    say(conn, peer, TEXT, b'a')
    say(conn, peer, CLOSE, close_payload(1011))
    peer.sock.shutdown(1)
    got = []
    with pytest.raises(twspy.SocketClosed):
        for message in conn:
            got.append(message.payload)
    assert got == ['a']


def test_hooks_on_messages_and_on_frames(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    seen: list[str] = []

    def louder(message: twspy.Message) -> twspy.Message:
        return twspy.TextMessage(message.payload + '!')

    def note(frame: twspy.Frame) -> twspy.Frame:
        seen.append(repr(frame.payload))
        return frame

    conn.add_hook(send=louder, recv=louder)
    conn.sock.add_hook(send=note, recv=note)
    conn.send('abc', 2)
    frames = [peer.read_frame() for _ in range(2)]
    assert [f.payload for f in frames] == [b'ab', b'c!']
    say(conn, peer, TEXT, b'x', fin=False)
    say(conn, peer, PING, b'p')
    say(conn, peer, CONTINUATION, b'y')
    assert conn.recv().payload == 'xy!'
    assert seen == ["b'ab'", "b'c!'", "b'x'", "b'p'", "b'y'"]
    conn.add_hook(recv=lambda message: 'no message')  # type: ignore
    say(conn, peer, TEXT, b'z')
    with pytest.raises(TypeError, match='expected a Message'):
        conn.recv()


def test_fail_fast_with_frame_hooks(
    ends: tuple[twspy.Connection, RawPeer],
) -> None:
    conn, peer = ends
    conn.sock.add_hook(recv=lambda frame: frame)
    say(conn, peer, TEXT, b'\xff')
    threading.Timer(0.1, peer.sock.shutdown, (1,)).start()
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.recv()
    assert caught.value.code == 1007
    assert peer.read_frame().close_code == 1007


def test_no_message_follows_our_close_frame() -> None:
    """Threads that send while another closes: the Close is the last frame."""
    stopped: list[BaseException] = []

    def flood(conn: twspy.Connection) -> None:
        try:
            while True:
                conn.send(b'x' * 3000)
                time.sleep(0.0001)  # else close() may wait for its turn long
        except (twspy.SocketClosed, OSError) as error:
            stopped.append(error)

    for _ in range(4):
        sock, peer = client_end(close_timeout=SOON)
        conn = twspy.Connection(sock)
        stopped.clear()
        threads = [
            threading.Thread(target=flood, args=(conn,)) for _ in range(3)
        ]
        threads.append(threading.Thread(target=conn.close))
        for thread in threads:
            thread.start()
        frame = peer.read_frame()
        while frame.opcode == BINARY:
            frame = peer.read_frame()
        assert frame.opcode == CLOSE
        peer.send_frame(CLOSE, frame.payload, mask=False)
        peer.end()
        peer.expect_end()
        peer.close()
        for thread in threads:
            thread.join(SOON)
        assert len(stopped) == 3


def test_large_messages_both_ways_at_once() -> None:
    with EchoServer(max_size=None) as server:
        host, port = server.address
        with twspy.connect(f'ws://{host}:{port}/', max_size=None) as conn:
            for size in (65_535, 65_536, 1 << 20, 20 << 20):
                body = bytes(size)
                conn.send(body)
                assert conn.recv().payload == body


def test_connect_and_with_and_json() -> None:
    with EchoServer() as server:
        host, port = server.address
        with twspy.connect(f'ws://{host}:{port}/path?q=1') as conn:
            (client,) = server.wait_for('open')
            assert client.sock.location == '/path'
            assert client.sock.request.query == 'q=1'
            conn.send('{"a": [1]}')
            assert conn.recv().json() == {'a': [1]}
        assert server.wait_for('close')[1] == 1000
        with pytest.raises(LookupError):
            with twspy.connect(f'ws://{host}:{port}/'):
                raise LookupError
        assert server.wait_for('close')[1] == 1011


def test_attributes_weak_references_and_garbage() -> None:
    one, two = twspy.pair()
    one.name = 'x'  # type: ignore[attr-defined]
    one.itself = one  # type: ignore[attr-defined]
    reference = weakref.ref(one)
    assert {one: 1}[one] == 1
    assert 'open' in repr(one)
    one.sock.close()
    two.sock.close()
    del one
    gc.collect()
    assert reference() is None


def test_forgotten_super_init_is_told() -> None:
    class Wrong(twspy.Connection):
        def __init__(self, sock: twspy.websocket) -> None:
            pass

    sock, peer = client_end()
    with sock, peer, pytest.raises(RuntimeError, match='super'):
        Wrong(sock).recv()
