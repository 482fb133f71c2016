"""recv_stream() and send_stream(): messages in pieces, of both ends and of a
server's clients."""

from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from certificates import Certificates
from rawends import client_end, in_thread, masks, server_end
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
from websockets.sync.client import connect as foreign_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as foreign_serve

import twspy
from twspy import OPCODE_BINARY, OPCODE_TEXT

KIB = 1 << 10
MIB = 1 << 20
SMALL = 'aé€🌍'

Ends = tuple[twspy.Connection, RawPeer]
Say = Callable[..., None]


@pytest.fixture(params=[client_end, server_end], ids=['client', 'server'])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    sock, peer = request.param()
    yield twspy.Connection(sock), peer
    sock.close()
    peer.close()


@pytest.fixture
def say(ends: Ends) -> Say:
    """Sends a frame to the Connection, masked as its role demands."""
    conn, peer = ends
    mask = masks(conn.sock)

    def send(opcode: int, payload: bytes = b'', fin: bool = True) -> None:
        peer.send_frame(opcode, payload, fin=fin, mask=mask)

    return send


@pytest.fixture
def pair() -> Iterator[tuple[twspy.Connection, twspy.Connection]]:
    client, server = twspy.pair()
    yield client, server
    client.sock.close()
    server.sock.close()


def after(delay: float, function: Callable[..., object], *args: Any) -> None:
    """Calls it later, from another thread."""
    timer = threading.Timer(delay, function, args)
    timer.daemon = True
    timer.start()


def with_small_buffers(ends: Ends) -> Ends:
    """The system takes little of what is sent."""
    conn, peer = ends
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    return ends


def frames_of(peer: RawPeer) -> list[tuple[int, bytes, bool]]:
    """Reads frames up to the one that ends a message."""
    frames = []
    while True:
        frame = peer.read_frame()
        frames.append((frame.opcode, frame.payload, frame.fin))
        if frame.fin and frame.opcode < CLOSE:
            return frames


# Receiving ------------------------------------------------------------------


def test_chunks_come_as_they_arrive(ends: Ends, say: Say) -> None:
    conn, _ = ends
    stream = conn.recv_stream()
    assert stream.opcode is None
    assert iter(stream) is stream
    say(TEXT, b'one', fin=False)
    assert next(stream) == 'one'
    assert stream.opcode == OPCODE_TEXT
    say(CONTINUATION, b'two', fin=False)
    say(CONTINUATION, b'', fin=False)
    assert next(stream) == 'two'
    say(CONTINUATION, b'three')
    assert list(stream) == ['three']
    assert list(stream) == []
    assert stream.opcode == OPCODE_TEXT
    say(BINARY, b'\xff')
    stream = conn.recv_stream()
    assert list(stream) == [b'\xff']
    assert stream.opcode == OPCODE_BINARY
    say(TEXT, b'whole')
    assert conn.recv() == twspy.TextMessage('whole')


def test_an_empty_message_gives_no_chunk(ends: Ends, say: Say) -> None:
    conn, _ = ends
    say(TEXT)
    stream = conn.recv_stream()
    assert list(stream) == []
    assert stream.opcode == OPCODE_TEXT
    say(BINARY, b'', fin=False)
    say(CONTINUATION, b'', fin=False)
    say(CONTINUATION, b'')
    stream = conn.recv_stream()
    assert list(stream) == []
    assert stream.opcode == OPCODE_BINARY


def test_text_is_never_cut_within_a_character(ends: Ends, say: Say) -> None:
    """Cut at every two bytes, and byte by byte, with frames at hand and
    not."""
    conn, _ = ends
    data = SMALL.encode()
    for i in range(len(data)):
        for j in range(i, len(data) + 1):
            stream = conn.recv_stream()
            say(TEXT, data[:i], fin=False)
            first = data[:i].decode(errors='ignore')
            if first:
                assert next(stream) == first
            say(CONTINUATION, data[i:j], fin=False)
            say(CONTINUATION, data[j:])
            assert first + ''.join(stream) == SMALL
    stream = conn.recv_stream()
    say(TEXT, data[:1], fin=False)
    for byte in data[1:]:
        say(CONTINUATION, bytes([byte]), fin=False)
    say(CONTINUATION, b'')
    chunks = list(stream)
    assert ''.join(chunks) == SMALL
    assert all(chunks)


def test_chunks_are_bounded(ends: Ends, say: Say) -> None:
    conn, _ = ends
    text = '€' * 100_000
    done = in_thread(lambda: say(TEXT, text.encode()))
    chunks = list(conn.recv_stream())
    assert done() is None
    assert ''.join(chunks) == text
    assert all(0 < len(chunk.encode()) <= 64 * KIB for chunk in chunks)


def test_bad_text_fails_at_once(ends: Ends, say: Say) -> None:
    conn, peer = ends
    stream = conn.recv_stream()
    say(TEXT, 'ab€'.encode()[:3], fin=False)
    assert next(stream) == 'ab'
    say(CONTINUATION, b'\xff', fin=False)
    failure = in_thread(lambda: next(stream))
    assert peer.read_frame().close_code == 1007
    peer.close()
    error = failure()
    assert isinstance(error, twspy.ProtocolError)
    assert error.code == 1007
    for _ in range(2):
        with pytest.raises(twspy.SocketClosed):
            next(stream)


def test_text_that_ends_within_a_character(ends: Ends, say: Say) -> None:
    conn, peer = ends
    say(TEXT, b'ab\xe2\x82')
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(twspy.ProtocolError) as caught:
        list(conn.recv_stream())
    assert caught.value.code == 1007


def test_max_size_of_a_connection_does_not_apply() -> None:
    for make in (client_end, server_end):
        sock, peer = make(max_size=10)
        conn = twspy.Connection(sock)
        mask = masks(sock)
        with sock, peer:
            peer.send_frame(BINARY, bytes(100), fin=False, mask=mask)
            for _ in range(3):
                peer.send_frame(CONTINUATION, bytes(9), fin=False, mask=mask)
            peer.send_frame(CONTINUATION, mask=mask)
            assert b''.join(conn.recv_stream()) == bytes(127)
            peer.send_frame(TEXT, b'0123456789', mask=mask)
            assert conn.recv().payload == '0123456789'


@pytest.mark.parametrize('size', [0, 4, 9])
def test_max_size_of_a_stream(ends: Ends, say: Say, size: int) -> None:
    conn, peer = ends
    say(BINARY, b'01234', fin=False)
    say(CONTINUATION, b'5678')
    if size == 9:
        stream = conn.recv_stream(max_size=9)
        assert b''.join(stream) == b'012345678'
        return
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(twspy.ProtocolError) as caught:
        list(conn.recv_stream(max_size=size))
    assert caught.value.code == 1009
    assert peer.read_frame().close_code == 1009


