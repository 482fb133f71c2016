"""recv(), recvn() and pending() of an open websocket, against a peer that is
made of a plain socket; threads; calls in the wrong phase."""

import errno
import os
import random
import select
import socket
import time

import pytest
from rawends import (
    Ends,
    client_end,
    fill_up,
    in_thread,
    masks,
    server_end,
    tcp_pair,
    wait_until_receiving,
)
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, TEXT, pack

import twspy
from twspy import Frame, ProtocolError, SocketClosed

# --- receiving ---


def test_recv_gives_control_frames_unanswered(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)
    peer.send_frame(PING, b'are you there', mask=mask)
    peer.send_frame(CLOSE, b'\x03\xe8bye', mask=mask)
    ping, close = sock.recv(), sock.recv()
    assert isinstance(ping, twspy.ControlFrame)
    assert (ping.opcode, ping.payload) == (PING, b'are you there')
    assert isinstance(close, twspy.ControlFrame)
    assert close.unpack_close() == (1000, 'bye')
    sock.send(Frame(TEXT, 'nothing came before'))
    assert peer.read_frame().payload == b'nothing came before'


def test_recv_does_not_check_utf8_or_order(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)
    peer.send_frame(CONTINUATION, b'\xff\xfe', mask=mask)
    peer.send_frame(TEXT, b'\xff', fin=False, mask=mask)
    peer.send_frame(TEXT, b'\xc0', mask=mask)
    assert [f.payload for f in sock.recvn(3)] == [
        b'\xff\xfe',
        b'\xff',
        b'\xc0',
    ]


@pytest.mark.parametrize('size', [0, 5, 125, 300, 70_000])
def test_timeout_within_a_frame_loses_nothing(either: Ends, size: int) -> None:
    sock, peer = either
    payload = random.Random(5).randbytes(size)
    wire = pack(BINARY, payload, mask=masks(sock))
    cuts = {1, 2, 3, len(wire) // 2, len(wire) - 1, len(wire)}
    at = 0
    for cut in sorted(c for c in cuts if 0 < c <= len(wire)):
        sock.settimeout(0.03)
        with pytest.raises(TimeoutError):
            sock.recv()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv()
        peer.send(wire[at:cut])
        at = cut
    sock.settimeout(10)
    frame = sock.recv()
    assert (frame.opcode, frame.payload, frame.final) == (
        BINARY,
        payload,
        True,
    )


def test_bytes_one_at_a_time(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)
    wire = pack(TEXT, b'first', mask=mask) + pack(
        BINARY, bytes(200), mask=mask
    )
    sender = in_thread(
        lambda: [peer.send(wire[i : i + 1]) for i in range(len(wire))]
    )
    assert [f.payload for f in sock.recvn(2)] == [b'first', bytes(200)]
    sender()


def test_recv_times_out(either: Ends) -> None:
    sock, _ = either
    sock.settimeout(0.1)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match='timed out'):
        sock.recv()
    assert 0.09 < time.monotonic() - start < 5


def test_recv_does_not_block(either: Ends) -> None:
    sock, peer = either
    sock.setblocking(False)
    with pytest.raises(BlockingIOError) as caught:
        sock.recv()
    assert caught.value.errno == errno.EAGAIN
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    assert select.select([sock], [], [], 10)[0] == [sock]
    assert sock.recv().payload == b'x'


def test_recvn(either: Ends) -> None:
    sock, peer = either
    peer.send(
        b''.join(pack(TEXT, b'%d' % i, mask=masks(sock)) for i in range(5))
    )
    assert sock.recvn(0) == []
    assert [f.payload for f in sock.recvn(3)] == [b'0', b'1', b'2']
    assert [f.payload for f in sock.recvn(2)] == [b'3', b'4']
    with pytest.raises(ValueError, match='-1'):
        sock.recvn(-1)
    with pytest.raises(TypeError):
        sock.recvn('2')  # type: ignore[arg-type]


def test_recvn_keeps_what_it_had(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)

    def send(*numbers: int) -> None:
        peer.send(b''.join(pack(TEXT, b'%d' % i, mask=mask) for i in numbers))

    send(0, 1, 2)
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recvn(5)
    assert sock.pending() == 3
    with pytest.raises(TimeoutError):
        sock.recvn(5)
    send(3)
    with pytest.raises(TimeoutError):
        sock.recvn(5)
    assert sock.recv().payload == b'0'
    send(4, 5)
    assert [f.payload for f in sock.recvn(5)] == [b'1', b'2', b'3', b'4', b'5']
    assert sock.pending() == 0


def test_recvn_keeps_what_it_had_before_the_end(either: Ends) -> None:
    sock, peer = either
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    peer.close()
    with pytest.raises(SocketClosed):
        sock.recvn(2)
    assert sock.recv().payload == b'x'
    with pytest.raises(SocketClosed):
        sock.recv()


