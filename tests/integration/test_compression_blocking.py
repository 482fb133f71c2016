"""Compression on connections whose threads read and write themselves: against
a peer made of a plain socket and zlib, and between two ends of our own."""

from __future__ import annotations

import gc
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawends import client_end, in_thread, server_end
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from servers import EchoServer
from zlibends import DEFAULT, RSV1, Deflater, Terms, ZlibPeer, zlib_end

import twspy
from twspy import DeflateFrame, DeflateMessage, Frame

KIB = 1 << 10
MIB = 1 << 20
WORDS = b'The quick brown fox jumps over the lazy dog. '.split()


class PythonMessage(DeflateMessage):
    """Of a type of its own: frames pass it by way of Python."""


class PythonFrame(DeflateFrame):
    """The same for deflate-frame."""


def text_of(length: int, seed: int = 1) -> bytes:
    choose = random.Random(seed)
    out = bytearray()
    while len(out) < length:
        out += choose.choice(WORDS) + b' '
    return bytes(out[:length])


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


Pair = tuple[twspy.Connection, ZlibPeer]
Make = Callable[..., Pair]


@pytest.fixture(params=['client', 'server'])
def server(request: pytest.FixtureRequest) -> bool:
    """Which end ours is."""
    return bool(request.param == 'server')


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """What is closed at the end."""
    everything: list[Any] = []
    yield everything
    for one in everything:
        one.close()


@pytest.fixture
def make(server: bool, opened: list[Any]) -> Make:
    """Makes a Connection of either role and its peer: make(terms, ...)."""

    def made(
        terms: Terms = DEFAULT,
        *,
        python: bool = False,
        threshold: int = 64,
        **options: Any,
    ) -> Pair:
        extension: DeflateMessage | DeflateFrame
        if terms.per_frame:
            extension = (PythonFrame if python else DeflateFrame)(
                max_window_bits=terms.their_bits,
                no_context_takeover=not terms.their_takeover,
                threshold=threshold,
            )
        else:
            extension = (PythonMessage if python else DeflateMessage)(
                server_max_window_bits=15,
                client_max_window_bits=15,
                threshold=threshold,
            )
        # Whoever fails waits for the peer to close, which does not.
        options.setdefault('close_timeout', 0.05)
        sock, peer = zlib_end(server, extension, terms, **options)
        opened.extend((sock, peer.raw))
        return twspy.Connection(sock), peer

    return made


@pytest.fixture
def ends(make: Make) -> Pair:
    return make()


# --- whole messages ---

PAYLOADS = [
    b'',
    b'x',
    text_of(64),
    text_of(500),
    noise(3000),
    bytes(40_000),
    text_of(70_000),
    text_of(500),
]


def exchange(conn: twspy.Connection, peer: ZlibPeer, threshold: int) -> None:
    """Messages of all sizes, both ways."""
    for payload in PAYLOADS:
        for opcode in (TEXT, BINARY):
            text = opcode == TEXT and payload.isascii()
            conn.send(payload.decode() if text else payload)
            got = peer.read()
            assert got.opcode == (TEXT if text else BINARY)
            assert got.payload == payload
            assert len(got.frames) == 1
            # What is small or noise grows, and may be sent plain then.
            if len(payload) >= 64 and payload != noise(3000):
                assert got.compressed
            if len(payload) < threshold:
                assert not got.compressed
            peer.send(TEXT if text else BINARY, payload)
            message = conn.recv()
            expected = payload.decode() if text else payload
            assert message.payload == expected
        plain = text_of(100)
        peer.frame(BINARY, plain)
        assert conn.recv().payload == plain


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('bits', range(8, 16))
def test_all_windows(make: Make, bits: int, python: bool) -> None:
    for per_frame in (False, True):
        terms = Terms(bits, 23 - bits, per_frame=per_frame)
        exchange(*make(terms, python=python), 64)


@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
@pytest.mark.parametrize('ours', [False, True], ids=['alone', 'takeover'])
@pytest.mark.parametrize('theirs', [False, True], ids=['alone', 'takeover'])
def test_with_and_without_takeover(
    make: Make, ours: bool, theirs: bool, per_frame: bool
) -> None:
    if per_frame and not theirs:
        ours = False  # it does itself what it asks for
    terms = Terms(12, 12, ours, theirs, per_frame)
    for threshold in (0, 64):
        exchange(*make(terms, threshold=threshold), threshold)


