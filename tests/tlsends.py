"""Connections by TLS between the bridge and the standard library."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from certificates import HOST, Certificates
from rawends import in_thread, tcp_pair

from twspy import _tls_bridge
from twspy._tls_bridge import Bridged

# How long a test waits for something that must happen.
SOON = 40.0


class Ends:
    """A bridged connection.

    plain: where an engine would be
    peer: the other end
    """

    def __init__(self, bridged: Bridged, peer: Any) -> None:
        self.bridged = bridged
        self.plain = socket.socket(fileno=bridged.detach())
        self.plain.settimeout(SOON)
        self.peer = peer
        self.peer.settimeout(SOON)

    def close(self) -> None:
        self.plain.close()
        self.peer.close()

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class HandPeer:
    """A peer whose every step is by hand; the handshake is one call."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_side: bool
    ) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else HOST,
        )
        self.left = b''  # encrypted, not sent

    def settimeout(self, seconds: float | None) -> None:
        self.sock.settimeout(seconds)

    def call(self, step: Callable[[], Any]) -> Any:
        """Do a step, with what it needs from the other side."""
        while True:
            try:
                return step()
            except ssl.SSLZeroReturnError:
                return b''
            except ssl.SSLWantReadError:
                pass
            finally:
                if self.outgoing.pending:
                    self.flush()
            data = self.sock.recv(65536)
            if not data:
                raise EOFError('the stream ended without a close_notify')
            self.incoming.write(data)

    def flush(self) -> None:
        self.left += self.outgoing.read()
        while self.left:
            count = self.sock.send(self.left)
            self.left = self.left[count:]

    def handshake(self) -> HandPeer:
        self.call(self.tls.do_handshake)
        return self

    def encrypt(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def fill(self) -> int:
        """As fill() does; flush() sends the last of it."""
        data = pattern(4 << 20)
        self.sock.settimeout(0.25)
        try:
            for start in range(0, len(data), 16384):
                self.sendall(data[start : start + 16384])
        except TimeoutError:
            return start + 16384
        finally:
            self.sock.settimeout(SOON)
        raise AssertionError(f'all of {len(data)} bytes were taken')

    def recv(self, size: int) -> bytes:
        """Empty at a close_notify, EOFError without one."""
        data: bytes = self.call(lambda: self.tls.read(size))
        return data

    def notify(self) -> None:
        """Send a close_notify, and do not wait for the other one."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def close(self) -> None:
        self.sock.close()


def read_all(sock: Any) -> bytes:
    """What comes until the end of the stream."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b''.join(parts)


def read_exactly(sock: Any, size: int) -> bytes:
    parts = []
    while size > 0:
        data = sock.recv(min(size, 65536))
        assert data, f'the stream ended with {size} bytes missing'
        parts.append(data)
        size -= len(data)
    return b''.join(parts)


def wrap(
    sock: socket.socket, context: ssl.SSLContext, server_side: bool
) -> ssl.SSLSocket:
    """The standard library's own end."""
    sock.settimeout(SOON)
    return context.wrap_socket(
        sock,
        server_side=server_side,
        server_hostname=None if server_side else HOST,
        suppress_ragged_eofs=False,
    )


def pattern(size: int) -> bytes:
    """Bytes of which no two places look the same."""
    count = -(-size // 4)
    return struct.pack(f'<{count}I', *range(count))[:size]


def fill(sock: socket.socket) -> int:
    """Send a pattern until nothing more is taken for a while: so many
    bytes."""
    data = pattern(4 << 20)
    count = 0
    sock.settimeout(0.25)
    try:
        while count < len(data):
            count += sock.send(data[count : count + 16384])
    except TimeoutError:
        return count
    finally:
        sock.settimeout(SOON)
    raise AssertionError(f'all of {count} bytes were taken')


def reset(sock: Any) -> None:
    """Close with a RST."""
    linger = struct.pack('ii', 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sock.close()


class Maker:
    """Makes connections, and closes them in the end.

    role: the side that the bridge is on, 'server' or 'client'
    """

    def __init__(self, certificates: Certificates, role: str) -> None:
        self.certificates = certificates
        self.role = role
        self.server_context = certificates.server_context()
        self.client_context = certificates.client_context()
        self._made: list[Any] = []

    @property
    def serves(self) -> bool:
        return self.role == 'server'

    def limit(self, version: ssl.TLSVersion) -> None:
        """Choose the version of TLS."""
        for context in (self.server_context, self.client_context):
            context.minimum_version = context.maximum_version = version

    def start(
        self, *, small: bool = False, **options: Any
    ) -> tuple[Bridged, socket.socket]:
        """Start our side; the socket is the peer's."""
        ours, theirs = tcp_pair()
        if small:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        theirs.settimeout(SOON)
        self._made += [ours, theirs]
        options.setdefault('server_hostname', None if self.serves else HOST)
        bridged = _tls_bridge.start(
            self.server_context if self.serves else self.client_context,
            ours,
            server_side=self.serves,
            **options,
        )
        self._made.append(bridged)
        return bridged, theirs

    def connect(self, *, by_hand: bool = False, **options: Any) -> Ends:
        """A connection after its handshake."""
        bridged, theirs = self.start(**options)
        context = self.client_context if self.serves else self.server_context
        peer: HandPeer | ssl.SSLSocket
        if by_hand:
            peer = HandPeer(theirs, context, not self.serves).handshake()
        else:
            peer = wrap(theirs, context, not self.serves)
        ends = Ends(bridged, peer)
        self._made.append(ends)
        wait_until(lambda: bridged.handshake_done)
        return ends

    def close(self) -> None:
        for each in self._made:
            each.close()


def wait_until(condition: Callable[[], object]) -> None:
    """Returns once something holds that another thread brings about."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, 'it does not come about'
        time.sleep(0.002)


def streams() -> set[Any]:
    """The connections that the bridge has."""
    bridge = _tls_bridge._bridge
    if bridge is None:
        return set()
    return {*list(bridge._streams.values()), *bridge.newcomers}


def cpu_time() -> float:
    """Seconds of a processor that the bridge's thread has used."""
    bridge = _tls_bridge._bridge
    assert bridge is not None
    ident = bridge._thread.ident
    assert ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


def check_rest() -> None:
    """The bridge does nothing when nothing happens."""
    time.sleep(0.05)  # until it has done what there is
    before = cpu_time()
    time.sleep(0.25)
    used = cpu_time() - before
    assert used < 0.03, f'{used:.3f} s of 0.25 s used'


@contextmanager
def thread_of(function: Callable[[], object]) -> Iterator[None]:
    """Another thread that does something, and whose failure counts."""
    join = in_thread(function)
    try:
        yield
    finally:
        result = join()
    if isinstance(result, BaseException):
        raise result


def bridge_thread() -> threading.Thread | None:
    """The bridge's thread, if it runs."""
    for thread in threading.enumerate():
        if thread.name == 'twspy-tls':
            return thread
    return None
