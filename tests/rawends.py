"""Open websockets whose other end is made of a plain socket."""

from __future__ import annotations

import base64
import errno
import hashlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from rawpeer import BINARY, GUID, RawPeer, request

import twspy
from twspy import Frame

Ends = tuple[twspy.websocket, RawPeer]


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
    sock.settimeout(30)
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
    sock.settimeout(30)
    peer = RawPeer(two)
    status, head = peer.read_head()
    assert status == 101, head
    return sock, peer


def masks(sock: twspy.websocket) -> bool:
    """Whether frames for `sock` are masked: those for a server."""
    return sock.response is None


def in_thread(function: Callable[[], object]) -> Callable[[], object]:
    """Starts a thread; the result waits for it and gives what it returned or
    the exception that it raised."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> object:
        thread.join(30)
        assert not thread.is_alive(), 'the thread hangs'
        return results[0]

    return join


def wait_until_receiving(sock: twspy.websocket) -> None:
    """Returns once another thread is in sock.recv()."""
    for _ in range(1000):
        try:
            sock.recvn(0)
        except twspy.ConcurrencyError:
            time.sleep(0.05)  # from the claim to the poll()
            return
        time.sleep(0.005)
    raise AssertionError('nobody receives')


def fill_up(sock: twspy.websocket, payload: bytes) -> int:
    """Sends until nothing more is taken; returns how many frames were."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.send(Frame(BINARY, payload))
        except BlockingIOError as error:
            assert error.errno == errno.EAGAIN
            return count
        count += 1


def text_of(address: Any) -> str:
    """The address as a log shows it: host:port."""
    host, port = address
    return f'{host}:{port}'