def test_extensions_tell_what_was_agreed_on(make: Make, server: bool) -> None:
    conn, _ = make(Terms(10, 12, False, True))
    (agreed,) = conn.extensions
    assert conn.sock.extensions == conn.extensions
    assert isinstance(agreed, DeflateMessage)
    assert agreed.agreed
    ours, theirs = ('server', 'client') if server else ('client', 'server')
    assert getattr(agreed, f'{ours}_max_window_bits') == 10
    assert getattr(agreed, f'{theirs}_max_window_bits') == 12
    assert getattr(agreed, f'{ours}_no_context_takeover') is True
    assert getattr(agreed, f'{theirs}_no_context_takeover') is False


@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_a_mebibyte(make: Make, per_frame: bool) -> None:
    conn, peer = make(Terms(per_frame=per_frame), max_size=MIB)
    for payload in (text_of(MIB), noise(MIB), bytes(MIB)):
        sending = in_thread(lambda data=payload: conn.send(data))
        assert peer.read().payload == payload
        assert sending() is None
        sending = in_thread(lambda data=payload: peer.send(BINARY, data))
        assert conn.recv().payload == payload
        assert sending() is None


def test_a_message_is_sent_smaller(ends: Pair) -> None:
    conn, peer = ends
    text = text_of(10_000)
    conn.send(text)
    assert len(peer.read().frames[0].payload) < 5000
    for length in (5050, 50):
        conn.send(noise(5000))
        got = peer.read()
        assert got.payload == noise(5000)
        assert len(got.frames[0].payload) < length


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_the_program_decides(
    make: Make, per_frame: bool, python: bool
) -> None:
    conn, peer = make(Terms(per_frame=per_frame), python=python)
    long = text_of(1000).decode()
    for message, compress, compressed in [
        ('short', None, False),
        ('short', True, True),
        ('', True, True),
        ('short', False, False),
        (long, None, True),
        (long, False, False),
        (long, True, True),
        (long, 0, False),
        ('short', 'yes', True),
    ]:
        conn.send(message, compress=compress)  # type: ignore[arg-type]
        got = peer.read()
        assert got.payload.decode() == message
        assert got.compressed is compressed
    conn.send_ping(text_of(100))
    assert peer.raw.read_frame()[:4] == (PING, text_of(100), True, 0)

    class Undecided:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        conn.send('x', compress=Undecided())  # type: ignore[arg-type]


def test_nothing_agreed_on_is_no_mistake(opened: list[Any]) -> None:
    one, two = twspy.pair()
    opened.extend((one.sock, two.sock))
    one.send(text_of(1000), compress=True)
    assert two.recv().payload == text_of(1000)
    with one.send_stream(compress=True) as out:
        out.write(b'x')
    assert two.recv().payload == b'x'


def test_what_grows_is_sent_plain_where_nothing_refers_to_it(
    make: Make,
) -> None:
    payload = noise(5000)
    for takeover in (True, False):
        conn, peer = make(Terms(our_takeover=takeover))
        conn.send(payload)
        got = peer.read()
        assert got.payload == payload
        assert got.compressed is takeover
        conn.send(payload, compress=True)
        got = peer.read()
        assert got.payload == payload
        assert got.compressed


# --- fragments ---


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
def test_fragments_are_cut_from_what_is_compressed(
    make: Make, python: bool
) -> None:
    conn, peer = make(python=python)
    payload = text_of(3000)
    for size in (1, 7, 100, 4000):
        conn.send(payload, size)
        got = peer.read()
        assert got.payload == payload
        lengths = [len(frame.payload) for frame in got.frames]
        assert set(lengths[:-1]) <= {size}
        assert 0 < lengths[-1] <= size
        assert sum(lengths) < 1500
        assert [f.rsv for f in got.frames] == [RSV1] + [0] * (len(lengths) - 1)
    conn.send('plain', 2)
    assert [f.rsv for f in peer.read().frames] == [0, 0, 0]


def test_each_frame_is_compressed_for_itself(make: Make) -> None:
    conn, peer = make(Terms(per_frame=True))
    payload = text_of(1000)
    conn.send(payload, 300)
    got = peer.read()
    assert got.payload == payload
    assert [f.rsv for f in got.frames] == [RSV1] * 4
    conn.send(payload[:650], 300)
    assert [f.rsv for f in peer.read().frames] == [RSV1, RSV1, 0]
    conn.send(payload[:650], 300, compress=True)
    assert [f.rsv for f in peer.read().frames] == [RSV1, RSV1, RSV1]


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_fragments_with_pings_between(
    make: Make, per_frame: bool, python: bool
) -> None:
    conn, peer = make(Terms(per_frame=per_frame), python=python)
    payload = text_of(600)
    for size in (1, 10, 99):
        parts = [payload] if not per_frame else None
        packed = peer.deflate(payload) if parts else b''
        pieces = (
            [packed[i : i + size] for i in range(0, len(packed), size)]
            if parts
            else [peer.deflate(payload[i : i + 60]) for i in range(0, 600, 60)]
        )
        for i, piece in enumerate(pieces):
            peer.frame(
                CONTINUATION if i else TEXT,
                piece,
                rsv1=per_frame or i == 0,
                fin=i == len(pieces) - 1,
            )
            peer.frame(PING, b'%d' % i)
        assert conn.recv().payload.encode() == payload
        conn.send('done')  # the last ping is read by the next recv()
        peer.frame(TEXT, b'next')
        assert conn.recv().payload == 'next'
        answers = [peer.raw.read_frame() for _ in range(len(pieces) + 1)]
        pongs = [f.payload for f in answers if f.opcode == PONG]
        assert pongs == [b'%d' % i for i in range(len(pieces))]


