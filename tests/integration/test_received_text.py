"""Texts that are sent on as they came, and are not encoded again then."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from rawpeer import BINARY, CLOSE, TEXT, RawPeer, pack

import twspy

ALPHABETS = [
    'abc é',
    'aü\x80\xff',
    'Жя \u0100\u07ff',
    '世界€ \ue000\uffff',
    'aüЖ世🌍\U0010ffff',
]


def texts() -> list[str]:
    draw = random.Random(1)
    return [
        ''.join(draw.choice(alphabet) for _ in range(length))
        for alphabet in ALPHABETS
        for length in (0, 1, 20, 31, 32, 60, 64, 100, 2000, 6000, 30_000)
    ]


class Echo(twspy.Server):
    received: list[str]

    def onmessage(self, client: Any, message: Any) -> None:
        self.received.append(message.payload)
        client.send(twspy.TextMessage(message.payload))
        client.send(message)


def test_what_is_echoed_is_what_came() -> None:
    with Echo(('127.0.0.1', 0)) as server:
        server.received = []
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as conn:
            for text in texts():
                conn.send(text)
                assert conn.recv().payload == text
                assert conn.recv().payload == text
    # As CPython would have made them: of the smallest kind.
    for text, came in zip(texts(), server.received, strict=True):
        assert came == text
        assert hash(came) == hash(text)
        assert came.isascii() == text.isascii()
        assert came.__sizeof__() <= text.__sizeof__() + 4 * len(text)
        assert (came + 'é').encode() == (text + 'é').encode()
        assert came.translate({}) == text


FIRST = 'Grüße aus der ersten Nachricht, '.ljust(100, 'ß')
SECOND = 'und andere aus der zweiten: 世界 '.ljust(100, 'é')


FILLERS = 4


class ReadsOn(twspy.Server):
    def onmessage(self, client: Any, message: Any) -> None:
        for _ in range(FILLERS):
            client.recv()
        other = client.recv()
        client.send(twspy.TextMessage(message.payload))
        client.send(twspy.TextMessage(other.payload))


def test_after_the_handler_has_read_on() -> None:
    """Where the first text was, others lie by then. What comes is more than
    is read at a time, and mostly there before the handler asks for it."""
    with ReadsOn(('127.0.0.1', 0)) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as conn:
            frames = [twspy.Frame(twspy.OPCODE_TEXT, FIRST.encode())]
            filler = twspy.Frame(twspy.OPCODE_BINARY, bytes(30_000))
            frames += [filler] * FILLERS
            frames.append(twspy.Frame(twspy.OPCODE_TEXT, SECOND.encode()))
            for _ in range(30):
                conn.sock.send(*frames)
                assert conn.recv().payload == FIRST
                assert conn.recv().payload == SECOND


class Keeps(twspy.Server):
    kept: str | None = None

    def onmessage(self, client: Any, message: Any) -> None:
        if self.kept is None:
            self.kept = message.payload
        client.send(twspy.TextMessage(self.kept))


def test_after_its_handler() -> None:
    with Keeps(('127.0.0.1', 0)) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as conn:
            for text in FIRST, SECOND, 'short', FIRST + SECOND:
                conn.send(text)
                assert conn.recv().payload == FIRST


class Waits(twspy.Server):
    """The first handler waits until another one has sent its text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[str] = []
        self.waits = threading.Event()
        self.goes_on = threading.Event()

    def onmessage(self, client: Any, message: Any) -> None:
        if self.kept:
            client.send(twspy.TextMessage(self.kept[0]))
            client.send(twspy.TextMessage(message.payload))
            return
        self.kept.append(message.payload)
        self.waits.set()
        assert self.goes_on.wait(40)
        client.send(twspy.TextMessage(message.payload))


@pytest.mark.parametrize('other', [SECOND, 'ASCII', FIRST])
def test_beside_another_handler(other: str) -> None:
    with Waits(('127.0.0.1', 0)) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as first, twspy.connect(url) as second:
            first.send(FIRST)
            assert server.waits.wait(40)
            second.send(other)
            assert second.recv().payload == FIRST
            assert second.recv().payload == other
            server.goes_on.set()
            assert first.recv().payload == FIRST


class Closes(twspy.Server):
    """A text's handler closes and is not over; binary ones send that text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept = ''
        self.closed = threading.Event()
        self.goes_on = threading.Event()

    def onmessage(self, client: Any, message: Any) -> None:
        if isinstance(message, twspy.TextMessage):
            self.kept = message.payload
            client.close()
            self.closed.set()
            assert self.goes_on.wait(40)
        else:
            for _ in range(12):
                client.send(twspy.TextMessage(self.kept))


def test_after_the_handler_has_closed() -> None:
    """It has read on, to the peer's Close."""
    with Closes(('127.0.0.1', 0)) as server:
        first = RawPeer.connect(server.address)
        second = RawPeer.connect(server.address)
        with first, second:
            first.send(pack(TEXT, FIRST.encode()))
            assert first.read_frame().opcode == CLOSE
            first.send(pack(BINARY, bytes(300)) + pack(CLOSE, b'\x03\xe8'))
            assert server.closed.wait(40)
            second.send(pack(BINARY, b'send it'))
            for _ in range(12):
                assert second.read_frame()[:2] == (TEXT, FIRST.encode())
            server.goes_on.set()
