"""Frame: packing, unpacking, fragments (RFC 6455 section 5)."""

from __future__ import annotations

from drawing import CONTROL, DATA, control_payloads, cut, payloads
from hypothesis import given
from hypothesis import strategies as st
from rawpeer import BINARY, CLOSE, RawPeer, pack

import twspy
from twspy import Frame, ProtocolError

keys = st.one_of(st.just(b''), st.binary(min_size=4, max_size=4))
flags = st.tuples(st.booleans(), st.booleans(), st.booleans())


class Bytes(RawPeer):
    """Reads frames of bytes that are there already."""

    def __init__(self, data: bytes) -> None:
        self.buffer = data

    def read_more(self) -> None:
        raise EOFError


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    rsv1, rsv2, rsv3 = draw(flags)
    control = draw(st.booleans())
    return Frame(
        draw(st.sampled_from(CONTROL if control else DATA)),
        draw(control_payloads if control else payloads()),
        masking_key=draw(keys),
        final=control or draw(st.booleans()),
        rsv1=rsv1,
        rsv2=rsv2,
        rsv3=rsv3,
    )


@given(frames(), st.binary(max_size=20))
def test_what_is_packed_is_unpacked(frame: Frame, behind: bytes) -> None:
    packed = frame.pack()
    again, consumed = Frame.unpack(packed + behind)
    assert consumed == len(packed)
    assert again == frame
    assert again is not None and again.masking_key == frame.masking_key
    raw = Bytes(packed).read_frame()
    assert (raw.opcode, raw.payload, raw.fin, raw.masked) == (
        frame.opcode,
        frame.payload,
        frame.final,
        frame.mask,
    )
    assert raw.rsv == frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3


@given(frames(), st.data())
def test_a_part_of_a_frame_is_none(frame: Frame, data: st.DataObject) -> None:
    packed = frame.pack()
    length = data.draw(st.integers(0, len(packed) - 1))
    assert Frame.unpack(packed[:length]) == (None, 0)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_frame_a_part_or_an_error(data: bytes) -> None:
    try:
        frame, consumed = Frame.unpack(data)
    except ProtocolError as error:
        assert error.code == 1002
        # More bytes never mend it.
        try:
            Frame.unpack(data + bytes(20))
        except ProtocolError:
            return
        raise AssertionError(f'{data!r} became a frame') from error
    if frame is None:
        assert consumed == 0
        return
    # The shortest form, and so the only one.
    assert frame.pack() == data[:consumed]


@given(payloads(), st.integers(1, 70_000), st.booleans())
def test_fragments_make_up_the_message(
    payload: bytes, size: int, mask: bool
) -> None:
    size = max(size, len(payload) // 50 + 1)
    fragments = Frame(BINARY, payload).fragment(size, mask)
    assert b''.join(frame.payload for frame in fragments) == payload
    assert all(len(frame) <= size for frame in fragments)
    assert all(len(frame) == size for frame in fragments[:-1])
    assert [frame.opcode for frame in fragments] == [BINARY] + [0] * (
        len(fragments) - 1
    )
    assert [frame.final for frame in fragments] == [False] * (
        len(fragments) - 1
    ) + [True]
    assert all(frame.mask == mask for frame in fragments)


@given(st.integers(0, 65535), st.text(max_size=60))
def test_close_messages(code: int, reason: str) -> None:
    fits = len(reason.encode()) <= 123
    valid = (1000 <= code <= 1014 and code != 1004) or 3000 <= code <= 4999
    try:
        message = twspy.CloseMessage(code, reason)
    except ValueError:
        assert not (fits and valid)
        return
    assert fits and valid
    sendable = code not in (1005, 1006)
    try:
        frame = message.frame()
    except ValueError:
        assert not sendable
        return
    assert sendable
    assert frame.opcode == CLOSE
    assert frame.payload == code.to_bytes(2, 'big') + reason.encode()


@given(st.lists(frames(), max_size=6), st.lists(st.integers(0, 40)))
def test_frames_of_a_stream_however_it_is_cut(
    sent: list[Frame], sizes: list[int]
) -> None:
    buffer = b''
    got = []
    for piece in cut(b''.join(frame.pack() for frame in sent), sizes):
        buffer += piece
        while True:
            frame, consumed = Frame.unpack(buffer)
            if frame is None:
                break
            got.append(frame)
            buffer = buffer[consumed:]
    assert got == sent
    assert buffer == b''


@given(
    st.integers(0, 15), st.integers(0, 7), st.booleans(), st.integers(0, 130)
)
def test_headers(opcode: int, rsv: int, fin: bool, length: int) -> None:
    """What unpack() refuses is what RFC 6455 section 5.2 and 5.5 refuse."""
    data = pack(opcode, bytes(length), fin=fin, rsv=rsv)
    known = opcode in (0, 1, 2, 8, 9, 10)
    fits = opcode < 8 or (fin and length <= 125)
    try:
        frame, _ = Frame.unpack(data)
    except ProtocolError:
        assert not (known and fits)
        return
    assert known and fits
    assert isinstance(frame, twspy.ControlFrame) == (opcode >= 8)
