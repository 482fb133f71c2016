"""Handlers against a model of them: called in the order of what the peer has
sent, once for each, whatever they and hooks raise; a Connection in
receive_forever() and a Server's client alike."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from drawing import codes, control_payloads, reasons, texts
from hypothesis import given
from hypothesis import strategies as st
from rawends import client_end, server_end
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

import twspy

SOON = 20.0

messages = st.one_of(
    st.tuples(st.just(TEXT), texts.map(str.encode)),
    st.tuples(st.just(BINARY), st.binary(max_size=40)),
)
# Their payloads are short, so that no Pong stands for several Pings (RFC 6455
# section 5.5.3).
controls = st.tuples(
    st.sampled_from((PING, PONG)), control_payloads.map(lambda p: p[:30])
)
# What one handler or hook does when it is called for the n-th time.
deeds = st.dictionaries(
    st.integers(0, 8), st.sampled_from(['raise', 'raise', 'close']), max_size=3
)

# The last words of a peer, and the code that we end with.
ENDS = [
    (b'', 1006),
    (pack(CLOSE, mask=False), 1005),
    (pack(3, b'x', mask=False), 1002),
    (pack(CONTINUATION, b'x', mask=False), 1002),
    (pack(TEXT, b'\xff', mask=False), 1007),
    (pack(CLOSE, b'\x03\xe8\xff', mask=False), 1007),
    (pack(BINARY, length=1 << 40, mask=False), 1009),
]


class Script(NamedTuple):
    """All that the peer sends, and what becomes of it on our side."""

    frames: list[tuple[int, bytes]]  # messages and control frames
    cuts: list[int]  # a message is cut behind so many bytes
    last: bytes  # as of a peer that does not mask
    code: int
    reason: str
    deeds: dict[int, str]
    hooked: bool  # a hook turns messages round, and raises with some

    def bytes_of(self, mask: bool) -> bytes:
        """On the wire."""
        out = b''
        for number, (opcode, payload) in enumerate(self.frames):
            at = self.cuts[number % len(self.cuts)] if self.cuts else 0
            if opcode in (PING, PONG) or at == 0:
                out += pack(opcode, payload, mask=mask)
            else:
                out += pack(opcode, payload[:at], fin=False, mask=mask)
                # A control frame may stand between (RFC 6455 section 5.4).
                out += pack(CONTINUATION, payload[at:], mask=mask)
        return out + (mask_it(self.last) if mask else self.last)


def mask_it(frame: bytes) -> bytes:
    """The same frame as one that is masked with zeros."""
    if not frame:
        return b''
    head = 2 + {126: 2, 127: 8}.get(frame[1], 0)
    return (
        frame[:1]
        + bytes([frame[1] | 128])
        + frame[2:head]
        + bytes(4)
        + frame[head:]
    )


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    if draw(st.booleans()):
        code, reason = draw(st.tuples(codes, reasons))
        last = pack(CLOSE, close_payload(code, reason), mask=False)
    else:
        last, code = draw(st.sampled_from(ENDS))
        reason = ''
    return Script(
        draw(st.lists(st.one_of(messages, controls), max_size=8)),
        draw(st.lists(st.integers(0, 9), max_size=3)),
        last,
        code,
        reason,
        draw(deeds),
        draw(st.booleans()),
    )


class Oops(Exception):
    """What handlers raise."""


class Log:
    """What was called, in order; does what the script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.count = 0
        self.calls: list[tuple[Any, ...]] = []

    def note(self, *call: Any) -> str | None:
        """Returns what is to be done in that call."""
        self.calls.append(call)
        self.count += 1
        return self.script.deeds.get(self.count - 1)

    def handle(self, conn: twspy.Connection, *call: Any) -> None:
        deed = self.note(*call)
        if deed == 'raise':
            raise Oops(self.count - 1)
        if deed == 'close':
            conn.close(4321, 'enough')

    def hook(self, message: Any) -> twspy.Message:
        if self.note('hook', message.payload) == 'raise':
            raise Oops(self.count - 1)
        return type(message)(message.payload[::-1])


def expected_calls(script: Script) -> tuple[list[tuple[Any, ...]], bool]:
    """What must be called, and whether we have closed."""
    calls: list[tuple[Any, ...]] = []
    count = 0
    closed = False

    def call(*what: Any) -> bool:
        """False where that raises."""
        nonlocal count, closed
        calls.append(what)
        deed = script.deeds.get(count)
        count += 1
        if deed == 'raise':
            calls.append(('error', count - 1))
        elif deed == 'close' and what[0] != 'hook':
            closed = True
        return deed != 'raise'

    call('open')
    for opcode, payload in script.frames:
        if closed:
            break
        if opcode in (PING, PONG):
            call('ping' if opcode == PING else 'pong', payload)
            continue
        content = payload.decode() if opcode == TEXT else payload
        if script.hooked:
            if not call('hook', content):
                continue
            content = content[::-1]
        call('message', content)
    by_us = closed  # in onclose, it is too late
    call('close')
    return calls, by_us