def test_pending_counts_whole_frames(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)
    assert sock.pending() == 0
    last = pack(BINARY, bytes(100), mask=mask)
    peer.send(pack(TEXT, b'x', mask=mask) * 4 + last[:-1])
    sock.recv()
    assert sock.pending() == 3
    # That is what select() does not tell.
    assert select.select([sock], [], [], 0)[0] == []
    assert [sock.recv().payload for _ in range(3)] == [b'x'] * 3
    assert sock.pending() == 0
    peer.send(last[-1:])
    assert sock.pending() == 0  # it does not read
    assert sock.recv().payload == bytes(100)


def test_pending_counts_a_frame_that_breaks_the_protocol(either: Ends) -> None:
    sock, peer = either
    mask = masks(sock)
    peer.send(pack(TEXT, b'x', mask=mask) + pack(3, b'', mask=mask))
    sock.recv()
    assert sock.pending() == 1
    with pytest.raises(ProtocolError):
        sock.recv()
    assert sock.pending() == 1


def test_bytes_behind_the_handshake_are_frames(
    request: pytest.FixtureRequest,
) -> None:
    for end, mask in ((client_end, False), (server_end, True)):
        sock, peer = end(behind=pack(TEXT, b'early', mask=mask) * 2)
        with sock, peer:
            assert sock.pending() == 2
            assert [f.payload for f in sock.recvn(2)] == [b'early'] * 2


# --- the end of the stream ---


def test_end_of_the_stream(either: Ends) -> None:
    sock, peer = either
    peer.send_frame(TEXT, b'last words', mask=masks(sock))
    peer.close()
    assert sock.recv().payload == b'last words'
    for _ in range(2):
        with pytest.raises(SocketClosed) as caught:
            sock.recv()
        assert (caught.value.code, caught.value.reason) == (1006, '')
        assert caught.value.__cause__ is None


@pytest.mark.parametrize('cut', [1, 3, -1])
def test_end_within_a_frame(either: Ends, cut: int) -> None:
    sock, peer = either
    peer.send(pack(TEXT, bytes(200), mask=masks(sock))[:cut])
    peer.close()
    with pytest.raises(SocketClosed, match='middle of a frame') as caught:
        sock.recv()
    assert caught.value.code == 1006


def test_reset(either: Ends) -> None:
    sock, peer = either
    peer.reset()
    time.sleep(0.05)
    with pytest.raises(SocketClosed) as caught:
        sock.recv()
    assert caught.value.code == 1006
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(SocketClosed):
        sock.recv()


def test_shutdown_tells_the_peer(either: Ends) -> None:
    sock, peer = either
    sock.send(Frame(TEXT, 'x'))
    sock.shutdown(socket.SHUT_WR)
    assert peer.read_frame().payload == b'x'
    peer.expect_end()
    peer.send_frame(TEXT, b'still open this way', mask=masks(sock))
    assert sock.recv().payload == b'still open this way'
    with pytest.raises(SocketClosed):
        sock.send(Frame(TEXT, 'y'))


# --- broken frames ---

