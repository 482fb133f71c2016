"""One of each end that reads frames, with a peer made of a plain socket."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rawends import answer, read_request, tcp_pair
from rawpeer import CLOSE, RawFrame, RawPeer, pack, request
from servers import SOON, EchoServer

import twspy

# By how much the memory of this process may grow while nothing is to be kept;
# AddressSanitizer keeps what was freed.
SLACK = (64 if 'asan' in os.environ.get('LD_PRELOAD', '') else 4) << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')


KINDS = [
    'websocket client',
    'websocket server',
    'connection client',
    'connection server',
    'server',
]


class Victim:
    """What the raw peer sees of it, and how it ended."""

    def __init__(self, kind: str, peer: RawPeer) -> None:
        self.kind = kind
        self.peer = peer
        # What is sent to a server is masked (RFC 6455 section 5.1).
        self.masked = 'client' not in kind
        self.ends: queue.Queue[tuple[int, str]] = queue.Queue()

    def pack(self, opcode: int, payload: bytes = b'', **how: Any) -> bytes:
        """A frame as it is right for this end."""
        return pack(opcode, payload, **{'mask': self.masked} | how)

    def send(self, opcode: int, payload: bytes = b'', **how: Any) -> None:
        """Send such a frame."""
        self.peer.send(self.pack(opcode, payload, **how))

    def end(self) -> tuple[int, str]:
        """Wait for its end: the code and the reason as the program sees
        them."""
        return self.ends.get(timeout=SOON)

    def close_frame(self) -> RawFrame | None:
        """The Close frame that it sends, which a bare websocket leaves to its
        program."""
        if self.kind.startswith('websocket'):
            return None
        while True:
            frame = self.peer.read_frame()
            if frame.opcode == CLOSE:
                return frame

    def expect(self, code: int) -> str:
        """Check that it ends with this code, and has told the peer; returns
        why."""
        frame = self.close_frame()
        self.finish()
        told, reason = self.end()
        assert told == code, reason
        assert frame is None or frame.close_code == code, frame
        return reason

    def finish(self) -> None:
        """Send no more: nobody need wait for the peer's end then."""
        self.peer.sock.shutdown(socket.SHUT_WR)


def _open(
    client: bool, fields: dict[str, str], options: dict[str, Any]
) -> tuple[twspy.websocket, RawPeer]:
    one, two = tcp_pair()
    peer = RawPeer(two)
    sock = twspy.websocket(one, **options)
    if not client:
        sock.handshake(server=True, initial=request(**fields))
        status, head = peer.read_head()
        assert status == 101, head
    else:
        failures: list[BaseException] = []

        def shake() -> None:
            try:
                sock.handshake(host='localhost')
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=shake)
        thread.start()
        _, head = read_request(peer)
        peer.send(answer(head, **fields))
        thread.join(SOON)
        assert not failures, failures
    return sock, peer


def _read_frames(victim: Victim, sock: twspy.websocket) -> None:
    try:
        while True:
            sock.recv()
    except twspy.ProtocolError as error:
        victim.ends.put((error.code, str(error)))
    except twspy.SocketClosed as error:
        victim.ends.put((error.code, error.reason))


class _Echo(twspy.Connection):
    victim: Victim

    def onmessage(self, message: twspy.Message) -> None:
        self.send(message)

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.victim.ends.put((message.code, message.reason))


@contextmanager
def victim(
    kind: str, fields: dict[str, str] | None = None, **options: Any
) -> Iterator[Victim]:
    """An end of that kind that reads until it ends.

    fields: more of the request or the answer that the raw peer gives.
    options: those of the websocket or the server.
    """
    fields = fields or {}
    if kind == 'server':
        with EchoServer(**options) as server:
            with RawPeer.connect(server.address, **fields) as peer:
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made = Victim(kind, peer)
                server.wait_for('open', peer)
                watcher = threading.Thread(
                    target=lambda: made.ends.put(server.wait_for('close')[1:])
                )
                watcher.start()
                yield made
            watcher.join(SOON)
        return
    sock, peer = _open('client' in kind, fields, options)
    made = Victim(kind, peer)
    if kind.startswith('websocket'):
        thread = threading.Thread(target=_read_frames, args=(made, sock))
    else:
        connection = _Echo(sock)
        connection.victim = made
        thread = threading.Thread(target=connection.receive_forever)
    thread.start()
    try:
        with peer:
            yield made
    finally:
        try:
            peer.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        thread.join(SOON)
        sock.close()
        assert not thread.is_alive(), f'the {kind} hangs'
