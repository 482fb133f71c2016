"""websocket.handshake(): the opening handshake, for either side, on a socket
that is connected already."""

import errno
import socket
import time
from typing import Any

import pytest
from rawends import in_thread, read_request, tcp_pair, text_of
from rawpeer import TEXT, RawPeer, pack, request

import twspy
from twspy import Frame, HandshakeError


def test_upgrade_of_both_ends() -> None:
    one, two = tcp_pair()
    client = twspy.websocket(one, location='/x', protocols=['a'])
    server = twspy.websocket(two, protocols=['a'])
    assert one.fileno() == two.fileno() == -1
    with client, server:
        join = in_thread(lambda: server.handshake(server=True))
        client.handshake()
        assert join() is None
        assert server.location == '/x'
        assert client.protocol == server.protocol == 'a'
        assert server.request.headers['host'] == text_of(client.getpeername())
        client.send(Frame(TEXT, 'x'))
        assert server.recv().payload == b'x'
        server.send(Frame(TEXT, 'y'))
        assert client.recv().payload == b'y'
        with pytest.raises(TypeError, match='unpack'):
            iter(server)


@pytest.mark.parametrize(
    'host', ['example.com', 'example.com:8000', '[::1]:1']
)
def test_host_of_an_upgrade(host: str) -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock, RawPeer(two) as peer:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.handshake(host=host)
        _, head = read_request(peer)
        assert head['host'] == host


def test_host_of_a_unix_socket() -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock, RawPeer(two) as peer:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.handshake()
        assert read_request(peer)[1]['host'] == 'localhost'


@pytest.mark.parametrize('host', ['a b', 'a\r\nX: y', 'a/b', 'höst', ''])
def test_bad_host(host: str) -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock, two:
        with pytest.raises(ValueError, match='host'):
            sock.handshake(host=host)
        with pytest.raises(TypeError, match='host'):
            sock.handshake(host=1)  # type: ignore[arg-type]


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
@pytest.mark.parametrize('cut', [0, 1, 50, 10_000])
def test_initial_bytes_of_a_request(kind: Any, cut: int) -> None:
    one, two = socket.socketpair()
    wire = request('/x') + pack(TEXT, b'early')
    with twspy.websocket(one) as sock, RawPeer(two) as peer:
        peer.send(wire[cut:])
        sock.handshake(server=True, initial=kind(wire[:cut]))
        assert sock.location == '/x'
        assert sock.recv().payload == b'early'
        assert peer.read_head()[0] == 101


def test_server_refuses() -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one, locations=['/a']) as sock, RawPeer(two) as peer:
        peer.send(request('/b'))
        peer.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(HandshakeError) as caught:
            sock.handshake(server=True)
        assert caught.value.status == 404
        assert '/b' in str(caught.value)
        assert peer.read_answer()[0] == 404
        assert sock.fileno() == -1


@pytest.mark.parametrize(
    ('wire', 'status'),
    [(b'nonsense\r\n\r\n', 400), (b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 426)],
)
def test_refusal_lingers_for_a_moment(wire: bytes, status: int) -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one, close_timeout=0.2) as sock, RawPeer(two) as peer:
        peer.send(wire)
        start = time.monotonic()
        with pytest.raises(HandshakeError) as caught:
            sock.handshake(server=True)
        assert 0.15 < time.monotonic() - start < 5
        assert caught.value.status == status
        assert peer.read_answer()[0] == status


def test_peer_that_breaks_off() -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock:
        two.send(request()[:50])
        two.close()
        with pytest.raises(HandshakeError, match='complete') as caught:
            sock.handshake(server=True)
        assert caught.value.status is None


@pytest.mark.parametrize('server', [False, True])
def test_handshake_times_out(server: bool) -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one, open_timeout=0.1) as sock, two:
        with pytest.raises(TimeoutError, match='timed out'):
            sock.handshake(server=server)
        assert sock.fileno() == -1


def test_server_side_without_blocking() -> None:
    one, two = socket.socketpair()
    wire = request()
    with twspy.websocket(one) as sock, RawPeer(two) as peer:
        sock.setblocking(False)
        for i in range(0, len(wire), 20):
            with pytest.raises(BlockingIOError) as caught:
                sock.handshake(server=True)
            assert caught.value.errno == errno.EAGAIN
            peer.send(wire[i : i + 20])
        sock.handshake(server=True)
        assert peer.read_head()[0] == 101


def test_handshake_without_a_connection() -> None:
    with twspy.websocket() as sock:
        with pytest.raises(OSError) as caught:
            sock.handshake()
        assert caught.value.errno == errno.ENOTCONN
