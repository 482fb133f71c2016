"""Messages, frames and heads in very many very small pieces: they end at a
limit, take no more memory than they have bytes, and time that grows with
their size, not with its square."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from rawends import (
    answer,
    client_end,
    in_thread,
    read_request,
    server_end,
    tcp_pair,
)
from rawpeer import BINARY, CONTINUATION, PING, TEXT, RawPeer, pack, request
from victims import KINDS, SLACK, resident, victim

import twspy

MIB = 1 << 20
FRAGMENTS = 1 << 17


# --- fragments without an end ---


@pytest.mark.parametrize('size', [0, 1])
@pytest.mark.parametrize('kind', KINDS[2:])
def test_a_million_fragments(kind: str, size: int) -> None:
    with victim(kind) as end:
        end.send(TEXT, fin=False)
        part = end.pack(CONTINUATION, b'x' * size, fin=False) * 10_000
        end.peer.send(part)  # what there is at the first use
        before = resident()
        with contextlib.suppress(OSError):
            for _ in range(99):
                end.peer.send(part)
        frame = end.close_frame()
        assert frame is not None
        assert frame.close_code == 1008
        end.peer.close()
        assert end.end()[0] == 1008
        assert resident() - before < SLACK


@pytest.mark.parametrize('kind', KINDS[2:])
def test_as_many_fragments_as_may_be(kind: str) -> None:
    with victim(kind) as end:
        part = end.pack(CONTINUATION, b'y', fin=False)
        wire = end.pack(BINARY, b'x', fin=False) + part * (FRAGMENTS - 2)
        end.peer.send(wire + end.pack(CONTINUATION, b'z'))
        payload = end.peer.read_frame().payload
        assert payload == b'x' + b'y' * (FRAGMENTS - 2) + b'z'
        end.peer.send(wire + part + end.pack(CONTINUATION, b'z'))
        end.expect(1008)


@pytest.mark.parametrize('kind', KINDS[2:])
def test_pings_between_do_not_make_it_endless(kind: str) -> None:
    with victim(kind) as end:
        part = end.pack(CONTINUATION, fin=False) + end.pack(PING)
        end.send(TEXT, fin=False)

        def send() -> None:
            with contextlib.suppress(OSError):
                for _ in range(FRAGMENTS // 8192 + 1):
                    end.peer.send(part * 8192)

        join = in_thread(send)
        with contextlib.suppress(OSError):
            while end.peer.sock.recv(1 << 16):
                pass  # the answers
        end.finish()
        join()
        assert end.end()[0] == 1008


# --- time ---


def linear(cost: Callable[[int], float], size: int) -> None:
    """Check that four times as much costs about four times, not sixteen.

    In time of this process, not of the clock. What is constant makes the
    quotient smaller; the best of three does not count what other work on the
    machine adds.
    """
    quotients = []
    for _ in range(3):
        cost(size // 4)  # warms up
        one, four = cost(size), cost(4 * size)
        quotients.append(four / one)
        if quotients[-1] < 6:
            return
    assert min(quotients) < 9, quotients


PIECE = 512


def pieces(data: bytes, size: int = PIECE) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def until_it_blocks(call: Callable[[], object]) -> None:
    try:
        call()
    except BlockingIOError:
        return
    raise AssertionError('it had enough')


# Each of them reads every piece by itself, as the socket does not block: so
# there are as many looks at what came before as there are pieces.


def feed_request(size: int) -> float:
    one, two = tcp_pair()
    sock = twspy.websocket(one, max_head_size=16 * MIB)
    sock.setblocking(False)
    wire = request(X='y' * size)
    with sock, RawPeer(two) as peer:
        start = time.process_time()
        for piece in pieces(wire[:-1]):
            peer.send(piece)
            until_it_blocks(lambda: sock.handshake(server=True))
        peer.send(wire[-1:])
        sock.handshake(server=True)
        return time.process_time() - start


def feed_answer(size: int) -> float:
    one, two = tcp_pair()
    sock = twspy.websocket(one, max_head_size=16 * MIB)
    sock.setblocking(False)
    with sock, RawPeer(two) as peer:
        until_it_blocks(lambda: sock.handshake(host='localhost'))
        _, head = read_request(peer)
        wire = answer(head, X='y' * size)
        start = time.process_time()
        for piece in pieces(wire[:-1]):
            peer.send(piece)
            until_it_blocks(lambda: sock.handshake(host='localhost'))
        peer.send(wire[-1:])
        sock.handshake(host='localhost')
        return time.process_time() - start


def feed_many_fields(size: int) -> float:
    """Lines of 4 bytes each, up to as many as there may be."""
    one, two = tcp_pair()
    sock = twspy.websocket(
        one, max_head_size=16 * MIB, max_header_lines=256, open_timeout=None
    )
    sock.setblocking(False)
    lines = b''.join(b'X: %s\r\n' % (b'y' * (size // 200)) for _ in range(200))
    wire = request()[:-2] + lines + b'\r\n'
    with sock, RawPeer(two) as peer:
        start = time.process_time()
        for piece in pieces(wire[:-1]):
            peer.send(piece)
            until_it_blocks(lambda: sock.handshake(server=True))
        peer.send(wire[-1:])
        sock.handshake(server=True)
        return time.process_time() - start


@pytest.mark.parametrize('feed', [feed_request, feed_answer, feed_many_fields])
def test_heads_in_pieces_are_linear(feed: Callable[[int], float]) -> None:
    """A head of a megabyte that is looked at anew with each piece is looked
    at a thousand times."""
    linear(feed, MIB // 2)


def feed_frame(wire: bytes, size: int, messages: bool) -> float:
    fields = {'Sec_WebSocket_Extensions': 'permessage-deflate'}
    one, two = tcp_pair()
    sock = twspy.websocket(one, max_size=None, compression='deflate')
    sock.handshake(server=True, initial=request(**fields))
    with sock, RawPeer(two) as peer:
        peer.read_head()
        sock.setblocking(False)
        connection = twspy.Connection(sock)
        receive: Callable[[], object]
        if messages:
            receive = connection.recv
        else:
            receive = sock.recv
        start = time.process_time()
        for piece in pieces(wire[:-1]):
            peer.send(piece)
            until_it_blocks(receive)
        peer.send(wire[-1:])
        payload = receive().payload  # type: ignore[attr-defined]
        took = time.process_time() - start
        raw = payload.encode() if isinstance(payload, str) else payload
        assert len(raw) == size
        return took


def binary(size: int) -> bytes:
    return pack(BINARY, b'\x81' * size)


def text(size: int) -> bytes:
    return pack(TEXT, 'é'.encode() * (size // 2))


def fragments(size: int) -> bytes:
    frames = [pack(BINARY, b'', fin=False)]
    part = pack(CONTINUATION, b'x' * 64, fin=False)
    frames += [part] * (size // 64)
    return b''.join([*frames, pack(CONTINUATION)])


def compressed(size: int) -> bytes:
    deflater = zlib.compressobj(0, zlib.DEFLATED, -15)  # nothing is saved
    data = deflater.compress(b'x' * size) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return pack(BINARY, data[:-4], rsv=4)


@pytest.mark.parametrize('make', [binary, text, fragments, compressed])
@pytest.mark.parametrize('messages', [False, True])
def test_frames_in_pieces_are_linear(
    make: Callable[[int], bytes], messages: bool
) -> None:
    if make is fragments and not messages:
        return  # each is a frame of its own

    linear(lambda size: feed_frame(make(size), size, messages), MIB // 4)


@pytest.mark.parametrize('kind', KINDS)
def test_a_frame_byte_by_byte(kind: str) -> None:
    """Each of them by itself: neither lost, nor an object that stays."""
    with victim(kind) as end:
        wire = end.pack(TEXT, ('größer ' * 40).encode())
        before = resident()
        for byte in wire:
            end.peer.send(bytes([byte]))
        if not kind.startswith('websocket'):
            frame = end.peer.read_frame()
            assert frame.payload.decode() == 'größer ' * 40
        assert resident() - before < SLACK


# --- many small messages that nobody has asked for ---


@pytest.mark.parametrize('make', [client_end, server_end])
def test_a_flood_of_pings_is_bounded(make: Callable[..., object]) -> None:
    """Its answers are not kept for a peer that does not read them."""
    sock, peer = make()  # type: ignore[misc]
    with sock, peer:
        connection = twspy.Connection(sock)
        sock.setblocking(False)
        flood = pack(PING, b'x' * 125, mask=make is server_end) * 500
        peer.sock.setblocking(False)
        before = resident()
        sent = 0
        for _ in range(250):
            with contextlib.suppress(BlockingIOError):
                sent += peer.sock.send(flood)
            with contextlib.suppress(BlockingIOError):
                connection.recv()
        assert sent > 4 * MIB
        assert resident() - before < SLACK