def test_an_empty_fragment_may_be_compressed(ends: Pair) -> None:
    conn, peer = ends
    payload = text_of(300)
    packed = peer.deflate(payload)
    peer.frame(BINARY, b'', rsv1=True, fin=False)
    peer.frame(CONTINUATION, b'', fin=False)
    peer.frame(CONTINUATION, packed, fin=False)
    peer.frame(CONTINUATION, b'')
    assert conn.recv().payload == payload


# --- what fails ---


def fails_with(conn: twspy.Connection, peer: ZlibPeer, code: int) -> str:
    """The peer is told, and the connection is over."""
    with pytest.raises(twspy.ProtocolError) as caught:
        while True:
            conn.recv()
    assert caught.value.code == code
    frame = peer.raw.read_frame()
    assert frame.opcode == CLOSE
    assert frame.close_code == code
    with pytest.raises(twspy.SocketClosed):
        conn.recv()
    return str(caught.value)


BROKEN = [
    b'\xff\xff\xff',
    b'\x07\x00',
    Deflater()(text_of(300))[:-3],
    Deflater()(text_of(300)) + b'\x01',
    b'',
]


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('data', BROKEN, ids=range(len(BROKEN)))
def test_broken_data(make: Make, data: bytes, python: bool) -> None:
    for per_frame in (False, True):
        conn, peer = make(Terms(per_frame=per_frame), python=python)
        peer.frame(BINARY, data, rsv1=True)
        assert 'inflated' in fails_with(conn, peer, 1007)


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('opcode', [PING, PONG, CLOSE])
def test_control_frames_are_not_compressed(
    make: Make, opcode: int, python: bool
) -> None:
    for per_frame in (False, True):
        conn, peer = make(Terms(per_frame=per_frame), python=python)
        peer.frame(opcode, b'', rsv1=True)
        fails_with(conn, peer, 1002)


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
def test_only_the_first_frame_is_marked(make: Make, python: bool) -> None:
    packed = Deflater()(text_of(300))
    for rsv1 in (True, False):
        conn, peer = make(python=python)
        peer.frame(BINARY, packed[:10], rsv1=rsv1, fin=False)
        peer.frame(CONTINUATION, packed[10:], rsv1=True)
        fails_with(conn, peer, 1002)


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
def test_no_message_begins_within_another(make: Make, python: bool) -> None:
    for rsv1 in (True, False):
        conn, peer = make(python=python)
        packed = peer.deflate(text_of(300))
        peer.frame(TEXT, packed[:10], rsv1=True, fin=False)
        peer.frame(TEXT, packed if rsv1 else b'x', rsv1=rsv1)
        fails_with(conn, peer, 1002)


@pytest.mark.parametrize('rsv', [2, 1])
def test_other_bits_are_nobodys(make: Make, rsv: int) -> None:
    conn, peer = make()
    peer.raw.send_frame(TEXT, b'x', rsv=rsv, mask=peer.mask)
    fails_with(conn, peer, 1002)


@pytest.mark.parametrize('end', [client_end, server_end])
def test_bits_without_an_agreement(end: Any) -> None:
    """The peer has not answered the offer, or has not offered anything."""
    sock, peer = end(compression='deflate', close_timeout=0.05)
    with sock, peer:
        conn = twspy.Connection(sock)
        assert conn.extensions == ()
        mask = end is server_end
        peer.send_frame(TEXT, Deflater()(b'x'), rsv=RSV1, mask=mask)
        with pytest.raises(twspy.ProtocolError) as caught:
            conn.recv()
        assert caught.value.code == 1002


