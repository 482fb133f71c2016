"""Compression against Python's zlib: whatever was agreed on, however messages
are cut (RFC 7692)."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from drawing import payloads
from hypothesis import given
from hypothesis import strategies as st
from rawpeer import BINARY, CLOSE, CONTINUATION, PING
from zlibends import Terms, zlib_end

import twspy
from twspy import DeflateFrame, DeflateMessage

# Such as compress well, refer to those before, or can't be compressed.
contents = st.one_of(
    payloads(),
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([b'The quick ', b'brown fox ', b'jumps ', bytes(40)]),
        max_size=40,
    ).map(b''.join),
)
bits = st.integers(9, 15)
terms = st.builds(
    Terms, bits, bits, st.booleans(), st.booleans(), st.just(False)
)
sendings = st.lists(
    st.tuples(
        contents,
        st.one_of(st.none(), st.integers(1, 300)),
        st.sampled_from([None, True, False]),
    ),
    max_size=5,
)
cuts = st.lists(st.integers(0, 60), max_size=4)
ends = pytest.mark.parametrize('server', [False, True])


def make(
    server: bool,
    terms: Terms,
    options: dict[str, Any],
    **more: Any,
) -> Any:
    kind = DeflateFrame if terms.per_frame else DeflateMessage
    # The peer, on this thread, does not end before we do.
    return zlib_end(
        server, kind(**options), terms, close_timeout=0.001, **more
    )


settings = st.fixed_dictionaries(
    {
        'level': st.integers(-1, 9),
        'mem_level': st.integers(1, 9),
        'threshold': st.integers(0, 100),
    }
)


@ends
@given(terms=terms, options=settings, messages=sendings)
def test_what_we_send(
    server: bool, terms: Terms, options: dict[str, Any], messages: Any
) -> None:
    sock, peer = make(server, terms, options)
    with sock, peer:
        connection = twspy.Connection(sock)
        for payload, size, compress in messages:
            size = size and max(size, len(payload) // 50)
            connection.send(payload, size, compress=compress)
            message = peer.read()
            assert message.opcode == BINARY
            assert message.payload == payload
            if compress is False:
                assert not message.compressed
            elif compress:
                assert message.compressed or not payload
            elif len(payload) < options['threshold']:
                assert not message.compressed
            # Stored blocks are the worst that it can come to.
            on_wire = sum(len(frame.payload) for frame in message.frames)
            assert on_wire <= 1.1 * len(payload) + 32


@ends
@given(
    terms=terms,
    messages=st.lists(st.tuples(contents, cuts, st.booleans()), max_size=5),
)
def test_what_comes(server: bool, terms: Terms, messages: Any) -> None:
    """In any fragments, with pings between them, compressed or not."""
    sock, peer = make(server, terms, {})
    with sock, peer:
        connection = twspy.Connection(sock)
        for payload, sizes, plain in messages:
            data = payload if plain else peer.deflate(payload)
            send_cut(peer, data, sizes, not plain)
            assert connection.recv(timeout=10).payload == payload


def send_cut(peer: Any, data: bytes, sizes: list[int], rsv1: bool) -> None:
    opcode = BINARY
    for size in sizes:
        peer.frame(opcode, data[:size], rsv1=rsv1, fin=False)
        peer.frame(PING, b'between')
        data = data[size:]
        opcode, rsv1 = CONTINUATION, False
    peer.frame(opcode, data, rsv1=rsv1)


@ends
@given(
    terms=terms.map(lambda terms: terms._replace(per_frame=True)),
    messages=st.lists(st.tuples(contents, st.integers(0, 99)), max_size=5),
)
def test_frames(server: bool, terms: Terms, messages: Any) -> None:
    """deflate-frame: each frame by itself."""
    their_bits = 15  # what the peer may use is ours to say, and we don't
    terms = terms._replace(their_bits=their_bits, their_takeover=True)
    sock, peer = make(server, terms, {})
    with sock, peer:
        connection = twspy.Connection(sock)
        for payload, size in messages:
            size = size and max(size, len(payload) // 50)
            peer.send(BINARY, payload, size)
            assert connection.recv(timeout=10).payload == payload
            connection.send(payload, size or None)
            assert peer.read().payload == payload


@ends
@given(data=st.one_of(st.binary(max_size=60), contents.map(zlib.compress)))
def test_any_bytes_that_claim_to_be_compressed(
    server: bool, data: bytes
) -> None:
    """What zlib inflates, or 1007 where it does not."""
    sock, peer = make(server, Terms(), {}, max_size=1 << 20)
    with sock, peer:
        connection = twspy.Connection(sock)
        peer.frame(BINARY, data, rsv1=True)
        expected = inflate_all(data)
        if expected is not None:
            assert connection.recv(timeout=10).payload == expected
            return
        with pytest.raises(twspy.ProtocolError) as caught:
            connection.recv(timeout=10)
        assert caught.value.code == 1007
        frame = peer.raw.read_frame()
        assert (frame.opcode, frame.close_code) == (CLOSE, 1007)


def inflate_all(data: bytes) -> bytes | None:
    """What zlib makes of a message; None where it is none. Behind its last
    block the stream goes on (RFC 7692 section 7.2.3.4)."""
    if not data:
        return b''
    out = b''
    data += b'\x00\x00\xff\xff'
    try:
        while data:
            inflater = zlib.decompressobj(wbits=-15)
            out += inflater.decompress(data)
            if not inflater.eof:
                # A stored block is read as such where one may begin.
                probe = inflater.decompress(b'\x01\x05\x00\xfa\xffprobe')
                ended = probe == b'probe' and inflater.eof
                return out if ended else None
            data = inflater.unused_data
            if data == b'\x00\x00\xff\xff':
                return out  # nothing was left to begin another block
    except zlib.error:
        return None
    return out
