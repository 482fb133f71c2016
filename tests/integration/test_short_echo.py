"""Short messages take a way of their own through the server: what they do
must not differ from what all others do."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any

import pytest
from rawpeer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    pack,
)
from servers import SOON, EchoServer

import twspy

LENGTHS = (0, 1, 7, 8, 15, 16, 17, 124, 125, 126, 127, 2047, 2048, 2049)
BOUNDARIES = (*LENGTHS, 16383, 16384, 16385, 65535, 65536, 65537)


def text(length: int) -> bytes:
    return bytes(33 + i % 90 for i in range(length))


def echoes(peer: RawPeer, payload: str, expected: str) -> None:
    peer.send(pack(TEXT, payload.encode()))
    assert peer.read_frame()[:2] == (TEXT, expected.encode())


@pytest.mark.parametrize('opcode', [TEXT, BINARY])
def test_every_length_comes_back(opcode: int) -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        for length in BOUNDARIES:
            peer.send(pack(opcode, text(length)))
            frame = peer.read_frame()
            assert frame[:2] == (opcode, text(length))
            assert not frame.masked
            assert frame.length7 == (
                length if length < 126 else 126 if length < 65536 else 127
            )
        assert server.stats()['messages_in'] == len(BOUNDARIES)
        assert server.stats()['messages_out'] == len(BOUNDARIES)
        assert server.stats()['bytes_out'] == sum(BOUNDARIES)


def test_many_in_one_read_with_control_frames_between() -> None:
    wire = b''.join(
        pack(BINARY if length % 2 else TEXT, text(length))
        + pack(PING, str(length).encode())
        for length in LENGTHS
    )
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        peer.send(wire)
        for length in LENGTHS:
            opcode = BINARY if length % 2 else TEXT
            assert peer.read_frame()[:2] == (opcode, text(length))
            assert peer.read_frame()[:2] == (PONG, str(length).encode())


def test_cut_at_each_place() -> None:
    wire = pack(TEXT, b'one') + pack(BINARY, text(130)) + pack(TEXT, b'two')
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        for cut in range(1, len(wire)):
            peer.send(wire[:cut])
            peer.send(wire[cut:])
            assert peer.read_frame()[:2] == (TEXT, b'one')
            assert peer.read_frame()[:2] == (BINARY, text(130))
            assert peer.read_frame()[:2] == (TEXT, b'two')


@pytest.mark.parametrize(
    'payload', ['ä', 'aä' * 40, '\u20ac' * 700, '\U0001f600', 'x' * 100 + 'ÿ']
)
def test_text_that_is_not_ascii(payload: str) -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        echoes(peer, payload, payload)


BREACHES = {
    'impossible byte': (pack(TEXT, b'good \xff'), 1007),
    'surrogate': (pack(TEXT, text(200) + b'\xed\xa0\x80'), 1007),
    'unfinished character': (pack(TEXT, b'\xe2\x82'), 1007),
    'no mask': (pack(TEXT, b'plain', mask=False), 1002),
    'length of 16 bits': (pack(TEXT, b'wide', length_bytes=2), 1002),
    'length of 64 bits': (pack(TEXT, text(300), length_bytes=8), 1002),
    'RSV1': (pack(TEXT, b'rsv', rsv=4), 1002),
    'opcode': (pack(3, b'reserved'), 1002),
    'no end': (pack(TEXT, b'start', fin=False) + pack(TEXT, b'again'), 1002),
    'size': (pack(TEXT, text(1001)), 1009),
}


@pytest.mark.parametrize('breach', BREACHES)
def test_what_breaks_a_rule_closes(breach: str) -> None:
    wire, code = BREACHES[breach]
    with (
        EchoServer(max_size=1000) as server,
        RawPeer.connect(server.address) as peer,
    ):
        peer.send(pack(TEXT, b'before') + wire + pack(TEXT, b'after'))
        assert peer.read_frame()[:2] == (TEXT, b'before')
        frame = peer.read_frame()
        assert frame.opcode == CLOSE
        assert frame.close_code == code


class Prefixing(twspy.Server):
    """Says which of its handlers has answered."""

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        client.send(twspy.TextMessage(f'class {message.payload}'))


def say(word: str) -> Callable[..., None]:
    def onmessage(
        self: twspy.Server, client: twspy.Connection, message: twspy.Message
    ) -> None:
        client.send(twspy.TextMessage(f'{word} {message.payload}'))

    return onmessage


def test_handler_replaced_while_serving() -> None:
    class Base(twspy.Server):
        onmessage = say('base')

    class Derived(Base):
        pass

    class Other(Derived):
        onmessage = say('other')

    server = Derived(('127.0.0.1', 0))
    with server, RawPeer.connect(server.address) as peer:
        echoes(peer, '1', 'base 1')
        echoes(peer, '2', 'base 2')
        Base.onmessage = say('changed')  # type: ignore[method-assign]
        echoes(peer, '3', 'changed 3')
        Derived.onmessage = say('nearer')  # type: ignore[method-assign]
        echoes(peer, '4', 'nearer 4')
        own = types.MethodType(say('own'), server)
        server.onmessage = own  # type: ignore[method-assign]
        echoes(peer, '5', 'own 5')
        del server.onmessage
        echoes(peer, '6', 'nearer 6')
        server.__class__ = Other
        echoes(peer, '7', 'other 7')
        server.__class__ = Derived
        del Derived.onmessage
        echoes(peer, '8', 'changed 8')


def test_handler_replaced_by_itself() -> None:
    class Once(Prefixing):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            Once.onmessage = say('then')  # type: ignore[method-assign]
            client.send(twspy.TextMessage('first'))

    with (
        Once(('127.0.0.1', 0)) as server,
        RawPeer.connect(server.address) as peer,
    ):
        peer.send(pack(TEXT, b'1') + pack(TEXT, b'2'))
        assert peer.read_frame()[:2] == (TEXT, b'first')
        assert peer.read_frame()[:2] == (TEXT, b'then 2')


class Changing:
    """A descriptor that answers with another function each time."""

    def __init__(self) -> None:
        self.turns = 0

    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return say('unbound')
        self.turns += 1
        return types.MethodType(say(f'turn {self.turns}'), owner)


class Meta(type):
    """A metaclass changes nothing for the instances."""

    def __getattribute__(cls, name: str) -> Any:
        if name == 'onmessage':
            return say('meta')
        return super().__getattribute__(name)


def test_handlers_that_are_no_plain_methods() -> None:
    class Static(twspy.Server):
        @staticmethod
        def onmessage(*args: Any) -> None:
            client, message = args
            client.send(twspy.TextMessage(f'static {message.payload}'))

    class Bound(twspy.Server):
        @classmethod
        def onmessage(cls, client: Any, message: Any) -> None:
            client.send(twspy.TextMessage(f'{cls.__name__} {message.payload}'))

    class Property(twspy.Server):
        turns = 0

        @property
        def onmessage(self) -> Any:
            self.turns += 1
            return types.MethodType(say(f'property {self.turns}'), self)

    class Descriptor(twspy.Server):
        onmessage = Changing()

    class Hooked(Prefixing):
        def __getattribute__(self, name: str) -> Any:
            if name == 'onmessage':
                return types.MethodType(say('hooked'), self)
            return super().__getattribute__(name)

    class WithMeta(Prefixing, metaclass=Meta):
        pass

    expected = {
        Static: ['static 1', 'static 2'],
        Bound: ['Bound 1', 'Bound 2'],
        Property: ['property 1 1', 'property 2 2'],
        Descriptor: ['turn 1 1', 'turn 2 2'],
        Hooked: ['hooked 1', 'hooked 2'],
        WithMeta: ['class 1', 'class 2'],
    }
    for kind, answers in expected.items():
        with (
            kind(('127.0.0.1', 0)) as server,
            RawPeer.connect(server.address) as peer,
        ):
            echoes(peer, '1', answers[0])
            echoes(peer, '2', answers[1])


def test_handler_that_is_gone_is_told_to_onerror() -> None:
    class Bare(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            client.send(message)

    with Bare() as server, RawPeer.connect(server.address) as peer:
        echoes(peer, '1', '1')
        Bare.onmessage = None  # type: ignore[assignment]
        peer.send(pack(TEXT, b'2'))
        _, error = server.wait_for('error')
        assert isinstance(error, TypeError)
        del Bare.onmessage
        echoes(peer, '3', '3')


def test_messages_outlive_their_turn() -> None:
    class Keeping(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            self.events.put(('kept', message))
            client.send(twspy.TextMessage('x'))

    with Keeping() as server, RawPeer.connect(server.address) as peer:
        count = 200
        peer.send(b''.join(pack(TEXT, b'%d' % i) for i in range(count)))
        kept = [server.wait_for('kept')[0] for _ in range(count)]
        assert [m.payload for m in kept] == [str(i) for i in range(count)]
        assert len({id(m) for m in kept}) == count
        del kept[::2]
        peer.send(b''.join(pack(BINARY, b'%d' % i) for i in range(count)))
        more = [server.wait_for('kept')[0] for _ in range(count)]
        assert [m.payload for m in more] == [b'%d' % i for i in range(count)]
        assert [m.payload for m in kept] == [
            str(i) for i in range(1, count, 2)
        ]
        assert {type(m) for m in more} == {twspy.BinaryMessage}
        assert {type(m) for m in kept} == {twspy.TextMessage}


def test_bytes_that_are_kept_are_not_written_again() -> None:
    kept: list[bytes] = []
    seen: list[tuple[int, int]] = []

    class Keeper(EchoServer):
        def onmessage(self, client: Any, message: twspy.Message) -> None:
            payload = message.payload
            assert isinstance(payload, bytes)
            if payload[0] % 3 == 0:
                kept.append(payload)
            seen.append((len(payload), hash(payload)))
            client.send(message)

    payloads = [
        bytes([i % 256]) * (length + i % 7)
        for i in range(40)
        for length in (400, 479, 1000, 4000, 16384, 65536, 66000)
    ]
    # The same length twice, and three times, in a row.
    payloads = [p for p in payloads for _ in range(1 + len(p) % 3)]
    with Keeper() as server, RawPeer.connect(server.address) as peer:
        for payload in payloads:
            peer.send(pack(BINARY, payload))
            assert peer.read_frame()[:2] == (BINARY, payload)
    assert kept == [p for p in payloads if p[0] % 3 == 0]
    assert seen == [(len(p), hash(p)) for p in payloads]
    for payload in kept:
        assert hash(payload) == hash(bytes(bytearray(payload)))
        assert payload == bytes(bytearray(payload))


def test_bytes_that_lie_in_a_message_or_a_view_are_kept() -> None:
    kept: list[Any] = []

    class Keeper(EchoServer):
        def onmessage(self, client: Any, message: twspy.Message) -> None:
            kept.append(
                message if len(kept) % 2 else memoryview(message.payload)
            )
            client.send(message)

    payloads = [bytes([i]) * 1024 for i in range(20)]
    with Keeper() as server, RawPeer.connect(server.address) as peer:
        for payload in payloads:
            peer.send(pack(BINARY, payload))
            assert peer.read_frame()[:2] == (BINARY, payload)
    found = [getattr(k, 'payload', k) for k in kept]
    assert found == payloads


def test_subclass_of_a_message_is_sent_as_it_says() -> None:
    class Loud(twspy.TextMessage):
        """With attributes of its own."""

    class Answering(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            loud = Loud(message.payload.upper())
            loud.note = 'kept'  # type: ignore[attr-defined]
            client.send(loud)

    with Answering() as server, RawPeer.connect(server.address) as peer:
        for _ in range(3):
            echoes(peer, 'abc', 'ABC')


def test_forked_child_sends_nothing() -> None:
    class Forking(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            client.send(message)  # its memory is there from now on
            child = os.fork()
            if child == 0:
                status = 3
                try:
                    client.send(twspy.TextMessage('from the child'))
                except RuntimeError:
                    status = 0
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            client.send(twspy.TextMessage(str(status)))

    with Forking() as server, RawPeer.connect(server.address) as peer:
        echoes(peer, 'fork', 'fork')
        assert peer.read_frame()[:2] == (TEXT, b'0')


def test_closed_by_its_handler_takes_no_more() -> None:
    class Closing(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            client.send(message)
            client.close(4000, 'enough', timeout=0)
            try:
                client.send(message)
            except twspy.SocketClosed:
                self.events.put(('refused',))

    with Closing() as server, RawPeer.connect(server.address) as peer:
        peer.send(pack(TEXT, b'last'))
        assert peer.read_frame()[:2] == (TEXT, b'last')
        assert peer.read_frame().close_code == 4000
        peer.send(pack(CLOSE, b'\x0f\xa0'))
        server.events.get(timeout=SOON)
