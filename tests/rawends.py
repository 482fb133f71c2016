"""Open websockets whose other end is made of a plain socket."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable
from typing import Any

import twspy
from rawpeer import GUID, RawPeer, request


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, by way of the loopback device."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    for sock in (one, two):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, two


def accept_key(head: dict[str, str]) -> str:
    """What Sec-WebSocket-Accept must be for a request."""
    key = head['sec-websocket-key'].encode()
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


def read_request(peer: RawPeer) -> tuple[str, dict[str, str]]:
    """Read the head of a request: first line, fields in lower case."""
    while b'\r\n\r\n' not in peer.buffer:
        peer.read_more()
    text, peer.buffer = peer.buffer.split(b'\r\n\r\n', 1)
    first, *lines = text.decode('latin-1').split('\r\n')
    fields = (line.split(': ', 1) for line in lines)
    return first, {name.lower(): value for name, value in fields}


def answer(head: dict[str, str], **fields: str) -> bytes:
    """A good 101; `fields` adds or replaces header fields."""
    lines = {
        'Upgrade': 'websocket',
        'Connection': 'Upgrade',
        'Sec-WebSocket-Accept': accept_key(head),
    } | {name.replace('_', '-'): value for name, value in fields.items()}
    text = ['HTTP/1.1 101 Switching Protocols']
    text += [f'{name}: {value}' for name, value in lines.items()]
    return '\r\n'.join([*text, '', '']).encode('latin-1')


def client_end(
    *,
    behind: bytes = b'',
    pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
    **options: Any,
) -> tuple[twspy.websocket, RawPeer]:
    """A client whose server is by hand; `behind` follows the 101 at once."""
    one, two = pair()
    peer = RawPeer(two)
    sock = twspy.websocket(one, **options)
    sock.setblocking(False)
    try:
        sock.handshake(host='localhost')
    except BlockingIOError:
        pass
    _, head = read_request(peer)
    peer.send(answer(head) + behind)
    sock.settimeout(10)
    sock.handshake(host='localhost')
    return sock, peer


def server_end(
    *,
    behind: bytes = b'',
    pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
    **options: Any,
) -> tuple[twspy.websocket, RawPeer]:
    """A server whose client is by hand; `behind` follows the request."""
    one, two = pair()
    sock = twspy.websocket(one, **options)
    sock.handshake(server=True, initial=request() + behind)
    sock.settimeout(10)
    peer = RawPeer(two)
    status, head = peer.read_head()
    assert status == 101, head
    return sock, peer