def check(
    script: Script, calls: list[tuple[Any, ...]], close: twspy.CloseMessage
) -> None:
    """Against the model. An exception is told before anything else is."""
    calls = [
        ('error', call[1].args[0]) if call[0] == 'error' else call
        for call in calls
    ]
    expected, closed_by_us = expected_calls(script)
    assert calls == expected
    if not closed_by_us:
        assert close.code == script.code
        if script.reason:
            assert close.reason == script.reason


def check_wire(peer: RawPeer, script: Script, mask: bool) -> None:
    """The Pongs, in order, and at most one Close, the last frame."""
    pings = [payload for opcode, payload in script.frames if opcode == PING]
    _, closed_by_us = expected_calls(script)
    frames = []
    try:
        while True:
            frames.append(peer.read_frame())
    except (EOFError, ConnectionError):
        pass
    assert all(frame.masked is mask for frame in frames)
    closes = [frame for frame in frames if frame.opcode == CLOSE]
    assert closes == frames[len(frames) - len(closes) :]
    pongs = frames[: len(frames) - len(closes)]
    assert all(frame.opcode == PONG for frame in pongs)
    answered = [frame.payload for frame in pongs]
    if closed_by_us:
        assert answered == pings[: len(answered)]
        assert [frame.close_code for frame in closes] == [4321]
        return
    assert answered == pings
    if script.code == 1006:
        assert closes == []
    else:
        assert [frame.close_code for frame in closes] == [script.code]


class Logging(twspy.Connection):
    """Has its handlers note everything."""

    log: Log
    close_message: twspy.CloseMessage

    def onopen(self) -> None:
        self.log.handle(self, 'open')

    def onmessage(self, message: Any, /) -> None:
        self.log.handle(self, 'message', message.payload)

    def onping(self, payload: bytes, /) -> None:
        self.log.handle(self, 'ping', payload)

    def onpong(self, payload: bytes, /) -> None:
        self.log.handle(self, 'pong', payload)

    def onclose(self, message: twspy.CloseMessage, /) -> None:
        self.close_message = message
        self.log.handle(self, 'close')

    def onerror(self, error: Exception, /) -> None:
        self.log.calls.append(('error', error))


def receive_forever(connection: Logging) -> None:
    """What a hook raises comes out of it, and it can be called again."""
    while True:
        try:
            return connection.receive_forever()
        except Oops as error:
            connection.onerror(error)


@pytest.mark.parametrize('end', [client_end, server_end])
@given(script=scripts())
def test_receive_forever(end: Any, script: Script) -> None:
    # Nobody waits for a peer that has said all.
    sock, peer = end(close_timeout=0.001)
    mask = sock.response is not None  # of what we send
    with sock, peer:
        connection = Logging(sock)
        connection.log = log = Log(script)
        if script.hooked:
            connection.add_hook(recv=log.hook)
        peer.send(script.bytes_of(not mask))
        peer.end()
        receive_forever(connection)
        check(script, log.calls, connection.close_message)
        assert connection.state == 'closed'
        before = list(log.calls)
        connection.receive_forever()
        assert log.calls == before
        check_wire(peer, script, mask)


class LoggingServer(twspy.Server):
    """Has its handlers note everything, for one client at a time."""

    log: Log
    close_message: twspy.CloseMessage
    closed = False

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), close_timeout=0.2)
        self.over: queue.Queue[twspy.CloseMessage] = queue.Queue()

    def onopen(self, client: twspy.Connection) -> None:
        if self.log.script.hooked:
            client.add_hook(recv=self.log.hook)
        self.log.handle(client, 'open')

    def onmessage(self, client: twspy.Connection, message: Any) -> None:
        self.log.handle(client, 'message', message.payload)

    def onping(self, client: twspy.Connection, payload: bytes) -> None:
        self.log.handle(client, 'ping', payload)

    def onpong(self, client: twspy.Connection, payload: bytes) -> None:
        self.log.handle(client, 'pong', payload)

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        self.close_message = message
        self.closed = True
        self.log.handle(client, 'close')
        self.over.put(message)

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        self.log.calls.append(('error', error))
        if self.closed:  # that was of onclose
            self.over.put(self.close_message)


@pytest.fixture(scope='module')
def server() -> Iterator[LoggingServer]:
    with LoggingServer() as server:
        yield server


@given(script=scripts())
def test_served(server: LoggingServer, script: Script) -> None:
    server.log = log = Log(script)
    server.closed = False
    with RawPeer.connect(server.address) as peer:
        peer.send(script.bytes_of(True))
        peer.end()
        close = server.over.get(timeout=SOON)
        check_wire(peer, script, False)
    check(script, log.calls, close)
