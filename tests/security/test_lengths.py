"""Lengths that lie: what a header claims is neither added up until it wraps
around, nor taken memory for."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from rawpeer import BINARY, CONTINUATION, PING, TEXT, RawPeer, pack
from servers import EchoServer
from victims import KINDS, SLACK, Victim, resident, victim

import twspy

MIB = 1 << 20
TIB = 1 << 40


def claim(length: int, *, masked: bool, final: bool = True) -> bytes:
    """The head of a binary frame of that length, in 64 bits."""
    first = 0x80 * final | BINARY
    key = b'abcd' if masked else b''
    return struct.pack('>BBQ', first, masked << 7 | 127, length) + key


@pytest.mark.parametrize('length', [TIB, (1 << 62) + 5, (1 << 63) - 1])
@pytest.mark.parametrize('kind', KINDS)
def test_a_claim_takes_no_memory(kind: str, length: int) -> None:
    with victim(kind, max_size=None) as end:
        end.send(BINARY, b'x' * 1000)  # what there is at the first use
        if not kind.startswith('websocket'):
            assert len(end.peer.read_frame().payload) == 1000
        before = resident()
        end.peer.send(claim(length, masked=end.masked) + b'x' * 1000)
        # It has read them when it notices the end behind them.
        end.finish()
        code, _ = end.end()
        assert code == 1006
        assert resident() - before < SLACK


def test_many_claims_at_once_take_no_memory() -> None:
    with EchoServer(max_size=None) as server:
        peers = [RawPeer.connect(server.address) for _ in range(50)]
        before = resident()
        for peer in peers:
            peer.send(claim(TIB, masked=True) + b'x' * 100)
        with RawPeer.connect(server.address) as other:
            other.echo()
        assert resident() - before < 2 * SLACK
        for peer in peers:
            peer.close()


# What no length may be, and what is above any limit.
WRONG = {
    'top bit alone': (1 << 63, 1002),
    'top bit and all others': ((1 << 64) - 1, 1002),
    'top bit and some': ((1 << 63) + 125, 1002),
    'not the shortest form': (125, 1002),
    'not the shortest form of 16 bits': (65535, 1002),
    'largest': ((1 << 63) - 1, 1009),
    'a byte above the limit': (MIB + 1, 1009),
}


@pytest.mark.parametrize('begun', ['at once', 'behind a part'])
@pytest.mark.parametrize('name', WRONG)
@pytest.mark.parametrize('kind', KINDS)
def test_wrong_lengths_end_by_the_header(
    kind: str, name: str, begun: str
) -> None:
    length, code = WRONG[name]
    with victim(kind) as end:
        if begun == 'behind a part':
            end.send(BINARY, b'x' * 1000, fin=False)
            end.peer.send(
                end.pack(CONTINUATION, length=length, length_bytes=8)
            )
        else:
            end.send(BINARY, length=length, length_bytes=8)
        end.expect(code)


@pytest.mark.parametrize('length', [MIB - 999, MIB, (1 << 63) - 1])
@pytest.mark.parametrize('kind', KINDS[2:])
def test_the_sum_is_what_counts(kind: str, length: int) -> None:
    """1,000 bytes and that many: no sum of both is made that could wrap."""
    with victim(kind) as end:
        end.send(BINARY, b'x' * 1000, fin=False)
        end.send(PING, b'between')
        assert end.peer.read_frame().payload == b'between'
        end.send(CONTINUATION, length=length)
        end.expect(1009)


@pytest.mark.parametrize('length', [126, 127, 65536, 1 << 62])
@pytest.mark.parametrize('kind', KINDS)
def test_control_frames_are_short(kind: str, length: int) -> None:
    with victim(kind, max_size=None) as end:
        end.send(PING, length=length)
        end.expect(1002)


def test_a_frame_that_was_not_finished_counts() -> None:
    """A peer that never finishes a frame gets no further than the limit."""
    with victim('server', max_size=1000) as end:
        end.send(TEXT, b'x' * 600, fin=False)
        end.peer.send(end.pack(CONTINUATION, b'x' * 300, length=401))
        end.expect(1009)


# --- masking keys ---


def keys() -> list[Any]:
    data = b'\x01\x02\x03\x04\x05\x06\x07\x08'
    found: list[Any] = [data[:length] for length in range(6)]
    found += [bytearray(data[:length]) for length in range(6)]
    found += [memoryview(data)[:length] for length in range(6)]
    # Not in one piece, and of items that are not bytes.
    # Of items that are not bytes: it is bytes that count.
    found += [memoryview(data).cast('H')[:2], memoryview(data).cast('I')]
    return found


@pytest.mark.parametrize('kind', [twspy.Frame, twspy.ControlFrame])
def test_masking_keys_of_every_length(kind: type[twspy.Frame]) -> None:
    """A key is 4 bytes, or none: nothing behind it is read."""
    payload = bytes(range(100))
    for key in keys():
        raw = bytes(key)
        if len(raw) not in (0, 4):
            with pytest.raises(ValueError, match=f'got {len(raw)} bytes'):
                kind(PING, payload, masking_key=key)
            continue
        frame = kind(PING, payload, masking_key=key)
        wire = frame.pack()
        body = wire[-len(payload) :]
        if raw:
            assert wire[2:6] == raw
            body = bytes(b ^ raw[i % 4] for i, b in enumerate(body))
        assert body == payload
        read, consumed = twspy.Frame.unpack(wire)
        assert read is not None
        assert (read.payload, consumed) == (payload, len(wire))
        fragments = twspy.Frame(TEXT, payload, masking_key=key).fragment(7)
        assert b''.join(part.payload for part in fragments) == payload


def test_every_function_that_takes_a_key_was_tried() -> None:
    """Who adds one adds it above."""
    taking = {
        name
        for name in dir(twspy)
        if 'masking_key' in str(getattr(twspy, name).__doc__ or '')
        and isinstance(getattr(twspy, name), type)
    }
    assert taking <= {'Frame', 'ControlFrame'}
    assert 'Frame' in taking


def test_truncated_keys_are_waited_for() -> None:
    """A masked frame that ends within its key is no frame yet."""
    wire = pack(TEXT, b'payload')
    for size in range(len(wire)):
        assert twspy.Frame.unpack(wire[:size]) == (None, 0)
    frame, consumed = twspy.Frame.unpack(wire)
    assert frame is not None
    assert (frame.payload, consumed) == (b'payload', len(wire))


def test_victims_are_all_kinds() -> None:
    """The helper sends what is right for each: else all would end at once."""
    for kind in KINDS:
        with victim(kind) as end:
            assert isinstance(end, Victim)
            end.send(TEXT, b'fine')
            if not kind.startswith('websocket'):
                assert end.peer.read_frame().payload == b'fine'
            assert end.ends.empty()