def test_text_is_checked_once_it_is_inflated(make: Make) -> None:
    for data in (b'\xff' * 100, 'ä'.encode()[:1] * 1, b'\xc3'):
        conn, peer = make()
        peer.send(TEXT, data)
        fails_with(conn, peer, 1007)
    conn, peer = make()
    text = 'größer — €' * 50
    for size in (0, 1, 7):
        peer.send(TEXT, text.encode(), size)
        assert conn.recv().payload == text


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_a_bomb_is_cut(make: Make, per_frame: bool, python: bool) -> None:
    """16 KiB that would be 16 MiB."""
    conn, peer = make(Terms(per_frame=per_frame), python=python)
    peer.frame(BINARY, Deflater()(bytes(16 * MIB)), rsv1=True)
    assert 'limit' in fails_with(conn, peer, 1009)


@pytest.mark.parametrize('length', [1, 1000, 100_000])
def test_the_limit_is_exact(make: Make, length: int) -> None:
    for data in (bytes(length), noise(length)):
        conn, peer = make(max_size=length)
        peer.send(BINARY, data)
        assert conn.recv().payload == data
        peer.send(BINARY, data, 300)
        assert conn.recv().payload == data
        peer.send(BINARY, data + b'x')
        fails_with(conn, peer, 1009)


def test_blocks_without_content_end(make: Make) -> None:
    conn, peer = make(max_size=1000)
    empty = b'\x00\x00\x00\xff\xff' * 100

    peer.frame(BINARY, empty, rsv1=True, fin=False)
    for _ in range(5):
        peer.frame(CONTINUATION, empty, fin=False)
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.recv()
    assert caught.value.code == 1009


# --- frames: websocket.send() and recv() ---


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_frames_come_inflated(
    make: Make, per_frame: bool, python: bool
) -> None:
    conn, peer = make(Terms(per_frame=per_frame), python=python)
    payload = text_of(500)
    peer.send(TEXT, payload)
    assert conn.sock.recv() == Frame(TEXT, payload)
    peer.send(BINARY, payload, 60)
    got = conn.sock.recv()
    assert got.opcode == BINARY
    joined = got.payload
    if per_frame or not python:  # else the fragments come joined
        while not got.final:
            got = conn.sock.recv()
            assert got.opcode == CONTINUATION
            assert not got.rsv1
            joined += got.payload
    assert joined == payload
    peer.frame(TEXT, b'plain', fin=False)
    peer.frame(PING, b'?')
    peer.frame(CONTINUATION, b'rest')
    expected = [
        Frame(TEXT, 'plain', final=False),
        Frame(PING, '?'),
        Frame(CONTINUATION, 'rest'),
    ]
    if python and not per_frame:
        expected = [Frame(PING, '?'), Frame(TEXT, 'plainrest')]
    for frame in expected:
        assert conn.sock.recv() == frame


def test_recvn_and_pending(ends: Pair) -> None:
    conn, peer = ends
    payload = text_of(500)
    for _ in range(3):
        peer.send(TEXT, payload, 100)
    frames = conn.sock.recvn(2)
    assert conn.sock.pending() >= 1
    while not frames[-1].final:
        frames.append(conn.sock.recv())
    assert b''.join(f.payload for f in frames) == payload
    for _ in range(2):
        assert conn.recv().payload.encode() == payload


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
def test_whole_frames_are_compressed(make: Make, python: bool) -> None:
    conn, peer = make(python=python)
    payload = text_of(500)
    conn.sock.send(
        Frame(TEXT, payload),
        Frame(TEXT, 'small'),
        Frame(PING, payload[:100]),
        Frame(BINARY, payload, final=False),
        Frame(CONTINUATION, payload),
        Frame(BINARY, payload),
    )
    got = peer.read()
    assert got.compressed
    assert got.payload == payload
    assert not peer.read().compressed
    assert peer.raw.read_frame()[:4] == (PING, payload[:100], True, 0)
    fragments = peer.read()
    assert [f.rsv for f in fragments.frames] == [0, 0]
    assert fragments.payload == payload * 2
    last = peer.read()
    assert last.compressed
    assert last.payload == payload
    assert len(last.frames[0].payload) < 50  # it refers to the first


def test_every_frame_of_deflate_frame_is(make: Make) -> None:
    conn, peer = make(Terms(per_frame=True))
    payload = text_of(500)
    conn.sock.send(
        Frame(TEXT, payload, final=False),
        Frame(CONTINUATION, 'small', final=False),
        Frame(CONTINUATION, payload),
    )
    got = peer.read()
    assert [f.rsv for f in got.frames] == [RSV1, 0, RSV1]
    assert got.payload == payload + b'small' + payload


