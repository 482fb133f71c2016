"""What breaks the rules of framing ends with the right close code, and only
that one connection ends. Tests are named after what they catch."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
    pack,
)
from servers import EchoServer

LIMIT = 100_000


@pytest.fixture(scope='module')
def server() -> Iterator[EchoServer]:
    with EchoServer(max_size=LIMIT) as server:
        yield server


def expect_close(server: EchoServer, sent: bytes, code: int) -> None:
    """Send bytes that must end the connection with a Close of `code`."""
    with RawPeer.connect(server.address) as peer:
        (client,) = server.wait_for('open', peer)
        peer.send(sent)
        frame = peer.read_frame()
        assert frame.opcode == CLOSE, frame
        assert frame.close_code == code, frame
        assert frame.close_reason, 'the reason says what was wrong'
        closed, told, reason = server.wait_for('close', peer)
        assert (closed, told) == (client, code)
        assert reason == frame.close_reason
        peer.expect_end()
    # The server lives on.
    with RawPeer.connect(server.address) as peer:
        peer.echo()


BROKEN = {
    'unmasked_client_frame': pack(TEXT, b'hi', mask=False),
    'rsv1_without_extension': pack(TEXT, b'hi', rsv=4),
    'rsv2_without_extension': pack(TEXT, b'hi', rsv=2),
    'rsv3_without_extension': pack(TEXT, b'hi', rsv=1),
    'rsv1_on_ping': pack(PING, b'hi', rsv=4),
    'rsv1_on_continuation': pack(TEXT, b'h', fin=False)
    + pack(CONTINUATION, b'i', rsv=4),
    **{f'reserved_opcode_{n}': pack(n) for n in (3, 4, 5, 6, 7)},
    **{f'reserved_control_opcode_{n}': pack(n) for n in range(11, 16)},
    'fragmented_ping': pack(PING, b'hi', fin=False),
    'fragmented_close': pack(CLOSE, close_payload(1000), fin=False),
    'ping_of_126_bytes': pack(PING, b'x' * 126),
    'close_of_126_bytes': pack(CLOSE, close_payload(1000, 'x' * 124)),
    'close_of_one_byte': pack(CLOSE, b'\x03'),
    **{
        f'close_code_{code}': pack(CLOSE, close_payload(code))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    'length_16_bit_not_minimal': pack(TEXT, b'x' * 125, length_bytes=2),
    'length_64_bit_not_minimal': pack(TEXT, b'x' * 200, length_bytes=8),
    'length_with_top_bit': pack(TEXT, length=1 << 63, length_bytes=8),
    'length_all_ones': pack(TEXT, length=(1 << 64) - 1, length_bytes=8),
    'continuation_without_start': pack(CONTINUATION, b'hi'),
    'text_inside_fragmented_message': pack(TEXT, b'a', fin=False)
    + pack(TEXT, b'b'),
    'binary_inside_fragmented_message': pack(TEXT, b'a', fin=False)
    + pack(BINARY, b'b', fin=False),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_framing_is_1002(server: EchoServer, name: str) -> None:
    expect_close(server, BROKEN[name], 1002)


NOT_UTF8 = {
    'lone_continuation_byte': b'\x80',
    'overlong_slash': b'\xc0\xaf',
    'overlong_nul': b'\xe0\x80\x80',
    'surrogate': b'\xed\xa0\x80',
    'above_10ffff': b'\xf4\x90\x80\x80',
    'byte_ff': b'ok \xff',
    'cut_character': 'é'.encode()[:1],
}


@pytest.mark.parametrize('name', NOT_UTF8)
def test_bad_utf8_is_1007(server: EchoServer, name: str) -> None:
    expect_close(server, pack(TEXT, NOT_UTF8[name]), 1007)


@pytest.mark.parametrize('name', NOT_UTF8)
def test_bad_utf8_cut_over_fragments_is_1007(
    server: EchoServer, name: str
) -> None:
    text = NOT_UTF8[name]
    frames = [pack(TEXT, b'fine', fin=False)]
    frames += [pack(CONTINUATION, bytes([b]), fin=False) for b in text]
    frames += [pack(PING, b'between')] if name == 'cut_character' else []
    expect = b''.join(frames) + pack(CONTINUATION)
    if name == 'cut_character':
        with RawPeer.connect(server.address) as peer:
            peer.send(expect)
            assert peer.read_frame()[:2] == (PONG, b'between')
            assert peer.read_frame().close_code == 1007
    else:
        expect_close(server, expect, 1007)


def test_bad_utf8_fails_before_its_frame_has_ended(
    server: EchoServer,
) -> None:
    whole = pack(TEXT, b'x' * 100 + b'\xff' + b'y' * 50_000)
    expect_close(server, whole[:300], 1007)


def test_bad_utf8_in_close_reason_is_1007(server: EchoServer) -> None:
    expect_close(server, pack(CLOSE, close_payload(1000) + b'\xff'), 1007)


def test_limit_by_the_header_alone_is_1009(server: EchoServer) -> None:
    head = pack(BINARY, length=LIMIT + 1)
    expect_close(server, head, 1009)


def test_message_of_exactly_the_limit_passes(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        peer.echo(b'x' * LIMIT)


def test_length_overflow_after_partial_payload_is_1009(
    server: EchoServer,
) -> None:
    first = pack(BINARY, b'x' * 1000, fin=False)
    head = pack(CONTINUATION, length=(1 << 63) - 1, length_bytes=8)
    expect_close(server, first + head, 1009)


def test_limit_over_many_fragments_is_1009(server: EchoServer) -> None:
    part = b'x' * 10_000
    frames = pack(BINARY, part, fin=False)
    frames += pack(CONTINUATION, part, fin=False) * (LIMIT // len(part))
    expect_close(server, frames, 1009)


def test_million_empty_fragments_are_cut_off(server: EchoServer) -> None:
    empty = pack(CONTINUATION, fin=False) * 10_000
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'', fin=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(100):
            try:
                peer.send(empty)
            except (BrokenPipeError, ConnectionResetError):
                break
        frame = peer.read_frame()
        assert frame.close_code == 1008
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 16 * 1024  # KiB


def test_claimed_length_allocates_nothing() -> None:
    with EchoServer(max_size=None) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peers = []
        for _ in range(20):
            peer = RawPeer.connect(server.address)
            peer.send(pack(BINARY, b'x' * 100, length=1 << 40))
            peers.append(peer)
        with RawPeer.connect(server.address) as other:
            other.echo()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for peer in peers:
            peer.close()
        assert after - before < 8 * 1024  # KiB


def test_frame_dribbled_byte_by_byte(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        for byte in pack(TEXT, 'größer'.encode()):
            peer.send(bytes([byte]))
        assert peer.read_frame()[:2] == (TEXT, 'größer'.encode())


def test_ping_between_fragments(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        text = '— ünï —'.encode()
        peer.send_frame(TEXT, text[:4], fin=False)
        peer.send_frame(PING, b'now')
        assert peer.read_frame()[:2] == (PONG, b'now')
        peer.send_frame(CONTINUATION, text[4:], fin=False)
        peer.send_frame(CONTINUATION)
        assert peer.read_frame()[:2] == (TEXT, text)


def test_unsolicited_pong_is_ignored(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        peer.send_frame(PONG, b'nobody asked')
        peer.echo()


@pytest.mark.parametrize(
    ('code', 'reason'),
    [(1000, ''), (1001, 'bye'), (1011, 'é' * 61), (3000, ''), (4999, 'x')],
)
def test_close_is_answered_and_reported(
    server: EchoServer, code: int, reason: str
) -> None:
    with RawPeer.connect(server.address) as peer:
        server.wait_for('open', peer)
        peer.send_frame(CLOSE, close_payload(code, reason))
        assert peer.read_frame().close_code == code
        assert server.wait_for('close', peer)[1:] == (code, reason)
        peer.expect_end()


def test_close_without_code_is_1005(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        server.wait_for('open', peer)
        peer.send_frame(CLOSE)
        assert peer.read_frame().payload == b''
        assert server.wait_for('close', peer)[1:] == (1005, '')


def test_data_after_close_is_discarded(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as peer:
        peer.send(pack(CLOSE, close_payload(1000)) + pack(TEXT, b'late'))
        assert peer.read_frame().opcode == CLOSE
        peer.expect_end()


def test_close_frame_survives_a_flood_behind_the_error(
    server: EchoServer,
) -> None:
    """A reset by unread bytes must not eat the Close frame."""
    for _ in range(20):
        with RawPeer.connect(server.address) as peer:
            peer.send(pack(TEXT, b'hi', mask=False) + b'x' * 60_000)
            assert peer.read_frame().close_code == 1002


@pytest.mark.parametrize('size', range(0, 40, 3))
def test_peer_vanishes_within_a_frame(server: EchoServer, size: int) -> None:
    frame = pack(TEXT, b'x' * 200)
    peer = RawPeer.connect(server.address)
    server.wait_for('open', peer)
    peer.send(frame[:size])
    if size % 2:
        peer.reset()
    else:
        peer.close()
    _, code, reason = server.wait_for('close', peer)
    assert code == 1006
    assert reason
    with RawPeer.connect(server.address) as other:
        other.echo()


def test_flood_behind_the_close_is_cut_off_in_bytes() -> None:
    """A peer that sends without end does not keep its connection until the
    close timeout."""
    with EchoServer(close_timeout=60) as server:
        with RawPeer.connect(server.address) as peer:
            peer.send(pack(TEXT, b'hi', mask=False))
            block = bytes(1 << 20)
            with pytest.raises(ConnectionError):
                for _ in range(100):
                    peer.send(block)
