"""client.sock: the websocket view of a client that a Server serves."""

import gc
import queue
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from rawpeer import TEXT, RawPeer

import twspy
from twspy import Frame


class Server(twspy.Server):
    """Does with client.sock what a test wants, inside a handler."""

    def __init__(self, act: Callable[[twspy.websocket], Any]) -> None:
        super().__init__(('127.0.0.1', 0))
        self.act = act
        self.results: queue.Queue[Any] = queue.Queue()

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        try:
            self.results.put(self.act(client.sock))
        except BaseException as error:
            self.results.put(error)


def act(
    function: Callable[[twspy.websocket], Any],
    after: Callable[[RawPeer], object] = lambda peer: None,
) -> Any:
    server = Server(function)
    with server:
        with RawPeer.connect(server.address) as peer:
            peer.send_frame(TEXT, b'now')
            result = server.results.get(timeout=10)
            after(peer)
    if isinstance(result, BaseException):
        raise result
    return result


def test_names_and_options() -> None:
    def look(sock: twspy.websocket) -> None:
        assert sock.fileno() >= 0
        assert sock.getpeername()[0] == '127.0.0.1'
        assert sock.getsockname()[0] == '127.0.0.1'
        assert sock.family is socket.AF_INET
        assert sock.type is socket.SOCK_STREAM
        assert sock.proto == socket.IPPROTO_TCP
        level, name = socket.SOL_SOCKET, socket.SO_KEEPALIVE
        sock.setsockopt(level, name, 1)
        assert sock.getsockopt(level, name) == 1
        assert sock.getsockopt(level, name, 4)[0] == 1
        with pytest.raises(OSError, match='Protocol not available'):
            sock.getsockopt(level, 12345)
        assert 'served' in repr(sock)
        assert isinstance(sock, twspy.websocket)

    act(look)


def test_names_leave_no_descriptors() -> None:
    def look(sock: twspy.websocket) -> None:
        spare = socket.socket()
        number = spare.fileno()
        spare.close()
        for _ in range(10):
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert sock.family
        with socket.socket() as spare:
            assert spare.fileno() == number

    act(look)


def test_send_goes_through_hooks_and_queue() -> None:
    def send(sock: twspy.websocket) -> None:
        sock.add_hook(send=lambda frame: Frame(TEXT, frame.payload + b'!'))
        sock.send(Frame(TEXT, 'one'), Frame(TEXT, 'two', mask=True))

    def read(peer: RawPeer) -> None:
        for payload in (b'one!', b'two!'):
            frame = peer.read_frame()
            assert (frame.payload, frame.masked) == (payload, False)

    act(send, read)


@pytest.mark.parametrize(
    'call',
    [
        lambda sock: sock.recv(),
        lambda sock: sock.recvn(1),
        lambda sock: sock.pending(),
        lambda sock: sock.accept(),
        lambda sock: sock.connect(('127.0.0.1', 1)),
        lambda sock: sock.handshake(),
        lambda sock: sock.bind(('', 0)),
        lambda sock: sock.listen(),
        lambda sock: sock.detach(),
        lambda sock: sock.settimeout(1),
        lambda sock: sock.setblocking(True),
    ],
)
def test_the_server_reads(call: Callable[[twspy.websocket], Any]) -> None:
    with pytest.raises(RuntimeError, match=r'client\.recv\(\)'):
        act(call)


def test_close() -> None:
    def close(sock: twspy.websocket) -> None:
        sock.close()
        sock.close()

    def expect_end(peer: RawPeer) -> None:
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                peer.read_more()

    act(close, expect_end)


def test_a_client_that_has_ended_needs_no_garbage_collector() -> None:
    """client.sock and its client refer to each other only while it is
    served."""
    ended: queue.Queue[weakref.ref[twspy.Connection]] = queue.Queue()

    class Closing(twspy.Server):
        def onopen(self, client: twspy.Connection) -> None:
            client.name = client.sock.location  # type: ignore[attr-defined]

        def onclose(self, client: twspy.Connection, message: Any) -> None:
            assert client.sock.location == '/here'
            assert client.sock.fileno() == -1
            ended.put(weakref.ref(client))

    gc.disable()
    try:
        with Closing(('127.0.0.1', 0)) as server:
            with RawPeer.connect(server.address, '/here'):
                pass
            client = ended.get(timeout=10)
            end = time.monotonic() + 10
            while client() is not None and time.monotonic() < end:
                time.sleep(0.01)
            assert client() is None
    finally:
        gc.enable()


def test_a_hook_outlives_the_client() -> None:
    """Another thread sends, and the client ends within its hook."""
    opened: queue.Queue[twspy.websocket] = queue.Queue()

    class Opening(twspy.Server):
        def onopen(self, client: twspy.Connection) -> None:
            opened.put(client.sock)

    with Opening(('127.0.0.1', 0)) as server:
        with RawPeer.connect(server.address) as peer:
            sock = opened.get(timeout=10)

            def outlive(frame: Frame) -> Frame:
                peer.close()
                end = time.monotonic() + 10
                while sock.fileno() >= 0 and time.monotonic() < end:
                    time.sleep(0.01)
                return frame

            sock.add_hook(send=outlive)
            with pytest.raises(OSError, match='closed'):
                sock.send(Frame(twspy.OPCODE_TEXT, 'late'))
