"""Text is what Python's own decoder takes for UTF-8, however it arrives
(RFC 6455 section 8.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drawing import cut
from hypothesis import given
from hypothesis import strategies as st
from rawends import client_end, server_end
from rawpeer import CLOSE, TEXT, RawPeer, pack

import twspy

# Bytes that begin, continue or spoil sequences, more often than chance would.
telling = st.sampled_from(
    b'A\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef'
    b'\xf0\xf1\xf3\xf4\xf5\xf8\xff'
)
anything = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.lists(telling, max_size=8).map(bytes),
    st.binary(max_size=12),
)
mixed = st.lists(anything, max_size=4).map(b''.join)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode('utf-8')
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize('end', [client_end, server_end])
@given(st.lists(st.tuples(mixed, st.lists(st.integers(0, 9), max_size=4))))
def test_utf8(end, texts: list[tuple[bytes, list[int]]]) -> None:
    # The peer, on this thread, does not end before we do.
    sock, peer = end(close_timeout=0.001)
    check(sock, peer, texts)


def check(
    sock: twspy.websocket,
    peer: RawPeer,
    texts: list[tuple[bytes, list[int]]],
) -> None:
    masked = sock.response is None
    with peer, sock:
        connection = twspy.Connection(sock)
        for data, sizes in texts:
            pieces = cut(data, sizes)
            for number, piece in enumerate(pieces):
                peer.send(
                    pack(
                        TEXT if number == 0 else 0,
                        piece,
                        fin=number == len(pieces) - 1,
                        mask=masked,
                    )
                )
            if is_utf8(data):
                assert connection.recv(timeout=10).payload == data.decode()
                continue
            with pytest.raises(twspy.ProtocolError) as caught:
                connection.recv(timeout=10)
            assert caught.value.code == 1007
            frame = peer.read_frame()
            assert (frame.opcode, frame.close_code) == (CLOSE, 1007)
            return


# --- objects ---


def encoded(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


# Surrogates have no UTF-8 (RFC 3629 section 3).
any_text = st.text(
    alphabet=st.one_of(
        st.characters(), st.sampled_from('\ud7ff\ud800\udfff\ue000\0')
    ),
    max_size=20,
)


@given(any_text)
def test_text_that_is_sent(text: str) -> None:
    makers: list[Callable[[str], object]] = [
        twspy.TextMessage,
        lambda text: twspy.Message(TEXT, text),
        lambda text: twspy.Message(twspy.OPCODE_BINARY, text),
        lambda text: twspy.Frame(TEXT, text),
        lambda text: twspy.CloseMessage(1000, text[:20]),
    ]
    for make in makers:
        fine = encoded(text) is not None
        if make is makers[-1]:
            fine = encoded(text[:20]) is not None
        try:
            made: Any = make(text)
        except ValueError as error:
            assert not fine, error
            continue
        assert fine
        frame = made.frame() if isinstance(made, twspy.Message) else made
        if make is makers[-1]:
            assert frame.payload == b'\x03\xe8' + text[:20].encode()
        else:
            assert frame.payload == text.encode()


@given(mixed)
def test_text_that_is_bytes(data: bytes) -> None:
    """Message(TEXT, ...) and what unpack_close() reads."""
    expected = data.decode() if is_utf8(data) else None
    try:
        message = twspy.Message(TEXT, data)
    except ValueError:
        assert expected is None
    else:
        assert message.payload == expected
        assert message.frame().payload == data
    if len(data) > 123:
        return
    frame = twspy.ControlFrame(CLOSE, b'\x03\xe8' + data)
    try:
        assert frame.unpack_close() == (1000, expected)
    except twspy.ProtocolError as error:
        assert expected is None
        assert error.code == 1007


@given(any_text, st.integers(1, 30), st.booleans())
def test_messages_in_fragments(text: str, size: int, mask: bool) -> None:
    data = encoded(text)
    if data is None:
        return
    for message in (twspy.TextMessage(text), twspy.BinaryMessage(data)):
        frames = message.fragment(size, mask)
        assert b''.join(frame.payload for frame in frames) == data
        assert frames[0].opcode == message.opcode
        assert all(frame.opcode == 0 for frame in frames[1:])
        assert [frame.final for frame in frames] == [
            frame is frames[-1] for frame in frames
        ]
        assert all(frame.mask is mask for frame in frames)
        whole = message.frame(mask)
        assert (whole.payload, whole.final, whole.mask) == (data, True, mask)
