"""A websocket against a model of it: whatever a peer sends and the program
calls, in any order."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import pytest
from drawing import CONTROL, DATA, control_payloads, payloads
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from rawends import Ends, client_end, server_end
from rawpeer import CLOSE, PING, RawPeer, pack

import twspy
from twspy import Frame

MAX_SIZE = 70_000

data_frames = st.tuples(st.sampled_from(DATA), payloads(), st.booleans())
control_frames = st.tuples(
    st.sampled_from((*CONTROL, CLOSE)), control_payloads, st.just(True)
)
frames = st.one_of(data_frames, control_frames)

# What breaks the framing (RFC 6455 section 5.2), for a peer that masks or
# does not, and the close code that it calls for.
BROKEN: dict[str, tuple[int, Callable[[bool], bytes]]] = {
    'opcode': (1002, lambda mask: pack(3, b'abc', mask=mask)),
    'rsv': (1002, lambda mask: pack(2, b'abc', rsv=2, mask=mask)),
    'mask': (1002, lambda mask: pack(2, b'abc', mask=not mask)),
    'long control': (1002, lambda mask: pack(PING, bytes(126), mask=mask)),
    'cut control': (1002, lambda mask: pack(PING, fin=False, mask=mask)),
    'length': (1002, lambda mask: pack(2, b'abc', length_bytes=2, mask=mask)),
    'top bit': (
        1002,
        lambda mask: pack(2, length=1 << 63, length_bytes=8, mask=mask),
    ),
    'size': (1009, lambda mask: pack(2, length=MAX_SIZE + 1, mask=mask)),
}


def turned(frame: Frame) -> Frame:
    """A hook."""
    if frame.opcode >= CLOSE:
        return frame
    return Frame(frame.opcode, frame.payload[::-1], final=frame.final)


class Machine(RuleBasedStateMachine):
    """`arrived` are whole frames that recv() has not returned; `rest` is what
    the peer has yet to send of a frame; `broken` the code of one that breaks
    the rules, behind those."""

    end: Callable[..., Ends]

    @initialize(
        hooks=st.lists(
            st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=3
        )
    )
    def connect(self, hooks: list[tuple[bool, bool, bool]]) -> None:
        self.sock: twspy.websocket
        self.peer: RawPeer
        self.sock, self.peer = type(self).end(max_size=MAX_SIZE)
        self.masked = self.sock.response is None
        self.arrived: deque[Frame] = deque()
        self.rest = b''
        self.unfinished: Frame | None = None
        self.broken: int | None = None
        self.ended = False
        self.is_reset = False
        self.has_shut = False
        # Each of them turns the payloads of data frames round.
        self.send_hooks = sum(send for send, _, _ in hooks)
        self.recv_hooks = sum(recv for _, recv, _ in hooks)
        for send, recv, prepend in hooks:
            self.sock.add_hook(
                send=turned if send else None,
                recv=turned if recv else None,
                prepend=prepend,
            )

    # --- the peer ---

    def may_send(self) -> bool:
        return not (self.ended or self.rest or self.broken or self.is_reset)

    @precondition(may_send)
    @rule(frame=frames)
    def peer_sends(self, frame: tuple[int, bytes, bool]) -> None:
        opcode, payload, fin = frame
        self.peer.send(pack(opcode, payload, fin=fin, mask=self.masked))
        self.arrived.append(Frame(opcode, payload, final=fin))

    @precondition(may_send)
    @rule(frame=frames, share=st.floats(0, 1))
    def peer_sends_a_part(
        self, frame: tuple[int, bytes, bool], share: float
    ) -> None:
        opcode, payload, fin = frame
        packed = pack(opcode, payload, fin=fin, mask=self.masked)
        length = min(int(share * len(packed)), len(packed) - 1)
        self.peer.send(packed[:length])
        self.rest = packed[length:]
        self.unfinished = Frame(opcode, payload, final=fin)

    @precondition(
        lambda self: self.rest and not self.ended and not self.is_reset
    )
    @rule()
    def peer_sends_the_rest(self) -> None:
        assert self.unfinished is not None
        self.peer.send(self.rest)
        self.rest = b''
        self.arrived.append(self.unfinished)

    @precondition(may_send)
    @rule(kind=st.sampled_from(sorted(BROKEN)), behind=st.binary(max_size=20))
    def peer_breaks_a_rule(self, kind: str, behind: bytes) -> None:
        self.broken, make = BROKEN[kind]
        self.peer.send(make(self.masked) + behind)

    @precondition(lambda self: not self.ended and not self.is_reset)
    @rule()
    def peer_ends(self) -> None:
        self.peer.sock.shutdown(socket.SHUT_WR)
        self.ended = True

    @precondition(lambda self: not self.is_reset)
    @rule()
    def peer_resets(self) -> None:
        """What it has sent before is there nevertheless."""
        self.peer.reset()
        self.is_reset = True

    # --- we ---

    def meant(self, frame: Frame) -> Frame:
        """What a frame is behind the hooks."""
        return turned(frame) if self.recv_hooks % 2 else frame

    def fails(self, call: Callable[[], object]) -> None:
        """Receiving more than has arrived."""
        if self.broken is not None:
            with pytest.raises(twspy.ProtocolError) as caught:
                call()
            assert caught.value.code == self.broken
        elif self.ended or self.is_reset:
            with pytest.raises(twspy.SocketClosed) as closed:
                call()
            assert closed.value.code == 1006
        else:
            self.sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                call()
            self.sock.settimeout(30)

    @rule()
    def recv(self) -> None:
        if self.arrived:
            assert self.sock.recv() == self.meant(self.arrived.popleft())
        else:
            self.fails(self.sock.recv)

    @rule(count=st.integers(0, 4))
    def recvn(self, count: int) -> None:
        if count <= len(self.arrived):
            expected = [
                self.meant(self.arrived.popleft()) for _ in range(count)
            ]
            assert self.sock.recvn(count) == expected
        else:
            self.fails(lambda: self.sock.recvn(count))

    @rule()
    def time_passes(self) -> None:
        if (
            not self.arrived
            and self.broken is None
            and not self.ended
            and not self.is_reset
        ):
            self.sock.settimeout(0.001)
            with pytest.raises(TimeoutError):
                self.sock.recv()
            self.sock.settimeout(30)

    @precondition(lambda self: not self.is_reset and not self.has_shut)
    @rule(sent=st.lists(frames, min_size=1, max_size=3), key=st.binary())
    def send(self, sent: list[tuple[int, bytes, bool]], key: bytes) -> None:
        self.sock.send(
            *[
                Frame(opcode, payload, final=fin, masking_key=key[:4])
                if len(key) >= 4
                else Frame(opcode, payload, final=fin)
                for opcode, payload, fin in sent
            ]
        )
        for expected in sent:
            opcode, payload, fin = expected
            if self.send_hooks % 2 and opcode < CLOSE:
                payload = payload[::-1]
            frame = self.peer.read_frame()
            assert (frame.opcode, frame.payload, frame.fin) == (
                opcode,
                payload,
                fin,
            )
            assert frame.rsv == 0
            assert frame.masked is not self.masked

    @precondition(lambda self: self.is_reset or self.has_shut)
    @rule(frame=frames)
    def send_in_vain(self, frame: tuple[int, bytes, bool]) -> None:
        opcode, payload, fin = frame
        with pytest.raises(twspy.SocketClosed) as caught:
            for _ in range(100):  # a reset may be on its way
                self.sock.send(Frame(opcode, payload, final=fin))
        assert caught.value.code == 1006

    @precondition(lambda self: not self.is_reset and not self.has_shut)
    @rule()
    def end_our_direction(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        self.has_shut = True
        self.peer.expect_end()

    @invariant()
    def pending_are_some_of_those(self) -> None:
        if hasattr(self, 'sock'):
            more = self.broken is not None
            assert 0 <= self.sock.pending() <= len(self.arrived) + more

    def teardown(self) -> None:
        if hasattr(self, 'sock'):
            self.sock.close()
            self.peer.close()


class ClientMachine(Machine):
    end = staticmethod(client_end)


class ServerMachine(Machine):
    end = staticmethod(server_end)


TestClient = ClientMachine.TestCase
TestServer = ServerMachine.TestCase
