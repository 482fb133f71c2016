"""Where a client connects to: listeners that answer, hang, or speak TLS."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rawends import answer, read_request
from rawpeer import RawPeer

SOON = 20.0
LOOPBACK = {socket.AF_INET: '127.0.0.1', socket.AF_INET6: '::1'}


def listen(
    family: int, port: int = 0, backlog: int | None = None
) -> socket.socket:
    """A listener on the loopback interface; IPv6 means IPv6 only."""
    return socket.create_server(
        (LOOPBACK[socket.AddressFamily(family)], port),
        family=family,
        backlog=backlog,
    )


@contextmanager
def both_families(
    backlog_of_ipv6: int | None = None,
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listener on IPv6 and one on IPv4, with the same port."""
    while True:
        ipv6 = listen(socket.AF_INET6, backlog=backlog_of_ipv6)
        try:
            ipv4 = listen(socket.AF_INET, ipv6.getsockname()[1])
            break
        except OSError as error:
            ipv6.close()
            if error.errno != errno.EADDRINUSE:
                raise
    with ipv6, ipv4:
        yield ipv6, ipv4


@contextmanager
def hanging(listener: socket.socket) -> Iterator[socket.socket]:
    """A listener with a backlog of 0, which is full then: connecting hangs."""
    others = []
    try:
        for _ in range(3):
            other = socket.socket(listener.family)
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
            others.append(other)
        time.sleep(0.05)
        yield listener
    finally:
        for other in others:
            other.close()


React = Callable[[RawPeer, dict[str, str]], object]


def accept(peer: RawPeer, head: dict[str, str]) -> None:
    """A good 101."""
    peer.send(answer(head))


@contextmanager
def tls_server(
    context: ssl.SSLContext, react: React = accept
) -> Iterator[tuple[str, int]]:
    """Serves one connection by TLS, and reads on until the client ends."""
    listener = socket.create_server(('127.0.0.1', 0))

    def run() -> None:
        sock, _ = listener.accept()
        sock.settimeout(SOON)
        try:
            with context.wrap_socket(sock, server_side=True) as tls:
                peer = RawPeer(tls)
                _, head = read_request(peer)
                react(peer, head)
                while True:
                    peer.read_more()
        except (EOFError, OSError):
            pass  # the client has seen enough
        finally:
            sock.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        thread.join(SOON)
        listener.close()
        assert not thread.is_alive()
