"""A Connection against a model of it: messages whole and in pieces, with
control frames between them, and every way to end."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import pytest
from drawing import codes, control_payloads, cut, payloads, reasons, texts
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)
from rawends import Ends, client_end, in_thread, server_end
from rawpeer import BINARY, CLOSE, PING, PONG, TEXT, close_payload, pack

import twspy

messages = st.one_of(
    st.tuples(st.just(TEXT), texts.map(str.encode)),
    st.tuples(st.just(BINARY), payloads()),
)
controls = st.tuples(st.sampled_from((PING, PONG)), control_payloads)
# Sizes of the fragments, and the control frames behind each.
pieces = st.lists(
    st.tuples(st.integers(0, 200), st.lists(controls, max_size=2)), max_size=3
)


class Event(NamedTuple):
    """What the peer has sent and we have not read."""

    opcode: int
    payload: bytes = b''
    code: int | None = None  # of what ends the connection


class Recording(twspy.Connection):
    """Keeps what its handlers were told of control frames."""

    told: list[tuple[int, bytes]]

    def onping(self, payload: bytes, /) -> None:
        self.told.append((PING, payload))

    def onpong(self, payload: bytes, /) -> None:
        self.told.append((PONG, payload))


class Machine(RuleBasedStateMachine):
    end: Callable[..., Ends]

    @initialize()
    def connect(self) -> None:
        # The peer, on this thread, does not end before we do.
        sock, self.peer = type(self).end(close_timeout=0.001)
        self.masked = sock.response is None
        self.connection = Recording(sock)
        self.connection.told = []
        self.events: deque[Event] = deque()
        self.at_peer: deque[tuple[int, bytes]] = deque()
        self.silent = False  # the peer has said its last
        self.over = False  # and we know

    # --- the peer ---

    def may_send(self) -> bool:
        return not self.silent and not self.over

    def peer_frame(self, opcode: int, payload: bytes, fin: bool) -> None:
        self.peer.send(pack(opcode, payload, fin=fin, mask=self.masked))

    @precondition(may_send)
    @rule(message=messages, how=pieces)
    def peer_sends_a_message(
        self,
        message: tuple[int, bytes],
        how: list[tuple[int, list[tuple[int, bytes]]]],
    ) -> None:
        opcode, payload = message
        parts = cut(payload, [size for size, _ in how])
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            self.peer_frame(0 if number else opcode, part, last)
            for control in [] if last else how[number][1]:
                self.peer_sends_a_control_frame(control)
        self.events.append(Event(opcode, payload))

    @precondition(may_send)
    @rule(control=controls)
    def peer_sends_a_control_frame(self, control: tuple[int, bytes]) -> None:
        self.peer_frame(*control, True)
        self.events.append(Event(*control))

    @precondition(may_send)
    @rule(code=codes, reason=reasons, behind=st.binary(max_size=9))
    def peer_closes(self, code: int, reason: str, behind: bytes) -> None:
        payload = close_payload(code, reason)
        self.peer_frame(CLOSE, payload, True)
        self.peer.send(behind)
        self.events.append(Event(CLOSE, payload, code))
        self.silent = True

    @precondition(may_send)
    @rule(
        broken=st.sampled_from(
            [
                (1002, 3, b''),  # a reserved opcode
                (1002, 0, b''),  # a continuation of nothing
                (1002, CLOSE, b'\x03'),
                (1002, CLOSE, (1005).to_bytes(2, 'big')),
                (1007, CLOSE, b'\x03\xe8\xff'),
                (1007, TEXT, b'\xed\xa0\x80'),
                (1009, BINARY, bytes((1 << 20) + 1)),
            ]
        )
    )
    def peer_breaks_a_rule(self, broken: tuple[int, int, bytes]) -> None:
        code, opcode, payload = broken
        self.peer.sock.setblocking(False)
        try:
            self.peer_frame(opcode, payload, True)
        except BlockingIOError:
            pass  # the header is enough
        self.peer.sock.settimeout(10)
        self.events.append(Event(-1, b'', code))
        self.silent = True

    @precondition(may_send)
    @rule()
    def peer_ends(self) -> None:
        self.peer.sock.shutdown(socket.SHUT_WR)
        self.events.append(Event(CLOSE, b'', 1006))
        self.silent = True

    def peer_reads(self) -> None:
        """All that must be there; fragments are joined."""
        while self.at_peer:
            opcode, payload = self.at_peer.popleft()
            frame = self.peer.read_frame()
            got = frame.payload
            assert frame.opcode == opcode
            while not frame.fin:
                frame = self.peer.read_frame()
                assert frame.opcode == 0
                got += frame.payload
            assert frame.masked is not self.masked
            assert got == payload

    # --- we ---

    def next_event(self) -> Event | None:
        """What recv() stops at; what it passes on the way is answered."""
        while self.events:
            event = self.events.popleft()
            if event.opcode not in (PING, PONG):
                return event
            self.expected.append(event[:2])
            if event.opcode == PING:
                self.at_peer.append((PONG, event.payload))
        return None

    @rule()
    def recv(self) -> None:
        self.connection.told = []
        self.expected: list[tuple[int, bytes]] = []
        event = None if self.over else self.next_event()
        if self.over:
            with pytest.raises(twspy.SocketClosed):
                self.connection.recv()
        elif event is None:
            with pytest.raises(TimeoutError):
                self.connection.recv(timeout=0.001)
        elif event.opcode in (TEXT, BINARY):
            message = self.connection.recv(timeout=10)
            assert message.opcode == event.opcode
            payload = message.payload
            if event.opcode == TEXT:
                assert isinstance(payload, str)
                payload = payload.encode()
            assert payload == event.payload
        else:
            self.recv_end(event)
        assert self.connection.told == self.expected
        self.peer_reads()

    def recv_end(self, event: Event) -> None:
        self.over = True
        kind = twspy.ProtocolError if event.opcode < 0 else twspy.SocketClosed
        with pytest.raises(kind) as caught:
            self.connection.recv(timeout=10)
        assert caught.value.code == event.code
        if event.payload:
            assert caught.value.reason == event.payload[2:].decode()
            self.at_peer.append((CLOSE, event.payload[:2]))
        if event.opcode < 0:
            self.peer_reads()
            frame = self.peer.read_frame()
            assert (frame.opcode, frame.close_code) == (CLOSE, event.code)

    @rule(message=messages, size=st.one_of(st.none(), st.integers(1, 99)))
    def send(self, message: tuple[int, bytes], size: int | None) -> None:
        opcode, payload = message
        if size is not None and len(payload) > 50 * size:
            size = len(payload) // 50
        content = payload.decode() if opcode == TEXT else payload
        if self.over:
            with pytest.raises(twspy.SocketClosed):
                self.connection.send(content, size)
            return
        self.connection.send(content, size)
        self.at_peer.append(message)
        self.peer_reads()

    @precondition(may_send)
    @rule(code=codes, reason=reasons)
    def close(self, code: int, reason: str) -> None:
        """And the peer answers; what it had sent is thrown away."""
        closing = in_thread(
            lambda: self.connection.close(code, reason, timeout=30)
        )
        frame = self.peer.read_frame()
        while frame.opcode == PONG:
            frame = self.peer.read_frame()
        assert frame.opcode == CLOSE
        assert frame.payload == close_payload(code, reason)
        self.peer_frame(CLOSE, frame.payload, True)
        self.peer.sock.shutdown(socket.SHUT_WR)
        assert closing() is None
        self.events.clear()
        self.silent = self.over = True

    def teardown(self) -> None:
        if hasattr(self, 'connection'):
            self.connection.sock.close()
            self.peer.close()


class ClientMachine(Machine):
    end = staticmethod(client_end)


class ServerMachine(Machine):
    end = staticmethod(server_end)


TestClient = ClientMachine.TestCase
TestServer = ServerMachine.TestCase