BROKEN = {
    'reserved opcode 3': (pack(3), 1002),
    'reserved opcode 11': (pack(11), 1002),
    'rsv1': (pack(TEXT, rsv=4), 1002),
    'rsv2': (pack(TEXT, rsv=2), 1002),
    'rsv3': (pack(TEXT, rsv=1), 1002),
    'fragmented ping': (pack(PING, fin=False), 1002),
    'large ping': (pack(PING, bytes(126)), 1002),
    '16-bit length for 125': (pack(TEXT, bytes(125), length_bytes=2), 1002),
    '64-bit length for 65535': (
        pack(TEXT, b'', length=65535, length_bytes=8),
        1002,
    ),
    'length 2**63': (pack(TEXT, b'', length=1 << 63, length_bytes=8), 1002),
    'length 2**64-1': (
        pack(TEXT, b'', length=(1 << 64) - 1, length_bytes=8),
        1002,
    ),
    'length 2**63-1': (pack(TEXT, b'', length=(1 << 63) - 1), 1009),
    'a byte too many': (pack(TEXT, b'', length=(1 << 20) + 1), 1009),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_frame(server: Ends, name: str) -> None:
    sock, peer = server
    wire, code = BROKEN[name]
    peer.send(pack(TEXT, b'good') + wire)
    assert sock.recv().payload == b'good'
    messages = set()
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            sock.recv()
        assert caught.value.code == code
        messages.add(str(caught.value))
    assert len(messages) == 1
    # Closing is left to the caller, who can still say why.
    sock.send(Frame(CLOSE, code.to_bytes(2, 'big')))
    assert peer.read_frame().close_code == code


def test_max_size_by_the_header_alone() -> None:
    sock, peer = server_end(max_size=1000)
    with sock, peer:
        peer.send_frame(BINARY, bytes(1000))
        assert len(sock.recv().payload) == 1000
        peer.send(pack(BINARY, b'', length=1001)[:4])
        peer.send(b'abcd')
        with pytest.raises(ProtocolError, match=r'1001.*1000') as caught:
            sock.recv()
        assert caught.value.code == 1009


def test_max_size_spares_control_frames() -> None:
    sock, peer = server_end(max_size=0)
    with sock, peer:
        peer.send_frame(PING, bytes(125))
        peer.send_frame(TEXT)
        assert [len(f.payload) for f in sock.recvn(2)] == [125, 0]


def test_no_max_size() -> None:
    sock, peer = client_end(max_size=None)
    with sock, peer:
        payload = bytes(3 << 20)
        sender = in_thread(
            lambda: peer.send_frame(BINARY, payload, mask=False)
        )
        assert sock.recv().payload == payload
        sender()


def memory() -> int:
    """Resident bytes of this process."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def test_memory_grows_only_with_what_arrives() -> None:
    sock, peer = server_end(max_size=None)
    with sock, peer:
        sock.settimeout(0.05)
        before = memory()
        peer.send(pack(BINARY, bytes(100_000), length=1 << 40))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                sock.recv()
        assert memory() - before < 4 << 20


# --- threads ---


def test_second_thread_in_recv(either: Ends) -> None:
    sock, peer = either
    receiver = in_thread(sock.recv)
    wait_until_receiving(sock)
    with pytest.raises(twspy.ConcurrencyError, match='another thread'):
        sock.recv()
    assert sock.pending() == 0
    sock.send(Frame(TEXT, 'sending is fine'))
    assert peer.read_frame().payload == b'sending is fine'
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    assert receiver().payload == b'x'  # type: ignore[attr-defined]
    peer.send_frame(TEXT, b'y', mask=masks(sock))
    assert sock.recv().payload == b'y'


def test_close_wakes_recv(either: Ends) -> None:
    sock, peer = either
    receiver = in_thread(sock.recv)
    wait_until_receiving(sock)
    fd = sock.fileno()
    sock.close()
    assert sock.fileno() == -1
    error = receiver()
    assert isinstance(error, SocketClosed)
    assert 'another thread' in str(error)
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)
    peer.expect_end()


def test_close_wakes_send(narrow: Ends) -> None:
    sock, _ = narrow
    fill_up(sock, bytes(100_000))
    sock.settimeout(None)
    fd = sock.fileno()
    sender = in_thread(lambda: sock.send(Frame(TEXT, 'x')))
    time.sleep(0.2)
    sock.close()
    assert isinstance(sender(), OSError)
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)


def test_gil_is_free_while_waiting(either: Ends) -> None:
    sock, peer = either
    receiver = in_thread(sock.recv)
    wait_until_receiving(sock)
    start = time.perf_counter()
    sum(range(100_000))
    assert time.perf_counter() - start < 5
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    receiver()


# --- phases ---


def test_calls_without_a_connection() -> None:
    with twspy.websocket() as sock:
        for call in (sock.recv, lambda: sock.recvn(1), lambda: sock.send()):
            with pytest.raises(OSError, match='not connected') as caught:
                call()
            assert caught.value.errno == errno.ENOTCONN
        assert sock.pending() == 0


def test_calls_before_the_handshake() -> None:
    one, two = tcp_pair()
    with twspy.websocket(one) as sock, two:
        for call in (sock.recv, lambda: sock.send(Frame(TEXT, 'x'))):
            with pytest.raises(OSError, match='handshake') as caught:
                call()
            assert caught.value.errno == errno.ENOTCONN


def test_calls_on_a_closed_websocket(either: Ends) -> None:
    sock, _ = either
    sock.close()
    for call in (
        sock.recv,
        lambda: sock.recvn(1),
        lambda: sock.send(Frame(TEXT, 'x')),
        sock.getpeername,
        sock.getsockname,
        sock.accept,
        sock.handshake,
        lambda: sock.connect(('', 1)),
        lambda: sock.shutdown(socket.SHUT_RDWR),
        lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
    ):
        with pytest.raises(OSError, match='closed') as caught:
            call()
        assert caught.value.errno == errno.EBADF
    assert sock.pending() == 0
    assert sock.detach() == -1
    sock.close()


def test_calls_on_a_connected_websocket(either: Ends) -> None:
    sock, _ = either
    for call in (
        lambda: sock.connect(('', 1)),
        sock.handshake,
        lambda: sock.bind(('', 0)),
        sock.listen,
        sock.accept,
    ):
        with pytest.raises(OSError, match='connected already') as caught:
            call()
        assert caught.value.errno == errno.EISCONN