def test_wrong_arguments(ends: Ends) -> None:
    conn, _ = ends
    for timeout in ('1', -1):
        with pytest.raises((TypeError, ValueError), match='timeout'):
            conn.recv_stream(timeout)  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError), match='timeout'):
            conn.send_stream(timeout=timeout)  # type: ignore[arg-type]
    for size in (-1, True, 'x'):
        with pytest.raises((TypeError, ValueError), match='max_size'):
            conn.recv_stream(max_size=size)  # type: ignore[arg-type]
    for size in (0, True, 'x', None):
        with pytest.raises((TypeError, ValueError), match='fragment_size'):
            conn.send_stream(fragment_size=size)  # type: ignore[arg-type]
    for cls in (twspy.RecvStream, twspy.SendStream):
        with pytest.raises(TypeError, match='cannot create'):
            cls()


def test_pings_are_answered_in_between(ends: Ends, say: Say) -> None:
    conn, peer = ends
    heard: list[tuple[str, bytes]] = []
    conn.onping = lambda p: heard.append(('ping', p))  # type: ignore
    conn.onpong = lambda p: heard.append(('pong', p))  # type: ignore
    say(PING, b'0')
    say(TEXT, b'one', fin=False)
    say(PING, b'1')
    say(PONG, b'2')
    say(CONTINUATION, b'two', fin=False)
    say(PING, b'3')
    say(CONTINUATION, b'three')
    assert ''.join(conn.recv_stream()) == 'onetwothree'
    assert heard == [
        ('ping', b'0'),
        ('ping', b'1'),
        ('pong', b'2'),
        ('ping', b'3'),
    ]
    assert [peer.read_frame()[:2] for _ in range(3)] == [
        (PONG, b'0'),
        (PONG, b'1'),
        (PONG, b'3'),
    ]


@pytest.mark.parametrize('kept', [False, True])
def test_the_rest_is_skipped(ends: Ends, say: Say, kept: bool) -> None:
    """Whether the iterator is still there or not."""
    conn, peer = ends
    for size in (10, 200_000):
        for fragments in (False, True):
            stream = conn.recv_stream()
            say(TEXT, b'x', fin=False)
            assert next(stream) == 'x'
            if not kept:
                del stream
                gc.collect()
            say(CONTINUATION, b'y' * size, fin=not fragments)
            if fragments:
                say(PING, b'still there?')
                say(CONTINUATION, b'z')
            say(TEXT, b'the next')
            assert conn.recv() == twspy.TextMessage('the next')
            if fragments:
                assert peer.read_frame()[:2] == (PONG, b'still there?')
            if kept:
                with pytest.raises(RuntimeError, match='the rest of this'):
                    next(stream)


def test_one_stream_behind_another(ends: Ends, say: Say) -> None:
    conn, _ = ends
    first = conn.recv_stream()
    say(TEXT, b'x', fin=False)
    assert next(first) == 'x'
    say(CONTINUATION, b'rest')
    say(BINARY, b'next', fin=False)
    say(CONTINUATION, b' one')
    second = conn.recv_stream()
    assert b''.join(second) == b'next one'
    with pytest.raises(RuntimeError):
        next(first)
    assert next(second, 'over') == 'over'


def test_bad_text_in_what_is_skipped(ends: Ends, say: Say) -> None:
    conn, peer = ends
    say(TEXT, b'x', fin=False)
    assert next(conn.recv_stream()) == 'x'
    say(CONTINUATION, b'ok\xff')
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.recv()
    assert caught.value.code == 1007


def test_close_of_the_iterator(ends: Ends, say: Say) -> None:
    conn, _ = ends
    stream = conn.recv_stream()
    say(TEXT, b'x', fin=False)
    assert next(stream) == 'x'
    stream.close()
    stream.close()
    assert next(stream, 'over') == 'over'
    say(CONTINUATION, b'rest')
    say(TEXT, b'next')
    assert conn.recv().payload == 'next'
    never = conn.recv_stream()
    never.close()
    assert list(never) == []


def test_a_stream_that_never_begins_takes_nothing(
    ends: Ends, say: Say
) -> None:
    conn, _ = ends
    conn.recv_stream()
    say(TEXT, b'1')
    assert conn.recv().payload == '1'
    stream = conn.recv_stream(timeout=0.01)
    with pytest.raises(TimeoutError):
        next(stream)
    say(TEXT, b'2')
    assert conn.recv().payload == '2'


def test_recv_in_a_handler_of_the_loop(ends: Ends, say: Say) -> None:
    conn, _ = ends
    inner: list[twspy.Message] = []
    conn.onping = lambda _: inner.append(conn.recv())  # type: ignore
    say(TEXT, b'x', fin=False)
    say(PING)
    say(CONTINUATION, b'y')
    say(TEXT, b'next')
    with pytest.raises(RuntimeError, match='the rest of this'):
        list(conn.recv_stream())
    assert [m.payload for m in inner] == ['next']


def test_timeouts_lose_nothing(ends: Ends, say: Say) -> None:
    conn, peer = ends
    stream = conn.recv_stream(timeout=0.01)

    def late() -> None:
        with pytest.raises(TimeoutError):
            next(stream)

    late()
    assert stream.opcode is None
    data = '€x'.encode()
    peer.send(b'\x01')  # half a header
    late()
    key = b'\0\0\0\0' if masks(conn.sock) else b''
    peer.send(bytes([len(data) | (0x80 if key else 0)]) + key)
    late()
    assert stream.opcode == OPCODE_TEXT
    for byte in data[:2]:
        peer.send(bytes([byte]))
        late()
    peer.send(data[2:3])
    assert next(stream) == '€'
    late()
    peer.send(data[3:])
    assert next(stream) == 'x'
    late()
    say(CONTINUATION, b'!')
    assert list(stream) == ['!']


