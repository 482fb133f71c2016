"""deflate-frame, by both of its names, with a peer that is made by hand of
Python's zlib (draft-tyoshino-hybi-websocket-perframe-deflate-06)."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Sequence

import pytest
from deflating import EchoServer
from programs import SOON
from rawends import answer
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawFrame,
    RawPeer,
)
from rawservers import Asked, serving
from zlibends import Deflater, Inflater

import twspy

RSV1 = 4
NAMES = {
    'deflate-frame': twspy.DeflateFrame,
    'x-webkit-deflate-frame': twspy.WebkitDeflateFrame,
}
# What one end asks of the other: the window, and no context takeover.
WISHES = [*itertools.product([None, 8, 10], [False, True])]

Wish = tuple[int | None, bool]


def spell(name: str, wish: Wish) -> str:
    """The extension with its parameters, as in an offer or an answer."""
    bits, alone = wish
    words = [name]
    if alone:
        words.append('no_context_takeover')
    if bits is not None:
        words.append(f'max_window_bits={bits}')
    return '; '.join(words)


class Codec:
    """The contexts of one end.

    sends: what the other end has asked for; receives: what it keeps to.
    """

    def __init__(self, sends: Wish, receives: Wish) -> None:
        self.deflate = Deflater(sends[0] or 15, not sends[1])
        self.inflater = Inflater(receives[0] or 15, not receives[1])
        self.compressed = 0

    def inflate(self, frame: RawFrame) -> bytes:
        if frame.rsv == 0:
            return frame.payload
        assert frame.rsv == RSV1
        self.compressed += 1
        return self.inflater(frame.payload)


class Talk:
    """Messages over a connection with one end made by hand."""

    def __init__(self, peer: RawPeer, codec: Codec, mask: bool) -> None:
        self.peer, self.codec, self.mask = peer, codec, mask

    def send(self, opcode: int, *parts: tuple[bytes, bool]) -> None:
        """Send a message of frames that are compressed or not."""
        for number, (part, compressed) in enumerate(parts):
            self.peer.send_frame(
                CONTINUATION if number else opcode,
                self.codec.deflate(part) if compressed else part,
                fin=number == len(parts) - 1,
                rsv=RSV1 if compressed else 0,
                mask=self.mask,
            )

    def recv(self) -> tuple[int, bytes]:
        """A message, and its pings answered."""
        first = None
        data = b''
        while True:
            frame = self.peer.read_frame()
            if frame.opcode == PONG:
                assert frame.rsv == 0
                continue
            first = frame if first is None else first
            assert (frame.opcode == CONTINUATION) == (frame is not first)
            data += self.codec.inflate(frame)
            if frame.fin:
                return first.opcode, data


def make_texts() -> list[bytes]:
    rng = random.Random(3)
    words = [f'wörd{rng.getrandbits(24):x}' for _ in range(40)]
    return [' '.join(rng.choices(words, k=150)).encode() for _ in range(4)]


TEXTS = make_texts()
NOISE = random.Random(4).randbytes(600)
MESSAGES: list[tuple[int, list[tuple[bytes, bool]]]] = [
    (TEXT, [(TEXTS[0], True)]),
    (TEXT, [(TEXTS[1], True)]),  # refers to the first
    (TEXT, [(b'small', False)]),
    (TEXT, [(b'', True)]),
    (BINARY, [(b'', False)]),
    # Each frame for itself is compressed or not.
    (TEXT, [(TEXTS[2][:700], True), (TEXTS[2][700:800], False),
            (b'', True), (TEXTS[2][800:], True)]),
    (BINARY, [(NOISE, False), (NOISE, True)]),
    (TEXT, [(TEXTS[3], True)]),
]  # fmt: skip


def join(parts: Sequence[tuple[bytes, bool]]) -> bytes:
    return b''.join(part for part, _ in parts)


@pytest.mark.parametrize('ours', WISHES, ids=str)
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('kind', NAMES.values())
def test_server(kind: type[twspy.DeflateFrame], name: str, ours: Wish) -> None:
    template = kind(max_window_bits=ours[0], no_context_takeover=ours[1])
    with EchoServer(('127.0.0.1', 0), compression=template) as server:
        for theirs in WISHES:
            peer = RawPeer.connect(
                server.address,
                Sec_WebSocket_Extensions=spell(name, theirs),
            )
            with peer:
                if kind is twspy.WebkitDeflateFrame and name not in kind.names:
                    peer.echo()
                    continue
                talk = Talk(peer, Codec(ours, theirs), mask=True)
                for opcode, parts in MESSAGES:
                    talk.send(opcode, *parts)
                    peer.send_frame(PING, b'ping')
                    assert talk.recv() == (opcode, join(parts))
                assert talk.codec.compressed >= 2


@pytest.mark.parametrize('ours', WISHES, ids=str)
@pytest.mark.parametrize('name', NAMES)
def test_client(name: str, ours: Wish) -> None:
    template = NAMES[name](
        max_window_bits=ours[0], no_context_takeover=ours[1]
    )
    for theirs in WISHES:
        # What went wrong at the peer's end, on its own thread.
        wrong: list[BaseException] = []

        def react(
            peer: RawPeer,
            asked: Asked,
            theirs: Wish = theirs,
            wrong: list[BaseException] = wrong,
        ) -> None:
            try:
                offer = asked.head['sec-websocket-extensions']
                assert sorted(offer.split('; ')) == sorted(
                    spell(name, ours).split('; ')
                )
                extensions = spell(name, theirs)
                head = answer(asked.head, Sec_WebSocket_Extensions=extensions)
                peer.send(head)
                talk = Talk(peer, Codec(ours, theirs), mask=False)
                for opcode, parts in MESSAGES:
                    assert talk.recv() == (opcode, join(parts))
                    talk.send(opcode, *parts)
                assert talk.codec.compressed >= 2
                peer.send_frame(CLOSE, peer.read_frame().payload, mask=False)
                peer.sock.shutdown(socket.SHUT_WR)
            except AssertionError as error:
                wrong.append(error)

        with serving(react) as server:
            with twspy.connect(server.url, compression=template) as client:
                (deflate,) = client.extensions
                assert deflate.name == name
                for number, (opcode, parts) in enumerate(MESSAGES):
                    data = join(parts)
                    payload = data.decode() if opcode == TEXT else data
                    size = 100 if number % 2 else None
                    client.send(payload, fragment_size=size)
                    assert client.recv(timeout=SOON).payload == payload
        assert wrong == []


def test_a_server_of_both_prefers_the_order_of_the_client() -> None:
    both = [twspy.DeflateFrame(), twspy.DeflateMessage()]
    offers = {
        'permessage-deflate, deflate-frame': 'permessage-deflate',
        'x-webkit-deflate-frame, permessage-deflate': 'x-webkit-deflate-frame',
        'permessage-deflate; unheard=1, deflate-frame': 'deflate-frame',
    }
    with EchoServer(('127.0.0.1', 0), compression=both) as server:
        for offer, chosen in offers.items():
            with RawPeer.connect(
                server.address, Sec_WebSocket_Extensions=offer
            ) as peer:
                peer.echo()
                (extension,) = server.extensions
                assert extension.name == chosen