def test_a_frame_that_is_compressed_already_goes_as_it_is(ends: Pair) -> None:
    conn, peer = ends
    payload = noise(500)
    conn.send(payload)
    assert peer.read().payload == payload
    other = noise(300, 2)
    conn.sock.send(Frame(BINARY, Deflater()(other), rsv1=True))
    assert peer.read().payload == other
    # The peer's window has moved on by then.
    conn.send(payload)
    assert peer.read().payload == payload


def test_broken_frames(make: Make) -> None:
    conn, peer = make()
    peer.frame(BINARY, b'\xff\xff', rsv1=True)
    for _ in range(2):  # for good
        with pytest.raises(twspy.ProtocolError) as caught:
            conn.sock.recv()
        assert caught.value.code == 1007
    conn, peer = make(max_size=1000)
    peer.send(BINARY, bytes(1001))
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.sock.recv()
    assert caught.value.code == 1009
    conn, peer = make(max_size=1000)
    peer.frame(BINARY, noise(1000))
    assert len(conn.sock.recv()) == 1000
    peer.send(BINARY, noise(1000))  # is more than that on its way
    assert len(conn.sock.recv()) == 1000
    peer.frame(BINARY, noise(1001))
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.sock.recv()
    assert caught.value.code == 1009


# --- hooks ---


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_hooks_stand_outside(
    make: Make, per_frame: bool, python: bool
) -> None:
    conn, peer = make(Terms(per_frame=per_frame), python=python)
    seen: list[Frame] = []

    def note(frame: Frame) -> Frame:
        seen.append(frame)
        return Frame(frame.opcode, frame.payload.upper(), final=frame.final)

    conn.sock.add_hook(send=note, recv=note)
    payload = text_of(500)
    conn.send(payload)
    got = peer.read()
    assert got.compressed
    assert got.payload == payload.upper()
    assert seen == [Frame(BINARY, payload)]
    seen.clear()
    peer.send(BINARY, payload, 100)
    assert conn.recv().payload == payload.upper()
    assert b''.join(f.payload for f in seen) == payload
    assert not any(f.rsv1 for f in seen)
    payload = text_of(500, 2)
    conn.send(payload, 70)
    got = peer.read()
    assert got.payload == payload.upper()
    assert got.compressed
    assert len(got.frames) > 1
    conn.send('small', compress=True)
    assert peer.read().compressed
    conn.send(payload, compress=False)
    assert not peer.read().compressed


