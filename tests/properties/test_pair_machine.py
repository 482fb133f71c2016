"""Two Connections of ours against a model: two queues, and how it all ends,
with whatever extensions both have agreed on."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from drawing import codes, control_payloads, payloads, reasons, texts
from extending import Mirror, Shift
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)
from rawends import in_thread

import twspy

messages = st.one_of(texts, payloads())
EXTENSIONS: list[list[Any]] = [
    [],
    [twspy.DeflateMessage],
    [twspy.DeflateFrame],
    [Mirror, Shift(3)],
    [twspy.DeflateMessage(threshold=0), Mirror],
]
sides = st.booleans()
SOON = 10


class PairMachine(RuleBasedStateMachine):
    """`sent[side]` is what that side has sent and the other not received."""

    @initialize(extensions=st.sampled_from(EXTENSIONS))
    def connect(self, extensions: list[Any]) -> None:
        client, server = twspy.pair(extensions=extensions)
        self.ends = (client, server)
        assert len(client.extensions) == len(extensions)
        self.sent: tuple[deque[Any], deque[Any]] = (deque(), deque())
        self.pings = [0, 0]
        self.over = False

    def is_open(self) -> bool:
        return not self.over

    @precondition(is_open)
    @rule(
        side=sides,
        message=messages,
        size=st.one_of(st.none(), st.integers(1, 200)),
        compress=st.sampled_from([None, True, False]),
    )
    def send(
        self,
        side: bool,
        message: str | bytes,
        size: int | None,
        compress: bool | None,
    ) -> None:
        size = size and max(size, len(message) // 20)
        self.ends[side].send(message, size, compress=compress)
        self.sent[side].append(message)

    @precondition(is_open)
    @rule(side=sides, chunks=st.lists(st.binary(max_size=40), max_size=4))
    def send_in_pieces(self, side: bool, chunks: list[bytes]) -> None:
        end = self.ends[side]
        if any(isinstance(one, Mirror) for one in end.extensions):
            return  # it wants whole messages
        with end.send_stream(fragment_size=16) as stream:
            for chunk in chunks:
                stream.write(chunk)
        self.sent[side].append(b''.join(chunks))

    @precondition(is_open)
    @rule(side=sides, payload=control_payloads)
    def ping(self, side: bool, payload: bytes) -> None:
        self.ends[side].send_ping(payload)

    @precondition(is_open)
    @rule(side=sides)
    def recv(self, side: bool) -> None:
        end, queue = self.ends[side], self.sent[not side]
        if not queue:
            with pytest.raises(TimeoutError):
                end.recv(timeout=0.001)
            return
        message = end.recv(timeout=SOON)
        assert message.payload == queue.popleft()

    @precondition(is_open)
    @rule(side=sides)
    def recv_in_pieces(self, side: bool) -> None:
        end, queue = self.ends[side], self.sent[not side]
        if queue:
            expected = queue.popleft()
            chunks = list(end.recv_stream(timeout=SOON))
            assert type(expected)().join(chunks) == expected

    @precondition(is_open)
    @rule(side=sides, code=codes, reason=reasons)
    def close(self, side: bool, code: int, reason: str) -> None:
        """The other side receives all that was sent before."""
        end, other = self.ends[side], self.ends[not side]
        closing = in_thread(lambda: end.close(code, reason, timeout=SOON))
        for expected in self.sent[side]:
            assert other.recv(timeout=SOON).payload == expected
        with pytest.raises(twspy.SocketClosed) as caught:
            other.recv(timeout=SOON)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert closing() is None
        self.over = True

    @precondition(lambda self: self.over)
    @rule(side=sides, message=messages)
    def all_is_over(self, side: bool, message: str | bytes) -> None:
        for call in (
            lambda: self.ends[side].send(message),
            lambda: self.ends[side].recv(timeout=SOON),
            lambda: list(self.ends[side].recv_stream(timeout=SOON)),
        ):
            with pytest.raises(twspy.SocketClosed):
                call()
        assert self.ends[side].state == 'closed'

    def teardown(self) -> None:
        for end in getattr(self, 'ends', ()):
            end.sock.close()


TestPair = PairMachine.TestCase
