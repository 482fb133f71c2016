"""Extensions that the tests agree on, and ends that speak of them by hand."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rawends import answer, read_request, tcp_pair
from rawpeer import RawPeer, request

import twspy
from twspy import Frame

Params = dict[str, str | None]


def like(frame: Frame, payload: bytes, **how: Any) -> Frame:
    """A frame like this one, but for its payload and what else is said."""
    names = ('final', 'rsv1', 'rsv2', 'rsv3')
    same = {name: getattr(frame, name) for name in names}
    return Frame(how.pop('opcode', frame.opcode), payload, **same | how)


class Shift(twspy.Extension):
    """Of each frame: adds a number, agreed on, to all bytes; marks what it
    has seen with RSV1."""

    name = 'x-shift'
    rsv1 = True

    def __init__(self, by: int = 1) -> None:
        self.by = by

    def offer(self) -> dict[str, str | int | None]:
        return {'by': self.by}

    def negotiate(self, params: Params) -> dict[str, str | int | None] | None:
        if not (params.get('by') or '').isdigit():
            return None
        self.by = int(str(params['by']))
        return {'by': self.by}

    def accept(self, params: Params) -> None:
        if params != {'by': str(self.by)}:
            raise ValueError(f'by is {params.get("by")}, expected {self.by}')

    def onsend(self, frame: Frame) -> Frame:
        return like(frame, self.turn(frame, self.by), rsv1=True)

    def onrecv(self, frame: Frame) -> Frame:
        if not frame.rsv1:
            return frame
        return like(frame, self.turn(frame, -self.by), rsv1=False)

    def turn(self, frame: Frame, by: int) -> bytes:
        return bytes((byte + by) % 256 for byte in frame.payload)


class Mirror(twspy.Extension):
    """Of whole messages: turns them round; marks them with RSV2."""

    name = 'x-mirror'
    rsv2 = True
    before_fragmentation = True

    def onsend(self, frame: Frame) -> Frame:
        assert frame.final and frame.opcode != twspy.OPCODE_CONTINUATION
        return like(frame, frame.payload[::-1], rsv2=True)

    def onrecv(self, frame: Frame) -> Frame:
        assert frame.final and frame.opcode != twspy.OPCODE_CONTINUATION
        if not frame.rsv2:
            return frame
        return like(frame, frame.payload[::-1], rsv2=False)


class Numbered(twspy.Extension):
    """Of each frame: puts its number before it, and looks at it. Wrong where
    frames do not leave in the order in which they were looked at."""

    name = 'x-numbered'
    rsv3 = True

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def onsend(self, frame: Frame) -> Frame:
        number = self.sent
        # Other threads get their turn in the middle of it.
        time.sleep(0)
        self.sent = number + 1
        return like(frame, b'%d:' % number + frame.payload, rsv3=True)

    def onrecv(self, frame: Frame) -> Frame:
        number, _, payload = frame.payload.partition(b':')
        assert int(number) == self.received, (number, self.received)
        self.received += 1
        return like(frame, payload, rsv3=False)


class Signals(twspy.Extension):
    """Uses opcodes of its own: 3 is a message in disguise, 4 and 12 are for
    whoever reads frames."""

    name = 'x-signals'
    opcodes = (3, 4, 12)

    def onsend(self, frame: Frame) -> Frame:
        if frame.payload.startswith(b'disguise'):
            return like(frame, frame.payload, opcode=3)
        return frame

    def onrecv(self, frame: Frame) -> Frame:
        if frame.opcode == 3:
            return like(frame, frame.payload, opcode=twspy.OPCODE_TEXT)
        return frame


class Plain(twspy.Extension):
    """Does nothing."""

    name = 'x-plain'


def raw_client(
    extensions: Iterable[Any], answered: str, **options: Any
) -> tuple[twspy.websocket, RawPeer]:
    """A client whose server is by hand, and answers with these extensions."""
    one, two = tcp_pair()
    peer = RawPeer(two)
    sock = twspy.websocket(one, extensions=extensions, **options)
    sock.setblocking(False)
    try:
        sock.handshake(host='localhost')
    except BlockingIOError:
        pass
    _, head = read_request(peer)
    fields = {'Sec_WebSocket_Extensions': answered} if answered else {}
    peer.send(answer(head, **fields))
    sock.settimeout(30)
    try:
        sock.handshake(host='localhost')
    except BaseException:
        peer.close()
        raise
    return sock, peer


def raw_server(
    extensions: Iterable[Any], offered: str, **options: Any
) -> tuple[twspy.websocket, RawPeer, str | None]:
    """A server's end whose client is by hand, and what it has answered."""
    one, two = tcp_pair()
    peer = RawPeer(two)
    peer.send(request(Sec_WebSocket_Extensions=offered))
    sock = twspy.websocket(one, extensions=extensions, **options)
    try:
        sock.settimeout(30)
        sock.handshake(server=True)
    except BaseException:
        sock.close()
        peer.close()
        raise
    status, head = peer.read_head()
    assert status == 101
    return sock, peer, head.get('sec-websocket-extensions')
