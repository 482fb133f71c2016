"""Text is what Python's own decoder takes for UTF-8, however it arrives
(RFC 6455 section 8.1)."""

from __future__ import annotations

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