def test_a_hook_that_comes_amid_a_message(ends: Pair) -> None:
    conn, peer = ends
    payload = text_of(500)
    packed = peer.deflate(payload)
    seen: list[Frame] = []

    def note(frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    conn.sock.settimeout(0.05)
    peer.frame(BINARY, packed[:20], rsv1=True, fin=False)
    with pytest.raises(TimeoutError):
        conn.recv()
    conn.sock.settimeout(30)
    conn.sock.add_hook(recv=note)
    peer.frame(CONTINUATION, packed[20:])
    peer.send(BINARY, payload)
    assert conn.recv().payload == payload
    assert conn.recv().payload == payload
    assert seen == [Frame(BINARY, payload)]


def test_frames_and_messages_alternate(ends: Pair) -> None:
    """What recv() of the websocket has begun, that of the Connection ends."""
    conn, peer = ends
    payload = text_of(500)
    for cut in (5, 50):
        packed = peer.deflate(payload)
        peer.frame(BINARY, packed[:cut], rsv1=True, fin=False)
        first = conn.sock.recv()
        assert not first.final
        peer.frame(CONTINUATION, packed[cut:])
        last = conn.sock.recv()
        assert first.payload + last.payload == payload
        peer.send(BINARY, payload, 30)
        assert conn.recv().payload == payload


# --- messages in pieces ---


@pytest.mark.parametrize('text', [False, True], ids=['bytes', 'str'])
@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_what_is_written_is_compressed(
    make: Make, per_frame: bool, text: bool
) -> None:
    for takeover in (True, False):
        conn, peer = make(Terms(our_takeover=takeover, per_frame=per_frame))
        payload = text_of(9_900)
        conn.send(payload)
        assert peer.read().payload == payload
        with conn.send_stream(text, fragment_size=1000) as out:
            for start in range(0, 9_900, 300):
                part = payload[start : start + 300]
                length = out.write(part.decode() if text else part)
                assert length == len(part)
        got = peer.read()
        assert got.opcode == (TEXT if text else BINARY)
        assert got.payload == payload
        assert len(got.frames) == 10
        marks = [RSV1] * 10 if per_frame else [RSV1] + [0] * 9
        assert [f.rsv for f in got.frames] == marks
        assert sum(len(f.payload) for f in got.frames) < 6000
        conn.send(payload)
        assert peer.read().payload == payload


def test_streams_refer_to_messages_and_the_other_way_round(
    ends: Pair,
) -> None:
    conn, peer = ends
    payload = noise(1000)
    conn.send(payload)
    assert peer.read().payload == payload
    with conn.send_stream() as out:
        out.write(payload)
    got = peer.read()
    assert got.payload == payload
    assert sum(len(f.payload) for f in got.frames) < 100
    conn.send(payload)
    got = peer.read()
    assert got.payload == payload
    assert sum(len(f.payload) for f in got.frames) < 100


def test_streams_are_compressed_or_not(make: Make) -> None:
    for per_frame in (False, True):
        conn, peer = make(Terms(per_frame=per_frame))
        for length, compress, compressed in [
            (10, None, False),
            (10, True, True),
            (1000, None, True),
            (1000, False, False),
            (0, None, False),
            (0, True, True),
        ]:
            with conn.send_stream(compress=compress) as out:
                out.write(text_of(length))
            got = peer.read()
            assert got.compressed is compressed
            assert got.payload == text_of(length)


def test_what_is_flushed_can_be_read(ends: Pair) -> None:
    conn, peer = ends
    with conn.send_stream() as out:
        out.write(b'first')
        out.flush()
        frame = peer.raw.read_frame()
        assert (frame.opcode, frame.fin, frame.rsv) == (BINARY, False, RSV1)
        decompress = peer.inflate.context.decompress
        assert decompress(frame.payload) == b'first'
        out.flush()
        out.write(b'second')
        out.flush()
        frame = peer.raw.read_frame()
        assert (frame.opcode, frame.fin, frame.rsv) == (CONTINUATION, False, 0)
        assert decompress(frame.payload) == b'second'
    frame = peer.raw.read_frame()
    assert frame.fin
    assert decompress(frame.payload + b'\0\0\xff\xff') == b''
    conn.send(text_of(100))
    assert peer.read().payload == text_of(100)


def test_streams_with_hooks(ends: Pair) -> None:
    """Fragments that hooks have seen are not compressed any more, but a whole
    message is."""
    conn, peer = ends
    seen: list[Frame] = []

    def note(frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    payload = text_of(1000)
    with conn.send_stream(fragment_size=300) as out:
        out.write(payload[:500])
        # It sees the next message.
        conn.sock.add_hook(send=note)
        out.write(payload[500:])
    got = peer.read()
    assert got.compressed
    assert got.payload == payload
    assert seen == []
    with conn.send_stream(fragment_size=300) as out:
        out.write(payload)
    got = peer.read()
    assert [f.rsv for f in got.frames] == [0] * 4
    assert got.payload == payload
    with conn.send_stream() as out:
        out.write(payload)
    got = peer.read()
    assert got.compressed
    assert got.payload == payload
    assert [f.payload for f in seen[-1:]] == [payload]


def test_others_wait_for_the_end_of_a_stream(ends: Pair) -> None:
    conn, peer = ends
    payload = noise(500)
    with conn.send_stream() as out:
        out.write(payload)
        out.flush()
        with pytest.raises(twspy.ConcurrencyError):
            conn.send(payload)
        sending = in_thread(lambda: conn.send(payload))
        with pytest.raises(TimeoutError):
            result = in_thread(lambda: conn.send(payload, timeout=0.01))()
            assert isinstance(result, BaseException)
            raise result
        out.write(payload)
    assert sending() is None
    assert peer.read().payload == payload * 2
    got = peer.read()
    assert got.payload == payload
    assert sum(len(f.payload) for f in got.frames) < 50


def test_a_stream_that_is_given_up(make: Make) -> None:
    conn, peer = make()
    payload = noise(200)
    conn.send(payload)
    assert peer.read().payload == payload
    with pytest.raises(ZeroDivisionError), conn.send_stream() as out:
        out.write(payload)  # which is not sent
        raise ZeroDivisionError
    conn.send(payload)
    assert peer.read().payload == payload
    with pytest.raises(ZeroDivisionError), conn.send_stream() as out:
        out.write(payload)
        out.flush()
        raise ZeroDivisionError
    frame = peer.raw.read_frame()
    assert not frame.fin
    assert peer.raw.read_frame().close_code == 1011


@pytest.mark.parametrize('per_frame', [False, True], ids=['message', 'frame'])
def test_compressed_messages_come_in_chunks(
    make: Make, per_frame: bool
) -> None:
    conn, peer = make(Terms(per_frame=per_frame), max_size=1000)
    payload = text_of(3 * MIB)
    sending = in_thread(lambda: peer.send(TEXT, payload, 50_000))
    got = []
    for chunk in conn.recv_stream():
        assert 0 < len(chunk) <= 64 * KIB
        got.append(chunk)
    assert ''.join(got).encode() == payload
    assert sending() is None
    peer.send(TEXT, b'small')
    assert conn.recv().payload == 'small'


def test_the_rest_of_a_compressed_message_is_skipped(ends: Pair) -> None:
    conn, peer = ends
    payload = noise(200_000)
    sending = in_thread(lambda: peer.send(BINARY, payload, 10_000))
    assert next(conn.recv_stream())
    peer_next = in_thread(lambda: (sending(), peer.send(BINARY, payload)))
    assert conn.recv().payload == payload
    peer_next()


# --- threads and time ---


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
def test_threads_send_at_once(make: Make, python: bool) -> None:
    """With one context for all: in the order in which they were compressed."""
    conn, peer = make(python=python)
    count = 60

    def send(number: int) -> None:
        for i in range(count):
            payload = b'%d %d ' % (number, i) + noise(3000, i)
            conn.send(payload, 1000 if i % 3 == 0 else None)

    senders = [in_thread(lambda n=n: send(n)) for n in range(4)]
    last = [-1] * 4
    for _ in range(4 * count):
        number, i, rest = peer.read().payload.split(b' ', 2)
        assert rest == noise(3000, int(i))
        assert int(i) == last[int(number)] + 1
        last[int(number)] = int(i)
    assert [sender() for sender in senders] == [None] * 4


def test_both_directions_at_once(make: Make) -> None:
    conn, peer = make()
    payloads = [text_of(20_000, i) for i in range(30)]

    def send() -> None:
        for payload in payloads:
            conn.send(payload)

    def peer_sends() -> None:
        for payload in payloads:
            peer.send(BINARY, payload)

    def peer_reads() -> None:
        for payload in payloads:
            assert peer.read().payload == payload

    ends = [in_thread(work) for work in (send, peer_sends, peer_reads)]
    for payload in payloads:
        assert conn.recv().payload == payload
    assert [end() for end in ends] == [None] * 3


def narrow() -> tuple[socket.socket, socket.socket]:
    """A pair between which little fits."""
    one, two = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    return one, two


def fill_up(conn: twspy.Connection, timeout: float | None) -> list[bytes]:
    """Sends until nothing more is taken; what was."""
    sent = []
    while True:
        payload = noise(10_000, len(sent))
        try:
            conn.send(payload, timeout=timeout)
        except (TimeoutError, BlockingIOError):
            return sent
        sent.append(payload)


@pytest.mark.parametrize('python', [False, True], ids=['c', 'python'])
@pytest.mark.parametrize('blocking', [True, False])
def test_what_was_not_taken_is_not_referred_to(
    make: Make, blocking: bool, python: bool
) -> None:
    conn, peer = make(pair=narrow, python=python)
    conn.sock.setblocking(blocking)
    missed = noise(5000, 99)
    for _ in range(2):
        sent = fill_up(conn, 0.02 if blocking else None)
        for _ in range(2):
            with pytest.raises(TimeoutError if blocking else BlockingIOError):
                conn.send(missed, timeout=0.02 if blocking else None)
        conn.sock.setblocking(True)
        count = len(sent)
        reading = in_thread(lambda n=count: [peer.read() for _ in range(n)])
        conn.send(missed)
        got = reading()
        assert isinstance(got, list), got
        assert [message.payload for message in got] == sent
        assert peer.read().payload == missed
        conn.send(missed)
        got = peer.read()
        assert got.payload == missed
        assert len(got.frames[0].payload) < 200
        conn.sock.setblocking(blocking)


def test_frames_that_were_not_taken_are_not_referred_to(make: Make) -> None:
    conn, peer = make(pair=narrow)
    sent = fill_up(conn, 0.02)
    missed = noise(5000, 99)
    conn.sock.settimeout(0.02)
    with pytest.raises(TimeoutError):
        conn.sock.send(Frame(BINARY, missed), Frame(BINARY, missed))
    conn.sock.settimeout(30)
    reading = in_thread(lambda: [peer.read() for _ in sent])
    conn.sock.send(Frame(BINARY, missed))
    got = reading()
    assert isinstance(got, list), got
    assert [message.payload for message in got] == sent
    assert peer.read().payload == missed


def test_a_stream_goes_on_after_timeouts(make: Make) -> None:
    conn, peer = make(pair=narrow)
    payload = noise(400_000)
    reading: Callable[[], object] | None = None
    late = 0
    with conn.send_stream(fragment_size=5000, timeout=0.02) as out:
        for start in range(0, len(payload), 7000):
            part = payload[start : start + 7000]
            while True:
                try:
                    out.write(part)
                    break
                except TimeoutError:
                    late += 1
                    if late > 2 and reading is None:
                        reading = in_thread(peer.read)
    assert late > 2
    assert reading is not None
    got = reading()
    assert not isinstance(got, BaseException), got
    assert got.payload == payload  # type: ignore[attr-defined]


def test_a_peer_that_is_gone(make: Make) -> None:
    conn, peer = make()
    linger = struct.pack('ii', 1, 0)
    peer.raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    peer.raw.close()
    with pytest.raises(twspy.SocketClosed):
        for _ in range(100):
            conn.send(text_of(10_000))
    conn.sock.close()
    with pytest.raises((twspy.SocketClosed, OSError)):
        conn.send(text_of(10_000))


def test_nothing_follows_a_close_frame(ends: Pair) -> None:
    conn, peer = ends
    closing = in_thread(lambda: conn.close(timeout=5))
    assert peer.raw.read_frame().close_code == 1000
    with pytest.raises(twspy.SocketClosed):
        conn.send(text_of(1000))
    peer.frame(CLOSE, struct.pack('>H', 1000))
    assert closing() is None


# --- between two ends of ours ---


@pytest.mark.parametrize(
    'extension',
    [
        'deflate',
        DeflateMessage(shared=True),
        DeflateMessage(server_max_window_bits=8, client_max_window_bits=8),
        DeflateMessage(level=9, mem_level=9, threshold=0),
        DeflateMessage(client_no_context_takeover=True),
        DeflateMessage,
        DeflateFrame(),
        DeflateFrame(max_window_bits=9, no_context_takeover=True),
        twspy.WebkitDeflateFrame(),
    ],
    ids=repr,
)
def test_pairs(extension: Any) -> None:
    for _ in range(2):
        one, two = twspy.pair(compression=extension)
        with one, two:
            assert len(one.extensions) == len(two.extensions) == 1
            for sender, receiver in ((one, two), (two, one)):
                for payload in PAYLOADS:
                    for size in (None, 100):
                        sending = in_thread(
                            lambda s=sender, p=payload, n=size: s.send(p, n)
                        )
                        assert receiver.recv().payload == payload
                        assert sending() is None
            closing = in_thread(one.close)
            with pytest.raises(twspy.SocketClosed):
                two.recv()
            assert closing() is None


def test_by_way_of_a_server() -> None:
    """And of read-ahead: connect() reads while the program does not."""
    with EchoServer(compression='deflate') as server:
        host, port = server.address[:2]
        with twspy.connect(
            f'ws://{host}:{port}/', compression='deflate'
        ) as conn:
            assert conn.extensions
            messages = [text_of(5000, i).decode() for i in range(10)]
            for message in messages:
                conn.send(message)
            assert [conn.recv().payload for _ in messages] == messages


KEPT = """
import resource
import threading

import twspy


def memory():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def exchange(sender, receiver):
    thread = threading.Thread(target=sender.send, args=(payload,))
    thread.start()
    assert receiver.recv().payload == payload
    thread.join()


payload = bytes(range(256)) * 150
kept = []
before = memory()
for _ in range(40):
    extension = twspy.DeflateMessage(
        server_max_window_bits=15, client_max_window_bits=15, mem_level=9
    )
    one, two = twspy.pair(compression=extension)
    exchange(one, two)
    exchange(two, one)
    one.sock.close()
    two.sock.close()
    kept += [one, two]
print((memory() - before) // len(kept))
"""


def test_closed_connections_keep_no_contexts() -> None:
    options = os.environ.get('ASAN_OPTIONS', '')
    done = subprocess.run(
        [sys.executable, '-c', KEPT],
        env={**os.environ, 'ASAN_OPTIONS': f'{options}:quarantine_size_mb=1'},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 * KIB  # of 550 KiB each


def test_connections_leave_nothing_behind() -> None:
    """Contexts go with their connections, also in the midst of a message."""
    template = DeflateMessage(shared=True, threshold=0)
    for i in range(20):
        one, two = twspy.pair(
            compression=template if i % 2 else DeflateMessage()
        )
        one.send(text_of(1000))
        assert two.recv().payload == text_of(1000)
        one.sock.send(Frame(TEXT, b'\x00', rsv1=True, final=False))
        two.sock.settimeout(0.001)
        with pytest.raises(TimeoutError):
            two.recv()
        two.me = two  # type: ignore[attr-defined]
        one.sock.close()
        two.sock.close()
        del one, two
    gc.collect()
    assert threading.active_count() >= 1
