"""Nothing but what a program has given leaves a process: no byte of memory
that was not written, whatever type an argument has."""

from __future__ import annotations

import array
import ctypes
import mmap
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from programs import Program
from rawends import answer, client_end, in_thread, read_request, server_end
from rawpeer import BINARY, CLOSE, PING, PONG, TEXT, RawPeer
from servers import EchoServer

import twspy

Ends = tuple[twspy.Connection, RawPeer]


class Lying(str):
    """A str whose methods tell something else."""

    def __len__(self) -> int:
        return 100

    def encode(self, *args: Any) -> bytes:
        return b'x' * 100


@pytest.fixture(params=['client', 'server', 'served'])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    if request.param == 'served':
        with EchoServer() as server:
            with RawPeer.connect(server.address) as peer:
                (client,) = server.wait_for('open')
                yield client, peer
        return
    make = client_end if request.param == 'client' else server_end
    sock, peer = make(close_timeout=0)
    with twspy.Connection(sock) as connection, peer:
        yield connection, peer
        sock.close()


def nothing_was_sent(connection: twspy.Connection, peer: RawPeer) -> None:
    """What is sent now is the first that the peer gets."""
    connection.send('next')
    assert peer.read_frame()[:2] == (TEXT, b'next')


WRONG_REASONS: list[Any] = [
    b'bytes',
    bytearray(b'bytes'),
    memoryview(b'bytes'),
    10,
    100_000,
    1.5,
    True,
    None,
    ['list'],
    {'a': 1},
    object(),
    array.array('B', b'abc'),
]


@pytest.mark.parametrize(
    'reason', WRONG_REASONS, ids=lambda each: type(each).__name__
)
def test_a_close_reason_of_another_type(ends: Ends, reason: Any) -> None:
    connection, peer = ends
    with pytest.raises(TypeError):
        connection.close(1000, reason)
    with pytest.raises(TypeError):
        twspy.CloseMessage(1000, reason)
    nothing_was_sent(connection, peer)


@pytest.mark.parametrize('reason', ['x' * 124, 'é' * 62, '\ud800', 'a\udcff'])
def test_a_close_reason_that_can_not_be_sent(ends: Ends, reason: str) -> None:
    connection, peer = ends
    with pytest.raises(ValueError):
        connection.close(1000, reason)
    nothing_was_sent(connection, peer)


@pytest.mark.parametrize(
    ('code', 'reason', 'payload'),
    [
        (1000, '', b'\x03\xe8'),
        (1001, 'é' * 61, b'\x03\xe9' + 'é'.encode() * 61),
        (4999, 'x' * 123, b'\x13\x87' + b'x' * 123),
        (3000, Lying('short'), b'\x0b\xb8short'),
    ],
)
def test_a_close_frame_holds_what_was_given(
    ends: Ends, code: int, reason: str, payload: bytes
) -> None:
    connection, peer = ends
    join = in_thread(lambda: connection.close(code, reason, timeout=0.1))
    frame = peer.read_frame()
    assert (frame.opcode, frame.payload) == (CLOSE, payload)
    peer.sock.close()
    join()


def buffers() -> dict[str, Any]:
    """Every kind of buffer that a program may have."""
    raw = b'\x00\x01payload\xfe\xff'
    shared = mmap.mmap(-1, len(raw))
    shared.write(raw)
    return {
        'bytes': raw,
        'bytearray': bytearray(raw),
        'memoryview': memoryview(raw),
        'memoryview of a part': memoryview(b'secret' + raw + b'secret')[6:-6],
        'writable memoryview': memoryview(bytearray(raw)),
        'items of two bytes': array.array('H', [0, 0xFFFF, 258]),
        'items of eight bytes': array.array('d', [1.5, -0.0]),
        'two dimensions': memoryview(bytes(12)).cast('B', (3, 4)),
        'ctypes': (ctypes.c_ubyte * 5)(1, 2, 3, 4, 5),
        'struct with padding': ctypes.c_uint64(7),
        'mmap': shared,
        'nothing': b'',
        'memoryview of nothing': memoryview(raw)[3:3],
        'longest of a ping': bytes(range(125)),
    }


@pytest.mark.parametrize('name', buffers())
def test_buffers_are_sent_as_they_are(ends: Ends, name: str) -> None:
    connection, peer = ends
    value = buffers()[name]
    raw = bytes(memoryview(value).cast('B')) if len(bytes(value)) else b''
    connection.send_ping(value)
    assert peer.read_frame()[:2] == (PING, raw)
    connection.send(value)
    assert peer.read_frame()[:2] == (BINARY, raw)
    connection.send(twspy.BinaryMessage(value))
    assert peer.read_frame()[:2] == (BINARY, raw)
    assert twspy.Frame(BINARY, value).payload == raw
    with connection.send_stream() as out:
        out.write(value)
    assert peer.read_frame().payload == raw


WRONG_PAYLOADS: list[Any] = [
    10,
    100_000,
    -1,
    1.5,
    None,
    [1, 2],
    {'a': 1},
    object(),
]


