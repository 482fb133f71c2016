"""A server made of plain sockets that answers requests as a test tells it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rawends import answer, read_request
from rawpeer import RawPeer


class Asked(NamedTuple):
    """A request as it came: its target, and its fields in lower case."""

    target: str
    head: dict[str, str]


React = Callable[[RawPeer, Asked], object]


class RawServer:
    """Takes one connection after the other, and reacts to its request.

    requests: those that came, in order.
    """

    def __init__(self, react: React, sock: socket.socket) -> None:
        self.requests: list[Asked] = []
        self.sock = sock
        address = sock.getsockname()
        self.port: int = address[1] if isinstance(address, tuple) else 0
        self.react = react
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def url(self) -> str:
        return f'ws://127.0.0.1:{self.port}'

    @property
    def targets(self) -> list[str]:
        return [asked.target for asked in self.requests]

    def _run(self) -> None:
        while True:
            sock, _ = self.sock.accept()
            with RawPeer(sock) as peer:
                try:
                    first, head = read_request(peer)
                    method, target, version = first.split(' ')
                    assert (method, version) == ('GET', 'HTTP/1.1')
                    if target == '/end':
                        return
                    asked = Asked(target, head)
                    self.requests.append(asked)
                    self.react(peer, asked)
                    while True:
                        peer.read_more()  # until the client has enough
                except (EOFError, OSError):
                    pass

    def close(self) -> None:
        with socket.socket(self.sock.family) as sock:
            sock.connect(self.sock.getsockname())
            sock.sendall(b'GET /end HTTP/1.1\r\n\r\n')
            self._thread.join(10)
        self.sock.close()
        assert not self._thread.is_alive()


@contextmanager
def serving(
    react: React, sock: socket.socket | None = None
) -> Iterator[RawServer]:
    """A server, on a port of IPv4 unless it is given a socket."""
    if sock is None:
        sock = socket.create_server(('127.0.0.1', 0))
    server = RawServer(react, sock)
    try:
        yield server
    finally:
        server.close()


def welcome(peer: RawPeer, asked: Asked) -> None:
    """Accept."""
    peer.send(answer(asked.head))


def say(data: bytes) -> React:
    """Answer with these bytes and end."""

    def react(peer: RawPeer, asked: Asked) -> None:
        peer.send(data)
        peer.sock.shutdown(socket.SHUT_WR)

    return react


def response(status: int, body: bytes = b'', **fields: str) -> bytes:
    """Write an answer."""
    lines = [f'HTTP/1.1 {status} Some Words']
    lines += [f'{n.replace("_", "-")}: {v}' for n, v in fields.items()]
    lines.append(f'Content-Length: {len(body)}')
    return '\r\n'.join([*lines, '', '']).encode('latin-1') + body


def redirect(location: str, status: int = 302) -> bytes:
    """Write a redirect."""
    return response(status, b'elsewhere\n', Location=location)


def route(routes: dict[str, bytes]) -> React:
    """Answer by the request's target; others are welcome."""

    def react(peer: RawPeer, asked: Asked) -> None:
        if asked.target in routes:
            say(routes[asked.target])(peer, asked)
        else:
            welcome(peer, asked)

    return react