def test_timeout_of_the_websocket(ends: Ends, say: Say) -> None:
    conn, _ = ends
    say(TEXT, b'x', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'x'
    conn.sock.settimeout(0.01)
    with pytest.raises(TimeoutError):
        next(stream)
    conn.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        next(stream)
    conn.sock.settimeout(SOON)
    say(CONTINUATION, b'y')
    assert list(stream) == ['y']


def test_a_recv_that_timed_out_is_streamed_on(ends: Ends, say: Say) -> None:
    conn, peer = ends
    say(TEXT, 'ab€'.encode()[:3], fin=False)
    with pytest.raises(TimeoutError):
        conn.recv(timeout=0.05)
    stream = conn.recv_stream()
    assert next(stream) == 'ab'
    assert stream.opcode == OPCODE_TEXT
    say(CONTINUATION, 'ab€'.encode()[3:])
    assert list(stream) == ['€']
    say(BINARY, bytes(20), fin=False)
    with pytest.raises(TimeoutError):
        conn.recv(timeout=0.05)
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(twspy.ProtocolError) as caught:
        next(conn.recv_stream(max_size=19))
    assert caught.value.code == 1009


class Interrupt(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Has a signal handler raise Interrupt once, after some time. Begun where
    that is caught: on a busy machine it may come at once."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    def start(after: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, after)

    before = signal.signal(signal.SIGALRM, interrupt)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_interrupts_lose_nothing(
    ends: Ends, say: Say, alarm: Callable[[float], None]
) -> None:
    conn, _ = ends
    stream = conn.recv_stream()
    say(TEXT, b'x', fin=False)
    assert next(stream) == 'x'
    for _ in range(3):
        with pytest.raises(Interrupt):
            alarm(0.02)
            next(stream)
    say(CONTINUATION, b'y')
    assert list(stream) == ['y']


FLOOD = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
frame = bytes.fromhex(sys.argv[2])
sock.setblocking(True)
sock.sendall(frame * 10_000)
print('begun', flush=True)
while True:
    sock.sendall(frame * 100_000)
"""


@contextmanager
def flooded(peer: RawPeer, frame: bytes) -> Iterator[None]:
    """Sends a frame again and again, from a process of its own: there is
    always something to be read."""
    command = [
        sys.executable,
        '-c',
        FLOOD,
        str(peer.sock.fileno()),
        frame.hex(),
    ]
    with subprocess.Popen(
        command,
        pass_fds=[peer.sock.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            # The first are read by somebody, or the kernel has room.
            assert process.stdout.readline() == b'begun\n'
            yield
        finally:
            process.kill()


@pytest.mark.parametrize('skipping', [False, True])
def test_fragments_without_end_and_without_payload(
    ends: Ends,
    say: Say,
    skipping: bool,
    alarm: Callable[[float], None],
) -> None:
    """Timeouts and signals get through, and other threads run."""
    conn, peer = ends
    say(TEXT, b'x', fin=False)
    stream = conn.recv_stream(timeout=0.3)
    assert next(stream) == 'x'
    mask = masks(conn.sock)
    frame = b'\0\x80\0\0\0\0' if mask else b'\0\0'

    def go_on() -> None:
        if skipping:
            conn.recv(timeout=0.3)
        else:
            next(stream)

    with flooded(peer, frame):
        with pytest.raises(TimeoutError):
            go_on()
        with pytest.raises(Interrupt):
            alarm(0.1)
            go_on()
        conn.sock.setblocking(False)
        if skipping:
            stream = conn.recv_stream()
            with pytest.raises(BlockingIOError):
                next(stream)


def test_closed_in_the_middle(ends: Ends, say: Say) -> None:
    """What came before the Close is handed out first."""
    conn, peer = ends
    say(TEXT, b'one', fin=False)
    say(CLOSE, close_payload(1001, 'going'))
    peer.sock.shutdown(socket.SHUT_WR)
    stream = conn.recv_stream()
    chunks = []
    with pytest.raises(twspy.SocketClosed) as caught:
        for chunk in stream:
            chunks.append(chunk)
    assert chunks == ['one']
    assert (caught.value.code, caught.value.reason) == (1001, 'going')
    with pytest.raises(twspy.SocketClosed):
        next(stream)
    with pytest.raises(twspy.SocketClosed):
        next(conn.recv_stream())


def test_the_peer_dies_in_the_middle(ends: Ends, say: Say) -> None:
    conn, peer = ends
    say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    peer.close()
    with pytest.raises(twspy.SocketClosed) as caught:
        next(stream)
    assert caught.value.code == 1006


def test_close_from_another_thread(ends: Ends, say: Say) -> None:
    conn, peer = ends
    say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    waiting = in_thread(lambda: next(stream))
    after(0.1, conn.close)
    assert peer.read_frame().close_code == 1000
    say(CONTINUATION, b'two', fin=False)
    say(CLOSE, close_payload(1000))
    peer.sock.shutdown(socket.SHUT_WR)
    error = waiting()
    assert isinstance(error, twspy.SocketClosed)
    assert error.code == 1000


def test_close_in_the_middle(ends: Ends, say: Say) -> None:
    """Skips what comes before the answer, as it does with whole messages."""
    conn, peer = ends
    say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    say(CONTINUATION, b'two' * 40_000, fin=False)
    say(CLOSE, close_payload(1000))
    peer.sock.shutdown(socket.SHUT_WR)
    conn.close()
    with pytest.raises(twspy.SocketClosed):
        next(stream)


def test_two_threads_receive(ends: Ends, say: Say) -> None:
    conn, _ = ends
    say(TEXT, b'one', fin=False)
    stream = conn.recv_stream()
    assert next(stream) == 'one'
    waiting = in_thread(lambda: next(stream))
    for _ in range(1000):
        try:
            conn.sock.recvn(0)
        except twspy.ConcurrencyError:
            break
        time.sleep(0.005)
    with pytest.raises(twspy.ConcurrencyError):
        conn.recv()
    with pytest.raises(twspy.ConcurrencyError):
        next(stream)
    say(CONTINUATION, b'two')
    assert waiting() == 'two'
    assert list(stream) == []


def test_hooks_on_frames_see_them(ends: Ends, say: Say) -> None:
    """Whole frames are read then, and handed out in bounded chunks."""
    conn, peer = ends
    seen: list[twspy.Frame] = []

    def hook(frame: twspy.Frame) -> twspy.Frame:
        seen.append(frame)
        return frame

    def refuse(message: twspy.Message) -> twspy.Message:
        raise AssertionError(message)

    conn.sock.add_hook(recv=hook)
    conn.add_hook(recv=refuse)
    text = '€' * 70_000
    data = text.encode()
    done = in_thread(lambda: say(TEXT, data[:200_000], fin=False))
    stream = conn.recv_stream()
    first = next(stream)
    assert done() is None
    assert first == '€' * (64 * KIB // 3)
    say(PING, b'p')
    say(CONTINUATION, data[200_000:])
    chunks = [first, *stream]
    assert ''.join(chunks) == text
    assert all(0 < len(chunk.encode()) <= 64 * KIB for chunk in chunks)
    assert [f.opcode for f in seen] == [TEXT, PING, CONTINUATION]
    assert peer.read_frame()[:2] == (PONG, b'p')
    # Left in the middle of what a frame has brought, and skipped.
    done = in_thread(lambda: say(BINARY, bytes(200_000), fin=False))
    assert len(next(conn.recv_stream())) == 64 * KIB
    assert done() is None
    say(CONTINUATION, b'rest')
    stream = conn.recv_stream()
    say(BINARY, b'next')
    assert list(stream) == [b'next']


def test_a_hook_that_comes_in_the_middle_of_a_frame(
    ends: Ends, say: Say
) -> None:
    conn, peer = ends
    seen: list[bytes] = []

    def hook(frame: twspy.Frame) -> twspy.Frame:
        seen.append(bytes(frame.payload))
        return frame

    key = b'\0\0\0\0' if masks(conn.sock) else b''
    peer.send(bytes([TEXT, 4 | (0x80 if key else 0)]) + key + b'12')
    stream = conn.recv_stream()
    assert next(stream) == '12'
    conn.sock.add_hook(recv=hook)
    peer.send(b'34')
    assert next(stream) == '34'
    say(CONTINUATION, b'56')
    assert list(stream) == ['56']
    assert seen == [b'56']


def test_frames_kept_by_recvn_come_first(ends: Ends, say: Say) -> None:
    conn, _ = ends
    say(TEXT, b'one', fin=False)
    conn.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        conn.sock.recvn(2)
    stream = conn.recv_stream(timeout=SOON)
    assert next(stream) == 'one'
    say(CONTINUATION, b'two')
    assert list(stream) == ['two']


def test_reachable_by_the_garbage_collector(ends: Ends) -> None:
    conn, _ = ends
    conn.both = [  # type: ignore[attr-defined]
        conn.recv_stream(),
        conn.send_stream(),
    ]
    for stream in conn.both:  # type: ignore[attr-defined]
        assert conn in gc.get_referents(stream)


# Sending --------------------------------------------------------------------


def test_a_message_in_pieces(ends: Ends) -> None:
    conn, peer = ends
    with conn.send_stream(fragment_size=4) as out:
        assert not out.closed
        assert out.write(b'') == 0
        assert out.write(b'12') == 2
        assert out.write(bytearray(b'345')) == 3
        assert out.write(memoryview(b'6789abcdefg')) == 11
    assert out.closed
    assert frames_of(peer) == [
        (BINARY, b'1234', False),
        (CONTINUATION, b'5678', False),
        (CONTINUATION, b'9abc', False),
        (CONTINUATION, b'defg', False),
        (CONTINUATION, b'', True),
    ]
    with conn.send_stream(text=True, fragment_size=4) as out:
        assert out.write('größ') == 4
        out.flush()
        out.flush()
        out.write('er')
    assert frames_of(peer) == [
        (TEXT, 'grö'.encode(), False),
        (CONTINUATION, 'ß'.encode(), False),
        (CONTINUATION, b'er', True),
    ]
    with conn.send_stream():
        pass
    assert frames_of(peer) == [(BINARY, b'', True)]
    with conn.send_stream(True) as out:
        out.write('at once')
    assert frames_of(peer) == [(TEXT, b'at once', True)]


def test_large_chunks_and_many_small_ones(ends: Ends) -> None:
    conn, peer = ends
    data = os.urandom(300_000)

    def send() -> None:
        with conn.send_stream() as out:
            out.write(data[:7])
            out.write(data[7:200_000])
            for i in range(200_000, 300_000, 100):
                out.write(data[i : i + 100])

    done = in_thread(send)
    frames = frames_of(peer)
    assert done() is None
    assert b''.join(f[1] for f in frames) == data
    assert [len(f[1]) for f in frames] == [64 * KIB] * 4 + [
        300_000 - 256 * KIB
    ]


def test_wrong_use(ends: Ends) -> None:
    conn, peer = ends
    fresh = conn.send_stream()
    with pytest.raises(ValueError, match='not open'):
        fresh.write(b'x')
    with pytest.raises(ValueError, match='not open'):
        fresh.__exit__(None, None, None)
    with fresh as out:
        with pytest.raises(TypeError, match=r'chunk is str.*text=True'):
            out.write('x')  # type: ignore[arg-type]
        with pytest.raises(ValueError, match='used once'):
            out.__enter__()
        out.write(b'1')
    for call in (lambda: out.write(b'x'), out.flush, out.__enter__):
        with pytest.raises(ValueError):
            call()
    out.__exit__(None, None, None)
    assert frames_of(peer) == [(BINARY, b'1', True)]
    with conn.send_stream(text=True) as out:
        with pytest.raises(TypeError, match='chunk is bytes, expected str'):
            out.write(b'x')  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            out.write('a\ud800')
        out.write('ok')
    assert frames_of(peer) == [(TEXT, b'ok', True)]


def test_control_frames_go_in_between(ends: Ends, say: Say) -> None:
    conn, peer = ends
    with conn.send_stream() as out:
        out.write(b'1')
        out.flush()
        conn.send_ping(b'p')
        conn.send(twspy.Message(PONG, b'unasked'))
        conn.sock.send(twspy.ControlFrame(PING, b'frame'))
        say(PING, b'asked')
        say(TEXT, b'received meanwhile')
        assert conn.recv().payload == 'received meanwhile'
        out.write(b'2')
    assert frames_of(peer) == [
        (BINARY, b'1', False),
        (PING, b'p', True),
        (PONG, b'unasked', True),
        (PING, b'frame', True),
        (PONG, b'asked', True),
        (CONTINUATION, b'2', True),
    ]


def test_messages_of_the_same_thread_are_refused(ends: Ends) -> None:
    conn, peer = ends
    with conn.send_stream() as out:
        out.write(b'1')
        for send in (
            lambda: conn.send('x'),
            lambda: conn.send('xyz', 1),
            lambda: conn.send(b'x' * 100_000),
            lambda: conn.sock.send(twspy.Frame(TEXT, 'x')),
            lambda: conn.send_stream().__enter__(),
        ):
            with pytest.raises(twspy.ConcurrencyError, match='this thread'):
                send()
    conn.send('free')
    assert frames_of(peer) == [(BINARY, b'1', True)]
    assert frames_of(peer) == [(TEXT, b'free', True)]


def test_messages_of_other_threads_wait(ends: Ends) -> None:
    conn, peer = ends
    with conn.send_stream() as out:
        out.write(b'1')
        out.flush()

        def late() -> None:
            with pytest.raises(TimeoutError):
                conn.send('never', timeout=0.05)
            with pytest.raises(TimeoutError):
                conn.send_stream(timeout=0.05).__enter__()

        assert in_thread(late)() is None

        def stream() -> None:
            with conn.send_stream(fragment_size=1) as other:
                other.write(b'abc')

        waiting = [
            in_thread(lambda: conn.send('whole', 2)),
            in_thread(lambda: conn.send(b'x' * 100_000)),
            in_thread(lambda: conn.sock.send(twspy.Frame(TEXT, 'frame'))),
            in_thread(stream),
        ]
        for _ in range(20):
            out.write(b'2')
            out.flush()
            time.sleep(0.005)
    frames = frames_of(peer)
    assert [f[1] for f in frames] == [b'1'] + [b'2'] * 20 + [b'']
    messages = []
    for _ in waiting:
        frames = frames_of(peer)
        opcodes = [f[0] for f in frames]
        assert opcodes[1:] == [CONTINUATION] * (len(frames) - 1)
        messages.append((opcodes[0], b''.join(f[1] for f in frames)))
    assert sorted(messages) == [
        (TEXT, b'frame'),
        (TEXT, b'whole'),
        (BINARY, b'abc'),
        (BINARY, b'x' * 100_000),
    ]
    assert [join() for join in waiting] == [None] * 4


def test_many_threads_with_streams_and_messages(
    pair: tuple[twspy.Connection, twspy.Connection],
) -> None:
    """No piece gets into another message, whoever sends."""
    ours, theirs = pair

    def send(number: int) -> None:
        mark = bytes([number])
        for i in range(30):
            if number % 2:
                with ours.send_stream(fragment_size=7) as out:
                    for _ in range(i):
                        out.write(mark * 3)
                        ours.send_ping()
            else:
                ours.send(mark * 50, 7)

    threads = [in_thread(lambda n=n: send(n)) for n in range(6)]  # type: ignore
    for _ in range(6 * 30):
        payload = bytes(theirs.recv().payload)  # type: ignore[arg-type]
        assert len(set(payload)) <= 1
    assert [join() for join in threads] == [None] * 6


def test_an_exception_in_the_block(ends: Ends, say: Say) -> None:
    conn, peer = ends
    # Nothing is out: nothing has happened.
    with pytest.raises(KeyError):
        with conn.send_stream() as out:
            out.write(b'1')
            raise KeyError
    assert out.closed
    assert conn.state == 'open'
    conn.send('still there')
    assert frames_of(peer) == [(TEXT, b'still there', True)]
    with pytest.raises(KeyError):
        with conn.send_stream() as out:
            out.write(b'1')
            out.flush()
            out.write(b'2')
            raise KeyError
    assert conn.state == 'closing'
    assert peer.read_frame()[:3] == (BINARY, b'1', False)
    frame = peer.read_frame()
    assert frame.close_code == 1011
    assert 'unfinished' in frame.close_reason
    for send in (lambda: conn.send('x'), conn.send_stream().__enter__):
        with pytest.raises(twspy.SocketClosed):
            send()
    say(CLOSE, close_payload(1011))
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(twspy.SocketClosed) as caught:
        conn.recv()
    assert caught.value.code == 1011


def test_a_stream_that_is_never_left(ends: Ends) -> None:
    """It must not hold up others for ever, nor be taken for whole."""
    conn, peer = ends
    out = conn.send_stream().__enter__()
    out.write(b'1')
    del out
    conn.send('free')
    assert frames_of(peer) == [(TEXT, b'free', True)]
    out = conn.send_stream().__enter__()
    out.write(b'1')
    out.flush()
    del out
    assert peer.read_frame()[:3] == (BINARY, b'1', False)
    assert peer.read_frame().close_code == 1011
    with pytest.raises(twspy.SocketClosed):
        conn.send('x')


def test_our_close_in_the_middle(ends: Ends, say: Say) -> None:
    conn, peer = ends
    with pytest.raises(twspy.SocketClosed):
        with conn.send_stream() as out:
            out.write(b'1')
            out.flush()
            say(CLOSE, close_payload(1000))
            peer.sock.shutdown(socket.SHUT_WR)
            conn.close()
    assert out.closed
    assert peer.read_frame()[:3] == (BINARY, b'1', False)
    assert peer.read_frame().close_code == 1000


def test_the_peers_close_in_the_middle(ends: Ends, say: Say) -> None:
    conn, peer = ends
    with conn.send_stream() as out:
        out.write(b'1')
        out.flush()
        say(CLOSE, close_payload(1001))
        peer.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(twspy.SocketClosed):
            conn.recv()
        for _ in range(2):
            with pytest.raises(twspy.SocketClosed) as caught:
                out.flush()
                out.write(bytes(100_000))
            assert caught.value.code == 1001
        with pytest.raises(twspy.SocketClosed):
            out.__exit__(None, None, None)
    assert out.closed


def test_the_peer_dies_while_we_send(ends: Ends) -> None:
    conn, peer = ends
    with pytest.raises(twspy.SocketClosed):
        with conn.send_stream() as out:
            out.write(b'1' * 100_000)
            peer.reset()
            while True:
                out.write(b'1' * 100_000)
    assert out.closed


def test_back_pressure_and_timeouts(ends: Ends) -> None:
    """What was taken is sent, what was not is written again."""
    conn, peer = with_small_buffers(ends)
    chunk = 1_000_000  # more than the system takes at once
    sent = 0
    with conn.send_stream(timeout=0.05) as out:
        with pytest.raises(TimeoutError):
            while True:
                out.write(bytes([sent % 251]) * chunk)
                sent += 1
        assert sent * chunk < 64 * MIB
        frames = in_thread(lambda: frames_of(peer))
        for _ in range(3):
            while True:
                try:
                    out.write(bytes([sent % 251]) * chunk)
                    break
                except TimeoutError:
                    pass
            sent += 1
        while True:
            try:
                out.flush()
                break
            except TimeoutError:
                pass
    result = frames()
    assert isinstance(result, list)
    data = b''.join(f[1] for f in result)
    assert len(data) == sent * chunk
    for i in range(sent):
        assert data[i * chunk : (i + 1) * chunk] == (bytes([i % 251]) * chunk)


def test_a_non_blocking_websocket(ends: Ends) -> None:
    conn, peer = with_small_buffers(ends)
    conn.sock.setblocking(False)
    sent = 0
    with conn.send_stream(fragment_size=10_000) as out:
        with pytest.raises(BlockingIOError):
            while True:
                out.write(bytes(3000))
                sent += 3000
        frames = in_thread(lambda: frames_of(peer))
        conn.sock.settimeout(SOON)
        out.write(bytes(3000))
    result = frames()
    assert isinstance(result, list)
    assert sum(len(f[1]) for f in result) == sent + 3000


def test_a_message_that_can_not_end_in_time(ends: Ends) -> None:
    conn, peer = with_small_buffers(ends)
    with pytest.raises(TimeoutError):
        with conn.send_stream(timeout=0.05) as out:
            with pytest.raises(TimeoutError):
                while True:
                    out.write(bytes(100_000))
            out.write(b'')
    assert conn.state == 'closing'
    closing = in_thread(lambda: conn.close(timeout=SOON))
    frame = peer.read_frame()
    while frame.opcode != CLOSE:
        assert not frame.fin
        frame = peer.read_frame()
    assert frame.close_code == 1011
    peer.close()
    assert closing() is None


def test_interrupted_writes_lose_nothing(
    ends: Ends, alarm: Callable[[float], None]
) -> None:
    """The stream owns what it has begun to send of a chunk."""
    conn, peer = with_small_buffers(ends)
    with conn.send_stream() as out:
        try:
            alarm(0.2)
            while True:
                out.write(bytes(3_000_000))
        except Interrupt:
            pass
        frames = in_thread(lambda: frames_of(peer))
        out.write(b'the end')
    result = frames()
    assert isinstance(result, list)
    data = b''.join(f[1] for f in result)
    assert len(data) == 3_000_007
    assert data.endswith(b'\0the end')


def test_two_threads_use_one_stream(ends: Ends) -> None:
    conn, peer = with_small_buffers(ends)
    with conn.send_stream() as out:

        def fill() -> None:
            while True:
                # Without a GIL it may meet a flush(), and not the reverse.
                with suppress(twspy.ConcurrencyError):
                    out.write(bytes(3_000_000))
                    return

        done = in_thread(fill)
        with pytest.raises(twspy.ConcurrencyError, match='another call'):
            while True:
                out.flush()
        frames = in_thread(lambda: frames_of(peer))
        assert done() is None
    result = frames()
    assert isinstance(result, list)
    assert sum(len(f[1]) for f in result) == 3_000_000


def test_hooks_on_frames_see_the_pieces(ends: Ends) -> None:
    conn, peer = ends

    def upper(frame: twspy.Frame) -> twspy.Frame:
        return twspy.Frame(
            frame.opcode, frame.payload.upper(), final=frame.final
        )

    def refuse(message: twspy.Message) -> twspy.Message:
        raise AssertionError(message)

    conn.sock.add_hook(send=upper)
    conn.add_hook(send=refuse)
    with conn.send_stream(fragment_size=3) as out:
        out.write(b'abcde')
        with pytest.raises(twspy.ConcurrencyError):
            conn.sock.send(twspy.Frame(TEXT, 'x'))
    assert frames_of(peer) == [
        (BINARY, b'ABC', False),
        (CONTINUATION, b'DE', True),
    ]

    def fail(frame: twspy.Frame) -> twspy.Frame:
        raise KeyError

    conn.sock.add_hook(send=fail, prepend=True)
    with pytest.raises(KeyError):
        with conn.send_stream() as out:
            out.write(b'x')
    assert conn.state == 'open'


# With other implementations -------------------------------------------------


def test_streaming_to_and_from_websockets() -> None:
    parts = [SMALL * 1000, 'x', '', SMALL]

    def handle(foreign: ServerConnection) -> None:
        chunks = list(foreign.recv_streaming())
        assert len(chunks) > 1
        foreign.send(iter(chunks))
        foreign.send(parts)

    with foreign_serve(handle, '127.0.0.1', 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with twspy.connect(f'ws://127.0.0.1:{port}/') as conn:
            with conn.send_stream(fragment_size=1000) as out:
                for i in range(256):
                    out.write(bytes([i]) * 100)
            assert b''.join(conn.recv_stream()) == b''.join(
                bytes([i]) * 100 for i in range(256)
            )
            assert ''.join(conn.recv_stream()) == ''.join(parts)
        server.shutdown()
        thread.join()


def test_streaming_to_and_from_a_client_of_websockets() -> None:
    class StreamingServer(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            with client.send_stream(text=True, fragment_size=1000) as out:
                for chunk in client.recv_stream():
                    out.write(chunk)

    with StreamingServer() as server:
        port = server.address[1]
        with foreign_connect(f'ws://127.0.0.1:{port}/') as foreign:
            foreign.send('go')
            foreign.send([SMALL * 1000, '', SMALL])
            chunks = list(foreign.recv_streaming())
            assert ''.join(chunks) == SMALL * 1001  # type: ignore[arg-type]
            assert len(chunks) > 1


# Clients of a Server --------------------------------------------------------


class Uploads(EchoServer):
    """`read` reads the next message in chunks and answers with its length;
    `echo` sends it back in pieces; others are echoed."""

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        if message.payload == 'read':
            length = sum(len(chunk) for chunk in client.recv_stream(SOON))
            client.send(str(length))
        elif message.payload == 'echo':
            with client.send_stream() as out:
                for chunk in client.recv_stream(SOON):
                    out.write(chunk)
        elif message.payload == 'some':
            next(client.recv_stream())
        else:
            client.send(message)


@pytest.fixture
def server() -> Iterator[Uploads]:
    with Uploads(max_size=100_000) as server:
        yield server


def upload(peer: RawPeer, count: int, size: int = 100_000) -> None:
    for i in range(count):
        peer.send_frame(
            CONTINUATION if i else BINARY, bytes(size), fin=i == count - 1
        )


def test_handlers_read_in_chunks(server: Uploads) -> None:
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'read')
        upload(peer, 50)
        assert peer.read_frame().payload == b'5000000'
        peer.send_frame(TEXT, b'some')
        upload(peer, 50)
        peer.echo()
        with RawPeer.connect(server.address) as other:
            peer.send_frame(TEXT, b'read')
            peer.send_frame(BINARY, b'x', fin=False)
            other.echo()
            peer.send_frame(CONTINUATION)
            assert peer.read_frame().payload == b'1'
        peer.send_frame(TEXT, b'read')
        peer.send_frame(BINARY, b'x', fin=False)
        peer.send_frame(CLOSE, close_payload(1000))
        assert peer.read_frame().close_code == 1000
    _, error = server.wait_for('error', peer)
    assert isinstance(error, twspy.SocketClosed)


def test_a_handler_may_limit_what_it_reads(server: Uploads) -> None:
    def onmessage(client: twspy.Connection, message: twspy.Message) -> None:
        stream = client.recv_stream(max_size=5)
        try:
            list(stream)
        except twspy.ProtocolError as error:
            server.events.put(('limit', client, error.code))

    server.onmessage = onmessage  # type: ignore[method-assign]
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'go')
        peer.send_frame(TEXT, b'123456')
        assert peer.read_frame().close_code == 1009
    assert server.wait_for('limit', peer)[1] == 1009


def test_chunks_only_inside_of_the_clients_handlers(server: Uploads) -> None:
    streams: list[twspy.RecvStream] = []

    def onmessage(client: twspy.Connection, message: twspy.Message) -> None:
        if streams:
            with pytest.raises(RuntimeError, match='the rest of this'):
                next(streams[0])
        else:
            streams.append(client.recv_stream())
            next(streams[0])
        client.send('done')

    server.onmessage = onmessage  # type: ignore[method-assign]
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'go')
        peer.send_frame(TEXT, b'x', fin=False)
        assert peer.read_frame().payload == b'done'
        with pytest.raises(twspy.ConcurrencyError, match='own handlers'):
            next(streams[0])
        peer.send_frame(CONTINUATION, b'x')
        peer.send_frame(TEXT, b'go')
        assert peer.read_frame().payload == b'done'


def test_timeouts_in_a_handler(server: Uploads) -> None:
    def onmessage(client: twspy.Connection, message: twspy.Message) -> None:
        stream = client.recv_stream(timeout=0.05)
        chunks: list[str | bytes] = []
        while not chunks or chunks[-1] != 'end':
            try:
                chunks.append(next(stream))
            except TimeoutError:
                client.send('late')
        client.send(''.join(map(str, chunks)))

    server.onmessage = onmessage  # type: ignore[method-assign]
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'go')
        assert peer.read_frame().payload == b'late'
        peer.send_frame(TEXT, b'begin', fin=False)
        assert peer.read_frame().payload == b'late'
        peer.send_frame(CONTINUATION, b'end')
        while (answer := peer.read_frame().payload) == b'late':
            pass
        assert answer == b'beginend'


def test_fragments_without_payload_in_a_handler(server: Uploads) -> None:
    def onmessage(client: twspy.Connection, message: twspy.Message) -> None:
        stream = client.recv_stream(timeout=0.3)
        try:
            next(stream)
        except TimeoutError:
            server.events.put(('late', client))
            client.sock.close()

    server.onmessage = onmessage  # type: ignore[method-assign]
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'go')
        peer.send_frame(TEXT, b'', fin=False)
        with flooded(peer, b'\0\x80\0\0\0\0'):
            server.wait_for('late', peer)


def test_a_served_client_is_sent_pieces(server: Uploads) -> None:
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'echo')
        sender = in_thread(lambda: upload(peer, 50))
        frames = frames_of(peer)
        assert sender() is None
        assert b''.join(f[1] for f in frames) == bytes(5_000_000)
        assert all(len(f[1]) == 64 * KIB for f in frames[:-1])


def open_client(server: EchoServer) -> tuple[twspy.Connection, RawPeer]:
    peer = RawPeer.connect(server.address)
    (client,) = server.wait_for('open', peer)
    return client, peer


def test_messages_queue_behind_the_pieces(server: Uploads) -> None:
    client, peer = open_client(server)
    with peer:
        with client.send_stream(fragment_size=2) as out:
            out.write(b'12')
            assert server.broadcast('to all') == 1
            for send in (
                lambda: client.send('x'),
                lambda: client.send_stream().__enter__(),
            ):
                with pytest.raises(twspy.ConcurrencyError, match='this thr'):
                    send()
            assert in_thread(lambda: client.send('fragments', 5))() is None
            client.sock.send(twspy.Frame(TEXT, 'a frame'))
            client.send_ping(b'p')
            peer.send_frame(PING, b'asked')
            frames = [peer.read_frame()[:2] for _ in range(3)]
            assert sorted(frames) == [
                (BINARY, b'12'),
                (PING, b'p'),
                (PONG, b'asked'),
            ]
            assert client.queued == 2 + 6 + 2 + 5 + 2 + 4 + 2 + 7
            out.write(b'3')
            out.flush()
            assert peer.read_frame()[:2] == (CONTINUATION, b'3')
        assert frames_of(peer) == [(CONTINUATION, b'', True)]
        assert frames_of(peer) == [(TEXT, b'to all', True)]
        assert frames_of(peer) == [
            (TEXT, b'fragm', False),
            (CONTINUATION, b'ents', True),
        ]
        assert frames_of(peer) == [(TEXT, b'a frame', True)]
        client.send('free')
        assert frames_of(peer) == [(TEXT, b'free', True)]


def test_what_queues_behind_is_bounded() -> None:
    with EchoServer(max_queue=10_000, send_timeout=0.05) as server:
        client, peer = open_client(server)
        with peer, client.send_stream() as out:
            out.write(b'1')
            sent = 0
            while server.broadcast('x' * 1000):
                sent += 1
            assert 9 <= sent <= 11

            def late() -> None:
                with pytest.raises(TimeoutError):
                    client.send('x', timeout=0.05)
                with pytest.raises(TimeoutError):
                    client.send('x')
                with pytest.raises(TimeoutError):
                    client.send_stream().__enter__()

            assert in_thread(late)() is None
            waiting = in_thread(lambda: client.send('waited', timeout=SOON))
            assert server.broadcast('x') == 0
            out.__exit__(None, None, None)
            assert frames_of(peer) == [(BINARY, b'1', True)]
            for _ in range(sent):
                assert peer.read_frame().payload == b'x' * 1000
            assert waiting() is None
            assert peer.read_frame().payload == b'waited'
            assert server.broadcast('x') == 1
            assert client.state == 'open'


def test_onsent_of_what_queues_behind() -> None:
    class Sent(EchoServer):
        def onsent(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            self.events.put(('sent', client, message.payload))

    with Sent() as server:
        client, peer = open_client(server)
        with peer:
            with client.send_stream() as out:
                out.write(b'1')
                server.broadcast('one')
                assert in_thread(lambda: client.send('two'))() is None
                out.flush()
            assert server.wait_for('sent', peer)[1] == 'one'
            assert server.wait_for('sent', peer)[1] == 'two'


def test_back_pressure_of_a_served_client() -> None:
    """Not more than the queue holds is in memory; the handler waits."""
    with EchoServer(max_queue=100_000) as server:
        most = 0
        total = 20 * MIB

        def onmessage(
            client: twspy.Connection, message: twspy.Message
        ) -> None:
            nonlocal most
            with client.send_stream() as out:
                for _ in range(total // (64 * KIB)):
                    out.write(bytes(64 * KIB))
                    most = max(most, client.queued)

        server.onmessage = onmessage  # type: ignore[method-assign]
        with RawPeer.connect(server.address) as peer:
            peer.send_frame(TEXT, b'go')
            frames = frames_of(peer)
        assert sum(len(f[1]) for f in frames) == total
        assert 0 < most < 300_000


def test_a_served_client_that_does_not_read_is_dropped() -> None:
    with EchoServer(max_queue=100_000, send_timeout=0.1) as server:
        client, peer = open_client(server)
        with peer, pytest.raises(twspy.SocketClosed, match='send_timeout'):
            with client.send_stream() as out:
                while True:
                    out.write(bytes(100_000))
        client, peer = open_client(server)
        with peer, pytest.raises(TimeoutError):
            with client.send_stream(timeout=0.05) as out:
                while True:
                    out.write(bytes(100_000))


def test_an_exception_in_a_handlers_block(server: Uploads) -> None:
    def onmessage(client: twspy.Connection, message: twspy.Message) -> None:
        with client.send_stream() as out:
            out.write(b'1')
            if message.payload == 'flush':
                out.flush()
            raise KeyError(message.payload)

    server.onmessage = onmessage  # type: ignore[method-assign]
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'no')
        assert isinstance(server.wait_for('error', peer)[1], KeyError)
        peer.send_frame(TEXT, b'flush')
        assert peer.read_frame()[:3] == (BINARY, b'1', False)
        frame = peer.read_frame()
        assert frame.close_code == 1011
        peer.send_frame(CLOSE, close_payload(1011))
        peer.expect_end()
    assert server.wait_for('close', peer)[1] == 1011


def test_a_served_client_that_goes_in_the_middle(server: Uploads) -> None:
    client, peer = open_client(server)
    with pytest.raises(twspy.SocketClosed):
        with client.send_stream() as out:
            out.write(b'1')
            out.flush()
            server.broadcast('never')
            peer.reset()
            server.wait_for('close', peer)
            out.write(b'2')
    assert out.closed
    with pytest.raises(twspy.SocketClosed):
        client.send_stream().__enter__()


def test_hooks_of_a_served_client_see_the_pieces(server: Uploads) -> None:
    client, peer = open_client(server)

    def upper(frame: twspy.Frame) -> twspy.Frame:
        return twspy.Frame(
            frame.opcode, frame.payload.upper(), final=frame.final
        )

    client.sock.add_hook(send=upper)
    with peer:
        with client.send_stream(fragment_size=3) as out:
            out.write(b'abcde')
            assert in_thread(lambda: client.send('behind'))() is None
            assert server.broadcast('and this') == 1
        assert frames_of(peer) == [
            (BINARY, b'ABC', False),
            (CONTINUATION, b'DE', True),
        ]
        assert frames_of(peer) == [(TEXT, b'BEHIND', True)]
        assert frames_of(peer) == [(TEXT, b'AND THIS', True)]


def test_a_stop_in_the_middle(server: Uploads) -> None:
    client, peer = open_client(server)
    with peer, pytest.raises(twspy.SocketClosed):
        with client.send_stream() as out:
            out.write(b'1')
            out.flush()
            stopping = in_thread(server.stop)
            assert peer.read_frame()[:3] == (BINARY, b'1', False)
            assert peer.read_frame().close_code == 1001
            peer.send_frame(CLOSE, close_payload(1001))
            peer.sock.shutdown(socket.SHUT_WR)
            assert stopping() is None
            out.write(b'2')
            out.flush()


@pytest.mark.parametrize('way', ['native', 'context'])
def test_a_served_client_over_tls(
    certificates: Certificates, way: str
) -> None:
    ours: dict[str, Any] = {'ssl': certificates.server_context()}
    if way == 'native':
        ours = {
            'ssl_args': {
                'certfile': certificates.server.certfile,
                'keyfile': certificates.server.keyfile,
            }
        }
    data = os.urandom(3 * MIB)
    parts = [data[:1000], data[1000:MIB], data[MIB:]]
    with Uploads(**ours) as server:
        url = f'wss://localhost:{server.address[1]}/'
        context = certificates.client_context()
        # That client reads and sends on two threads at once: with TLS 1.3,
        # whose tickets come meanwhile, Python's ssl may lose the request.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with foreign_connect(url, ssl=context, max_size=None) as foreign:
            foreign.send('echo')
            sending = in_thread(lambda: foreign.send(parts))
            answer = b''.join(foreign.recv_streaming())  # type: ignore
            assert sending() is None
            assert answer == data
            foreign.send('still there')
            assert foreign.recv() == 'still there'


# Memory ---------------------------------------------------------------------

MEMORY = """
import sys, threading
import twspy

SIZE, BLOCK, WAY = 64 << 20, 64 << 10, sys.argv[1]

def rss():
    with open('/proc/self/status') as status:
        for line in status:
            if line.startswith('RssAnon'):
                return int(line.split()[1]) << 10

def send(conn, block):
    with conn.send_stream(text=isinstance(block, str)) as out:
        for _ in range(SIZE // BLOCK):
            out.write(block)

class Server(twspy.Server):
    def onmessage(self, client, message):
        if message.payload == 'read':
            client.send(str(sum(map(len, client.recv_stream()))))
        else:
            send(client, bytes(BLOCK))

def run(ours, theirs, block):
    thread = threading.Thread(target=send, args=(ours, block))
    thread.start()
    most = total = 0
    for chunk in theirs.recv_stream():
        total += len(chunk.encode() if isinstance(chunk, str) else chunk)
        most = max(most, rss())
    thread.join()
    assert total == SIZE, total
    return most

def skip(ours, theirs):
    thread = threading.Thread(target=send, args=(ours, bytes(BLOCK)))
    thread.start()
    next(theirs.recv_stream())
    most = 0
    while thread.is_alive():
        try:
            theirs.recv(timeout=0.01)
        except TimeoutError:
            most = max(most, rss())
    return most

def served(way):
    with Server(('127.0.0.1', 0)) as server:
        url = 'ws://127.0.0.1:%d/' % server.address[1]
        with twspy.connect(url) as conn:
            conn.send(way)
            before = rss()
            most = 0
            if way == 'read':
                send(conn, bytes(BLOCK))
                most = rss()
                assert conn.recv().payload == str(SIZE)
            else:
                for chunk in conn.recv_stream():
                    most = max(most, rss())
            return most - before

def measure():
    if WAY in ('read', 'write'):
        return served(WAY)
    ours, theirs = twspy.pair()
    if WAY == 'server':
        ours, theirs = theirs, ours
    block = 'é' * (BLOCK // 2) if WAY == 'text' else bytes(BLOCK)
    before = rss()
    most = (skip if WAY == 'skip' else run)(
        ours, theirs, *(() if WAY == 'skip' else (block,)))
    ours.sock.close()
    theirs.sock.close()
    return most - before

print(measure())
"""


@pytest.mark.parametrize(
    'way', ['client', 'server', 'text', 'skip', 'read', 'write']
)
def test_64_mib_take_little_memory(way: str) -> None:
    """Of both ends together, in a process of their own."""
    options = os.environ.get('ASAN_OPTIONS', '')
    done = subprocess.run(
        [sys.executable, '-c', MEMORY, way],
        capture_output=True,
        text=True,
        timeout=50,
        # A sanitizer keeps what was freed, up to this.
        env={**os.environ, 'ASAN_OPTIONS': f'{options}:quarantine_size_mb=1'},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 6 * MIB