@pytest.mark.parametrize(
    'payload', WRONG_PAYLOADS, ids=lambda each: type(each).__name__
)
def test_what_is_no_buffer_is_refused(ends: Ends, payload: Any) -> None:
    """A number above all, which is no size of a buffer to be sent."""
    connection, peer = ends
    refused = TypeError, BufferError
    makers: list[Callable[[], object]] = [
        lambda: connection.send(payload),
        lambda: connection.send_ping(payload),
        lambda: twspy.BinaryMessage(payload),
        lambda: twspy.TextMessage(payload),
        lambda: twspy.Frame(BINARY, payload),
        lambda: twspy.ControlFrame(PING, payload),
        lambda: twspy.Message(BINARY, payload),
    ]
    for make in makers:
        with pytest.raises(refused):
            make()
    nothing_was_sent(connection, peer)


@pytest.mark.parametrize('step', [2, -1])
def test_buffers_not_in_one_piece(ends: Ends, step: int) -> None:
    """They are put together or refused, and what lies between stays."""
    connection, peer = ends
    view = memoryview(b'abcdef')[::step]
    for send, opcode in (
        (connection.send, BINARY),
        (connection.send_ping, PING),
        (lambda v: connection.send(twspy.BinaryMessage(v)), BINARY),
    ):
        try:
            send(view)
        except BufferError:
            continue
        assert peer.read_frame()[:2] == (opcode, bytes(view))
    nothing_was_sent(connection, peer)


@pytest.mark.parametrize('size', [0, 1, 124, 125])
def test_a_pong_echoes_its_ping(size: int) -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        payload = bytes(range(size))
        peer.send_frame(PING, payload)
        assert peer.read_frame()[:2] == (PONG, payload)


def test_a_buffer_can_not_change_under_us() -> None:
    """What the system has not taken yet is ours, or held."""
    sock, peer = client_end()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with sock, peer:
        data = bytearray(b'a' * 1_000_000)
        connection = twspy.Connection(sock)
        join = in_thread(lambda: connection.send(data))
        peer.read_exactly(1)  # it is under way
        try:
            data[:] = b'b'  # shrinks, where it is not held
        except BufferError:
            pass
        peer.buffer = b'\x82' + peer.buffer
        frame = peer.read_frame()
        assert frame.payload == b'a' * 1_000_000
        assert join() is None


# Does all that a client and a server send, on memory that malloc() fills with
# a pattern before it gives it out.
PROGRAM = """
import sys
import twspy

def talk(connection):
    for size in (0, 1, 5, 125, 126, 200, 65535, 65536, 100_000):
        connection.send(b'b' * size)
        connection.send('t' * size, fragment_size=50_000)
        connection.send(twspy.BinaryMessage(b'm' * size))
    for size in (0, 1, 124, 125):
        connection.send_ping(b'p' * size)
    with connection.send_stream() as out:
        out.write(b's' * 10)
        out.write(b's' * 70_000)
    connection.close(1000, 'r' * 123, timeout=0)

sock = twspy.websocket()
sock.connect(('127.0.0.1', int(sys.argv[1])))
talk(twspy.Connection(sock))

class Server(twspy.Server):
    def onopen(self, client):
        talk(client)

server = Server(('127.0.0.1', 0))
server.start()
print(server.address[1], flush=True)
sys.stdin.read()
server.stop()
"""


def expected() -> dict[int, bytes]:
    """All payloads of an opcode, one behind the other."""
    sizes = (0, 1, 5, 125, 126, 200, 65535, 65536, 100_000)
    return {
        BINARY: b''.join(b'b' * n + b'm' * n for n in sizes) + b's' * 70_010,
        TEXT: b''.join(b't' * n for n in sizes),
        PING: b'p' * (1 + 124 + 125),
        CLOSE: b'\x03\xe8' + b'r' * 123,
    }


def read_all(peer: RawPeer) -> dict[int, bytes]:
    found = dict.fromkeys((BINARY, TEXT, PING, CLOSE), b'')
    opcode = 0
    while not found[CLOSE]:
        frame = peer.read_frame()
        if frame.opcode < CLOSE:
            opcode = frame.opcode or opcode
            found[opcode] += frame.payload
        else:
            found[frame.opcode] += frame.payload
    return found


def test_no_fresh_memory_is_sent() -> None:
    env = {'MALLOC_PERTURB_': '165', 'PYTHONMALLOC': 'malloc'}
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = str(listener.getsockname()[1])
        command = sys.executable, '-W', 'ignore', '-c', PROGRAM, port
        with Program(*command, env=env) as program:
            with RawPeer(listener.accept()[0]) as peer:
                first, head = read_request(peer)
                assert first == 'GET / HTTP/1.1'
                assert head == {
                    'host': f'127.0.0.1:{port}',
                    'upgrade': 'websocket',
                    'connection': 'Upgrade',
                    'sec-websocket-key': head['sec-websocket-key'],
                    'sec-websocket-version': '13',
                }
                assert len(head['sec-websocket-key']) == 24
                peer.send(answer(head))
                assert read_all(peer) == expected()
            address = '127.0.0.1', int(program.wait_for(r'^\d+$')[0])
            with RawPeer.connect(address) as peer:
                assert read_all(peer) == expected()
            assert program.wait() == 0, program.text
